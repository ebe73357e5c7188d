"""ConnectionContext: the facts of one client that do not change while it is served.

A session makes its context on demand (`proxy/session.py::Session.context`); nothing keeps it, and
there is no table of contexts. Rules, hash keys and log lines come from the same facts
(`proxy/variables.py`). What does change, such as bytes, attempts and the reason of the end, is in
`proxy/session.py::Session`.

nginx spreads the same facts over `ngx_stream_session_t` and `ngx_connection_t`.

Tested in tests/proxy/test_variables.py.
"""

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

from nginy.text.address import SockAddr

MAPPED: Final = bytes(10) + b"\xff\xff"
"""How an IPv4 address mapped into IPv6 begins (RFC 4291 §2.5.5.2)."""


class ConnectionContext:
    """Who the client is, and which address it asked. It never changes.

    A plain class and not a frozen dataclass, which would cost 1 µs more for every session.
    """

    __slots__ = ("listener", "local_sockaddr", "number", "protocol", "sockaddr")

    def __init__(
        self,
        number: int,
        protocol: str,
        listener: str,
        sockaddr: SockAddr,
        local_sockaddr: SockAddr,
    ) -> None:
        self.number = number
        """The session's number, counted from 1 since the process started."""
        self.protocol = protocol
        """"TCP" or "UDP"."""
        self.listener = listener
        """The listener's name."""
        self.sockaddr = sockaddr
        """The client's address."""
        self.local_sockaddr = local_sockaddr
        """The address the client asked."""

    @property
    def remote_addr(self) -> str:
        """The client's IP address, "unix:" for one on a unix socket (nginx `$remote_addr`)."""
        return host_of(self.sockaddr)

    @property
    def remote_port(self) -> str:
        """The client's port, empty on a unix socket."""
        return port_of(self.sockaddr)

    @property
    def server_addr(self) -> str:
        """The IP address that was asked, or "unix:/path" (nginx `$server_addr`)."""
        if isinstance(self.local_sockaddr, str):
            return f"unix:{self.local_sockaddr}"
        return host_of(self.local_sockaddr)

    @property
    def server_port(self) -> str:
        """The port that was asked, empty on a unix socket."""
        return port_of(self.local_sockaddr)


def host_of(sockaddr: SockAddr) -> str:
    """Return the IP address of a socket address, "unix:" for any other."""
    return sockaddr[0] if isinstance(sockaddr, tuple) else "unix:"


def net_of(sockaddr: SockAddr) -> str:
    """Return the network that stands for one client: of IPv4 the /32, of IPv6 the /64.

    An IPv6 client has 2^64 addresses to choose from (RFC 4291 §2.5.4); "unix:" is all of them.
    """
    host = host_of(sockaddr)
    if ":" not in host:
        return f"{host}/32"
    if host == "unix:":
        return host
    packed = inet_pton(AF_INET6, host.partition("%")[0])
    if packed.startswith(MAPPED):
        return f"{inet_ntop(AF_INET, packed[len(MAPPED) :])}/32"
    return f"{inet_ntop(AF_INET6, packed[:8] + bytes(8))}/64"


def packed_of(sockaddr: SockAddr) -> str:
    """Return the IP address as its bytes, 4 or 16 of them, as a text (`as_bytes`); "unix:"
    for any other (nginx `$binary_remote_addr`)."""
    host = host_of(sockaddr)
    if host == "unix:":
        return host
    family = AF_INET6 if ":" in host else AF_INET
    return inet_pton(family, host.partition("%")[0]).decode("utf-8", "surrogateescape")


def port_of(sockaddr: SockAddr) -> str:
    """Return the port of a socket address as text, "" where there is none."""
    return str(sockaddr[1]) if isinstance(sockaddr, tuple) else ""


def as_bytes(value: str) -> bytes:
    """Return the bytes of a variable's value; lone surrogates are those that are not UTF-8."""
    return value.encode("utf-8", "surrogateescape")
