"""The connecting phase: pick a backend, connect to it, try the next one if that fails.

`UpstreamSession` is what a TCP session is until it has a connection to a backend; then
`established`, which `proxy/tcp.py::TcpSession` defines, takes over. While it connects, it reads
nothing more from the client (bytes read before stay in `client.buffer` and go to whichever backend
it reaches, so a retry loses none), but it notices a client that goes away.

Only this phase tries another backend: once a connection is established, the two sides may have
exchanged bytes that no one can take back. Settings say how many tries, and until when; the pool
chooses the backend.

nginx: `ngx_stream_proxy_connect`, `ngx_stream_proxy_connect_handler` and
`ngx_stream_proxy_next_upstream` in `ngx_stream_proxy_module.c`, `ngx_event_connect_peer` in
`ngx_event_connect.c`.
"""

import errno
import logging
from _socket import AF_UNIX, IPPROTO_TCP, TCP_NODELAY
from abc import ABC, abstractmethod
from enum import Enum
from typing import Final

from nginy.backend.backend import Backend
from nginy.backend.waiting import Ticket, WaitingQueue
from nginy.event.connect import OUR_ERRORS, ConnectFailure, connect_errno, connect_stream
from nginy.event.connection import ERROR, Connection
from nginy.event.event import Event, ignore
from nginy.event.timer import Timer
from nginy.event.tls import TlsConnection
from nginy.proxy.announcing import header_for, version_for
from nginy.proxy.attempt import FAILED, UNKNOWN, WORKED, Attempt
from nginy.proxy.context import as_bytes
from nginy.proxy.handler import ProxyHandler
from nginy.proxy.originating import BackendHandshake, UpstreamTls
from nginy.proxy.session import BEFORE_CONTENT, Reason, Session
from nginy.text.counts import counted


class Connecting(Enum):
    """How far connecting has come after one step."""

    UNDER_WAY = "under way"
    """The loop calls back."""
    TRY_NEXT = "try next"
    """This backend could not be reached; another one may be tried."""
    ENDED = "ended"
    """The session has ended."""


# Global names: a member of an Enum costs four times as much to look up.
UNDER_WAY: Final = Connecting.UNDER_WAY
TRY_NEXT: Final = Connecting.TRY_NEXT
ENDED: Final = Connecting.ENDED


class UpstreamSession(Session, ABC):
    """A session on its way to a backend."""

    __slots__ = ("_queue", "_ticket", "_timer", "_tried", "attempt")

    handler: ProxyHandler
    client: Connection
    attempt: Attempt
    """The last of `attempts`; there is none before `connect`."""

    def __init__(
        self,
        handler: ProxyHandler,
        client: Connection,
    ) -> None:
        super().__init__(handler, client)
        self._tried: tuple[Backend, ...] = ()
        # The pool's queue while, and because, this session is in it.
        self._queue: WaitingQueue | None = None
        self._ticket: Ticket | None = None
        # One timer for the whole session: it limits connecting, then idleness.
        self._timer = client.read.timer = Timer(self._connect_timer_handler, self)

    @abstractmethod
    def established(self) -> None:
        """Begin to exchange bytes: `upstream` is connected."""

    def start(self) -> None:
        """Connect to a backend; the client may be gone when this returns."""
        client = self.client
        client.action = "connecting to upstream"
        client.read.handler = self._client_waits_handler
        client.resume_read()
        self.connect()

    def connect(self) -> None:
        """Try backends until an attempt is under way or there is nobody left to try."""
        handler = self.handler
        now_ms = handler.loop.clock.now_ms
        if handler.pool.queue and self._queue is None:
            self._wait(handler.pool.queue)
            return
        key = b"" if handler.hash_key is None else as_bytes(handler.hash_key(self))
        while True:
            backend = handler.pool.pick(key, self._tried, now_ms // 1000)
            if backend is None:
                self._no_backend(now_ms)
                return
            if self._queue is not None:
                self._queue = None
                handler.loop.reserve.redeem()
            if self.attempts:
                handler.pool.retries += 1
            self.attempt = Attempt(handler.pool, backend, now_ms)
            self.attempts += (self.attempt,)
            if handler.is_verbose:
                sessions = counted(backend.conns, "session")
                self.log(logging.DEBUG, f"picked {backend.name}, with {sessions} now")
            if self._open(backend) is not TRY_NEXT:
                return

    def _no_backend(self, now_ms: int) -> None:
        pool = self.handler.pool
        queue = pool.queue
        may_wait = queue is not None and (queue.is_open or self._ticket is not None)
        if queue is not None and may_wait and pool.is_full(self._tried, now_ms // 1000):
            self._wait(queue)
            return
        if self.attempts:
            # Each attempt has logged its own failure.
            why = pool.why_none(self._tried, now_ms // 1000)
            self.finalize(self._unreached(), f"no usable backend is left: {why}")
            return
        why = pool.turn_away(now_ms // 1000)
        self.finalize(Reason.NO_BACKEND, f'no usable backend in upstream "{pool.name}": {why}')

    # Waiting in the pool's queue.

    def _wait(self, queue: WaitingQueue) -> None:
        """Join the queue; after a call in vain, in the old place and with the time that is left."""
        self._ticket = queue.join(self, self.handler.loop.clock.now_ms, self._ticket)
        if self._ticket is None:
            if queue.is_open:
                self.finalize(Reason.QUEUE_FULL)
            else:
                # Others still wait, and come first.
                self._no_backend(self.handler.loop.clock.now_ms)
            return
        self.client.action = "waiting for a backend"
        if self._queue is None:
            loop = self.handler.loop
            loop.reserve.promise()
            self._timer.handler = self._queue_timer_handler
            loop.timers.start(self._timer, loop.clock.now_ms + queue.settings.timeout_ms)
        self._queue = queue

    def call(self) -> None:
        """Choose a backend again, soon: the caller is in the middle of something."""
        self.handler.loop.soon(self._choose_again, self)

    def _choose_again(self) -> None:
        if self.end is None:
            # The listener may lead to another pool by now.
            newest = self.handler.newest
            if newest.pool is not self.handler.pool:
                self.handler = newest
            self.client.action = "connecting to upstream"
            self.connect()

    def _queue_timer_handler(self, _timer: Timer) -> None:
        self.finalize(Reason.QUEUE_TIMED_OUT)

    # Connecting.

    def _open(self, backend: Backend) -> Connecting:
        """Begin to connect to a backend."""
        loop, settings = self.handler.loop, self.handler.settings
        if loop.connections >= loop.max_connections:
            self.finalize(Reason.OVER_LIMIT, "worker_connections are used up")
            return ENDED
        bind_of = self.handler.bind_of
        bind = settings.bind if bind_of is None else bind_of(self)
        address = backend.address
        if address.offset is not None:
            address = self.attempt.lead_to(address.for_port(self.handler.port))
        upstream = connect_stream(loop, address, bind, settings.socket_keepalive, loop.reserve)
        if isinstance(upstream, ConnectFailure):
            return self._connect_failed(upstream)
        self.upstream = upstream
        upstream.data = self
        upstream.number = self.client.number
        upstream.write.handler = self._connect_handler
        upstream.resume_write()
        if settings.connect_timeout_ms is not None:
            self._timer.handler = self._connect_timer_handler
            loop.timers.start(self._timer, loop.clock.now_ms + settings.connect_timeout_ms)
        else:
            loop.timers.cancel(self._timer)
        return UNDER_WAY

    def _connect_handler(self, event: Event) -> None:
        """Go on after the connect, which has succeeded or failed."""
        upstream = event.data
        code = connect_errno(event)
        if code:
            self._retry(code)
        elif self.handler.settings.tls is not None:
            self._start_tls(upstream, self.handler.settings.tls)
        else:
            self._connected(upstream)

    def _start_tls(self, upstream: Connection, tls: UpstreamTls) -> None:
        """Shake hands, behind the PROXY header if there is one; the timer goes on."""
        backend = self.attempt.backend
        if backend is None:
            return
        self.client.action = "TLS handshaking with upstream"
        version = version_for(self.handler.settings, backend)
        if version != "off":
            pass_tlvs = self.handler.settings.pass_tlvs
            header = header_for(self, version, pass_tlvs=pass_tlvs)
            if upstream.send(header) < len(header):  # the first bytes of a connection always fit
                self._retry(upstream.errno)
                return
        BackendHandshake(upstream, tls, backend, self, self._tls_ended)

    def _tls_ended(self, failure: str) -> None:
        """Go on after the handshake; `failure` is "" if it went well."""
        upstream = self.upstream
        if failure:
            self._try_next(ConnectFailure("handshake", errno.EPROTO, is_ours=False, detail=failure))
        elif upstream is not None:
            self._connected(upstream)

    def _connected(self, upstream: Connection) -> None:
        """Exchange bytes from now on."""
        # Idleness counts from `active_at_ms`: it begins now, however long connecting took.
        now_ms = upstream.active_at_ms = self.handler.loop.clock.now_ms
        self.attempt.connected(now_ms)
        backend = self.attempt.backend
        if backend is not None and (backend.fails or backend.down):
            self.attempt.pool.succeeded(backend)
        self.client.action = "proxying connection"
        if self.handler.is_verbose:
            self.log(logging.INFO, "connected to upstream")
        upstream.pause_write()
        upstream.write.handler = ignore
        settings = self.handler.settings
        if settings.tcp_nodelay and upstream.socket.family != AF_UNIX:
            upstream.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self.established()

    def _connect_timer_handler(self, _timer: Timer) -> None:
        is_plain = self.upstream is None or self.upstream.is_plain
        self._retry(errno.ETIMEDOUT, "" if is_plain else "TLS handshake with upstream timed out")

    def _retry(self, code: int, detail: str = "") -> None:
        """Try another backend, as connecting to this one has failed with an errno."""
        self._try_next(ConnectFailure("connect", code, code in OUR_ERRORS, detail))

    def _try_next(self, failure: ConnectFailure) -> None:
        if self._connect_failed(failure) is TRY_NEXT:
            self.connect()

    def _connect_failed(self, failure: ConnectFailure) -> Connecting:
        """Count a failed attempt; end the session unless another backend may be tried."""
        attempt = self.attempt
        attempt.errno = failure.errno
        is_final = failure.is_ours and not failure.lacks_port
        if not is_final and attempt.backend is not None:
            self._tried += (attempt.backend,)
        result = UNKNOWN if failure.is_ours else FAILED
        attempt.give_up(result, self.handler.loop.clock.now_ms, self.upstream)
        if self.upstream is not None:
            self.upstream.close()
            self.upstream = None
        if is_final:
            self.finalize(Reason.RESOURCE, failure.text)
            return ENDED
        if self.handler.may_try_next(self.attempts):
            self.log(Reason.BACKEND_UNREACHABLE.level, failure.text)
            return TRY_NEXT
        self.finalize(self._unreached(), failure.text)
        return ENDED

    def _unreached(self) -> Reason:
        if all(attempt.errno in OUR_ERRORS for attempt in self.attempts):
            return Reason.RESOURCE
        if all(attempt.errno == errno.ETIMEDOUT for attempt in self.attempts):
            return Reason.BACKEND_TIMED_OUT
        return Reason.BACKEND_UNREACHABLE

    def finalize(self, reason: Reason, detail: str = "", reset: bool = False) -> None:
        """End the session and give its backend back."""
        if self.end is not None:
            return
        now_ms = self.handler.loop.clock.now_ms
        if not self.attempts and reason not in BEFORE_CONTENT:
            self.attempts = (Attempt(self.handler.pool, None, now_ms),)
        attempt = self.attempts[-1] if self.attempts else None
        backend = None if attempt is None else attempt.backend
        if self._queue is not None:
            self._queue.leave(self)
            # If this session was called, the next one has to hear of the free backend.
            self._queue.call_next()
            self.handler.loop.reserve.redeem()
            if reason is Reason.CLIENT_GONE_CONNECTING:
                reason = Reason.CLIENT_LEFT_QUEUE
        if attempt is not None and backend is not None:
            is_connected = attempt.connected_at_ms is not None
            result = WORKED if is_connected else UNKNOWN
            if isinstance(self.upstream, TlsConnection) and is_connected:
                self._remember_tls(self.upstream, backend)
            attempt.end(result, now_ms, self.upstream)
            backend.counters.count(reason.code, self.client.received, self.client.sent)
        super().finalize(reason, detail, reset)
        # The timer refers to the session as well: together they would wait for the cyclic garbage
        # collector.
        del self._timer

    def _remember_tls(self, upstream: TlsConnection, backend: Backend) -> None:
        """Let the next session with this backend resume this one."""
        tls = self.handler.settings.tls
        if tls is not None:
            tls.remember(backend.addr_text, upstream.tls.object.session)

    def _client_waits_handler(self, event: Event) -> None:
        """Leave the client's bytes in the kernel while connecting; only notice if it goes away."""
        client = event.data
        if event.error:
            gone = client.take_error() != 0
        elif client.loop.interest.is_edge_triggered:
            return
        else:
            gone = client.peek() == ERROR
            client.pause_read()
        if gone:
            self.finalize(Reason.CLIENT_GONE_CONNECTING)
