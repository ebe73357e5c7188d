"""Maglev's table against the paper's algorithm, written down plainly."""

import random
from collections import Counter

import pytest
from nginy.balancer.maglev import SLOTS, Maglev, preference
from nginy.balancer.rendezvous import stable_hash

from kit.peers import FakePeer, peers_of

NOW_S = 1_000_000


def table_of_the_paper(names: list[str]) -> list[str]:
    """Populate the table as in the paper's pseudocode: one slot each in turn."""
    table: list[str | None] = [None] * SLOTS
    filled = 0
    following = dict.fromkeys(names, 0)
    while True:
        for name in names:
            offset, skip = preference(name)
            while True:
                slot = (offset + following[name] * skip) % SLOTS
                following[name] += 1
                if table[slot] is None:
                    break
            table[slot] = name
            filled += 1
            if filled == SLOTS:
                return [name or "" for name in table]


def shares(peers: list[FakePeer]) -> list[float]:
    """The part of the table that each peer has, from one pick for each slot."""
    balancer = Maglev(peers)
    rng = random.Random(1)
    by_slot: dict[int, FakePeer | None] = {}
    while len(by_slot) < 20_000:
        key = rng.randbytes(8)
        by_slot[stable_hash(key) % SLOTS] = balancer.pick(key, (), NOW_S)
    counts = Counter(by_slot.values())
    return [counts[peer] / len(by_slot) for peer in peers]


@pytest.mark.slow
def test_equal_weights_give_the_table_of_the_paper() -> None:
    peers = peers_of(1, 1, 1, 1, 1)
    table = table_of_the_paper(sorted(peer.name for peer in peers))
    balancer = Maglev(peers[::-1])
    for number in range(2_000):
        key = b"%d" % number
        pick = balancer.pick(key, (), NOW_S)
        assert pick is not None
        assert pick.name == table[stable_hash(key) % SLOTS]


@pytest.mark.slow
@pytest.mark.parametrize(
    "weights",
    [(1, 1, 1), (1, 2, 3), (1_000_000, 500_000, 500_000), (1, 1, 98)],
    ids=str,
)
def test_shares_of_the_table_follow_the_weights_however_large(weights: tuple[int, ...]) -> None:
    expected = [weight / sum(weights) for weight in weights]
    assert shares(peers_of(*weights)) == pytest.approx(expected, abs=0.01)


def test_a_stride_visits_every_slot() -> None:
    for name in ("a", "b", "unix:/\udcff"):
        offset, skip = preference(name)
        assert 0 <= offset < SLOTS
        assert 1 <= skip < SLOTS
        assert len({(offset + step * skip) % SLOTS for step in range(SLOTS)}) == SLOTS


def test_names_have_the_same_preferences_everywhere() -> None:
    assert preference("127.0.0.1:8080") == (61_860, 24_513)


def test_keys_of_a_peer_that_is_down_are_scattered_by_weight() -> None:
    peers = peers_of(1, 1, 3)
    peers[0].down = True
    first, second, third = shares(peers)
    assert first == 0
    assert third / second == pytest.approx(3, rel=0.1)
