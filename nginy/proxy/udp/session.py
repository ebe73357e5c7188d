"""UDP sessions: the way of a client's datagrams to a backend, and of the answers back.

A session has a socket of its own, connected to its backend. It sends each datagram of the client on
that socket, and what comes back goes to the client through the listener's socket. It never cuts a
datagram, and counts one that it cannot send in the handler's `drops`. When datagrams come faster
than nginy receives them, those of one length leave together (`proxy/udp/run.py`).

No datagram reaches two backends. Only the first of a session, if it certainly reached nobody, may
go to another one: see `proxy/udp/opening.py`.

The session ends well when the answers it expects are there (`proxy_responses`), or when it has been
idle and lacks none. It ends badly, and that counts against the backend, when answers are missing
or it cannot reach the backend. Its one timer does not move for each datagram: the session notes its
activity, and the timer, when it fires early, goes back to sleep for the rest.

`proxy/udp/handler.py` decides which datagrams belong to a session; `proxy/session.py` has what UDP
has in common with TCP.

nginx: the parts for SOCK_DGRAM of `ngx_stream_proxy_module.c`.

Tested in tests/proxy/udp/test_handler_live.py.
"""

import errno
import logging
from typing import Final

from nginy.backend.backend import Backend
from nginy.backend.health.health import COLD
from nginy.event.connect import failure_text
from nginy.event.datagram import DatagramConnection, SharedConnection
from nginy.event.event import Event
from nginy.event.timer import Timer
from nginy.log.limit import similar
from nginy.proxy.attempt import FAILED, UNKNOWN, WORKED
from nginy.proxy.session import COMPLETED, Reason
from nginy.proxy.udp.base import UdpHandlerBase
from nginy.proxy.udp.moving import MovableUdpSession

UNREACHABLE: Final = frozenset(
    (
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
    )
)
"""Errors by which an ICMP message, or the system itself, says that a backend cannot be reached
(Linux, icmp.c `icmp_err_convert`)."""

QUEUE_FULL: Final = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))
"""Errors of send() by which the system has no room for a datagram now."""

RESULTS: Final = {
    COMPLETED: WORKED,
    Reason.BACKEND_RESET: FAILED,
    Reason.BACKEND_UNREACHABLE: FAILED,
    Reason.ANSWERS_MISSING: FAILED,
}
"""Which reasons show something about the backend, and what; no other reason does."""


class UdpSession(MovableUdpSession):
    """A client's datagrams and a backend's answers to them."""

    __slots__ = ("can_run", "header", "heard_in", "is_bursting")

    header: bytes
    """The PROXY header ahead of its datagrams: only an `announcing.AnnouncingSession` has one."""

    def __init__(self, handler: UdpHandlerBase, client: SharedConnection) -> None:
        super().__init__(handler, client)
        self.key = None
        self.can_run = True
        """Whether the way to the backend takes several datagrams by one call, as far as known."""
        self.heard_in = 0
        """The receiver's event that brought its last datagram."""
        self.is_bursting = False
        """Whether the client's last run was one of several datagrams."""

    @property
    def requests(self) -> int:
        """Datagrams that the session has passed on to the backend."""
        return self._requests

    @property
    def responses(self) -> int:
        """Datagrams of the backend, including those that did not get to the client."""
        return self._responses

    # From the client to the backend.

    def forward(self, data: memoryview) -> bool:
        """Send a datagram of the client to the backend, or drop it.

        Returns False, with the session ended, if send() reported instead that an earlier datagram
        did not reach the backend (ICMP). Then this one may begin a new session. After True the
        session may have ended too, because it was complete.
        """
        client, upstream, handler = self.client, self.upstream, self.handler
        if upstream is None:
            return False
        try:
            # Not `upstream.send(data)`: the calls of the socket stand here and in the handler of
            # the answers, as in `proxy/tcp.py`.
            count = upstream.socket.send(data)
        except OSError as error:
            return self._not_forwarded(error.errno or 0, data)
        upstream.sent += count
        client.received += count
        client.active_at_ms = client.loop.clock.now_ms
        self._requests += 1
        settings = handler.settings
        if 0 < settings.requests <= self._requests:
            handler.detach(self)
        if settings.responses is not None and self.is_answered(settings.responses):
            self.finalize(Reason.COMPLETED)
        return True

    def _not_forwarded(self, code: int, data: memoryview) -> bool:
        if code not in UNREACHABLE:
            self.client.received += len(data)
            self._drop(code)
            return True
        if not self._requests and self.move_on("send", code, data):
            return True
        if self.has_moved_on("send", code):
            return self.end is None and self.forward(data)
        self.finalize(Reason.BACKEND_RESET, failure_text("send", code))
        return False

    def send_run(self, run: list[memoryview]) -> list[memoryview]:
        """Send datagrams of one length; return those that are left if the session has ended."""
        upstream = self.upstream
        if self.end is not None or upstream is None:
            return run
        if len(run) > 1:
            if self._send_run_by(upstream, run):
                self.client.received += sum(map(len, run))
                self.client.active_at_ms = self.client.loop.clock.now_ms
                self._requests += len(run)
                return []
            if upstream.errno in UNREACHABLE:
                if self.has_moved_on("sendmsg", upstream.errno):
                    return self.send_run(run)
                self.finalize(Reason.BACKEND_RESET, failure_text("sendmsg", upstream.errno))
                return run
            # Unless there is no room just now, the path is too narrow or its device cannot.
            self.can_run = upstream.errno in QUEUE_FULL
        for position, data in enumerate(run):
            if not self.forward(data):
                return run[position:]
        return []

    def _send_run_by(self, upstream: DatagramConnection, run: list[memoryview]) -> bool:
        """Send datagrams of one length by one call; return False if it fails."""
        return upstream.send_run(run)

    def has_lost_backend(self) -> bool:
        """Whether the backend is down, or failures have taken it out since this session began.

        A draining backend, or one that has left the configuration, keeps the sessions it has; so
        does one that failures have taken out while no other backend is usable. A session that began
        after the failures is the probe: it shows whether the backend works again.
        """
        backend, attempt = self.backend, self._attempt
        if backend.is_held_back:
            return backend.health.state in COLD
        return backend.accessed_s >= attempt.started_at_ms // 1000 and attempt.pool.has_lost(
            backend, self.handler.loop.clock.now_ms // 1000
        )

    # From the backend to the client.

    def _upstream_read_handler(self, event: Event) -> None:
        """Pass on one answer; if there are more the event comes again, which is cheaper than
        trying."""
        upstream, client = event.data, self.client
        loop = upstream.loop
        memory = loop.memory
        try:
            count = upstream.socket.recv_into(memory)
        except OSError as error:
            self._not_received(error.errno or 0)
            return
        upstream.received += count
        now_ms = client.active_at_ms = self.backend.answered_at_ms = loop.clock.now_ms
        if not self._responses:
            self._attempt.first_byte_at_ms = now_ms
            self.handler.firsts.pop(self, None)
            self._attempt.pool.succeeded(self.backend)
        self._responses += 1
        data = memory[:count]
        if client.replies_from:
            if client.send(data) < 0:
                self._drop(client.errno)
        else:  # `client.send(data)`, in place
            try:
                client.sent += client.socket.sendto(data, client.replies_to)
            except OSError as error:
                self._drop(error.errno or 0)
        expected = self.handler.settings.responses
        if expected is not None and self.is_answered(expected):
            self.finalize(Reason.COMPLETED)

    def _not_received(self, code: int) -> None:
        if code in UNREACHABLE:
            if not self.has_moved_on("recv", code):
                self.finalize(Reason.BACKEND_RESET, failure_text("recv", code))
        elif code != errno.EAGAIN:
            self._drop(code)

    def _drop(self, code: int) -> None:
        """Count a datagram that the socket did not take, by its errno."""
        if code == errno.EMSGSIZE:
            reason = "truncated"
        elif code in QUEUE_FULL:
            reason = "queue_full"
        else:
            reason = "send_error"
        self.handler.drops.count(reason)

    # The end.

    def is_answered(self, expected: int) -> bool:
        """Whether there is nothing left to wait for, with `expected` answers to each datagram.

        As long as `proxy_requests` still holds the key for more datagrams, there is (nginx
        ngx_stream_proxy_test_finalize).
        """
        return self._responses >= expected * self._requests and not (
            self.key is not None and self.handler.settings.requests
        )

    def _idle_timer_handler(self, timer: Timer) -> None:
        settings, loop = self.handler.settings, self.handler.loop
        if settings.timeout_ms is None:
            return
        deadline_ms = self.client.active_at_ms + settings.timeout_ms
        if deadline_ms > loop.clock.now_ms:
            loop.timers.start(timer, deadline_ms)
        elif settings.responses is None or self._responses >= settings.responses * self._requests:
            self.finalize(COMPLETED if self._responses else Reason.NO_ANSWER)
        else:
            self.finalize(Reason.ANSWERS_MISSING)

    def finalize(self, reason: Reason, detail: str = "", reset: bool = False) -> None:
        """End the session, give its backend back, and tell whether it has failed."""
        if self.end is not None:
            return
        attempt = self.attempts[-1] if self.attempts else None
        backend = None if attempt is None else attempt.backend
        if attempt is not None and backend is not None:
            result = RESULTS.get(reason, UNKNOWN)
            if (
                result is FAILED
                and reason is Reason.ANSWERS_MISSING
                and self._is_exonerated(backend)
            ):
                result = UNKNOWN
            attempt.end(result, self.handler.loop.clock.now_ms, self.upstream)
            if self._end_timer is not None:
                self.handler.loop.timers.cancel(self._end_timer)
                self._end_timer = None
            backend.counters.count(reason.code, self.client.received, self.client.sent)
        super().finalize(reason, detail, reset)

    def _is_exonerated(self, backend: Backend) -> bool:
        """Whether missing answers say more about the client's datagrams than about the backend.

        Anybody can send what no server answers. So they count only if the backend has answered
        nobody since the last of these datagrams came, and answers no checks either.
        """
        return backend.answered_at_ms >= self.client.active_at_ms or backend.health.is_passing

    def log(self, level: int, message: str) -> None:
        """Write to the error log, but warnings at most once a second for each message."""
        if level < logging.WARNING:
            super().log(level, message)
            return
        suppressed = self.handler.drops.limited.admit(message, self.handler.loop.clock.now_ms)
        if suppressed is not None:
            super().log(level, message + similar(suppressed))
