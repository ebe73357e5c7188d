"""ProtocolHandler: what all sessions of one listener share.

Each listener has a protocol handler, which turns what arrives into sessions: `TcpHandler` (in
`proxy/tcp.py`), `UdpHandler` (in `proxy/udp/handler.py`), or the handlers of `proxy/reply.py` for
built-in answers. The base class here holds the listener's settings, its upstream, its counters and
its log.

**A session keeps the settings it was accepted with**; new sessions take the new ones. This holds
because a handler never changes once it serves. A reload makes another one, which takes over what
belongs to the listener (its counts, the table of UDP sessions). The old one lives on for its
sessions, with its settings, its upstream, its hash key and its access log. An upstream, however, is
one object for all. A session finds its backends, their health, weights and limits, its queue and
its `max_session_time` as they are when it chooses a backend, waits or connects. If a reload leads a
listener to another upstream, clients that still wait in a queue go there like new ones.

nginx: `ngx_stream_core_srv_conf_t` with the proxy module's `ngx_stream_proxy_srv_conf_t`.

Tested in tests/proxy/test_reload_rule.py.
"""

import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import random

from nginy.backend.pool import BackendPool
from nginy.event.connection import Connection
from nginy.event.datagram import DatagramReceiver
from nginy.event.loop import Loop
from nginy.proxy.attempt import Attempt
from nginy.proxy.drops import REFUSALS, Drops
from nginy.proxy.originating import UpstreamTls
from nginy.proxy.phases.phase import Phases, enter
from nginy.proxy.session import SESSIONS, ListenerCounters, Session
from nginy.text.address import Address, SockAddr


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """How the sessions of a listener are treated; names and defaults are the configuration's."""

    connect_timeout_ms: int | None = 60_000
    """How long a backend may take to accept; None: as long as the system tries."""
    timeout_ms: int | None = 600_000
    """Idle time after which a session ends; None: never."""
    drain_timeout_ms: int | None = None
    """How long a session stays with a backend that has left the list; None: to its end."""
    half_close: bool = True
    """Whether the end of one direction leaves the other one open."""
    half_close_timeout_ms: int | None = None
    """Idle time once one direction has ended; None: `timeout_ms`."""
    next_upstream: bool = True
    """Whether another backend may be tried when one cannot be connected to."""
    next_upstream_tries: int = 0
    """Attempts in all; 0: as many as there are backends that are not down."""
    next_upstream_timeout_ms: int | None = None
    """No further attempt later than this after the first one; None: no limit."""
    buffer_size: int = 65536
    """Bytes read at a time, except in bulk transfers: see proxy/tcp.py."""
    splice: bool = True
    """Whether long transfers may go through pipes within the kernel; see event/pipe.py."""
    bind: Address | None = None
    """The local address of connections to backends; None: the system chooses."""
    proxy_protocol: str = "off"
    """The PROXY header that backends get first, "off", "v1" or "v2"; a backend's own one wins."""
    pass_tlvs: bool = False
    """Whether that header passes on the TLVs of a received one."""
    upload_rate: int = 0
    """Bytes a second from each client; 0: any number."""
    download_rate: int = 0
    """Bytes a second to each client; 0: any number."""
    tls: UpstreamTls | None = None
    """How nginy speaks TLS to backends; None: it does not."""
    tcp_nodelay: bool = True
    socket_keepalive: bool = False
    requests: int = 0
    """UDP: client datagrams after which the client's next one starts a new session; 0: no limit."""
    responses: int | None = None
    """UDP: datagrams expected from the backend for each of the client's; None: any number."""
    max_sessions: int = 0
    """UDP: sessions at a time above which new clients are shed; 0: no limit."""
    udp_offload: bool = True
    """UDP: whether runs of datagrams may leave by one call, which the kernel cuts up again."""


class ProtocolHandler:
    """The base of all handlers, which turn a listener's clients into sessions.

    Created by `process/services.py::ServiceSet`, anew for each reload; see above.
    """

    __slots__ = (
        "counters",
        "drops",
        "is_verbose",
        "local_sockaddr",
        "log_session",
        "logger",
        "loop",
        "name",
        "phases",
        "port",
        "settings",
    )

    protocol = "TCP"
    """What its clients speak: "TCP" or "UDP"."""
    kind = ""
    """Which handlers may take over from each other: those of one kind."""

    def __init__(
        self,
        loop: Loop,
        name: str,
        address: Address,
        settings: ProxySettings,
    ) -> None:
        self.loop = loop
        self.name = name
        """The listener's name."""
        self.settings = settings
        self.counters = ListenerCounters()
        self.drops = Drops(loop.clock)
        """What it has refused."""
        self.log_session: Callable[[Session], None] | None = None
        """Writes an ended session to the access log; None if that is off."""
        self.logger = SESSIONS
        """The logger of its sessions."""
        self.is_verbose = False
        """Whether the error log takes the messages of sessions without trouble: tested instead of
        the logger, which each session would have to ask three times."""
        self.phases: Phases = ()
        """The phases that its clients pass before their content; mostly none."""
        self.port = address.port
        """The port that clients ask, 0 on a unix socket."""
        self.local_sockaddr = None if address.is_wildcard else address.sockaddr
        """The address that clients ask; None on a wildcard address, where only the accepted socket
        knows which of the machine's it was."""

    def use_logger(self, logger: logging.Logger) -> None:
        """Make its sessions, and reports of dropped datagrams, go to `logger`."""
        self.logger = self.drops.logger = logger
        self.is_verbose = logger.isEnabledFor(logging.INFO)

    def take_over(self, before: "ProtocolHandler") -> None:
        """Go on with what belongs to the listener and not to the handler that served it before."""
        self.counters, self.drops = before.counters, before.drops

    @property
    def leads_to(self) -> str | None:
        """The upstream that its clients go to, for display; None if it answers itself."""
        return None

    def proxies(self) -> "Sequence[ProxyHandler]":
        """Return the handlers by which its sessions come to upstreams: mostly itself, or none."""
        return ()

    def towards(self, upstream: str) -> "ProxyHandler | None":
        """Return the handler by which its sessions come to `upstream`; None if none do."""
        return None

    def follows(self, before: "ProtocolHandler | None") -> bool:
        """Whether it may take over from `before`, which must be of the same kind."""
        return before is not None and self.kind == before.kind

    def owns(self, session: Session) -> bool:
        """Whether this handler, or one that it has taken over from, began the session."""
        return session.handler.counters is self.counters

    @property
    def sessions(self) -> int:
        """Sessions of the listener that are open now."""
        return self.counters.open

    def accept_handler(self, client: Connection) -> None:
        """Begin the session of a TCP client that was just accepted."""
        client.close()

    def datagram_handler(
        self,
        receiver: DatagramReceiver,
        sockaddr: SockAddr,
        local: bytes,
        data: memoryview,
    ) -> None:
        """Deal with a datagram that has come from `sockaddr` to `local`."""

    def begin(self, session: Session) -> None:
        """Let a TCP session go to its content, through the phases if there are any."""
        if self.phases:
            enter(session, self.phases)
        else:
            session.start()

    def session_ended(self, session: Session) -> None:
        """Count a session and write it to the access log; called once for each."""
        client, counters, end = session.client, self.counters, session.end
        counters.open -= 1
        if end is not None:
            counters.count(end.code, client.received, client.sent)
            if session.upstream is None and end in REFUSALS and self.protocol == "TCP":
                self.drops.count(REFUSALS[end])  # a UDP session has counted its datagram
        if self.log_session is not None:
            self.log_session(session)
        if session.arrival is not None:
            session.arrival.give_back()


class Destination:
    """The pool that a listener leads to; successive handlers with the same pool share this
    object."""

    __slots__ = ("left_at_ms",)

    def __init__(self) -> None:
        self.left_at_ms: int | None = None
        """Since when the listener has led to another pool; None while it does not."""


class Succession:
    """Which handler serves a listener now; shared by all that have served it, one after the other.

    The reference is a weak one: a listener that is removed leaves nothing to the cyclic garbage
    collector, least of all an access log that stays open.
    """

    __slots__ = ("latest",)

    def __init__(self, first: "ProxyHandler") -> None:
        self.latest = weakref.ref(first)


class ProxyHandler(ProtocolHandler):
    """The base of handlers that pass a listener's clients on to the backends of a pool."""

    __slots__ = ("__weakref__", "bind_of", "destination", "hash_key", "pool", "succession")

    def __init__(
        self,
        loop: Loop,
        name: str,
        address: Address,
        pool: BackendPool,
        settings: ProxySettings,
    ) -> None:
        super().__init__(loop, name, address, settings)
        self.pool = pool
        self.destination = Destination()
        self.succession = Succession(self)
        self.hash_key: Callable[[Session], str] | None = None
        """Computes the key that the pool's hash method hashes; None if it has none."""
        self.bind_of: Callable[[Session], Address | None] | None = None
        """Computes the local address of a connection to a backend (`proxy/local_end.py`); None if
        `settings.bind` has it for all."""

    def take_over(self, before: ProtocolHandler) -> None:
        """Go on where `before` did; clients that wait for its pool may choose from another."""
        super().take_over(before)
        for each in before.proxies():
            self._succeed(each)

    def _succeed(self, before: "ProxyHandler") -> None:
        self.succession = before.succession
        self.succession.latest = weakref.ref(self)
        if before.pool is self.pool:
            self.destination = before.destination
            return
        before.destination.left_at_ms = self.loop.clock.now_ms
        if before.pool.queue is not None:
            before.pool.queue.call_all()

    @property
    def leads_to(self) -> str | None:
        """The name of its pool."""
        return self.pool.name

    def proxies(self) -> "Sequence[ProxyHandler]":
        """Return this handler."""
        return (self,)

    def towards(self, upstream: str) -> "ProxyHandler | None":
        """Return this handler, if it leads there."""
        return self if self.pool.name == upstream else None

    @property
    def newest(self) -> "ProxyHandler":
        """The handler that serves the listener now."""
        return self.succession.latest() or self

    def may_try_next(self, attempts: Sequence[Attempt]) -> bool:
        """Whether another backend may be tried after these attempts (`proxy_next_upstream`)."""
        settings = self.settings
        tries = settings.next_upstream_tries or self.pool.tries
        if not settings.next_upstream or len(attempts) >= tries:
            return False
        limit_ms = settings.next_upstream_timeout_ms
        return limit_ms is None or self.loop.clock.now_ms - attempts[0].started_at_ms < limit_ms

    def jittered(self, duration_ms: int) -> int:
        """Return a duration up to 10 % shorter: sessions that begin together end one by one."""
        return duration_ms - int(random() * duration_ms / 10)
