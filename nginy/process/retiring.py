"""Retiring: a handler that takes no new clients and lives until its last session has ended.

Its sessions have until the deadline, `worker_shutdown_timeout`. Then it ends the rest in slices, so
that thousands of them do not hold up the loop. If a reload wants the service again before that,
`services.py` takes it back with everything it has.

nginx: `ngx_close_idle_connections` and `ngx_shutdown_timer_handler`.
"""

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Final

from nginy.event.bind import ListenKey
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.proxy.handler import ProtocolHandler
from nginy.proxy.session import Reason, Session

logger = logging.getLogger("nginy.server")

KILL_SLICE: Final = 250
"""Sessions ended in one turn when their deadline has come: some 10 ms of closing and logging."""


class Retiring:
    """A handler that gets no new clients, until its last session has ended or the deadline comes.

    Then it closes `listener`, through whose socket UDP sessions answer. None if that is closed
    already, or goes on with another handler.
    """

    __slots__ = ("_is_over", "_loop", "_timer", "handler", "key", "listener")

    def __init__(
        self, loop: Loop, key: ListenKey, handler: ProtocolHandler, listener: Listener | None
    ) -> None:
        self._loop = loop
        self.key = key
        self.handler = handler
        self.listener = listener
        self._is_over = False
        self._timer: Timer | None = None

    def limit(self, timeout_ms: int | None) -> None:
        """End the sessions after `timeout_ms` at the latest; None: they end by themselves."""
        if timeout_ms is not None:
            self._timer = Timer(self._deadline_handler, self)
            self._loop.timers.start(self._timer, self._loop.clock.now_ms + timeout_ms)

    def cancel(self) -> None:
        """Cancel the deadline: end no further session."""
        self._is_over = False
        if self._timer is not None:
            self._loop.timers.cancel(self._timer)
            # It refers back to this object, and only the cyclic collector would free the two.
            self._timer = None

    def close(self) -> None:
        """Close what is still open."""
        self.cancel()
        if self.listener is not None:
            self.listener.close()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f"listener {self.handler.name}, which takes no new clients"

    def abort(self) -> None:
        """Go on with the next slice, after a bug in the end of one session."""
        self._loop.soon(self._kill_slice, self)

    def _deadline_handler(self, _timer: Timer) -> None:
        logger.warning(
            "worker_shutdown_timeout has passed, closing the remaining sessions: %d, listener: %s",
            self.handler.sessions,
            self.handler.name,
        )
        self._is_over = True
        self._loop.soon(self._kill_slice, self)

    def _kill_slice(self) -> None:
        """End a slice of the sessions, and the others in the next turns."""
        if not self._is_over:
            return
        ours = (each for each in sessions_of(self._loop) if self.handler.owns(each))
        left = list(islice(ours, KILL_SLICE))
        for session in left:
            session.finalize(Reason.KILLED, "closed at the drain deadline")
        if left:
            self._loop.soon(self._kill_slice, self)


def sessions_of(loop: Loop) -> Iterator[Session]:
    """Yield the sessions of the loop, some of them twice.

    The selector knows them by their connections. Without edges it forgets a connection that waits
    for nothing; a session with two of those waits for a timer.
    """
    for c in loop.interest.connections():
        owner = c.data if c.fd >= 0 else None  # the end of an earlier session may have closed it
        if isinstance(owner, Session):
            yield owner
    if not loop.interest.is_edge_triggered:
        for owner in (timer.data for _, timer in loop.timers.running()):
            if isinstance(owner, Session):
                yield owner
