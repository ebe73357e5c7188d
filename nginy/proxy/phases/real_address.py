"""The real address: a proxy in front of nginy announces its client in a PROXY header.

The phase `RealAddress` reads the header before anything else is read. From then on the announced
client is the client, for access rules, limits, hash keys, variables and logs. `$realip_remote_addr`
keeps what the socket says.

The one idea: take exactly the header from the kernel, whatever pieces it comes in. The phase looks
first (MSG_PEEK). As long as what it sees can become a header, all of it is header, and is taken; so
the selector reports nothing twice, and a level-triggered one does not spin. From the piece that
completes the header it takes only the header's part, and what follows stays for the next reader.

`proxy/udp/header.py` reads the headers of datagrams. The format is in `wire/proxy_protocol.py`.
nginx: `ngx_stream_proxy_protocol_handler` in `ngx_stream_handler.c`, which looks once and refuses a
header in two pieces, and `ngx_stream_realip_module.c`.
"""

from _socket import MSG_PEEK
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from nginy.event.connection import AGAIN, Connection
from nginy.proxy.access import Access
from nginy.proxy.context import host_of
from nginy.proxy.phases.phase import Passage, Phase, PhaseResult, Phases, Refusal
from nginy.proxy.phases.reading import Reading
from nginy.proxy.session import Reason, Session
from nginy.wire.errors import WireError
from nginy.wire.proxy_protocol import MAX_V2_BYTES, Header, parse

STRANGER: Final = "may not send a PROXY header (accept_proxy_protocol: from)"

SENDERS_REMEMBERED: Final = 1000


class RealAddress(Phase):
    """Reads the PROXY header of TCP clients that are proxies (`accept_proxy_protocol`)."""

    __slots__ = ("_accepts_others", "_is_sender", "_timeout_ms")

    def __init__(self, senders: Access, accepts_others: bool, timeout_ms: int) -> None:
        """The rules of `senders` match the peers that must send a header, and no others;
        `accepts_others` serves the others without one, else the phase refuses them."""
        self._is_sender = sender_test(senders)
        self._accepts_others = accepts_others
        self._timeout_ms = timeout_ms

    def run(self, session: Session, rest: Phases) -> PhaseResult:
        """Read what is there of the header; wait for the rest of it."""
        client = session.client
        if not self._is_sender(host_of(client.sockaddr)):
            if self._accepts_others:
                return Passage.PASS
            return Refusal(Reason.DENIED, f"{client.addr_text} {STRANGER}", "access")
        if not isinstance(client, Connection):
            return Passage.PASS
        reading = HeaderReading(session, client, rest)
        verdict = reading.look()
        if verdict is Passage.WAIT:
            reading.wait(self._timeout_ms)
        return verdict


def sender_test(senders: Access) -> Callable[[str], bool]:
    """Return a test whether a host may send headers; it remembers the answers, as proxies are few
    and come often."""

    @lru_cache(maxsize=SENDERS_REMEMBERED)
    def is_sender(host: str) -> bool:
        return senders.decides(host) >= 0

    return is_sender


class HeaderReading(Reading):
    """A header on its way. Lives as long as the client's handlers refer to it."""

    __slots__ = ("_held",)

    action = "reading the PROXY header"

    def __init__(self, session: Session, client: Connection, rest: Phases) -> None:
        super().__init__(session, client, rest)
        self._held = b""
        """What was taken of the header so far, `MAX_V2_BYTES` at most."""

    def look(self) -> PhaseResult:
        """Take from the kernel what belongs to the header, and nothing more."""
        client = self.client
        sock = client.socket
        while True:
            try:
                seen = sock.recv(MAX_V2_BYTES, MSG_PEEK)
            except OSError as error:
                if client.failed(client.read, error) == AGAIN:
                    return Passage.WAIT
                return _bad("client reset the connection before its PROXY header was complete")
            if not seen:
                return _bad("client closed the connection before its PROXY header was complete")
            data = self._held + seen
            try:
                header = parse(data)
            except WireError as error:
                return _bad(f"bad PROXY header: {error}")
            if header is not None:
                sock.recv(header.size_bytes - len(self._held))
                announce(self.session, header)
                return Passage.PASS
            self._held = data
            sock.recv(len(seen))

    def late(self) -> PhaseResult:
        """Refuse the client."""
        return Refusal(Reason.HEADER_LATE, Reason.HEADER_LATE.sentence, "invalid")


def announce(session: Session, header: Header) -> None:
    """Make the client that a header announces the session's client.

    A header that announces no client of the internet, such as that of a proxy's own check (LOCAL,
    UNKNOWN), leaves the address as it is. One that speaks of UDP counts as well: a proxy may bring
    by TCP what it was asked by UDP (dnsdist).
    """
    client = session.client
    session.arrived().header = header
    if isinstance(header.source, tuple):
        client.sockaddr = header.source


def _bad(detail: str) -> Refusal:
    return Refusal(Reason.BAD_HEADER, detail, "invalid")
