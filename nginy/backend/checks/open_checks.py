"""The running checks, how many there may be, and those that wait for a turn.

Each check takes a descriptor, and a crowd of them takes the time of the sessions. So there are at
most `max_checks` at once, and those due beyond that wait, first come, first served: later than
planned, but never lost. A few backends that hang do not use them up, since each has one check.

A `watch` or an `agent` asks for a turn; a `dialog`, a `datagram` or a `program` takes it.
"""

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Final, Protocol

from nginy.event.loop import Loop
from nginy.log.limit import RateLimited

logger = logging.getLogger("nginy.backend")

MAX_CHECKS: Final = 100
"""The default of `max_checks`: twenty a second if all of them hang for 5 s."""
PER_TURN: Final = 4
"""At most this many begin in one turn of the loop, which takes 0.1 ms: a crowd of checks that are
due at the same tick must not hold up the sessions."""
LOG_INTERVAL_MS: Final = 60_000
PATIENCE_MS: Final = 1000
"""The log reports that a check waits for longer than this."""


class Check(Protocol):
    """Something that ends with a `Result`; until then it keeps itself in `OpenChecks`."""

    def cancel(self) -> None:
        """Give up without telling the owner, and clean up soon."""

    def close(self) -> None:
        """Give up everything at once without telling the owner: the process ends."""


class WaitingCheck(Protocol):
    """An owner that wants to begin a check."""

    def turn_has_come(self) -> None:
        """Begin now, if still necessary."""

    def abort(self) -> None:
        """Go on after a bug in that."""


class OpenChecks:
    """The checks that hold a descriptor or a timer, even after they have told their result.

    Created and closed by `Checker`.
    """

    __slots__ = (
        "_begun",
        "_busy",
        "_checks",
        "_limited",
        "_loop",
        "_promised",
        "_waiting",
        "_waiting_since_ms",
        "limit",
    )

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._checks: set[Check] = set()
        self._busy: set[Check] = set()
        """The checks without a result."""
        self._waiting: dict[WaitingCheck, None] = {}
        """First come, first served."""
        self._promised = 0
        """How many have been told to begin in this turn of the loop, and have not yet."""
        self._begun = 0
        """How many have begun in this turn of the loop."""
        self._waiting_since_ms = 0
        """Since when any check has waited."""
        self._limited = RateLimited(LOG_INTERVAL_MS)
        self.limit = MAX_CHECKS

    def __len__(self) -> int:
        """Return how many are under way."""
        return len(self._checks)

    def __iter__(self) -> Iterator[Check]:
        """Go through them."""
        return iter(self._checks)

    def __contains__(self, check: object) -> bool:
        """Whether a check is under way."""
        return check in self._checks

    def add(self, check: Check) -> None:
        """Note that a check has begun."""
        self._checks.add(check)
        self._busy.add(check)

    def has_result(self, check: Check) -> None:
        """Note that a check now only waits for the end of its connection: another one may begin."""
        self._busy.discard(check)
        if self._waiting:
            self._loop.soon(self._turn_over, self)

    def discard(self, check: Check) -> None:
        """Note that a check needs nothing any more."""
        self._checks.discard(check)
        self.has_result(check)

    # Turns.

    def admit(self, waiter: WaitingCheck) -> bool:
        """Return whether a check may begin now; if not, call `waiter` when it may."""
        taken = self._begun + self._promised
        has_room = taken < PER_TURN and len(self._busy) + self._promised < self.limit
        if has_room and not self._waiting:
            self._begun += 1
            if self._begun == 1:
                self._loop.soon(self._turn_over, self)
            return True
        if not self._waiting:
            self._loop.soon(self._turn_over, self)
            self._waiting_since_ms = self._loop.clock.now_ms
        self._waiting[waiter] = None
        self._warn(self._loop.clock.now_ms - self._waiting_since_ms)
        return False

    def _warn(self, waiting_ms: int) -> None:
        """Log that checks are late, unless that soon passes, as at the start of a large pool."""
        if waiting_ms < PATIENCE_MS or len(self._busy) < self.limit:
            return
        suppressed = self._limited.admit("", self._loop.clock.now_ms)
        if suppressed is not None:
            text = "checks are late: %d wait until fewer than %d are running (max_checks)"
            logger.warning(text, len(self._waiting), self.limit)

    def is_waiting(self, waiter: WaitingCheck) -> bool:
        """Return whether a check waits for a turn."""
        return waiter in self._waiting

    def leave(self, waiter: WaitingCheck) -> None:
        """Wait no more."""
        self._waiting.pop(waiter, None)

    def set_limit(self, limit: int) -> None:
        """Take over `max_checks`."""
        self.limit = limit
        if self._waiting:
            self._loop.soon(self._turn_over, self)

    def close(self) -> None:
        """Give up all, without results."""
        self._waiting.clear()
        for check in tuple(self._checks):
            check.close()

    def abort(self) -> None:
        """Go on after a bug."""
        self._loop.soon(self._turn_over, self)

    def _turn_over(self) -> None:
        """Give a turn to those that may begin in the next turn of the loop."""
        self._begun = self._promised = 0
        free = min(self.limit - len(self._busy), PER_TURN)
        for waiter in tuple(islice(self._waiting, max(free, 0))):
            del self._waiting[waiter]
            self._promised += 1
            self._loop.soon(waiter.turn_has_come, waiter)
        if self._promised:
            # Behind them, so that they have begun by then.
            self._loop.soon(self._turn_over, self)
