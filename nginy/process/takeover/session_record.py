"""A session on its way to another process: everything that must be the same there, as plain values.

Instants are milliseconds of the machine's monotonic clock, which all processes share; a loop's own
time lacks the pauses in which its process did not run (`event/clock.py`). Everything that another
version might not send has a default, so that older and newer versions can take each other's
sessions.

Pure. `tcp_session.py` and `udp_session.py` make records of sessions, and sessions of records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nginy.process.takeover.messages import MessageError, MessageMembers
from nginy.text.address import SockAddr
from nginy.wire.client_hello import Hello
from nginy.wire.proxy_protocol import Header, HeaderAddress

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ConnectionRecord:
    """One side of a session."""

    peer: SockAddr
    received: int
    sent: int
    started_ms: int
    active_ms: int
    full_reads: int = 0
    is_ended: bool = False
    """Its EOF was read."""
    is_shut: bool = False
    """Our EOF was sent to it."""
    errno: int = 0
    """Why sending to it has failed; 0 if it has not."""
    rest: int = 0
    """Bytes received from it that the other side has not taken."""
    in_pipe: bool = False
    """Whether they are in a pipe, whose descriptors come along, and not in the message."""

    def to_json(self) -> Json:
        """Return plain values."""
        return {
            "peer": sockaddr_to_json(self.peer),
            "received": self.received,
            "sent": self.sent,
            "started": self.started_ms,
            "active": self.active_ms,
            "full_reads": self.full_reads,
            "ended": self.is_ended,
            "shut": self.is_shut,
            "errno": self.errno,
            "rest": self.rest,
            "in_pipe": self.in_pipe,
        }

    @staticmethod
    def parse(members: MessageMembers) -> "ConnectionRecord":
        """Return what `to_json` has made; raises MessageError."""
        return ConnectionRecord(
            parse_sockaddr(members.items("peer")),
            members.count("received"),
            members.count("sent"),
            members.number("started"),
            members.number("active"),
            members.maybe_number("full_reads") or 0,
            members.flag("ended"),
            members.flag("shut"),
            members.maybe_number("errno") or 0,
            members.maybe_number("rest") or 0,
            members.flag("in_pipe"),
        )


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One backend that was tried; the last one is in use."""

    address: str
    started_ms: int
    connected_ms: int | None = None
    first_byte_ms: int | None = None
    ended_ms: int | None = None
    errno: int = 0
    received: int = 0
    sent: int = 0

    def to_json(self) -> Json:
        """Return plain values."""
        return {
            "address": self.address,
            "started": self.started_ms,
            "connected": self.connected_ms,
            "first_byte": self.first_byte_ms,
            "ended": self.ended_ms,
            "errno": self.errno,
            "received": self.received,
            "sent": self.sent,
        }

    @staticmethod
    def parse(members: MessageMembers) -> "AttemptRecord":
        """Return what `to_json` has made; raises MessageError."""
        return AttemptRecord(
            members.text("address"),
            members.number("started"),
            members.maybe_number("connected"),
            members.maybe_number("first_byte"),
            members.maybe_number("ended"),
            members.maybe_number("errno") or 0,
            members.maybe_number("received") or 0,
            members.maybe_number("sent") or 0,
        )


@dataclass(frozen=True, slots=True)
class ArrivalRecord:
    """What the phases have found out about a client."""

    real: SockAddr
    header: Header | None = None
    hello: Hello | None = None
    limit_status: str = ""
    held: Sequence[tuple[str, bytes]] = ()
    """The zones that count it, each with its key."""

    def to_json(self) -> Json:
        """Return plain values."""
        return {
            "real": sockaddr_to_json(self.real),
            "header": None if self.header is None else header_to_json(self.header),
            "hello": None if self.hello is None else _hello_to_json(self.hello),
            "limit_status": self.limit_status,
            "held": [{"zone": zone, "key": key.hex()} for zone, key in self.held],
        }

    @staticmethod
    def parse(members: MessageMembers) -> "ArrivalRecord":
        """Return what `to_json` has made; raises MessageError."""
        header, hello = members.maybe_object("header"), members.maybe_object("hello")
        return ArrivalRecord(
            parse_sockaddr(members.items("real")),
            None if header is None else parse_header(header),
            None if hello is None else _parse_hello(hello),
            members.text("limit_status"),
            [(each.text("zone"), each.bytes("key")) for each in members.objects("held")],
        )


@dataclass(frozen=True, slots=True)
class EndRecord:
    """The end of a session that only waits until one side has taken all bytes."""

    reason: str
    detail: str
    is_reset: bool
    to_client: bool
    """Whether that side is the client."""

    def to_json(self) -> Json:
        """Return plain values."""
        return {
            "reason": self.reason,
            "detail": self.detail,
            "reset": self.is_reset,
            "to_client": self.to_client,
        }

    @staticmethod
    def parse(members: MessageMembers) -> "EndRecord":
        """Return what `to_json` has made; raises MessageError."""
        return EndRecord(
            members.text("reason"),
            members.text("detail"),
            members.flag("reset"),
            members.flag("to_client"),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session belongs, by names that the configurations of both processes share."""

    listener: str
    """Its address and protocol, as the log writes them."""
    upstream: str
    backend: str
    """The backend's name, and its address, which differ where a name stands for several."""
    address: str

    def to_json(self) -> Json:
        """Return plain values."""
        return {
            "listener": self.listener,
            "upstream": self.upstream,
            "backend": self.backend,
            "address": self.address,
        }

    @staticmethod
    def parse(members: MessageMembers) -> "Place":
        """Return what `to_json` has made; raises MessageError."""
        names = ("listener", "upstream", "backend", "address")
        return Place(*(members.text(name) for name in names))


@dataclass(frozen=True, slots=True)
class TcpRecord:
    """An established TCP session."""

    number: int
    place: Place
    client: ConnectionRecord
    server: ConnectionRecord
    attempts: Sequence[AttemptRecord]
    arrival: ArrivalRecord | None = None
    end: EndRecord | None = None

    def to_json(self) -> Json:
        """Return plain values."""
        return {
            "protocol": "TCP",
            "number": self.number,
            "place": self.place.to_json(),
            "client": self.client.to_json(),
            "server": self.server.to_json(),
            "attempts": [each.to_json() for each in self.attempts],
            "arrival": None if self.arrival is None else self.arrival.to_json(),
            "end": None if self.end is None else self.end.to_json(),
        }

    @staticmethod
    def parse(members: MessageMembers) -> "TcpRecord":
        """Return what `to_json` has made; raises MessageError."""
        arrival, end = members.maybe_object("arrival"), members.maybe_object("end")
        attempts = [AttemptRecord.parse(each) for each in members.objects("attempts")]
        if not attempts:
            raise MessageError("a session without attempts")
        return TcpRecord(
            members.count("number"),
            Place.parse(members.object("place")),
            ConnectionRecord.parse(members.object("client")),
            ConnectionRecord.parse(members.object("server")),
            attempts,
            None if arrival is None else ArrivalRecord.parse(arrival),
            None if end is None else EndRecord.parse(end),
        )


def sockaddr_to_json(sockaddr: SockAddr) -> list[object]:
    """Return a socket address as a list; that of a unix socket has its path alone."""
    if isinstance(sockaddr, tuple):
        return list(sockaddr)
    # The kernel returns abstract addresses as bytes; nginy never shows them.
    return [sockaddr if isinstance(sockaddr, str) else ""]


def parse_sockaddr(items: Sequence[object]) -> SockAddr:
    """Return what `sockaddr_to_json` has made; raises MessageError."""
    match items:
        case [str(path)]:
            return path
        case [str(host), int(port)]:
            return host, port
        case [str(host), int(port), int(flow), int(scope)]:
            return host, port, flow, scope
    raise MessageError(f"{items!r:.40} is no address")


def header_to_json(header: Header) -> Json:
    """Return a PROXY header as plain values."""
    source, destination = header.source, header.destination
    return {
        "version": header.version,
        "size": header.size_bytes,
        "protocol": header.protocol,
        "source": None if source is None else sockaddr_to_json(source),
        "destination": None if destination is None else sockaddr_to_json(destination),
        "tlvs": [[kind, value.hex()] for kind, value in header.tlvs],
    }


def parse_header(members: MessageMembers) -> Header:
    """Return what `header_to_json` has made; raises MessageError."""
    source, destination = members.items("source"), members.items("destination")
    tlvs = []
    for each in members.items("tlvs"):
        match each:
            case [int(kind), str(value)]:
                tlvs.append((kind, _from_hex(value)))
            case _:
                raise MessageError(f"{each!r:.40} is no TLV")
    return Header(
        members.number("version"),
        members.number("size"),
        members.text("protocol"),
        _parse_place(source),
        _parse_place(destination),
        tuple(tlvs),
    )


def _hello_to_json(hello: Hello) -> Json:
    return {
        "is_tls": hello.is_tls,
        "server_name": hello.server_name,
        "alpn": list(hello.alpn),
        "version": hello.version,
    }


def _parse_hello(members: MessageMembers) -> Hello:
    return Hello(
        members.flag("is_tls"),
        members.text("server_name"),
        tuple(str(each) for each in members.items("alpn")),
        members.text("version"),
    )


def _parse_place(items: Sequence[object]) -> HeaderAddress | None:
    match items:
        case []:
            return None
        case [str(path)]:
            return path
        case [str(host), int(port)]:
            return host, port
    raise MessageError(f"{items!r:.40} is no address")


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise MessageError(f"{text!r:.40} is not hexadecimal") from None
