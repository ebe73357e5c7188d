"""Smooth weighted round robin against its own arithmetic; nginx's choices are in test_as_nginx."""

import random
from collections import Counter

import pytest
from nginy.balancer.peer import failure, success
from nginy.balancer.round_robin import RoundRobin

from kit.peers import FakePeer, peers_of

NOW_S = 1_000_000


def letters(peers: list[FakePeer], count: int) -> str:
    balancer = RoundRobin(peers)
    picks = [balancer.pick(b"", (), NOW_S) for _ in range(count)]
    return "".join("abcdefgh"[peers.index(pick)] if pick else "-" for pick in picks)


@pytest.mark.parametrize(
    ("weights", "picks"),
    [
        ((5, 1, 1), "aabacaa" * 2),
        ((1, 1, 1), "abcabc"),
        ((1, 2), "babbab"),
        ((4, 3, 2), "abcabacba" * 2),
    ],
)
def test_heavy_peers_are_picked_more_often_but_spread_out(
    weights: tuple[int, ...], picks: str
) -> None:
    assert letters(peers_of(*weights), len(picks)) == picks


def test_a_round_of_total_weight_picks_gives_each_peer_its_weight_and_ends_where_it_began() -> None:
    rng = random.Random(6)
    for _ in range(50):
        weights = [rng.randint(1, 20) for _ in range(rng.randint(1, 8))]
        peers = peers_of(*weights)
        counts = Counter(letters(peers, sum(weights)))
        assert [counts["abcdefgh"[i]] for i in range(len(peers))] == weights
        assert [peer.current_weight for peer in peers] == [0] * len(peers)


def test_a_failed_peer_climbs_back_to_its_weight() -> None:
    peers = peers_of(4, 1)
    peers[0].max_fails = 2
    failure(peers[0], NOW_S)
    failure(peers[0], NOW_S)
    balancer = RoundRobin(peers)
    assert balancer.pick(b"", (), NOW_S + 10) is peers[1]
    weights = []
    for _ in range(6):
        balancer.pick(b"", (), NOW_S + 11)
        success(peers[0])
        weights.append(peers[0].effective_weight)
    assert weights == [1, 2, 3, 4, 4, 4]


def test_a_weight_that_is_lowered_holds_from_the_next_pick() -> None:
    peers = peers_of(8, 1)
    letters(peers, 9)
    peers[0].weight = 1
    letters(peers, 1)
    assert letters(peers, 10).count("a") == 5


def test_a_weight_that_is_raised_is_climbed_to() -> None:
    peers = peers_of(1, 1)
    peers[0].weight = 3
    letters(peers, 2)
    assert peers[0].effective_weight == 3
    assert letters(peers, 40).count("a") == 30


def test_the_position_survives_a_rebuild() -> None:
    peers = peers_of(1, 1, 1)
    assert letters(peers, 2) == "ab"
    assert letters(peers, 2) == "ca"


def model(peers: list[FakePeer], tried: list[FakePeer], now_s: int) -> FakePeer | None:
    """Work out the pick as the rules read, one rule after the other."""
    rest = [peer for peer in peers if peer not in tried and not peer.down]
    rest = [peer for peer in rest if not (peer.max_conns and peer.conns >= peer.max_conns)]
    out = [
        peer
        for peer in rest
        if peer.max_fails
        and peer.fails >= peer.max_fails
        and now_s - peer.checked_s <= peer.fail_timeout_s
    ]
    rest = [peer for peer in rest if peer not in out]
    total = sum(peer.effective_weight for peer in rest)
    for peer in rest:
        peer.current_weight += peer.effective_weight
        peer.effective_weight = min(peer.weight, peer.effective_weight + 1)
    if not rest:
        return None
    best = max(rest, key=lambda peer: peer.current_weight)
    best.current_weight -= total
    if now_s - best.checked_s > best.fail_timeout_s:
        best.checked_s = now_s
    return best


@pytest.mark.parametrize("seed", range(5))
def test_a_long_run_of_picks_failures_and_recoveries_follows_the_rules(seed: int) -> None:
    rng = random.Random(seed)
    weights = [rng.randint(1, 9) for _ in range(rng.randint(2, 6))]
    peers, expected = peers_of(*weights), peers_of(*weights)
    for twins in zip(peers, expected, strict=True):
        limits = rng.randrange(3), rng.randint(0, 3), rng.random() < 0.1
        for peer in twins:
            peer.max_conns, peer.max_fails, peer.down = limits
    balancer = RoundRobin(peers)
    now_s = NOW_S
    for step in range(3_000):
        now_s += rng.random() < 0.1
        tried = [index for index in range(len(peers)) if rng.random() < 0.1]
        pick = balancer.pick(b"", [peers[index] for index in tried], now_s)
        due = model(expected, [expected[index] for index in tried], now_s)
        assert str(pick) == str(due), f"step {step}"
        is_good = rng.random() < 0.7
        for peer in filter(None, (pick, due)):
            if is_good:
                success(peer)
                peer.conns = (peer.conns + 1) % 3
            else:
                failure(peer, now_s)
