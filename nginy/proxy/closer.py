"""The sessions that backends lose: those that went down, and those that left their list.

Nothing tracks TCP sessions but the selector, which knows every connection. So a `SessionCloser`
finds the sessions of one backend by going through all connections. It does that in slices, one a
turn of the loop, and others are served in between. Two things make it do so:

- `on_down: close` and `on_down: reset`: `backend/checks/monitor.py` decides whether and when.
- `proxy_drain_timeout`: a backend has left its upstream, or a listener has been led to another
  upstream, so its sessions end after that time. A UDP session without an answer so far lets its
  client go after a second, as the client would never notice that its backend is gone. Its next
  datagram begins a new session with a new choice, while an answer under way still gets through.

The closer leaves alone a session that is still connecting: it notices by itself, and may still
reach another backend.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from itertools import islice
from typing import Final

from nginy.backend.backend import Backend
from nginy.event.connection import Connection
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.proxy.handler import ProxyHandler
from nginy.proxy.session import Reason, Session
from nginy.proxy.udp.handler import UdpHandler
from nginy.proxy.udp.session import UdpSession

SLICE: Final = 500
"""Connections looked at in one turn: some 0.1 ms, more where sessions are closed."""
GRAIN_MS: Final = 100
"""How exactly `proxy_drain_timeout` is kept: backends that leave one by one share a pass."""

UNANSWERED_MS: Final = 1000
"""How long a UDP session without an answer keeps its client after its backend has left."""

Deal = Callable[[Session], None]
"""Ends a session, or leaves it alone."""


class SessionCloser:
    """Ends the sessions of backends. Created and closed by the server, one for its loop."""

    __slots__ = ("_connections", "_due_ms", "_loop", "_queue", "_timer")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._queue: deque[Deal] = deque()
        """What to do with all sessions, pass by pass; the first pass is under way."""
        self._connections: Iterator[Connection] = iter(())
        self._due_ms: list[int] = []
        """When to look for sessions whose time to drain is over: a heap."""
        self._timer = Timer(self._drain_handler, self)

    def end_sessions(self, backend: Backend, reset: bool, is_wanted: bool = False) -> None:
        """End the sessions that `backend` serves now, from the next turn on.

        The backend has gone down, or, with `is_wanted`, an operator wants the end.
        """
        reason = Reason.KILLED_BY_OPERATOR if is_wanted else Reason.BACKEND_DOWN

        def end(session: Session) -> None:
            if serves(session, backend):
                session.finalize(reason, reset=reset)

        self._go_through(end)

    def drain(self, times_ms: Iterable[int]) -> None:
        """Look, after each of these times and soon, for sessions that must leave their backend.

        Call it whenever backends have left, or a listener has been led elsewhere.
        """
        now_ms = self._loop.clock.now_ms
        for time_ms in (UNANSWERED_MS, *times_ms):
            due_ms = -(-(now_ms + time_ms) // GRAIN_MS) * GRAIN_MS
            if due_ms not in self._due_ms:
                heappush(self._due_ms, due_ms)
        self._start_timer()

    def close(self) -> None:
        """Leave the rest to the end of all sessions."""
        self._queue.clear()
        self._due_ms.clear()
        self._loop.timers.cancel(self._timer)
        del self._timer  # which refers to this closer as well

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "sessions whose backends have left"

    def abort(self) -> None:
        """Go on with the next pass, after a bug."""
        if self._queue:
            self._queue.popleft()
        if self._queue:
            self._begin()
        self._start_timer()

    def _start_timer(self) -> None:
        if self._due_ms:
            self._loop.timers.start(self._timer, self._due_ms[0])

    def _drain_handler(self, _timer: Timer) -> None:
        while self._due_ms and self._due_ms[0] <= self._loop.clock.now_ms:
            heappop(self._due_ms)
        self._go_through(drain)
        self._start_timer()

    def _go_through(self, deal: Deal) -> None:
        self._queue.append(deal)
        if len(self._queue) == 1:
            self._begin()

    def _begin(self) -> None:
        # Sessions that begin from here on do not go to a backend that is down or has left.
        self._connections = iter(self._loop.interest.connections())
        self._loop.soon(self._work, self)

    def _work(self) -> None:
        """Look at the next slice of connections."""
        if not self._queue:
            return
        deal = self._queue[0]
        count = 0
        for c in islice(self._connections, SLICE):
            count += 1
            session = c.data if c.fd >= 0 else None
            if isinstance(session, Session):
                deal(session)
        if count == SLICE:
            self._loop.soon(self._work, self)
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


def drain(session: Session) -> None:
    """End a session whose backend left too long ago; let the client of one without answers go."""
    handler = session.handler
    left_at_ms = left_since_ms(session)
    if left_at_ms is None or not isinstance(handler, ProxyHandler):
        return
    timeout_ms = handler.settings.drain_timeout_ms
    if timeout_ms is None:
        return
    passed_ms = handler.loop.clock.now_ms - left_at_ms
    if passed_ms >= timeout_ms:
        session.finalize(Reason.KILLED, "proxy_drain_timeout is over, the backend has left")
    elif passed_ms >= UNANSWERED_MS and isinstance(session, UdpSession) and not session.responses:
        # A listener that is about to go takes no new clients: an old backend is better than none.
        newest = session.handler.newest
        if not (isinstance(newest, UdpHandler) and newest.is_draining):
            session.handler.detach(session)


def left_since_ms(session: Session) -> int | None:
    """Return since when new sessions of its listener cannot get the session's backend.

    None if they can, or if the session is not established.
    """
    attempt = session.attempts[-1] if session.attempts else None
    if attempt is None or attempt.backend is None or attempt.connected_at_ms is None:
        return None
    handler = session.handler
    if isinstance(handler, ProxyHandler) and handler.destination.left_at_ms is not None:
        return handler.destination.left_at_ms
    return attempt.backend.left_at_ms
