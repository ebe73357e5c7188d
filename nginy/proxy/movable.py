"""Moving a session to another process of nginy, and going on there where it was.

A new nginy takes over the sessions of the one that runs (`process/takeover/`). For that a session
has four abilities, which cost nothing while nobody uses them:

- `why_unmovable` says what keeps it here;
- `halt` stops it: from then on nothing happens to its sockets, and nobody finds it;
- `take_up` goes on, in the process that it was in or in another;
- `let_go` forgets it, without a word to either side: both sockets are open elsewhere.

Its state is in its fields, except for one thing that `ending` has.

Tested in tests/process/takeover/test_giving_live.py.
"""

from abc import abstractmethod
from typing import Final

from nginy.event.connection import Connection
from nginy.event.event import Event, ignore
from nginy.proxy.ending import Delivery, EndingSession
from nginy.proxy.session import COMPLETED

SOON: Final = "that are not established yet"
"""Why a session cannot move now, in words that follow "sessions"; it can in a moment."""
ENCRYPTED: Final = "that speak TLS with nginy"
"""Why one never can: what OpenSSL keeps of a connection stays in its process."""


class MovableSession(EndingSession):
    """A TCP session that another process may go on with."""

    __slots__ = ()

    @abstractmethod
    def _read_handler(self, event: Event) -> None:
        """Pass on what one side has sent."""

    @abstractmethod
    def _wait_for_room(self, src: Connection, dst: Connection) -> None:
        """Send the rest that was read from `src` once `dst` takes it; read nothing until then."""

    @property
    def why_unmovable(self) -> str:
        """Why it cannot go to another process; "" if it can."""
        upstream = self.upstream
        if not self.client.is_plain or (upstream is not None and not upstream.is_plain):
            return ENCRYPTED
        if upstream is None or self.attempt.connected_at_ms is None:
            return SOON
        return ""

    @property
    def ending(self) -> Delivery | None:
        """The end that only waits until one side has taken all bytes; None if there is none."""
        delivery = getattr(self._timer.handler, "__self__", None)
        return delivery if isinstance(delivery, Delivery) else None

    def settle(self) -> None:
        """Get ready to go on here, as a session that has come from another process."""

    def halt(self) -> None:
        """Do nothing more until `take_up` or `let_go`; call this only if it can move."""
        loop = self.handler.loop
        for c in self._both():
            c.pause_read()
            c.pause_write()
            for event in (c.read, c.write):
                event.ready = event.pending_eof = event.posted = False
                if event.timer is not None:
                    loop.timers.cancel(event.timer)
            loop.interest.forget(c)
            loop.interest.remove(c)

    def watch(self) -> None:
        """Let the loop watch both connections again, after `halt`; raises OSError."""
        for c in self._both():
            c.loop.interest.add(c)

    def take_up(self) -> None:
        """Go on where it was; the loop watches both connections, and all fields are set."""
        client, upstream = self._both()
        loop, ending = self.handler.loop, self.ending
        client.action = "proxying connection"
        if ending is not None:
            src = upstream if ending.dst is client else client
            self._deliver(src, ending.dst, ending.reason, ending.detail, ending.is_reset)
            return
        upstream.write.handler = ignore
        for src, dst in ((client, upstream), (upstream, client)):
            src.read.handler = self._read_handler
            if src.read.eof:
                src.read.handler = self._after_eof_handler
                if loop.interest.is_edge_triggered:
                    src.resume_read()
            elif src.buffer is not None:
                self._wait_for_room(src, dst)
            elif not dst.errno:  # else this direction has been given up
                src.resume_read()
        self._resume_timers(client, upstream)

    def let_go(self) -> None:
        """Forget the session: another process has it, or will never have it."""
        self.end = COMPLETED  # it must not end here as well; nobody counts or logs this
        self.handler.counters.open -= 1
        backend, self.attempt.backend = self.attempt.backend, None
        if backend is not None:
            self.attempt.pool.release(backend)
        if self.arrival is not None:
            self.arrival.give_back()
        for c in self._both():
            c.close()
        del self._timer

    def end_as(self, ending: Delivery) -> None:
        """Make `take_up` go on with an end that waits until one side has taken all bytes."""
        self._timer.handler = ending.delivery_timer_handler

    def _both(self) -> tuple[Connection, Connection]:
        assert self.upstream is not None  # `why_unmovable` says so
        return self.client, self.upstream

    def _resume_timers(self, client: Connection, upstream: Connection) -> None:
        """Start the timers of idleness and of the longest time for what is left."""
        self._taken_bytes = -1
        settings, loop = self.handler.settings, self.handler.loop
        times_ms = [settings.timeout_ms, settings.half_close_timeout_ms]
        known_ms = [each for each in times_ms if each is not None]
        self._timer.handler = self._idle_timer_handler
        if known_ms:
            # If this is too early, the timer goes back to sleep for the rest.
            active_at_ms = max(client.active_at_ms, upstream.active_at_ms)
            loop.timers.start(self._timer, active_at_ms + min(known_ms))
        max_ms, connected_at_ms = (
            self.handler.pool.max_session_time_ms,
            self.attempt.connected_at_ms,
        )
        if max_ms is not None and connected_at_ms is not None:
            left_ms = connected_at_ms + max_ms - loop.clock.now_ms
            self._start_end_timer(max(left_ms, 0))
