"""Time as the loop sees it: one monotonic reading a turn, shared by all handlers of that turn.

A handler that asks "what time is it?" gets the instant at which the current turn woke up. That
makes time cheap (an attribute instead of a system call), makes all decisions of one turn agree,
and lets tests substitute a clock of their own. nginx does the same (`ngx_time_update`).

While the process is stopped, swapped out or frozen, no time passes here: the loop subtracts such a
pause (`Loop.turn`), and each timer has as much time left as before.

Only log lines use wall time, which jumps when an operator or NTP sets it; deadlines and durations
never do. `nginy/text/times.py` turns times into text. Next: `event/timer.py`.
"""

import time
from typing import Protocol

from nginy.event.pauses import Pauses


class Clock(Protocol):
    """What the loop and the sessions need of a clock. Tests pass one that moves when told to."""

    now_ms: int
    """Milliseconds on a clock that never steps back; its zero means nothing."""
    skipped_ms: int
    """The pauses that were taken out so far: with them, `now_ms` is the same in all processes."""
    pauses: Pauses

    def update(self) -> None:
        """Read the time. The loop calls this once a turn, when its selector has returned."""

    def skip(self, pause_ms: int) -> None:
        """Set `now_ms` back by a pause in which this process did not run."""

    def wall_ms(self) -> int:
        """Return milliseconds since 1970-01-01 UTC, for log lines only."""


class MonotonicClock:
    """The real clock (`clock_gettime(CLOCK_MONOTONIC)`)."""

    __slots__ = ("meter", "now_ms", "pauses", "read_ns", "skipped_ms")  # two are for meter.py

    def __init__(self) -> None:
        self.skipped_ms = 0
        self.pauses = Pauses()
        self.update()

    def update(self) -> None:
        """Read the time."""
        self.now_ms = time.monotonic_ns() // 1_000_000 - self.skipped_ms

    def skip(self, pause_ms: int) -> None:
        """Subtract a pause from the time."""
        self.skipped_ms += pause_ms
        self.now_ms -= pause_ms
        self.pauses.add(self.now_ms, pause_ms)

    def wall_ms(self) -> int:
        """Return milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000
