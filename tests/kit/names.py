"""A name server for tests: it answers what it is told, over UDP and TCP, on a port of its own.

It makes its messages by hand: a mistake of `nginy.wire.dns` must not confirm itself.
"""

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from nginy.text.address import Address, parse_address

from kit.program import own_host

NO_ERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5
A, CNAME, AAAA, SRV = 1, 5, 28, 33
TYPES = {"A": A, "AAAA": AAAA, "SRV": SRV}
UDP_ROOM_BYTES = 1232


def wire_name(name: str) -> bytes:
    labels = [label for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def srv(priority: int, weight: int, port: int, target: str) -> bytes:
    """Return the data of a SRV record."""
    return struct.pack("!HHH", priority, weight, port) + wire_name(target)


@dataclass
class Asked:
    """A question as it was received."""

    id: int
    name: str
    type: int
    has_edns: bool
    is_tcp: bool
    sender: tuple[str, int]
    question: bytes


@dataclass
class Zone:
    """What is known about one name: a list of records for each type, an rcode, a TTL."""

    records: dict[int, list[bytes]] = field(default_factory=dict)
    rcode: int = NO_ERROR
    ttl_s: int = 60


def bound_to_one_port(host: str) -> tuple[socket.socket, socket.socket]:
    """Return a TCP socket that listens and a UDP socket, both at one port of `host`.

    Somebody's wildcard UDP socket may have the port that TCP has got; then another one may do.
    """
    while True:
        with contextlib.ExitStack() as undo:
            tcp = undo.enter_context(socket.create_server((host, 0)))
            udp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                udp.bind(tcp.getsockname())
                undo.pop_all()
                for sock in (tcp, udp):
                    sock.setblocking(False)
                return tcp, udp


class NameServer:
    """Answers from `zones`; a name that is not there does not exist.

    It needs the same port for both protocols, so by default it has an address where nobody has
    one already.
    """

    def __init__(self, host: str = "") -> None:
        self.tcp, self.udp = bound_to_one_port(host or own_host())
        self.zones: dict[str, Zone] = {}
        self.asked: list[Asked] = []
        self.is_silent = False
        self.before: Callable[[Asked], list[bytes]] = lambda _asked: []
        """Datagrams to send ahead of the answer: the habits of a hostile network."""
        self.instead: Callable[[Asked], list[bytes] | None] = lambda _asked: None
        """Datagrams to send in place of the answer, none for silence; None for the answer."""
        self._streams: list[tuple[socket.socket, bytearray]] = []

    @property
    def address(self) -> Address:
        host, port = self.udp.getsockname()
        return parse_address(f"{host}:{port}")

    def set(self, name: str, *addresses: str, ttl_s: int = 60) -> None:
        """Let a host have these addresses."""
        zone = Zone(ttl_s=ttl_s)
        for text in addresses:
            ip = ipaddress.ip_address(text)
            zone.records.setdefault(A if ip.version == 4 else AAAA, []).append(ip.packed)
        self.zones[name] = zone

    def set_srv(self, name: str, *records: bytes, ttl_s: int = 60) -> None:
        """Let a service have these records."""
        self.zones[name] = Zone({SRV: list(records)}, ttl_s=ttl_s)

    def fail(self, name: str, rcode: int = SERVFAIL) -> None:
        """Make questions for a name fail."""
        self.zones[name] = Zone(rcode=rcode)

    def answer(self, asked: Asked, *, room_bytes: int = 65535) -> bytes:
        """Return the answer; one that does not fit is truncated."""
        zone = self.zones.get(asked.name, Zone(rcode=NXDOMAIN))
        records = zone.records.get(asked.type, []) if zone.rcode == NO_ERROR else []
        body = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", asked.type, 1, zone.ttl_s, len(data)) + data
            for data in records
        )
        flags = 0x8180 | zone.rcode
        if len(body) + len(asked.question) + 12 > room_bytes:
            return struct.pack("!HHHHHH", asked.id, flags | 0x0200, 1, 0, 0, 0) + asked.question
        header = struct.pack("!HHHHHH", asked.id, flags, 1, len(records), 0, 0)
        return header + asked.question + body

    def count(self, name: str, record_type: int = A) -> int:
        """How often a name was asked for."""
        return sum(asked.name == name and asked.type == record_type for asked in self.asked)

    def step(self) -> bool:
        if self.udp.fileno() < 0:
            return False
        return self._step_udp() | self._step_tcp()

    def _step_udp(self) -> bool:
        has_moved = False
        with contextlib.suppress(BlockingIOError):
            while True:
                data, sender = self.udp.recvfrom(4096)
                has_moved = True
                asked = parse(data, sender, is_tcp=False)
                self.asked.append(asked)
                for message in self.before(asked):
                    self.udp.sendto(message, sender)
                others = self.instead(asked)
                for message in others or ():
                    self.udp.sendto(message, sender)
                if not self.is_silent and others is None:
                    self.udp.sendto(self.answer(asked, room_bytes=UDP_ROOM_BYTES), sender)
        return has_moved

    def _step_tcp(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while self.tcp.fileno() >= 0:
                sock, _ = self.tcp.accept()
                sock.setblocking(False)
                self._streams.append((sock, bytearray()))
        has_moved = False
        for sock, received in self._streams:
            with contextlib.suppress(OSError):
                data = sock.recv(4096)
                received.extend(data)
                if len(received) > 2 and not self.is_silent:
                    asked = parse(bytes(received[2:]), ("", 0), is_tcp=True)
                    received.clear()
                    self.asked.append(asked)
                    message = self.answer(asked)
                    sock.sendall(struct.pack("!H", len(message)) + message)
                    has_moved = True
        return has_moved

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()
        for sock, _ in self._streams:
            sock.close()


def parse(data: bytes, sender: tuple[str, int], *, is_tcp: bool) -> Asked:
    """Read a question; nginy compresses nothing in it."""
    identifier, _, _, _, _, additional = struct.unpack_from("!HHHHHH", data)
    labels = []
    offset = 12
    while data[offset]:
        labels.append(data[offset + 1 : offset + 1 + data[offset]].decode())
        offset += 1 + data[offset]
    (record_type,) = struct.unpack_from("!H", data, offset + 1)
    question = data[12 : offset + 5]
    return Asked(
        identifier, ".".join(labels), record_type, bool(additional), is_tcp, sender, question
    )
