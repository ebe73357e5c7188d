"""A loop that measures its turns: what it counts, and that it does nothing else."""

import time
from collections.abc import Iterator

import pytest
from nginy.event.clock import MonotonicClock
from nginy.event.loop import Loop
from nginy.event.meter import LoopMeter, MeteredLoop, meter_of
from nginy.event.timer import Timer

from kit.calls import calls
from kit.clock import FakeClock

NS_A_MS = 1_000_000


class Owner:
    def abort(self) -> None:
        raise AssertionError


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def metered(loop: Loop) -> LoopMeter:
    meter = meter_of(loop)
    assert meter is not None
    return meter


def test_nothing_is_measured_until_somebody_asks(loop: Loop) -> None:
    assert type(loop) is Loop
    assert type(loop.clock) is MonotonicClock
    meter = metered(loop)
    assert type(loop) is MeteredLoop
    assert metered(loop) is meter


def test_a_turn_counts_with_all_that_its_handlers_do(loop: Loop) -> None:
    meter = metered(loop)

    def work() -> None:
        end_ns = time.monotonic_ns() + 3 * NS_A_MS
        while time.monotonic_ns() < end_ns:
            pass

    loop.turn(0)
    loop.soon(work, Owner())
    loop.turn(0)
    loop.turn(30)
    loop.turn(0)
    assert sum(meter.turns.counts) == 4
    assert meter.turns.sum_ms >= 3
    assert sum(meter.turns.counts[5:]) >= 1, "the turn of 3 ms is in a bucket above 2.5 ms"


def test_a_measured_turn_makes_but_a_few_calls_more(loop: Loop) -> None:
    """0.3 us: a reading of the clock, a bisection, and what stands around them."""
    plain = calls(lambda: loop.turn(0))
    metered(loop)
    loop.turn(0)
    assert 0 < calls(lambda: loop.turn(0)) - plain <= 6


def test_late_timers_are_counted_by_how_late_they_are(loop: Loop) -> None:
    meter = metered(loop)
    ran = []
    timer = Timer(ran.append, Owner())
    loop.timers.start(timer, loop.clock.now_ms + 1)
    while not ran:
        loop.turn(10)
    assert meter.lags.counts.count(1) == 1
    assert max(meter.lags.counts) == 1
    assert not timer.is_running


def test_a_pause_is_still_taken_out_of_the_time(loop: Loop) -> None:
    metered(loop)
    before_ms = loop.clock.now_ms
    loop.clock.skip(5000)
    loop.clock.update()
    assert loop.clock.now_ms < before_ms


def test_the_clock_of_a_test_is_left_alone() -> None:
    loop = Loop(clock=FakeClock())
    assert meter_of(loop) is None
    assert type(loop) is Loop
    loop.close()
