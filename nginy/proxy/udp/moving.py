"""Moving a UDP session to another process of nginy: what `proxy/movable.py` is for TCP.

A UDP session has one socket of its own, to its backend; its client sends to the listener's, which
all processes share. Who reads that one is up to `process/takeover/datagrams.py`. Here a session
that is halted has let go of its client's key, so that the handler does not find it.

Tested in tests/run/test_upgrade.py.
"""

from collections.abc import Sequence

from nginy.backend.backend import Backend
from nginy.event.datagram import DatagramConnection
from nginy.event.timer import Timer
from nginy.proxy.attempt import Attempt
from nginy.proxy.session import COMPLETED
from nginy.proxy.udp.base import ClientKey
from nginy.proxy.udp.opening import UdpOpening


class MovableUdpSession(UdpOpening):
    """A UDP session that another process may go on with."""

    __slots__ = ()

    def halt(self) -> None:
        """Do nothing more until `take_up` or `let_go`."""
        loop, upstream = self.handler.loop, self._socket()
        self.handler.hide(self)
        upstream.rest()
        loop.interest.remove(upstream)
        for timer in (upstream.read.timer, self._end_timer):
            if timer is not None:
                loop.timers.cancel(timer)

    def watch(self) -> None:
        """Let the loop watch the socket again, after `halt`; raises OSError."""
        self.handler.loop.interest.add(self._socket())

    def take_up(self) -> None:
        """Go on where it was; the loop watches the socket, and all fields are set."""
        handler, upstream = self.handler, self._socket()
        loop, settings = handler.loop, handler.settings
        handler.show(self)
        self.client.action = "proxying datagrams"
        upstream.read.handler = self._upstream_read_handler
        upstream.resume_read()
        if settings.timeout_ms is not None:
            timer = upstream.read.timer = Timer(self._idle_timer_handler, self)
            loop.timers.start(timer, self.client.active_at_ms + settings.timeout_ms)
        max_ms, connected_at_ms = handler.pool.max_session_time_ms, self._attempt.connected_at_ms
        if max_ms is not None and connected_at_ms is not None:
            timer = self._end_timer = Timer(self._end_timer_handler, self)
            loop.timers.start(timer, connected_at_ms + handler.jittered(max_ms))

    def let_go(self) -> None:
        """Forget the session: another process has it, or will never have it."""
        self.end = COMPLETED  # it must not end here as well; nobody counts or logs this
        handler, attempt = self.handler, self._attempt
        handler.firsts.pop(self, None)
        handler.counters.open -= 1
        backend, attempt.backend = attempt.backend, None
        if backend is not None:
            attempt.pool.release(backend)
        if self.arrival is not None:
            self.arrival.give_back()
        self._end_timer = None
        self._socket().close()
        self.client.close()

    def settle(
        self,
        upstream: DatagramConnection,
        backend: Backend,
        attempts: Sequence[Attempt],
        key: ClientKey | None,
        counts: tuple[int, int],
    ) -> None:
        """Get ready to go on here, as a session that has come from another process.

        `counts` are its requests and responses.
        """
        self.upstream, self.backend = upstream, backend
        upstream.data, upstream.number = self, self.number
        self.attempts = tuple(attempts)
        self._attempt = self.attempts[-1]
        self.key = key
        self._requests, self._responses = counts
        self.handler.counters.open += 1
        self.handler.announce(self, backend)

    def _socket(self) -> DatagramConnection:
        assert self.upstream is not None  # it has had one since its first datagram
        return self.upstream
