"""The bids of rendezvous hashing: their range, their shares, and that all nodes make the same."""

import random
from collections import Counter

import pytest
from nginy.balancer.rendezvous import MASK_64, Rendezvous, bid, stable_hash

from kit.peers import peers_of

NOW_S = 1_000_000


def test_a_bid_is_positive_and_finite_for_every_seed() -> None:
    rng = random.Random(1)
    seeds = [0, 1, MASK_64, *(rng.getrandbits(64) for _ in range(10_000))]
    bids = [bid(seed, 1) for seed in seeds]
    assert all(0 < value < 2**60 for value in bids)
    assert len(set(bids)) == len(bids)


def test_a_bid_grows_with_the_weight() -> None:
    assert bid(12345, 6) == pytest.approx(6 * bid(12345, 1))


def test_hashes_are_the_same_everywhere() -> None:
    assert stable_hash(b"127.0.0.1:8080") == 1_497_389_309_290_380_198


def test_the_highest_bid_wins() -> None:
    peers = peers_of(1, 2, 5)
    balancer = Rendezvous(peers)
    for number in range(200):
        key = b"%d" % number
        bids = {
            bid(stable_hash(key) ^ stable_hash(peer.name.encode()), peer.weight): peer
            for peer in peers
        }
        assert balancer.pick(key, (), NOW_S) is bids[max(bids)]


@pytest.mark.slow
def test_keys_of_a_peer_that_leaves_go_to_the_others_by_weight() -> None:
    peers = peers_of(4, 1, 2, 3)
    balancer = Rendezvous(peers)
    rng = random.Random(2)
    keys = [rng.randbytes(8) for _ in range(20_000)]
    lost = [key for key in keys if balancer.pick(key, (), NOW_S) is peers[0]]
    balancer.rebuild(peers[1:])
    counts = Counter(balancer.pick(key, (), NOW_S) for key in lost)
    for peer in peers[1:]:
        assert counts[peer] == pytest.approx(len(lost) * peer.weight / 6, rel=0.1)


def test_a_weight_changes_only_keys_of_that_peer() -> None:
    peers = peers_of(2, 2, 2)
    balancer = Rendezvous(peers)
    keys = [b"%d" % number for number in range(1_000)]
    before = {key: balancer.pick(key, (), NOW_S) for key in keys}
    peers[0].weight = 4
    moved = {key for key in keys if balancer.pick(key, (), NOW_S) is not before[key]}
    assert 0 < len(moved) < 300
    assert all(balancer.pick(key, (), NOW_S) is peers[0] for key in moved)
