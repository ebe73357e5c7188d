"""Time as the loop sees it: one monotonic reading a turn, shared by everyone who runs in that turn.

A handler that asks "what time is it?" gets the instant at which the current turn woke up. That
makes time cheap (an attribute instead of a system call), makes all decisions of one turn agree
with each other, and lets tests put a clock of their own in its place. nginx does the same:
`ngx_time_update()` in `ngx_times.c`, read back as `ngx_current_msec`.

While the process is stopped, swapped out or frozen, no time passes here: the loop takes such a
pause out again (`Loop.turn`). Whoever is served after it has the time that was left before it.

Deadlines and durations never use wall time, which steps when an operator or NTP sets it; only log
lines do. The texts of log lines are not made here but in `nginy/text/times.py`. Next:
`event/timer.py`.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What the loop and the sessions need of a clock; tests pass one that moves only when told
    to."""

    now_ms: int
    """Milliseconds on a clock that never steps back; its zero means nothing."""
    skipped_ms: int
    """The pauses that were taken out so far: with them, `now_ms` is the same in all processes."""

    def update(self) -> None:
        """Read the time anew; the loop calls this once a turn, right after its selector
        returned."""

    def skip(self, pause_ms: int) -> None:
        """Take so much out of the time, as this process was not running: `now_ms` goes back, and
        runs on from there."""

    def wall_ms(self) -> int:
        """Return milliseconds since 1970-01-01 UTC, for log lines only."""


class MonotonicClock:
    """The real clock (`clock_gettime(CLOCK_MONOTONIC)`)."""

    __slots__ = ("now_ms", "skipped_ms")

    def __init__(self) -> None:
        self.skipped_ms = 0
        self.now_ms = 0
        self.update()

    def update(self) -> None:
        """Read the time anew."""
        self.now_ms = time.monotonic_ns() // 1_000_000 - self.skipped_ms

    def skip(self, pause_ms: int) -> None:
        """Take a pause out of the time."""
        self.skipped_ms += pause_ms
        self.now_ms -= pause_ms

    def wall_ms(self) -> int:
        """Return milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000
