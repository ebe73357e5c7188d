"""A UDP session's way to a backend: pick one, open a socket to it, or to the next one.

`UdpOpening` is what a UDP session is until it has a socket to a backend, and again if its first
datagram turns out to have reached nobody; `proxy/udp/session.py::UdpSession` is the exchange that
follows. It tries another backend only while no backend can have answered: if opening fails, or
sending the first datagram does, or if an ICMP message refuses it. `proxy_next_upstream` limits the
tries.

nginx: `ngx_stream_proxy_connect` and `ngx_event_connect_peer`, for SOCK_DGRAM.

Tested in tests/proxy/udp/test_handler_live.py.
"""

import logging
from abc import abstractmethod
from typing import Final

from nginy.backend.backend import Backend
from nginy.event.connect import ConnectFailure, connect_datagram
from nginy.event.datagram import DatagramConnection, SharedConnection
from nginy.event.event import Event
from nginy.event.timer import Timer
from nginy.proxy.attempt import Attempt, AttemptResult
from nginy.proxy.context import as_bytes
from nginy.proxy.session import Reason
from nginy.proxy.udp.base import KeyedSession, UdpHandlerBase
from nginy.text.counts import counted

TRIES_AT_ONCE: Final = 16
"""Backends that one datagram tries: each may take a socket in the same turn."""

UNANNOUNCED: Final = ("off", "auto")
"""`proxy_protocol` of a listener and a backend where nobody expects a PROXY header."""


class UdpOpening(KeyedSession):
    """A UDP session that looks for a backend."""

    __slots__ = ("_attempt", "_end_timer", "_requests", "_responses", "_tried", "backend")

    handler: UdpHandlerBase
    client: SharedConnection
    upstream: DatagramConnection | None
    backend: Backend
    """The backend; there is none before `open`."""
    _attempt: Attempt

    def __init__(self, handler: UdpHandlerBase, client: SharedConnection) -> None:
        super().__init__(handler, client)
        self._tried: tuple[Backend, ...] = ()
        self._end_timer: Timer | None = None
        self._requests = 0
        self._responses = 0

    @abstractmethod
    def forward(self, data: memoryview) -> bool:
        """Send a datagram to the backend, or drop it; False if it may go elsewhere."""

    @abstractmethod
    def _upstream_read_handler(self, event: Event) -> None:
        """Pass on one answer."""

    @abstractmethod
    def _idle_timer_handler(self, timer: Timer) -> None:
        """End the session, unless it was active meanwhile."""

    def open(self, failure: ConnectFailure | None = None) -> bool:
        """Choose a backend and open a socket to it; if that fails, end the session and return
        False.

        If connecting fails, it tries another backend, as no byte has gone out. `failure` is what
        ended an earlier attempt.
        """
        handler, client = self.handler, self.client
        settings = handler.settings
        client.action = "connecting to upstream"
        now_ms = handler.loop.clock.now_ms
        key = b"" if handler.hash_key is None else as_bytes(handler.hash_key(self))
        while True:
            backend = handler.pool.pick(key, self._tried, now_ms // 1000)
            if backend is None:
                self._not_connected(failure)
                return False
            self.backend = backend
            if failure is not None:
                handler.pool.retries += 1
            self._attempt = Attempt(handler.pool, backend, now_ms)
            self.attempts += (self._attempt,)
            if handler.is_verbose:
                sessions = counted(backend.conns, "session")
                self.log(logging.DEBUG, f"picked {backend.name}, with {sessions} now")
            bind = settings.bind if handler.bind_of is None else handler.bind_of(self)
            address = backend.address
            if address.offset is not None:
                address = self._attempt.lead_to(address.for_port(handler.port))
            upstream = connect_datagram(handler.loop, address, bind)
            if not isinstance(upstream, ConnectFailure):
                wanted = (settings.proxy_protocol, backend.settings.proxy_protocol)
                if wanted != UNANNOUNCED or len(self.attempts) > 1:
                    handler.announce(self, backend)
                self._connected(upstream)
                return True
            failure = upstream
            self._attempt.errno = failure.errno
            is_final = failure.is_ours and not failure.lacks_port
            if is_final or not handler.may_try_next(self.attempts):
                self._not_connected(failure)
                return False
            self._give_up(failure)

    def _give_up(self, failure: ConnectFailure) -> None:
        """End a failed attempt, as another one follows."""
        if not failure.is_ours:
            self.log(Reason.BACKEND_UNREACHABLE.level, failure.text)
        self._tried += (self.backend,)
        self._attempt.errno = failure.errno
        result = AttemptResult.UNKNOWN if failure.is_ours else AttemptResult.FAILED
        self._attempt.give_up(result, self.handler.loop.clock.now_ms, self.upstream)

    def _connected(self, upstream: DatagramConnection) -> None:
        loop, settings = self.handler.loop, self.handler.settings
        self.upstream = upstream
        now_ms = loop.clock.now_ms
        self._attempt.connected_at_ms = now_ms
        upstream.data = self
        upstream.number = self.number
        upstream.read.handler = self._upstream_read_handler
        upstream.resume_read()
        self.client.action = "proxying datagrams"
        if settings.timeout_ms is not None:
            timer = upstream.read.timer = Timer(self._idle_timer_handler, self)
            loop.timers.start(timer, now_ms + settings.timeout_ms)
        if self.handler.pool.max_session_time_ms is not None and self._end_timer is None:
            timer = self._end_timer = Timer(self._end_timer_handler, self)
            delay_ms = self.handler.jittered(self.handler.pool.max_session_time_ms)
            loop.timers.start(timer, now_ms + delay_ms)

    def _not_connected(self, failure: ConnectFailure | None) -> None:
        """End a session that has no socket, and drop the datagram that began it."""
        handler = self.handler
        if failure is None:
            handler.drops.count("no_backend")
            self.attempts = (Attempt(handler.pool, None, handler.loop.clock.now_ms),)
            why = handler.pool.turn_away(handler.loop.clock.now_ms // 1000)
            detail = f'no usable backend in upstream "{handler.pool.name}": {why}'
            self.finalize(Reason.NO_BACKEND, detail)
        elif failure.is_ours:
            handler.drops.count("limit")
            self.finalize(Reason.RESOURCE, failure.text)
        else:
            handler.drops.count("send_error")
            self.finalize(Reason.BACKEND_UNREACHABLE, failure.text)

    def has_moved_on(self, call: str, code: int) -> bool:
        """Send the first datagram to another backend, if it is the only one and was refused."""
        first = self.handler.firsts.get(self)
        return self._requests == 1 and first is not None and self.move_on(call, code, first)

    def move_on(self, call: str, code: int, first: bytes | memoryview) -> bool:
        """Try another backend with the first datagram; return False if it may try none.

        The session may have ended after a True: no further backend was usable.
        """
        handler, upstream = self.handler, self.upstream
        if (
            upstream is None
            or self._responses
            or len(self.attempts) >= TRIES_AT_ONCE
            or not handler.may_try_next(self.attempts)
        ):
            return False
        failure = ConnectFailure(call, code, is_ours=False)
        self._give_up(failure)
        if self._requests:
            self.client.received -= len(first)
        self._requests = 0
        self.upstream = None
        upstream.close()
        if self.open(failure):
            self.forward(memoryview(first))
            handler.hold(self, first)
        return True

    def _end_timer_handler(self, _timer: Timer) -> None:
        self.finalize(Reason.TOO_LONG)
