"""Arrival: what the phases have found out about a client, kept with its session.

Only a session that a phase has dealt with has one; all others have None. It lives as long as the
session, whatever a reload makes of the listener meanwhile, and variables read it.

Tested in tests/proxy/phases/test_real_address_live.py.
"""

from typing import Final

from nginy.event.reserve import Reserve
from nginy.proxy.limits import Counts
from nginy.proxy.routing.routes import Route
from nginy.text.address import SockAddr
from nginy.wire.client_hello import Hello
from nginy.wire.proxy_protocol import Header, HeaderAddress, Host

NO_HEADER: Final = Header(0, 0)
"""Stands for the header of a client that sent none: all its values are empty."""


class Announced(tuple[Host, HeaderAddress | None]):
    """A UDP client that a proxy announces in front of its datagrams, as the key of its session.

    Two are equal if one client asked one address of the proxy, whatever else their headers say. It
    is a tuple, as the table of sessions hashes it for each datagram.
    """

    source: Host
    header: Header
    proxy: SockAddr
    """Where the newest datagram with this header came from, and answers go to."""
    local: bytes
    """Our address that it was sent to, packed; b"" if the listener has only one."""

    def arrival(self) -> "Arrival":
        """Return the arrival of a session that begins with this header."""
        arrival = Arrival(self.proxy)
        arrival.header = self.header
        return arrival


def announced(source: Host, header: Header) -> Announced:
    """Return the client of a header, which is not known yet to have come from anywhere."""
    made = Announced((source, header.destination))
    made.source, made.header = source, header
    return made


class Arrival:
    """How a client came in."""

    __slots__ = (
        "_promised_by",
        "header",
        "held",
        "hello",
        "limit_status",
        "log_level",
        "real_sockaddr",
        "route",
        "values",
    )

    def __init__(self, sockaddr: SockAddr) -> None:
        self.real_sockaddr = sockaddr
        """The address of the socket's peer, which may be a proxy in front of the client."""
        self.header: Header = NO_HEADER
        """The PROXY header ahead of the client's bytes."""
        self.held: tuple[tuple[Counts, bytes], ...] = ()
        """Where the session is counted, and by which key."""
        self.limit_status = ""
        """nginx `$limit_conn_status`; "" if no limit concerned the session."""
        self.log_level: int | None = None
        """The level at which the error log has the end of a session that a limit refuses; None for
        the reason's own."""
        self.values: dict[str, str] | None = None
        """The values of the configuration's own variables so far; None if there are none."""
        self.hello: Hello | None = None
        """What the client's first bytes say about TLS; None if nobody has looked."""
        self.route: Route | None = None
        """The route that it takes; None for the listener's own target."""
        self._promised_by: Reserve | None = None

    def promise(self, reserve: Reserve) -> None:
        """Have a descriptor held back for the backend, as the client has none yet and waits."""
        if self._promised_by is None:
            self._promised_by = reserve
            reserve.promise()

    def redeem(self) -> None:
        """Release that descriptor: the session connects now, or has ended."""
        reserve, self._promised_by = self._promised_by, None
        if reserve is not None:
            reserve.redeem()

    def give_back(self) -> None:
        """Stop counting the session, at its end."""
        self.redeem()
        held, self.held = self.held, ()
        for counts, key in held:
            counts.give_back(key)
