"""The checks that are under way, how many there may be, and who waits for a turn.

Each check takes a descriptor, and a crowd of them takes the time of the sessions. So there are at
most `max_checks` at once, and what is due beyond that waits in the order of its coming: later than
planned, but never lost. A few backends that hang do not fill it up, as each of them has one check.

Who asks for a turn is a `watch` or an `agent`; what takes one is a `dialog`, a `datagram` or a
`program`.
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
TURNS: Final = 100
"""Who waits is called in such portions, so that a turn of the loop stays short."""
LOG_INTERVAL_MS: Final = 60_000


class Check(Protocol):
    """Something that ends with a `Result`; until then it keeps itself in `OpenChecks`."""

    def cancel(self) -> None:
        """Give up without telling the owner, and clean up soon."""

    def close(self) -> None:
        """Give up everything at once without telling the owner: the process ends."""


class Waiter(Protocol):
    """Somebody who wants to begin a check."""

    def turn_has_come(self) -> None:
        """Begin now, if that is still wanted."""

    def abort(self) -> None:
        """Go on after a bug in that."""


class OpenChecks:
    """The checks that hold a descriptor or a timer, even after they have told their result.

    Created and closed by `Checker`.
    """

    __slots__ = ("_checks", "_limited", "_loop", "_promised", "_waiting", "limit")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._checks: set[Check] = set()
        self._waiting: dict[Waiter, None] = {}
        """In the order of their coming."""
        self._promised = 0
        """How many may begin in this turn of the loop, and have not done so yet."""
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

    def discard(self, check: Check) -> None:
        """Note that a check needs nothing any more."""
        self._checks.discard(check)
        if self._waiting:
            self._loop.soon(self._call_some, self)

    # Turns.

    def admit(self, waiter: Waiter) -> bool:
        """Return whether a check may begin now; if not, call `waiter` when it may."""
        if len(self._checks) + self._promised < self.limit and not self._waiting:
            return True
        self._waiting[waiter] = None
        suppressed = self._limited.admit("", self._loop.clock.now_ms)
        if suppressed is not None:
            logger.warning("%d checks are under way (max_checks), others wait", len(self._checks))
        return False

    def is_waiting(self, waiter: Waiter) -> bool:
        """Return whether somebody waits for a turn."""
        return waiter in self._waiting

    def leave(self, waiter: Waiter) -> None:
        """Wait no more."""
        self._waiting.pop(waiter, None)

    def set_limit(self, limit: int) -> None:
        """Take over `max_checks`."""
        self.limit = limit
        if self._waiting:
            self._loop.soon(self._call_some, self)

    def close(self) -> None:
        """Give up all, without results."""
        self._waiting.clear()
        for check in tuple(self._checks):
            check.close()

    def abort(self) -> None:
        """Go on after a bug."""
        self._settle()

    def _call_some(self) -> None:
        """Give a turn to as many as may begin."""
        free = self.limit - len(self._checks) - self._promised
        for waiter in tuple(islice(self._waiting, max(0, min(free, TURNS)))):
            del self._waiting[waiter]
            self._promised += 1
            self._loop.soon(waiter.turn_has_come, waiter)
        if self._promised:
            self._loop.soon(self._settle, self)

    def _settle(self) -> None:
        """Give more turns if those who had one have not used them all."""
        self._promised = 0
        if self._waiting and len(self._checks) < self.limit:
            self._loop.soon(self._call_some, self)
