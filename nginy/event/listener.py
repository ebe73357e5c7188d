"""Listener: a bound socket, and the connections that are accepted from it.

A listener is opened (bound, so that an address in use is known before anything else is changed),
then started on a loop, paused and resumed, and closed. What becomes of an accepted connection is
the business of its `handler`, a protocol handler of the layer above. nginx: `ngx_listening_t`, and
`ngx_event_accept` in `ngx_event_accept.c`.

Three rules of accepting:
- A budget for each turn: a crowd of new clients must not keep the others waiting.
- A client whose connection has failed before we came is skipped: accept(2) reports its error.
- After any other error, such as being out of descriptors, stop for half a second instead of
  spinning, since the queue of the kernel keeps the listener readable (nginx `ngx_event_accept`: it
  disables accept events for 500 ms).

Options that accepted sockets inherit from the listening one on Linux (TCP_NODELAY, SO_KEEPALIVE
and its times) are set here once, which saves a system call for each connection.

UDP has no connections to accept; what arrives on its listeners is received by
`event/datagram.py::DatagramReceiver`.
"""

import errno
import logging
from _socket import (
    AF_INET6,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    SO_KEEPALIVE,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    socket,
)
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nginy.errors import NginyError
from nginy.event.connection import Connection
from nginy.event.datagram import DatagramHandler, DatagramReceiver
from nginy.event.event import Event
from nginy.event.timer import Timer
from nginy.event.unix_path import remove_socket, remove_stale
from nginy.text.address import Address

if TYPE_CHECKING:
    from nginy.event.loop import Loop

logger = logging.getLogger("nginy.event")

ACCEPT_BUDGET: Final = 8
"""Connections accepted in one turn: 6 % less CPU time a connection than one at a time, and not yet
unfair."""
ACCEPT_PAUSE_MS: Final = 500
"""How long to stop accepting when out of descriptors (nginx `ngx_event_accept`)."""
CLIENT_GONE: Final = frozenset(
    (
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPROTO,
    )
)
"""Errors of accept() that belong to the client at the head of the queue (accept(2), "Error
handling")."""


class ListenError(NginyError):
    """A listener cannot be opened; the message names the address and the reason."""

    def __init__(self, options: "ListenOptions", error: OSError) -> None:
        reason = f"({error.errno}: {error.strerror})"
        super().__init__(f"bind() to {options.address} failed {reason}")
        self.options = options
        self.errno = error.errno


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """TCP keep-alive of a listener's clients; None leaves the system's own value."""

    idle_s: int | None = None
    interval_s: int | None = None
    count: int | None = None


ListenKey = tuple[Address, bool]
"""What tells listeners apart: the address, and whether it is UDP's."""


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """What a listening socket is opened with."""

    address: Address
    udp: bool = False
    reuse_port: bool = False
    """Whether several sockets, one a worker, share the address (SO_REUSEPORT of socket(7))."""
    backlog: int = 511
    nodelay: bool = True
    keepalive: KeepAlive | None = None

    @property
    def key(self) -> ListenKey:
        """What stays the same when a reload changes the rest."""
        return (self.address, self.udp)


class Listener:
    """A bound socket (nginx `ngx_listening_t`). Created and closed by the server."""

    __slots__ = (
        "_accept",
        "_client",
        "address",
        "connection",
        "handler",
        "is_inherited",
        "options",
        "socket",
        "timer",
    )

    def __init__(self, options: ListenOptions, sock: socket | None = None) -> None:
        """Bind and listen, or take over the inherited `sock`; raises ListenError."""
        self.options = options
        self.is_inherited = sock is not None
        """Whether somebody else has bound it, and removes the path of a unix socket."""
        self.socket = sock or _bind(options)
        self.address = options.address
        if not self.address.is_unix and not self.address.port:
            # Port 0 asks the kernel for a free one.
            self.address = Address(self.address.family, *self.socket.getsockname()[:2])
        self.connection: Connection | None = None
        """The listening socket as the loop sees it; None before `start` (nginx
        `ls->connection`)."""
        self.handler: Callable[[Connection], None] = Connection.close
        """Takes an accepted connection over."""
        self.timer: Timer | None = None
        self._client: Connection | None = None
        # The C method below socket.accept(), which would make a socket.socket.
        self._accept = self.socket._accept  # type: ignore[attr-defined]  # noqa: SLF001

    def __repr__(self) -> str:
        """Show the address."""
        return f"<Listener {self}>"

    def __str__(self) -> str:
        """Return the address, and "udp" where it is."""
        return f"{self.address}{' udp' if self.options.udp else ''}"

    def start(self, loop: "Loop", handler: Callable[[Connection], None]) -> None:
        """Accept connections on `loop` from now on, each handed to `handler`."""
        self.handler = handler
        c = Connection(loop, self.socket, self.address.sockaddr)
        c.read.handler = self._post_handler
        self._start(c, "accepting connections")

    def start_datagrams(self, loop: "Loop", handler: DatagramHandler) -> DatagramReceiver:
        """Have `handler` called on `loop` with each datagram from now on."""
        c = DatagramReceiver(loop, self.socket, self.address, handler)
        self._start(c, "receiving datagrams")
        return c

    def _start(self, c: Connection, action: str) -> None:
        c.data = self
        c.listening = self
        c.action = action
        self.connection = c
        c.resume_read()

    def _post_handler(self, event: Event) -> None:
        """Accept later in this turn, after those who are already connected were served."""
        event.handler = self._accept_handler
        event.data.loop.post(event)

    def _accept_handler(self, event: Event) -> None:
        if event.posted:  # somebody new has come, and has his turn after those who wait
            return
        loop = event.data.loop
        family = self.options.address.family
        for _ in range(ACCEPT_BUDGET):
            try:
                fd, sockaddr = self._accept()
            except BlockingIOError:
                event.ready = False
                event.handler = self._post_handler
                return
            except OSError as error:
                if error.errno in CLIENT_GONE:
                    continue
                self._accept_failed(event.data, error)
                return
            sock = socket(family, SOCK_STREAM, 0, fd)
            sock.setblocking(False)
            c = self._client = Connection(loop, sock, sockaddr)
            c.listening = self
            self.handler(c)
            self._client = None
            if not event.active:  # the handler has closed or paused us
                return
        loop.post(event)

    def _accept_failed(self, c: Connection, error: OSError) -> None:
        logger.critical("accept() failed (%s: %s) on %s", error.errno, error.strerror, self.address)
        self.pause()
        if self.timer is None:
            self.timer = c.read.timer = Timer(self._resume_handler, self)
        c.loop.timers.start(self.timer, c.loop.clock.now_ms + ACCEPT_PAUSE_MS)

    def _resume_handler(self, _timer: Timer) -> None:
        self.resume()

    def apply(self, options: ListenOptions) -> None:
        """Take over options that a reload has changed; they hold for clients accepted later."""
        if options == self.options:
            return
        self.options = options
        try:
            _set_options(self.socket, options)
            if not options.udp:
                self.socket.listen(options.backlog)
        except OSError as error:
            logger.critical(
                "setsockopt() failed (%s: %s) on %s", error.errno, error.strerror, self.address
            )

    def pause(self) -> None:
        """Accept nothing until `resume`; the kernel's queue keeps those who come."""
        if self.connection is not None:
            self.connection.pause_read()

    def resume(self) -> None:
        """Accept again, beginning with those who wait."""
        if self.connection is not None:
            self.connection.read.ready = True
            self.connection.resume_read()

    def close(self) -> None:
        """Close the socket; a unix socket's path is removed, as nginx does, by who has made it."""
        if self.connection is not None:
            # The supervisor, or a successor, may have a copy.
            self.connection.loop.interest.forget(self.connection)
            self.connection.close()
            self.connection = None
        self.socket.close()
        self.timer = None
        self.handler = Connection.close
        if self.address.is_unix and not self.is_inherited:
            remove_socket(self.address.path)

    def abort(self) -> None:
        """End the client that was being accepted, and go on with the next: for the loop, after a
        bug."""
        client, self._client = self._client, None
        if client is not None:
            client.abort()
        if self.connection is not None:
            self.connection.loop.post(self.connection.read)


def _bind(options: ListenOptions) -> socket:
    address = options.address
    sock = socket(address.family, SOCK_DGRAM if options.udp else SOCK_STREAM)
    try:
        sock.setblocking(False)
        if options.reuse_port:
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        if address.is_unix:
            remove_stale(address.path)
        _set_options(sock, options)
        sock.bind(address.sockaddr)
        if not options.udp:
            sock.listen(options.backlog)
    except OSError as error:
        sock.close()
        raise ListenError(options, error) from error
    return sock


def _set_options(sock: socket, options: ListenOptions) -> None:
    if options.address.is_unix:
        return
    if not options.udp:
        # Not for UDP, where it would let a second process take half of the datagrams.
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, int(options.nodelay))
    if options.address.family == AF_INET6 and not sock.getsockname()[1]:
        # Only before bind(); both families on one socket would make the addresses of IPv4 clients
        # ugly.
        sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
    keepalive = options.keepalive
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, int(keepalive is not None))
    if keepalive is not None:
        for option, value in (
            (TCP_KEEPIDLE, keepalive.idle_s),
            (TCP_KEEPINTVL, keepalive.interval_s),
            (TCP_KEEPCNT, keepalive.count),
        ):
            if value is not None:
                sock.setsockopt(IPPROTO_TCP, option, value)
