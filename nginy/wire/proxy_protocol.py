"""The header of the PROXY protocol: who the client behind a proxy is, in front of its first byte.

`parse` reads a header of either version from the head of a stream or of a datagram, `build_v1` and
`build_v2` write one. The TLVs of v2 are in `proxy_tlv`. `nginy.proxy` decides which clients may
send a header, how long they may take, and what a session does with it.

The one idea: a header is all or nothing. It may come in any number of pieces, so `parse` says
"more" as long as what came can become a header, and raises once it cannot. A receiver never
guesses: it refuses what is malformed, because the alternative is to take a forged address for the
client's, or the header itself for its data.

Source: haproxy doc/proxy-protocol.txt, revision of 2026-04-27, §2.1 (v1) and §2.2 (v2).
"""

import contextlib
import re
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct
from typing import Final, NamedTuple

from nginy.wire.errors import WireError
from nginy.wire.proxy_tlv import (
    CRC32C_BYTES,
    TLV_HEAD,
    Tlvs,
    Type,
    build_tlvs,
    crc32c,
    parse_tlvs,
    place_of_crc32c,
)

MAX_V1_BYTES: Final = 107
"""The longest line of v1, CRLF included (§2.1)."""

MAX_V2_BYTES: Final = 4096
"""The longest header taken; the format could say 65,551. Real ones, with a certificate's name and a
few TLVs, have some hundred bytes."""

V1_HEAD: Final = b"PROXY "
SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
V2_HEAD: Final = Struct(">12sBBH")
PORTS: Final = Struct(">HH")

LOCAL: Final = 0
PROXY: Final = 1

UNSPECIFIED: Final = 0x00
UNIX_PATH_BYTES: Final = 108

Host = tuple[str, int]
"""An IP address as text, and a port."""

HeaderAddress = Host | str
"""A host, or the path of a unix socket."""

_ADDRESS: Final = re.compile(rb"[0-9A-Fa-f.:]+")
_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class Family:
    """What one value of the byte "family and protocol" means."""

    protocol: str
    """"TCP" or "UDP"; a unix socket's streams and datagrams are called so as well."""
    bytes: int
    """The size of both addresses and ports."""
    family: int
    """AF_INET, AF_INET6, or 0 for unix."""


FAMILIES: Final = {
    0x11: Family("TCP", 12, AF_INET),
    0x12: Family("UDP", 12, AF_INET),
    0x21: Family("TCP", 36, AF_INET6),
    0x22: Family("UDP", 36, AF_INET6),
    0x31: Family("TCP", 2 * UNIX_PATH_BYTES, 0),
    0x32: Family("UDP", 2 * UNIX_PATH_BYTES, 0),
}


class Header(NamedTuple):
    """A whole header; a tuple, as each session makes one.

    `source` and `destination` are None if the real addresses of the connection count: for LOCAL,
    for UNKNOWN, and for a family that the sender left unspecified.
    """

    version: int
    size_bytes: int
    """How many bytes of what came are the header; what follows is the client's."""
    protocol: str = ""
    source: HeaderAddress | None = None
    destination: HeaderAddress | None = None
    tlvs: Tlvs = ()


# -- reading --


def parse(data: bytes) -> Header | None:
    """Return the header at the head of `data`, None if more bytes are needed to tell.

    Raises WireError if `data` cannot become a header.
    """
    if data.startswith(SIGNATURE):
        return _parse_v2(data) if len(data) >= V2_HEAD.size else None
    if SIGNATURE.startswith(data):
        return None
    if V1_HEAD.startswith(data[: len(V1_HEAD)]):
        return _parse_v1(data) if len(data) > len(V1_HEAD) else None
    raise WireError("it begins with neither PROXY nor the signature of version 2")


def _parse_v1(data: bytes) -> Header | None:
    line, newline, _ = data[:MAX_V1_BYTES].partition(b"\n")
    if not newline:
        if len(data) >= MAX_V1_BYTES:
            raise WireError(f"no line end within {MAX_V1_BYTES} bytes")
        return None
    if not line.endswith(b"\r"):
        raise WireError("the line does not end in CRLF")
    size_bytes = len(line) + 1
    words = line[:-1].split(b" ")
    if words[1] == b"UNKNOWN":
        return Header(1, size_bytes)
    family = {b"TCP4": AF_INET, b"TCP6": AF_INET6}.get(words[1])
    if family is None:
        raise WireError("the protocol is none of TCP4, TCP6 and UNKNOWN")
    if len(words) != 6:
        raise WireError(f"the line has {len(words)} words instead of 6")
    source = _address(family, words[2]), _port(words[4])
    destination = _address(family, words[3]), _port(words[5])
    return Header(1, size_bytes, "TCP", source, destination)


def _address(family: int, word: bytes) -> str:
    if _ADDRESS.fullmatch(word) is not None:
        with contextlib.suppress(OSError):
            return inet_ntop(family, inet_pton(family, word.decode("ascii")))
    raise WireError("an address is not of the family that the line names")


def _port(word: bytes) -> int:
    if _PORT.fullmatch(word) is None or int(word) > 0xFFFF:
        raise WireError("a port is not a number from 0 to 65535")
    return int(word)


def _parse_v2(data: bytes) -> Header | None:
    _, command, kind, length = V2_HEAD.unpack_from(data)
    if command >> 4 != 2:
        raise WireError(f"version {command >> 4} follows the signature of version 2")
    if command & 0xF not in (LOCAL, PROXY):
        raise WireError(f"command {command & 0xF} is neither LOCAL nor PROXY")
    size_bytes = V2_HEAD.size + length
    if size_bytes > MAX_V2_BYTES:
        raise WireError(f"a header of {size_bytes} bytes, {MAX_V2_BYTES} are allowed")
    is_proxied = command & 0xF == PROXY
    family = FAMILIES.get(kind)
    if is_proxied and kind != UNSPECIFIED:
        if family is None:
            raise WireError(f"family and protocol 0x{kind:02X} mean nothing")
        if length < family.bytes:
            raise WireError(f"{length} bytes for addresses that take {family.bytes}")
    if len(data) < size_bytes:
        return None
    if not is_proxied or family is None:
        return Header(2, size_bytes)
    header = data[:size_bytes]
    source, destination = _places(family, header[V2_HEAD.size :])
    if length == family.bytes:
        return Header(2, size_bytes, family.protocol, source, destination)
    first = V2_HEAD.size + family.bytes
    tlvs = parse_tlvs(header[first:])
    _verify(header, first)
    return Header(2, size_bytes, family.protocol, source, destination, tlvs)


def _places(family: Family, block: bytes) -> tuple[HeaderAddress, HeaderAddress]:
    if not family.family:
        paths = block[:UNIX_PATH_BYTES], block[UNIX_PATH_BYTES : 2 * UNIX_PATH_BYTES]
        source, destination = (
            path.partition(b"\0")[0].decode(errors="surrogateescape") for path in paths
        )
        return source, destination
    size = 4 if family.family == AF_INET else 16
    source_port, destination_port = PORTS.unpack_from(block, 2 * size)
    return (
        (inet_ntop(family.family, block[:size]), source_port),
        (inet_ntop(family.family, block[size : 2 * size]), destination_port),
    )


def _verify(header: bytes, first: int) -> None:
    """Hold the header's CRC32C, if it has one, against its bytes with that field set to zero."""
    place = place_of_crc32c(header[first:])
    if place is None:
        return
    begin = first + place
    end = begin + CRC32C_BYTES
    zeroed = header[:begin] + bytes(CRC32C_BYTES) + header[end:]
    if crc32c(zeroed) != int.from_bytes(header[begin:end], "big"):
        raise WireError("the checksum is wrong")


# -- writing --


def build_v1(source: HeaderAddress | None, destination: HeaderAddress | None) -> bytes:
    """Return a line of v1: TCP4 or TCP6, or UNKNOWN where there are no two IP addresses.

    Mixed families become IPv6, the IPv4 address mapped into it (RFC 4291 §2.5.5.2).
    """
    if not isinstance(source, tuple) or not isinstance(destination, tuple):
        return b"PROXY UNKNOWN\r\n"
    family, (a, b) = _packed(source, destination)
    name = "TCP4" if family == AF_INET else "TCP6"
    text = f"PROXY {name} {inet_ntop(family, a)} {inet_ntop(family, b)}"
    return f"{text} {source[1]} {destination[1]}\r\n".encode("ascii")


def build_v2(
    source: HeaderAddress | None,
    destination: HeaderAddress | None,
    *,
    is_udp: bool = False,
    tlvs: Tlvs = (),
    with_checksum: bool = True,
) -> bytes:
    """Return a header of v2: PROXY for two hosts or two paths, LOCAL for anything else.

    LOCAL has no TLVs: a proxy says it about a connection of its own, such as a health check.
    `with_checksum` adds a CRC32C. Raises WireError if it would be longer than `MAX_V2_BYTES`.
    """
    if isinstance(source, tuple) and isinstance(destination, tuple):
        family, (a, b) = _packed(source, destination)
        kind = 0x11 if family == AF_INET else 0x21
        ports = source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
        addresses = a + b + ports
    elif isinstance(source, str) and isinstance(destination, str):
        kind = 0x31
        addresses = _packed_path(source) + _packed_path(destination)
    else:
        return V2_HEAD.pack(SIGNATURE, 0x20 | LOCAL, UNSPECIFIED, 0)
    checksum = ((int(Type.CRC32C), bytes(CRC32C_BYTES)),) if with_checksum else ()
    block = addresses + build_tlvs(checksum + tlvs)
    if V2_HEAD.size + len(block) > MAX_V2_BYTES:
        raise WireError(f"a header of {V2_HEAD.size + len(block)} bytes is too long")
    header = V2_HEAD.pack(SIGNATURE, 0x20 | PROXY, kind + is_udp, len(block)) + block
    if not with_checksum:
        return header
    begin = V2_HEAD.size + len(addresses) + TLV_HEAD.size
    crc = crc32c(header).to_bytes(CRC32C_BYTES, "big")
    return header[:begin] + crc + header[begin + CRC32C_BYTES :]


def _packed(*hosts: Host) -> tuple[int, list[bytes]]:
    """Return the family that all addresses fit in, and the addresses packed for it."""
    texts = [host[0].partition("%")[0] for host in hosts]
    if not any(":" in text for text in texts):
        return AF_INET, [inet_pton(AF_INET, text) for text in texts]
    mapped = [text if ":" in text else f"::ffff:{text}" for text in texts]
    return AF_INET6, [inet_pton(AF_INET6, text) for text in mapped]


def _packed_path(path: str) -> bytes:
    return path.encode(errors="surrogateescape")[:UNIX_PATH_BYTES].ljust(UNIX_PATH_BYTES, b"\0")


ANNOUNCES_NOBODY: Final = {"v1": build_v1(None, None), "v2": build_v2(None, None)}
"""The headers of a proxy's own connections: UNKNOWN and LOCAL."""
