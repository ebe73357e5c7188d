"""The first message of TLS, as far as it says which way a client may go: name, protocols, versions.

`parse` looks at the head of a stream without taking anything from it. It checks no cryptography and
keeps no keys: what it reads, everyone on the way can read. `nginy.proxy` decides which backend a
name leads to; TLS itself is the business of the standard library.

The one idea: a hello is a message in records, in segments. None of the three has to end where
another does: a message may span records (post-quantum key shares make hellos of 1.8 KB and more), a
record may hold more than the message, and both may be cut anywhere. So `parse` takes the records
apart first, and reads the message when it is whole. Lengths that do not fit into each other make it
wrong.

Source: RFC 8446 §4.1.2 (ClientHello), §5.1 (records), RFC 6066 §3 (server_name), RFC 7301 §3.1
(ALPN), RFC 8701 (GREASE), RFC 5246 appendix E.2 (the form of SSLv2); nginx
ngx_stream_ssl_preread_module.c.
"""

import struct
from dataclasses import dataclass
from typing import Final

from nginy.wire.errors import WireError

HANDSHAKE: Final = 22
CLIENT_HELLO: Final = 1

RECORD_HEAD_BYTES: Final = 5
MESSAGE_HEAD_BYTES: Final = 4
BODY_AT: Final = RECORD_HEAD_BYTES + MESSAGE_HEAD_BYTES
MAX_RECORD_BYTES: Final = 16384
"""Of the plain text in a record (§5.1)."""

SERVER_NAME: Final = 0
ALPN: Final = 16
SUPPORTED_VERSIONS: Final = 43

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

BEHIND: Final = "a length in the ClientHello points beyond its end"
extension_head: Final = struct.Struct(">HH").unpack_from
"""Reads the kind of an extension, and its length."""


def parse(data: bytes, records: "Records | None" = None) -> Hello | None:
    """Return what a client says in its first bytes, None if more are needed to tell.

    Bytes that are not TLS give an answer, too: `NOT_TLS`. Raises WireError for a ClientHello that
    is wrong. A caller that asks again about the same stream keeps its `records`.
    """
    if not data:
        return None
    if data[0] & 0x80:
        return _parse_sslv2_form(data)
    if data[0] != HANDSHAKE:
        return NOT_TLS
    if len(data) > 1 and data[1] != 3:
        return NOT_TLS
    if len(data) > 8:
        # Nearly always: one record, which is the message and no more.
        length = data[3] << 8 | data[4]
        if data[5] == CLIENT_HELLO and data[7] << 8 | data[8] == length - MESSAGE_HEAD_BYTES:
            whole = not data[6] and length <= MAX_RECORD_BYTES
            if whole and len(data) >= RECORD_HEAD_BYTES + length:
                return _parse_message(data[BODY_AT : RECORD_HEAD_BYTES + length])
    message = (records or Records()).message(data)
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


class Records:
    """The message in a stream's first records, gathered as far as they have come.

    Each call goes on where the last one has ended: a client may send a byte at a time, in records
    of one byte, and must not have all of them read again for each.
    """

    __slots__ = ("_gathered", "_left", "_place")

    def __init__(self) -> None:
        self._gathered = bytearray()
        self._place = 0
        """What of the stream is gathered."""
        self._left = 0
        """Bytes of the present record that have not come yet."""

    def message(self, data: bytes) -> bytes | None:
        """Return the body of the ClientHello, None if it is not whole; `data` is the stream from
        its first byte on."""
        gathered = self._gathered
        while True:
            if gathered and gathered[0] != CLIENT_HELLO:
                raise WireError("the first handshake message is not a ClientHello")
            if len(gathered) >= MESSAGE_HEAD_BYTES:
                end = MESSAGE_HEAD_BYTES + int.from_bytes(gathered[1:MESSAGE_HEAD_BYTES], "big")
                if len(gathered) >= end:
                    return bytes(gathered[MESSAGE_HEAD_BYTES:end])
            if not self._left and not self._begin_record(data):
                return None
            piece = data[self._place : self._place + self._left]
            if not piece:
                return None
            gathered += piece
            self._place += len(piece)
            self._left -= len(piece)

    def _begin_record(self, data: bytes) -> bool:
        """Read the head of the next record; return whether it is there."""
        head = data[self._place : self._place + RECORD_HEAD_BYTES]
        if (head and head[0] != HANDSHAKE) or (len(head) > 1 and head[1] != 3):
            raise WireError("a record in the middle of the ClientHello is of another kind")
        if len(head) < RECORD_HEAD_BYTES:
            return False
        length = int.from_bytes(head[3:], "big")
        if not 0 < length <= MAX_RECORD_BYTES:
            raise WireError(f"a record of {length} bytes is not allowed here")
        self._place += RECORD_HEAD_BYTES
        self._left = length
        return True


def _parse_message(message: bytes) -> Hello:
    """Read the body of a ClientHello: the lengths in it lead from one field to the next.

    It goes by places in the bytes, without a reader that takes fields off: that took three times as
    long, and each TLS client of a listener with routes waits for it.
    """
    server_name = ""
    alpn: tuple[str, ...] = ()
    try:
        highest = _known(message[0] << 8 | message[1])
        place = 34  # the version and 32 random bytes
        place += 1 + message[place]  # session id
        place += 2 + (message[place] << 8 | message[place + 1])  # cipher suites
        place += 1 + message[place]  # compression methods
        if place >= len(message):
            if place > len(message):
                raise WireError(BEHIND)
            return Hello(True, version=VERSIONS.get(highest, ""))
        end = place + 2 + (message[place] << 8 | message[place + 1])
        place += 2
        while place < end:
            kind, length = extension_head(message, place)
            place += 4
            if kind == SERVER_NAME:
                server_name = server_name or _server_name(message[place : place + length])
            elif kind == ALPN:
                alpn = _protocols(message[place : place + length])
            elif kind == SUPPORTED_VERSIONS:
                highest = _highest(message[place : place + length])
            place += length
    except (IndexError, struct.error):
        raise WireError(BEHIND) from None
    if place != end or end > len(message):
        raise WireError(BEHIND)
    return Hello(True, server_name, alpn, VERSIONS.get(highest, ""))


def _known(version: int) -> int:
    return version if version in VERSIONS else 0


def _server_name(body: bytes) -> str:
    """Return the first host name of the list; an empty extension, as servers send it, has none."""
    if not body:
        return ""
    end = 2 + (body[0] << 8 | body[1])
    place = 2
    while place < end:
        kind = body[place]
        start = place + 3
        place = start + (body[place + 1] << 8 | body[place + 2])
        if place > end or end > len(body):
            raise WireError(BEHIND)
        if kind == 0:
            return body[start:place].decode("ascii", "surrogateescape").lower()
    return ""


def _protocols(body: bytes) -> tuple[str, ...]:
    end = 2 + (body[0] << 8 | body[1])
    place = 2
    found = []
    while place < end:
        start = place + 1
        place = start + body[place]
        found.append(body[start:place].decode("ascii", "surrogateescape"))
    if place != end or end > len(body):
        raise WireError(BEHIND)
    return tuple(found)


def _highest(body: bytes) -> int:
    """Return the highest version of a list that nginy knows, 0 if there is none."""
    end = 1 + body[0]
    if body[0] & 1 or end > len(body):
        raise WireError(BEHIND)
    offered = [body[place] << 8 | body[place + 1] for place in range(1, end, 2)]
    return max(map(_known, offered), default=0)
