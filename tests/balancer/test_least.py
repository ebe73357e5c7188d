"""Least connections and least time against their own arithmetic."""

import random

import pytest
from nginy.balancer.least import LeastConn, LeastTime, expected_ms, moving_average_ms

from kit.peers import FakePeer, peers_of

NOW_S = 1_000_000


def with_conns(*loads: tuple[int, int]) -> list[FakePeer]:
    """Peers from pairs of weight and connections."""
    peers = peers_of(*(weight for weight, _ in loads))
    for peer, (_, conns) in zip(peers, loads, strict=True):
        peer.conns = conns
    return peers


@pytest.mark.parametrize(
    ("loads", "index"),
    [
        ([(1, 2), (1, 1), (1, 3)], 1),
        ([(1, 2), (3, 5), (2, 4)], 1),
        ([(10, 3), (1, 0)], 1),
        ([(3, 1), (2, 1)], 0),
    ],
)
def test_the_fewest_connections_for_the_weight_win(
    loads: list[tuple[int, int]], index: int
) -> None:
    peers = with_conns(*loads)
    assert LeastConn(peers).pick(b"", (), NOW_S) is peers[index]


def test_ties_are_broken_by_round_robin_among_the_tied_alone() -> None:
    peers = with_conns((1, 9), (2, 4), (1, 2), (1, 9))
    balancer = LeastConn(peers)
    picks = [balancer.pick(b"", (), NOW_S) for _ in range(6)]
    assert [peers.index(pick) for pick in picks if pick] == [1, 2, 1, 1, 2, 1]
    assert [peer.current_weight for peer in peers] == [0, 0, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_no_peer_has_less_for_its_weight_than_the_one_that_is_picked(seed: int) -> None:
    rng = random.Random(seed)
    peers = peers_of(*(rng.randint(1, 9) for _ in range(8)))
    balancer = LeastConn(peers)
    for _ in range(1_000):
        pick = balancer.pick(b"", (), NOW_S)
        assert pick is not None
        assert pick.conns / pick.weight == min(peer.conns / peer.weight for peer in peers)
        pick.conns += 1
        ending = rng.choice(peers)
        ending.conns = max(0, ending.conns - 1)


@pytest.mark.parametrize(
    ("average_ms", "sample_ms", "then_ms"),
    [(0, 70, 70), (100, 100, 100), (100, 200, 105), (100, 0, 95), (10, 11, 10), (1, 0, 1)],
)
def test_an_average_moves_by_a_twentieth_and_rounds(
    average_ms: int, sample_ms: int, then_ms: int
) -> None:
    assert moving_average_ms(average_ms, sample_ms) == then_ms


@pytest.mark.parametrize(
    ("average_ms", "idle_s", "then_ms"),
    [
        (0, 0, 20),
        (19, 0, 20),
        (20, 0, 40),
        (4_999, 0, 5_000),
        (5_000, 0, 5_020),
        (5_001, 0, 5_000),
        (60_000, 0, 5_000),
        (400, 10, 420),
        (400, 11, 220),
        (400, 22, 120),
        (400, 110_000, 20),
    ],
)
def test_a_time_is_halved_when_idle_and_raised_to_the_next_step(
    average_ms: int, idle_s: int, then_ms: int
) -> None:
    assert expected_ms(average_ms, idle_s, fail_timeout_s=10) == then_ms


def test_the_time_counts_once_for_each_session_and_by_weight() -> None:
    peers = with_conns((1, 0), (1, 3), (4, 3))
    times_ms = dict(zip(peers, (159, 19, 79), strict=True))
    for peer in peers:
        peer.checked_s = NOW_S
    balancer = LeastTime(peers, times_ms.__getitem__)
    picks = []
    for _ in range(4):
        pick = balancer.pick(b"", (), NOW_S)
        assert pick is not None
        pick.conns += 1
        picks.append(peers.index(pick))
    # Expected: 160, 80 and 80; then 160, 100 and 80, as the tie went to the second peer.
    assert picks == [2, 1, 2, 1]


def test_a_slow_peer_that_was_idle_gets_another_chance() -> None:
    slow, fast = peers_of(1, 1)
    fast.checked_s = slow.checked_s = NOW_S
    times_ms = {slow: 150, fast: 50}
    balancer = LeastTime([slow, fast], times_ms.__getitem__)
    picks = {after_s: balancer.pick(b"", (), NOW_S + after_s) for after_s in range(40)}
    # The slow peer, idle for 22 s, counts as 37 ms, the fast one, idle for 11 s, as 25: one step.
    assert [after_s for after_s, pick in picks.items() if pick is slow] == [22]
