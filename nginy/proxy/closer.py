"""The end of the sessions of a backend that went down: `on_down: close` and `on_down: reset`.

TCP sessions are tracked nowhere but in the selector, which knows every connection. So the sessions
of one backend are found by going through its list, which takes longer the more connections there
are; a `SessionCloser` does that in slices, one a turn of the loop, and others are served in
between.

`backend/checks/monitor.py` decides whether and when sessions end. A session that is still
connecting is left alone: it finds out by itself, and may still reach another backend.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

from nginy.backend.backend import Backend
from nginy.event.connection import Connection
from nginy.event.loop import Loop
from nginy.proxy.session import Reason, Session

SLICE: Final = 500
"""Connections looked at in one turn: some 0.1 ms, more where sessions are closed."""


class SessionCloser:
    """Ends sessions of backends. Created and closed by the server, one for its loop."""

    __slots__ = ("_connections", "_loop", "_queue")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._queue: deque[tuple[Backend, bool]] = deque()
        """Whose sessions are to end, and whether with a reset; the first is being worked on."""
        self._connections: Iterator[Connection] = iter(())

    def end_sessions(self, backend: Backend, reset: bool) -> None:
        """End the sessions that `backend` serves now, from the next turn on."""
        self._queue.append((backend, reset))
        if len(self._queue) == 1:
            self._begin()

    def close(self) -> None:
        """Leave the rest to whoever ends all sessions."""
        self._queue.clear()

    def abort(self) -> None:
        """Go on with the next backend, after a bug."""
        self._queue.popleft()
        if self._queue:
            self._begin()

    def _begin(self) -> None:
        keys = self._loop.selector.get_map().values()
        # Those that are opened from here on do not go to a backend that is down.
        self._connections = iter([key.data for key in keys])
        self._loop.soon(self._end_slice, self)

    def _end_slice(self) -> None:
        """Look at the next slice of connections."""
        if not self._queue:
            return
        backend, reset = self._queue[0]
        count = 0
        for c in islice(self._connections, SLICE):
            count += 1
            session = c.data if c.fd >= 0 else None
            if isinstance(session, Session) and serves(session, backend):
                session.finalize(Reason.BACKEND_DOWN, reset=reset)
        if count == SLICE:
            self._loop.soon(self._end_slice, self)
            return
        self._queue.popleft()
        if self._queue:
            self._begin()


def serves(session: Session, backend: Backend) -> bool:
    """Whether the session is established with `backend`."""
    attempt = session.attempts[-1] if session.attempts else None
    return (
        attempt is not None and attempt.backend is backend and attempt.connected_at_ms is not None
    )
