"""The first message of TLS, as far as it says which way a client may go: name, protocols, versions.

`parse` looks at the head of a stream without taking anything from it. It checks no cryptography and
keeps no keys: what it reads, everyone on the way can read. Which backend a name leads to is decided
in `nginy.proxy`; TLS itself is the business of the standard library.

The one idea: a hello is a message in records, in segments. None of the three has to end where
another does: a message may span records (post-quantum key shares make hellos of 1.8 KB and more), a
record may hold more than the message, and both may be cut anywhere. So the records are taken apart
first, and the message is read when it is whole. Lengths that do not fit into each other make it
wrong.

Source: RFC 8446 §4.1.2 (ClientHello), §5.1 (records), RFC 6066 §3 (server_name), RFC 7301 §3.1
(ALPN), RFC 8701 (GREASE), RFC 5246 appendix E.2 (the form of SSLv2); nginx
ngx_stream_ssl_preread_module.c.
"""

from dataclasses import dataclass
from typing import Final

from nginy.wire.errors import WireError

HANDSHAKE: Final = 22
CLIENT_HELLO: Final = 1

RECORD_HEAD_BYTES: Final = 5
MESSAGE_HEAD_BYTES: Final = 4
MAX_RECORD_BYTES: Final = 16384
"""Of the plain text in a record (§5.1)."""

SERVER_NAME: Final = 0
ALPN: Final = 16
SUPPORTED_VERSIONS: Final = 43
ASKED_FOR: Final = (SERVER_NAME, ALPN, SUPPORTED_VERSIONS)

BEHIND_END: Final = "a length in the ClientHello points behind its end"

VERSIONS: Final = {
    0x0200: "SSLv2",
    0x0300: "SSLv3",
    0x0301: "TLSv1",
    0x0302: "TLSv1.1",
    0x0303: "TLSv1.2",
    0x0304: "TLSv1.3",
}
"""nginx's names, as in `$ssl_preread_protocol`."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says first."""

    is_tls: bool
    server_name: str = ""
    """As the client wrote it, but in lower case; "" if it named none."""
    alpn: tuple[str, ...] = ()
    """Protocols in the client's order of preference."""
    version: str = ""
    """The highest version that the client offers and nginy knows; "" if there is none."""


NOT_TLS: Final = Hello(is_tls=False)


class _Reader:
    """Takes fields off the head of a block; raises WireError where the block is too short."""

    __slots__ = ("_block", "_place")

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._place = 0

    def __bool__(self) -> bool:
        return self._place < len(self._block)

    def take(self, count: int) -> bytes:
        end = self._place + count
        if end > len(self._block):
            raise WireError(BEHIND_END)
        taken = self._block[self._place : end]
        self._place = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> bytes:
        """Take a length of so many bytes, and what it announces."""
        return self.take(self.number(length_size))


def parse(data: bytes) -> Hello | None:
    """Return what a client says in its first bytes, None if more are needed to tell.

    Bytes that are no TLS at all are an answer, `NOT_TLS`. Raises WireError for a ClientHello that
    is wrong.
    """
    if not data:
        return None
    if data[0] & 0x80:
        return _parse_sslv2_form(data)
    if data[0] != HANDSHAKE:
        return NOT_TLS
    if len(data) > 1 and data[1] != 3:
        return NOT_TLS
    message = _message(data)
    return None if message is None else _parse_message(message)


def _parse_sslv2_form(data: bytes) -> Hello | None:
    """Read the head of a hello in the form of SSLv2, which has neither name nor protocols.

    Two bytes of length, the highest bit set, the type, and the highest version.
    """
    if len(data) < 5:
        is_possible = len(data) < 3 or data[2] == CLIENT_HELLO
        return None if is_possible else NOT_TLS
    version = int.from_bytes(data[3:5], "big")
    if data[2] != CLIENT_HELLO or version not in (0x0002, *VERSIONS):
        return NOT_TLS
    return Hello(is_tls=True, version=VERSIONS.get(version, "SSLv2"))


def _message(data: bytes) -> bytes | None:
    """Return the body of the ClientHello, gathered from its records; None if it is not whole."""
    gathered = bytearray()
    place = 0
    while True:
        if gathered and gathered[0] != CLIENT_HELLO:
            raise WireError("the first handshake message is no ClientHello")
        if len(gathered) >= MESSAGE_HEAD_BYTES:
            end = MESSAGE_HEAD_BYTES + int.from_bytes(gathered[1:MESSAGE_HEAD_BYTES], "big")
            if len(gathered) >= end:
                return bytes(gathered[MESSAGE_HEAD_BYTES:end])
        head = data[place : place + RECORD_HEAD_BYTES]
        if (head and head[0] != HANDSHAKE) or (len(head) > 1 and head[1] != 3):
            raise WireError("a record in the middle of the ClientHello is of another kind")
        if len(head) < RECORD_HEAD_BYTES:
            return None
        length = int.from_bytes(head[3:], "big")
        if not 0 < length <= MAX_RECORD_BYTES:
            raise WireError(f"a record of {length} bytes is not allowed here")
        place += RECORD_HEAD_BYTES
        gathered += data[place : place + length]
        place = min(place + length, len(data))


def _extensions(message: bytes) -> tuple[int, int]:
    """Return where the extensions of a whole ClientHello begin, and where they end."""
    end = len(message)
    try:
        # version, random, session id
        place = 35 + message[34]
        place += 2 + (message[place] << 8 | message[place + 1])  # cipher suites
        place += 1 + message[place]  # compression methods
        if place == end:
            return place, end
        size = message[place] << 8 | message[place + 1]
    except IndexError:
        raise WireError(BEHIND_END) from None
    if place + 2 + size > end:
        raise WireError(BEHIND_END)
    return place + 2, place + 2 + size


def _parse_message(message: bytes) -> Hello:
    """Read a whole ClientHello, by its lengths: most of it is stepped over.

    A handshake waits for this, and a `_Reader` for the outer levels would double its 7 µs.
    """
    place, end = _extensions(message)
    server_name = ""
    alpn: tuple[str, ...] = ()
    offered = [message[0] << 8 | message[1]]
    while place < end:
        if place + 4 > end:
            raise WireError(BEHIND_END)
        kind = message[place] << 8 | message[place + 1]
        size = message[place + 2] << 8 | message[place + 3]
        place += 4
        if place + size > end:
            raise WireError(BEHIND_END)
        if kind in ASKED_FOR:
            body = _Reader(message[place : place + size])
            if kind == SERVER_NAME:
                server_name = server_name or _server_name(body)
            elif kind == ALPN:
                alpn = _protocols(_Reader(body.vector(2)))
            else:
                offered = _versions(body.vector(1))
        place += size
    highest = max((each for each in offered if each in VERSIONS), default=0)
    return Hello(True, server_name, alpn, VERSIONS.get(highest, ""))


def _versions(block: bytes) -> list[int]:
    if len(block) % 2:
        raise WireError(BEHIND_END)
    return [block[place] << 8 | block[place + 1] for place in range(0, len(block), 2)]


def _server_name(body: _Reader) -> str:
    """Return the first host name of the list; an empty extension, as servers send it, has none."""
    names = _Reader(body.vector(2) if body else b"")
    while names:
        kind = names.number(1)
        name = names.vector(2)
        if kind == 0:
            return name.decode("ascii", "surrogateescape").lower()
    return ""


def _protocols(body: _Reader) -> tuple[str, ...]:
    found = []
    while body:
        found.append(body.vector(1).decode("ascii", "surrogateescape"))
    return tuple(found)
