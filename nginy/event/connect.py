"""Connecting: one way to begin a connection to an address.

Sessions, health checks and lookups all connect: a socket that does not block, its options, maybe a
local address, connect(2), and a `Connection` around it. `connect_stream` and `connect_datagram` do
just that, and return the connection, or a `ConnectFailure` if a call failed at once. They raise
nothing for what a peer or the system does. A connecting stream becomes writable when it is done;
its write handler then asks `connect_errno` how that went.

The caller decides what a failure means and what to try next, and keeps the time.

nginx: `ngx_event_connect_peer` in `ngx_event_connect.c`.
"""

import errno
import os
from _socket import (
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    SO_KEEPALIVE,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from typing import Final, NamedTuple, TypeVar

from nginy.event.connection import Connection
from nginy.event.datagram import DatagramConnection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.reserve import Reserve
from nginy.text.address import Address, TransparentAddress

C = TypeVar("C", bound=Connection)

UNDER_WAY: Final = (0, errno.EINPROGRESS)
"""What connect() returns if it has not failed yet."""

IP_TRANSPARENT: Final = 19
"""Linux, in.h; `socket` has the name since Python 3.11, and only some builds."""
IPV6_TRANSPARENT: Final = 75
"""Linux, in6.h."""

IP_BIND_ADDRESS_NO_PORT: Final = 24
"""Linux, in.h: bind() chooses no port yet, so that connect() can share one between destinations."""

NO_PORT: Final = frozenset((errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EAGAIN))
"""Errors of bind() and connect() by which no local port is left for this peer."""

OUR_ERRORS: Final = frozenset(
    (
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EADDRNOTAVAIL,
        errno.EADDRINUSE,
    )
)
"""Errors of socket(), bind(), connect() and the selector by which the system lacks something; they
say nothing about the peer."""


class ConnectFailure(NamedTuple):
    """A connection that could not begin: the call that failed, and its errno."""

    call: str
    errno: int
    is_ours: bool
    """The system lacks a descriptor, a port or memory; the peer has nothing to do with it."""
    detail: str = ""
    """The failure in words, where no call has failed."""

    @property
    def lacks_port(self) -> bool:
        """No local port is left for this peer; ports are per destination, so another may have one.

        (Linux shares a port between destinations, `inet_hash_connect` in `net/ipv4`.)
        """
        return self.is_ours and self.errno in NO_PORT

    @property
    def text(self) -> str:
        """The failure for a log: "connect() failed (111: Connection refused)"."""
        return self.detail or failure_text(self.call, self.errno)


def failure_text(call: str, code: int) -> str:
    """Return "connect() failed (111: Connection refused)" for a call and its errno."""
    if code == errno.ETIMEDOUT:
        return f"{call}() timed out ({code}: {os.strerror(code)})"
    return f"{call}() failed ({code}: {os.strerror(code)})"


def connect_stream(
    loop: Loop,
    address: Address,
    bind: Address | None = None,
    keepalive: bool = False,
    reserve: Reserve | None = None,
) -> Connection | ConnectFailure:
    """Begin to connect to `address`, from `bind` if that is of the same family.

    The connection wants nothing yet: the caller sets its handlers, then calls `resume_write`.
    `keepalive` is SO_KEEPALIVE. A session names the `reserve` that its descriptor may come from.
    """
    return _connect(loop, Connection, address, bind, keepalive, reserve)


def connect_datagram(
    loop: Loop, address: Address, bind: Address | None = None
) -> DatagramConnection | ConnectFailure:
    """Return a UDP socket whose peer is `address`; there is nothing to wait for."""
    return _connect(loop, DatagramConnection, address, bind)


def connect_errno(event: Event) -> int:
    """Return how connecting ended, for a write handler: 0 for success, else an errno.

    Epoll tells success and failure apart; any other selector only says "writable", so this asks the
    socket.
    """
    c = event.data
    if event.error or not c.loop.interest.is_edge_triggered:
        return c.take_error()
    return 0


def _connect(
    loop: Loop,
    make: type[C],
    address: Address,
    bind: Address | None,
    keepalive: bool = False,
    reserve: Reserve | None = None,
) -> C | ConnectFailure:
    """Return a connection, established or under way."""
    kind = SOCK_STREAM if make is Connection else SOCK_DGRAM
    sock = None
    call = "socket"
    sockaddr = address.sockaddr
    try:
        if reserve is None:
            sock = socket(address.family, kind | SOCK_NONBLOCK)
        else:
            sock = reserve.open_socket(address.family, kind | SOCK_NONBLOCK)
        if keepalive:
            call = "setsockopt"
            sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        if bind is not None and bind.family == address.family:
            if isinstance(bind, TransparentAddress):
                call = "setsockopt"
                set_transparent(sock)
            call = "bind"
            sock.setsockopt(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind(bind.sockaddr)
        call = "connect"
        code = sock.connect_ex(sockaddr)
        if code in UNDER_WAY:
            call = "register"
            return make(loop, sock, sockaddr)
    except OSError as error:
        code = error.errno or errno.EBADF
    if sock is not None:
        sock.close()
    # connect(2) returns EAGAIN for UDP when no ephemeral port is left, and for a unix socket when
    # the peer's queue is full. A selector without room raises ENOSPC.
    is_ours = code in OUR_ERRORS or (code == errno.EAGAIN and kind == SOCK_DGRAM)
    return ConnectFailure(call, code, is_ours or call in ("register", "setsockopt"))


def set_transparent(sock: socket) -> None:
    """Let a socket use any address as its own (IP_TRANSPARENT of ip(7)); raises OSError.

    That needs CAP_NET_ADMIN or CAP_NET_RAW, and routes that bring the answers here.
    """
    if sock.family == AF_INET6:
        sock.setsockopt(IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(IPPROTO_IP, IP_TRANSPARENT, 1)
