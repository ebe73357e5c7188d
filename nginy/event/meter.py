"""Meter: how long the turns of a loop take, and how late its timers are.

Nothing of this exists until a request asks for it. Then the loop and its clock get other classes,
whose `turn` and `update` note what they pass. A turn is measured from the moment at which the
selector returns to the beginning of the next turn, so sleeping does not count. That costs one more
reading of the clock and one bisection, 0.3 µs; there is no timer and no wakeup.

node measures with a timer, so a loop that it measures is never idle (node #56064).

Read first: `loop`.
"""

import time
from collections.abc import Iterable

from nginy.event.clock import MonotonicClock
from nginy.event.histogram import TURN_BOUNDS_MS, Histogram
from nginy.event.loop import Loop
from nginy.event.timer import Timer

NS_A_MS = 1_000_000


class LoopMeter:
    """The measurements since it began. Belongs to a metered clock."""

    __slots__ = ("lags", "turns")

    def __init__(self) -> None:
        self.turns = Histogram(TURN_BOUNDS_MS)
        self.lags = Histogram(TURN_BOUNDS_MS)
        """From the moment at which a timer is due to that at which it runs."""


class MeteredClock(MonotonicClock):
    """A clock that remembers when the selector returned."""

    __slots__ = ()

    read_ns: int
    meter: LoopMeter

    def update(self) -> None:
        """Read the time, right after the selector has returned."""
        self.read_ns = time.monotonic_ns()
        self.now_ms = self.read_ns // NS_A_MS - self.skipped_ms


class MeteredLoop(Loop):
    """A loop that measures its turns; see above."""

    __slots__ = ()

    def turn(self, max_wait_ms: int | None = None) -> None:
        """Do one turn; the one before it has ended."""
        clock = self.clock
        if isinstance(clock, MeteredClock):
            clock.meter.turns.count((time.monotonic_ns() - clock.read_ns) / NS_A_MS)
        super().turn(max_wait_ms)

    def _run_timers(self, timers: Iterable[Timer]) -> None:
        clock, deadline_ms = self.clock, self.timers.next_deadline_ms()
        if isinstance(clock, MeteredClock) and deadline_ms is not None:
            clock.meter.lags.count(max(clock.now_ms - deadline_ms, 0))
        super()._run_timers(timers)


def meter_of(loop: Loop) -> LoopMeter | None:
    """Return the loop's meter, which begins now if there is none; None with a test's clock."""
    clock = loop.clock
    if isinstance(clock, MeteredClock):
        return clock.meter
    if type(clock) is not MonotonicClock:
        return None
    clock.__class__ = MeteredClock
    if not isinstance(clock, MeteredClock):  # for the type checker
        return None
    clock.meter = LoopMeter()
    clock.update()
    if type(loop) is Loop:  # else it is traced, which measures as well
        loop.__class__ = MeteredLoop
    return clock.meter
