"""The rules that all algorithms share: who is usable, and what failures and successes change."""

import pytest
from nginy.balancer.peer import failure, group_by_name, is_usable, open_window, success

from kit.peers import FakePeer

NOW_S = 1_000_000


@pytest.mark.parametrize(
    ("settings", "usable"),
    [
        ({}, True),
        ({"down": True}, False),
        ({"max_conns": 2, "conns": 1}, True),
        ({"max_conns": 2, "conns": 2}, False),
        ({"max_conns": 2, "conns": 3}, False),
        ({"max_conns": 0, "conns": 1000}, True),
        ({"max_fails": 2, "fails": 1, "checked_s": NOW_S}, True),
        ({"max_fails": 2, "fails": 2, "checked_s": NOW_S}, False),
        ({"max_fails": 2, "fails": 2, "checked_s": NOW_S - 10}, False),
        ({"max_fails": 2, "fails": 2, "checked_s": NOW_S - 11}, True),
        ({"max_fails": 0, "fails": 9, "checked_s": NOW_S}, True),
    ],
)
def test_usable_is_up_not_full_and_not_just_failed(settings: dict[str, int], usable: bool) -> None:
    assert is_usable(FakePeer("a", **settings), NOW_S) is usable


@pytest.mark.parametrize(
    ("checked_s", "then_s"), [(NOW_S - 10, NOW_S - 10), (NOW_S - 11, NOW_S), (0, NOW_S)]
)
def test_a_window_opens_when_the_last_one_is_over(checked_s: int, then_s: int) -> None:
    peer = FakePeer("a", checked_s=checked_s)
    open_window(peer, NOW_S)
    assert peer.checked_s == then_s


def test_each_failure_takes_its_part_of_the_weight() -> None:
    peer = FakePeer("a", 10, max_fails=3)
    weights = []
    for after_s in range(5):
        failure(peer, NOW_S + after_s)
        weights.append(peer.effective_weight)
    assert weights == [7, 4, 1, 0, 0]
    assert (peer.fails, peer.accessed_s, peer.checked_s) == (5, NOW_S + 4, NOW_S + 4)


def test_a_failure_takes_no_weight_where_failures_never_count() -> None:
    peer = FakePeer("a", 10, max_fails=0)
    failure(peer, NOW_S)
    assert (peer.fails, peer.effective_weight) == (1, 10)


def test_only_a_success_after_the_probe_forgets_failures() -> None:
    peer = FakePeer("a")
    failure(peer, NOW_S)
    assert not success(peer)
    assert peer.fails == 1
    open_window(peer, NOW_S + 11)
    assert success(peer)
    assert peer.fails == 0


def test_peers_of_one_name_are_one_group_in_the_order_of_the_list() -> None:
    one, other, two = FakePeer("a"), FakePeer("b"), FakePeer("a")
    assert list(group_by_name([one, other, two]).items()) == [("a", [one, two]), ("b", [other])]
