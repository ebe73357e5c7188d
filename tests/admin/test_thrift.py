"""Thrift: walks take a small share of the time, however many readers there are."""

import pytest
from nginy.admin.thrift import SHARE, Thrift


@pytest.mark.parametrize("cost_us", [0.0, 2.5, 100.0, 10_000.0])
def test_walks_take_no_more_than_their_share(cost_us: float) -> None:
    thrift = Thrift()
    walks = sum(thrift.allows(cost_us, now_ms) for now_ms in range(60_000))
    spent_ms = walks * cost_us / 1000
    assert spent_ms <= 60_000 * SHARE + cost_us / 1000
    assert walks == 60_000 or spent_ms > 0.9 * 60_000 * SHARE


def test_the_first_walk_is_due_at_once() -> None:
    thrift = Thrift()
    assert thrift.allows(1000.0, 0)
    assert not thrift.allows(1000.0, 0)
