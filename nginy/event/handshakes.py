"""Handshakes: expensive steps, a few milliseconds of them in each turn.

A full handshake of TLS costs 0.5 to 2 ms of CPU time, some hundred times what a message costs. A
crowd of new clients must not keep the connected ones waiting, so no handler computes a step itself:
it puts the step in this queue, and each turn of the loop does a few, first come, first served. In
between, everybody else is served.

How long a step takes depends on keys and on the machine, so the queue limits time and not steps.

`event/tls.py` has the steps; the sessions and checks that shake hands queue them.

Tested in tests/proxy/phases/test_terminating_live.py.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from nginy.event.timer import Owner

TURN_S: Final = 0.005
"""No step begins later than this in a turn; with the longest step, a turn stays below 20 ms."""

Step = Callable[[], None]


class Handshakes:
    """The steps that wait for their turn. Created by the loop, one for it."""

    __slots__ = ("_owner", "_soon", "_time", "_waiting")

    def __init__(
        self,
        soon: Callable[[Step, Owner], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Run the steps by way of the loop's `soon`."""
        self._soon = soon
        self._time = clock
        self._waiting: deque[tuple[Step, Owner]] = deque()
        self._owner: Owner | None = None

    def add(self, step: Step, owner: Owner) -> None:
        """Run a step soon; it has to check whether it is still wanted. A bug in it aborts
        `owner`."""
        if not self._waiting:
            self._soon(self._work, self)
        self._waiting.append((step, owner))

    def _work(self) -> None:
        end_s = self._time() + TURN_S
        waiting = self._waiting
        while waiting:
            step, self._owner = waiting.popleft()
            step()
            if self._time() >= end_s:
                break
        self._owner = None
        if waiting:
            self._soon(self._work, self)

    def abort(self) -> None:
        """End the session whose step has failed, and go on with the others."""
        owner, self._owner = self._owner, None
        if self._waiting:
            self._soon(self._work, self)
        if owner is not None:
            owner.abort()
