"""Headers of the PROXY protocol, one after the other, that differ in little.

A proxy announces one client after the other with the same destination and the same TLVs, except for
the end of a unique id. `RepeatedHeader` computes the common part only once. Its headers are byte
for byte those of `proxy_protocol.build_v2`, which takes four times as long.

The one idea: a CRC is linear. The checksum of a text is that of the text with zeros in some places,
xor what each byte in these places adds, which depends on nothing but the byte and its distance from
the end. So the checksum of 100 bytes that differ in twelve takes twelve look-ups.

Source: haproxy doc/proxy-protocol.txt §2.2; the linearity of CRCs: RFC 3385 §2.
"""

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_pton
from struct import Struct
from typing import Final, NamedTuple

from nginy.wire.proxy_protocol import PROXY, SIGNATURE, V2_HEAD, Host
from nginy.wire.proxy_tlv import CRC32C_BYTES, TLV_HEAD, Type, crc32c

AnyHost = Host | tuple[str, int, int, int]
"""A host, or an IPv6 socket's address, whose further fields mean nothing here."""

PORT: Final = Struct(">H")
CRC: Final = Struct(">I")

ByteTable = tuple[int, ...]
"""What a byte adds to a checksum, by its value."""


@lru_cache(maxsize=1024)
def byte_table(distance: int) -> ByteTable:
    """Return what a byte adds to the CRC32C of a text that goes on for `distance` bytes after it.

    Bits add up as bytes do, so this works out eight of them and puts the others together.
    """
    zeros = crc32c(bytes(1 + distance))
    bits = [crc32c(bytes((1 << bit,)) + bytes(distance)) ^ zeros for bit in range(8)]
    table = [0]
    for bit in bits:
        table += [entry ^ bit for entry in table]
    return tuple(table)


class _Frame(NamedTuple):
    """What headers of one length have in common."""

    head: bytes
    """What stands before the source."""
    id_head: bytes
    """What stands between the checksum and the number."""
    checksum: int
    """With zeros for source, port and number."""
    tables: tuple[ByteTable, ...]
    """For each byte of source, port and number."""


class RepeatedHeader:
    """Makes headers of version 2 for the clients of one family that have asked one address.

    Their TLVs are a CRC32C, and a UNIQUE_ID that is `identity` and a number.
    """

    __slots__ = (
        *("_between", "_destination", "_family", "_frames", "_identity", "_kind"),
        "is_v6",
    )

    def __init__(self, destination: AnyHost, identity: bytes, *, is_udp: bool = False) -> None:
        host, port = destination[0].partition("%")[0], destination[1]
        self.is_v6 = ":" in host
        self._family = AF_INET6 if self.is_v6 else AF_INET
        self._kind = (0x21 if self.is_v6 else 0x11) + is_udp
        self._destination = inet_pton(self._family, host)
        self._between = PORT.pack(port) + TLV_HEAD.pack(Type.CRC32C, CRC32C_BYTES)
        self._identity = identity
        self._frames: dict[int, _Frame] = {}
        """By the length of the number."""

    def header(self, source: AnyHost, number: int) -> bytes:
        """Return the header of a client; raises OSError for an address of another family."""
        digits = b"%d" % number
        frame = self._frames.get(len(digits)) or self._frame(len(digits))
        address, port = inet_pton(self._family, source[0].partition("%")[0]), PORT.pack(source[1])
        crc = frame.checksum
        for table, byte in zip(frame.tables, address + port + digits, strict=True):
            crc ^= table[byte]
        front = frame.head + address + self._destination + port
        return front + self._between + CRC.pack(crc) + frame.id_head + digits

    def _id_head(self, digits: int) -> bytes:
        size = len(self._identity) + digits
        return TLV_HEAD.pack(Type.UNIQUE_ID, size) + self._identity

    def _frame(self, digits: int) -> _Frame:
        size = len(self._destination)
        id_head = self._id_head(digits)
        after = len(self._between) + CRC32C_BYTES + len(id_head) + digits
        length = 2 * size + PORT.size + after
        head = V2_HEAD.pack(SIGNATURE, 0x20 | PROXY, self._kind, length)
        text = b"".join(
            (
                *(head, bytes(size), self._destination, bytes(PORT.size), self._between),
                *(bytes(CRC32C_BYTES), id_head, bytes(digits)),
            )
        )
        end = len(text) - 1
        places = [*range(len(head), len(head) + size)]
        places += [*range(len(head) + 2 * size, len(head) + 2 * size + PORT.size)]
        places += [*range(len(text) - digits, len(text))]
        tables = tuple(byte_table(end - place) for place in places)
        frame = self._frames[digits] = _Frame(head, id_head, crc32c(text), tables)
        return frame
