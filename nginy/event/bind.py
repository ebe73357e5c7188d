"""Binding: the settings of a listening socket, and how opening it may fail.

`ListenOptions` are the settings of one listening socket. `bind_listener` opens it. Whatever can
fail, such as an address in use, fails here, before nginy changes anything else. `event/listener.py`
accepts from it.

Options that accepted sockets inherit from the listening one on Linux (TCP_NODELAY, SO_KEEPALIVE
and its times) are set here once, which saves a system call for each connection.

A wildcard and an address that it includes can both be bound to one port, and the kernel prefers the
one that is more specific (inet_hashtables.c `__inet_lookup_listener`, udp.c `compute_score`). Linux
allows it only among sockets with SO_REUSEPORT, which would also let a second nginy bind both. So
nginy sets the option for the moment of bind() and clears it again: see `Neighbors`.

nginx: `ngx_open_listening_sockets` and `ngx_configure_listening_sockets` in `ngx_connection.c`.
"""

import errno
import sys
from _socket import (
    AF_INET6,
    IPPROTO_IP,
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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from nginy.errors import NginyError
from nginy.event.unix_path import remove_stale
from nginy.text.address import Address

IP_FREEBIND: Final = 15
"""linux/in.h; Python has no name for it before 3.14."""
IPV6_FREEBIND: Final = 78
"""linux/in6.h."""

PRIVILEGED_PORTS: Final = range(1, 1024)
PRIVILEGE_ADVICE: Final = (
    "; ports below 1024 need root, CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=),"
    " or a lower net.ipv4.ip_unprivileged_port_start"
)


class ListenError(NginyError):
    """A listener cannot be opened; the message names the address, the reason and a way out."""

    def __init__(self, options: "ListenOptions", error: OSError) -> None:
        reason = f"({error.errno}: {error.strerror})"
        advice = ""
        if error.errno == errno.EACCES and options.address.port in PRIVILEGED_PORTS:
            advice = PRIVILEGE_ADVICE
        elif error.errno == errno.EADDRNOTAVAIL:
            advice = "; this machine does not have the address; freebind: on binds it anyway"
        super().__init__(f"bind() to {options.address} failed {reason}{advice}")
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
    """The settings of one listening socket."""

    address: Address
    udp: bool = False
    reuse_port: bool = False
    """Whether several sockets, one a worker, share the address (SO_REUSEPORT of socket(7))."""
    backlog: int = 511
    nodelay: bool = True
    keepalive: KeepAlive | None = None
    freebind: bool = False
    """Whether the machine may not have the address yet (IP_FREEBIND of ip(7)), as with VRRP."""

    @property
    def key(self) -> ListenKey:
        """What stays the same when a reload changes the rest."""
        return (self.address, self.udp)


class Neighbors:
    """Our own sockets by port, to find those that would keep us from binding an address.

    They are wildcards for a specific address, and specific addresses for a wildcard. Bind wildcards
    first: while none of ours is there, bind() finds out whether another process has the port.
    """

    __slots__ = ("_sockets",)

    def __init__(self) -> None:
        self._sockets: dict[tuple[bool, int, int], list[tuple[bool, socket]]] = {}

    def add(self, options: ListenOptions, sock: socket) -> None:
        """Note a bound socket; the caller owns it."""
        if not options.address.is_unix:
            entry = (options.address.is_wildcard, sock)
            self._sockets.setdefault(_port_key(options), []).append(entry)

    def of(self, options: ListenOptions) -> list[socket]:
        """Return our own sockets that are in the way of an address, and may stay there."""
        is_wildcard = options.address.is_wildcard
        found = self._sockets.get(_port_key(options), ())
        return [sock for other_is_wildcard, sock in found if other_is_wildcard != is_wildcard]


def _port_key(options: ListenOptions) -> tuple[bool, int, int]:
    return options.udp, options.address.family, options.address.port


def bind_listener(options: ListenOptions, neighbors: Sequence[socket] = ()) -> socket:
    """Return a new bound socket, which listens unless it is for UDP; raises ListenError.

    `neighbors` are our own sockets that share the port, as `Neighbors.of` returns them.
    """
    if not neighbors:
        return _bind(options)
    closed = [sock for sock in neighbors if not sock.getsockopt(SOL_SOCKET, SO_REUSEPORT)]
    try:
        for sock in closed:
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        bound = _bind(replace(options, reuse_port=True))
        bound.setsockopt(SOL_SOCKET, SO_REUSEPORT, int(options.reuse_port))
    finally:
        for sock in closed:
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 0)
    return bound


def _bind(options: ListenOptions) -> socket:
    address = options.address
    try:
        sock = socket(address.family, SOCK_DGRAM if options.udp else SOCK_STREAM)
    except OSError as error:  # no descriptor is left, or the kernel has no IPv6
        raise ListenError(options, error) from error
    try:
        sock.setblocking(False)
        if options.reuse_port:
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        if address.is_unix:
            remove_stale(address.path)
        set_options(sock, options)
        if options.freebind:
            _set_freebind(sock)
        sock.bind(address.sockaddr)
        if not options.udp:
            sock.listen(options.backlog)
    except OSError as error:
        sock.close()
        raise ListenError(options, error) from error
    return sock


def _set_freebind(sock: socket) -> None:
    if sys.platform != "linux":
        return
    if sock.family == AF_INET6:
        sock.setsockopt(IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(IPPROTO_IP, IP_FREEBIND, 1)


def set_options(sock: socket, options: ListenOptions) -> None:
    """Set the options that accepted sockets inherit or bind() needs; raises OSError."""
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
