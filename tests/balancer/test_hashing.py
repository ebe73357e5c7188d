"""The plain hash against its formula; nginx's own choices are in test_as_nginx."""

import random
import zlib

import pytest
from nginy.balancer.hashing import Hash

from kit.peers import FakePeer, peers_of

NOW_S = 1_000_000


def slots(peers: list[FakePeer]) -> list[FakePeer]:
    """The peers, each as often as it weighs."""
    return [peer for peer in peers for _ in range(peer.weight)]


@pytest.mark.parametrize("seed", range(3))
def test_hashes_add_up_until_they_meet_a_usable_peer(seed: int) -> None:
    rng = random.Random(seed)
    peers = peers_of(*(rng.randint(1, 5) for _ in range(7)))
    for peer in peers:
        peer.down = rng.random() < 0.3
    balancer = Hash(peers)
    for _ in range(500):
        key = rng.randbytes(9)
        total = 0
        for attempt in range(21):
            text = (str(attempt).encode() if attempt else b"") + key
            total += (zlib.crc32(text) >> 16) & 0x7FFF
            expected = slots(peers)[total % len(slots(peers))]
            if not expected.down:
                break
        assert balancer.pick(key, (), NOW_S) is expected


def test_the_key_is_taken_as_bytes() -> None:
    peers = peers_of(1, 1, 1)
    picks = {Hash(peers).pick(bytes([first, 0, 255]), (), NOW_S) for first in range(256)}
    assert picks == set(peers)


def test_round_robin_decides_after_twenty_misses() -> None:
    peers = peers_of(1_000_000, 1, 1)
    peers[0].down = True
    balancer = Hash(peers)
    picks = [balancer.pick(b"key", (), NOW_S) for _ in range(4)]
    assert picks == [peers[1], peers[2]] * 2


def test_a_change_of_weight_counts_after_a_rebuild() -> None:
    peers = peers_of(1, 1)
    balancer = Hash(peers)
    before = [balancer.pick(bytes([byte]), (), NOW_S) for byte in range(100)]
    peers[0].weight = 99
    assert before == [balancer.pick(bytes([byte]), (), NOW_S) for byte in range(100)]
    balancer.rebuild(peers)
    after = [balancer.pick(bytes([byte]), (), NOW_S) for byte in range(100)]
    assert after.count(peers[0]) > 90
