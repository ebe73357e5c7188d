"""The TLVs of PROXY protocol v2: what a proxy says about a connection beside its addresses.

A TLV is a type (1 byte), a length (2 bytes, big-endian) and a value. This module takes a block of
them apart and puts one together, and knows the two with an inside: CRC32C, which guards the whole
header, and SSL, which has flags, a verdict and TLVs of its own. `proxy_protocol` has addresses,
commands and signatures; `nginy.proxy` decides what a session makes of a TLV.

The one idea: lengths are a stranger's claims. A TLV that is longer than the block it stands in
makes the whole header wrong, as does an SSL block that is shorter than its fixed part.

Source: haproxy doc/proxy-protocol.txt §2.2; CRC32C: RFC 3309 appendix 1 and RFC 3720 appendix B.4.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from nginy.wire.errors import WireError

MAX_UNIQUE_ID_BYTES: Final = 128
"""The longest UNIQUE_ID (§2.2.5)."""

TLV_HEAD: Final = Struct(">BH")
SSL_HEAD: Final = Struct(">BI")
CRC32C_BYTES: Final = 4


class Type(IntEnum):
    """The types that the specification names; the names are those of nginx's variables, upper case.

    0xE0 to 0xEF are for applications, 0xF0 to 0xF7 for experiments.
    """

    ALPN = 0x01
    AUTHORITY = 0x02
    CRC32C = 0x03
    NOOP = 0x04
    UNIQUE_ID = 0x05
    SSL = 0x20
    NETNS = 0x30


class SslType(IntEnum):
    """The types inside of an SSL TLV."""

    VERSION = 0x21
    CN = 0x22
    CIPHER = 0x23
    SIG_ALG = 0x24
    KEY_ALG = 0x25


class SslFlag(IntEnum):
    """Bits of the first byte of an SSL TLV."""

    SSL = 0x01
    """The client connected by TLS."""
    CERT_CONN = 0x02
    """It showed a certificate on this connection."""
    CERT_SESS = 0x04
    """It showed one at least once in this TLS session."""


Tlvs = tuple[tuple[int, bytes], ...]
"""Types and values, in the order in which they stand."""


@dataclass(frozen=True, slots=True)
class SslInfo:
    """What an SSL TLV says about the client's TLS connection."""

    flags: int
    verify: int
    """0 if the client's certificate was verified, or the verifier's error number."""
    tlvs: Tlvs = ()

    @property
    def is_verified(self) -> bool:
        """Whether the client showed a certificate that the proxy verified."""
        return self.verify == 0 and bool(self.flags & (SslFlag.CERT_CONN | SslFlag.CERT_SESS))

    def value(self, kind: int) -> bytes | None:
        """Return the value of an inner TLV, None if there is none."""
        return value_of(self.tlvs, kind)


def parse_tlvs(block: bytes) -> Tlvs:
    """Take a block of TLVs apart; raises WireError if a length lies or a value is impossible.

    This drops NOOPs, which only fill space, and keeps unknown types.
    """
    found = tuple(_each(block))
    for kind, value in found:
        if kind == Type.UNIQUE_ID and len(value) > MAX_UNIQUE_ID_BYTES:
            raise WireError(f"a unique id is longer than {MAX_UNIQUE_ID_BYTES} bytes")
        if kind == Type.CRC32C and len(value) != CRC32C_BYTES:
            raise WireError(f"a checksum has {len(value)} bytes instead of {CRC32C_BYTES}")
        if kind == Type.SSL:
            parse_ssl(value)
    return tuple((kind, value) for kind, value in found if kind != Type.NOOP)


def parse_ssl(value: bytes) -> SslInfo:
    """Take the value of an SSL TLV apart; raises WireError."""
    if len(value) < SSL_HEAD.size:
        raise WireError(f"an SSL block has {len(value)} bytes, at least {SSL_HEAD.size} are needed")
    flags, verify = SSL_HEAD.unpack_from(value)
    return SslInfo(flags, verify, tuple(_each(value[SSL_HEAD.size :])))


def build_ssl(info: SslInfo) -> bytes:
    """Return the value of an SSL TLV."""
    return SSL_HEAD.pack(info.flags, info.verify) + build_tlvs(info.tlvs)


def build_tlvs(tlvs: Iterable[tuple[int, bytes]]) -> bytes:
    """Put TLVs behind each other; raises WireError if a value is longer than 65,535 bytes."""
    parts = []
    for kind, value in tlvs:
        if len(value) > 0xFFFF:
            raise WireError(f"a TLV of {len(value)} bytes is too long")
        parts.append(TLV_HEAD.pack(kind, len(value)) + value)
    return b"".join(parts)


def value_of(tlvs: Tlvs, kind: int) -> bytes | None:
    """Return the value of the first TLV of a type, None if there is none."""
    return next((value for each, value in tlvs if each == kind), None)


def place_of_crc32c(block: bytes) -> int | None:
    """Return where in a block the value of its CRC32C begins, None if it has none.

    Raises WireError as `parse_tlvs` does.
    """
    place = 0
    for kind, value in _each(block):
        place += TLV_HEAD.size
        if kind == Type.CRC32C:
            return place
        place += len(value)
    return None


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum. 0.1 µs a byte, and a header has some hundred of them."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _each(block: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    end = len(block)
    while place < end:
        if end - place < TLV_HEAD.size:
            raise WireError("a TLV is cut off in its head")
        kind, length = TLV_HEAD.unpack_from(block, place)
        place += TLV_HEAD.size
        if length > end - place:
            raise WireError(f"a TLV says {length} bytes, {end - place} are left")
        yield kind, block[place : place + length]
        place += length


def _table() -> tuple[int, ...]:
    """The remainders of all bytes by the Castagnoli polynomial, reversed (RFC 3720 B.4)."""
    entries = []
    for entry in range(256):
        crc = entry
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        entries.append(crc)
    return tuple(entries)


_TABLE: Final = _table()
