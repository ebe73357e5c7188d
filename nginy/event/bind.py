"""Binding: what a listening socket is opened with, and how that may fail.

`ListenOptions` are the settings of one listening socket. `bind_listener` opens it: all that can
fail, such as an address in use, fails here, before anything else is changed. What is accepted from
it, and when, is in `event/listener.py`.

Options that accepted sockets inherit from the listening one on Linux (TCP_NODELAY, SO_KEEPALIVE
and its times) are set here once, which saves a system call for each connection.

nginx: `ngx_open_listening_sockets` and `ngx_configure_listening_sockets` in `ngx_connection.c`.
"""

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
from dataclasses import dataclass

from nginy.errors import NginyError
from nginy.event.unix_path import remove_stale
from nginy.text.address import Address


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


def bind_listener(options: ListenOptions) -> socket:
    """Return a new socket that is bound, and listens unless it is UDP's; raises ListenError."""
    address = options.address
    sock = socket(address.family, SOCK_DGRAM if options.udp else SOCK_STREAM)
    try:
        sock.setblocking(False)
        if options.reuse_port:
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        if address.is_unix:
            remove_stale(address.path)
        set_options(sock, options)
        sock.bind(address.sockaddr)
        if not options.udp:
            sock.listen(options.backlog)
    except OSError as error:
        sock.close()
        raise ListenError(options, error) from error
    return sock


def set_options(sock: socket, options: ListenOptions) -> None:
    """Set what accepted sockets inherit, and what has to be set before bind(); raises OSError."""
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
