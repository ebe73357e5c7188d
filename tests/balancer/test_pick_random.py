"""Random picks: their shares, the better of two, and the way out if no draw finds a usable peer."""

import random
from collections import Counter

import pytest
from nginy.balancer.pick_random import PickRandom

from kit.peers import FakePeer, peers_of

NOW_S = 1_000_000


def counts(peers: list[FakePeer], count: int, *, two: bool = False) -> list[int]:
    balancer = PickRandom(peers, random.Random(7), two=two)
    counter = Counter(balancer.pick(b"", (), NOW_S) for _ in range(count))
    return [counter[peer] for peer in peers]


@pytest.mark.slow
def test_shares_differ_from_the_weights_by_chance_alone() -> None:
    weights = [1, 2, 3, 4, 90]
    observed = counts(peers_of(*weights), 100_000)
    expected = [1_000 * weight for weight in weights]
    chi_square = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    assert chi_square < 18.5  # four degrees of freedom: exceeded once in a thousand seeds


class Scripted(random.Random):
    """A source that gives the numbers it was told to."""

    numbers: list[float]

    def random(self) -> float:
        return self.numbers.pop(0)


def scripted(*numbers: float) -> Scripted:
    rng = Scripted(0)
    rng.numbers = list(numbers)
    return rng


@pytest.mark.parametrize(
    ("draws", "index"),
    [
        ((0.0, 0.9), 2),  # both have one connection: the second draw has it
        ((0.9, 0.0), 0),
        ((0.0, 0.0, 0.0, 0.5), 0),  # the same again is drawn again
        ((0.5, 0.0), 0),
    ],
)
def test_two_different_draws_are_compared(draws: tuple[float, ...], index: int) -> None:
    peers = peers_of(1, 1, 1)
    peers[0].conns, peers[1].conns, peers[2].conns = 1, 2, 1
    rng = scripted(*draws)
    assert PickRandom(peers, rng, two=True).pick(b"", (), NOW_S) is peers[index]
    assert rng.numbers == []


def test_the_better_of_two_never_is_the_most_loaded() -> None:
    peers = peers_of(1, 1, 2)
    peers[0].conns, peers[1].conns, peers[2].conns = 3, 4, 6
    first, second, third = counts(peers, 3_000, two=True)
    assert second == 0
    # The first and the third are even when they meet: then the second draw has it.
    assert first + third == 3_000
    assert 0.2 < first / 3_000 < 0.6


def test_the_better_of_two_is_always_found_among_two_usable_peers() -> None:
    peers = peers_of(1, 1, 1)
    peers[1].down = True
    peers[2].conns = 1
    assert counts(peers, 500, two=True) == [500, 0, 0]


def test_a_change_of_weight_counts_after_a_rebuild() -> None:
    peers = peers_of(1, 1)
    balancer = PickRandom(peers, random.Random(8))
    peers[0].weight = 9
    balancer.rebuild(peers)
    picks = [balancer.pick(b"", (), NOW_S) for _ in range(1_000)]
    assert 870 < picks.count(peers[0]) < 930


def test_round_robin_decides_after_21_draws_of_unusable_peers() -> None:
    peers = peers_of(2, 1, 1)
    peers[0].down = True
    rng = scripted(*[0.0] * 21 * 4)
    balancer = PickRandom(peers, rng)
    assert [balancer.pick(b"", (), NOW_S) for _ in range(4)] == [peers[1], peers[2]] * 2
    assert rng.numbers == []


def test_two_falls_back_to_the_only_one_left() -> None:
    peers = peers_of(1, 1)
    peers[0].down = True
    assert counts(peers, 50, two=True) == [0, 50]
