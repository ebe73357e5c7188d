"""What a certificate says about itself: its names, and from when until when it is valid.

The standard library reads a certificate only as a part of a handshake, and nginy must know before
the first one. `parse` takes just these few fields; OpenSSL decides whether a signature is right and
an issuer trusted. `config/pem.py` reads the files.

The one idea: DER is a tree of tag, length and value, so a reader of ten lines walks it, and skips
everything else by its length.

Source: X.690 §8 (DER), RFC 5280 §4.1 (certificates), §4.2.1.6 (subject alternative name).
"""

import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from ipaddress import ip_address
from typing import Final

from nginy.wire.errors import WireError

SEQUENCE: Final = 0x30
UTC_TIME: Final = 0x17
DNS_NAME: Final = 0x82
IP_ADDRESS: Final = 0x87
VERSION: Final = 0xA0
EXTENSIONS: Final = 0xA3

COMMON_NAME: Final = bytes.fromhex("550403")
ALTERNATIVE_NAME: Final = bytes.fromhex("551d11")

CENTURY: Final = 50
"""A UTCTime of this year and later is of the 20th century (RFC 5280 §4.1.2.5.1)."""

BEGIN: Final = "-----BEGIN CERTIFICATE-----"
END: Final = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The fields of a certificate that nginy asks for."""

    names: tuple[str, ...]
    """Host names, also `*.example.com`, and IP addresses: of the subject alternative name, or else
    the common name of the subject."""
    not_before_s: float
    not_after_s: float
    subject: str
    """The common name of the subject, "" without one."""


def first_of_pem(content: bytes) -> Certificate:
    """Return the first certificate of a PEM file, which is the server's own; raise WireError."""
    text = content.decode("ascii", "replace")
    start = text.find(BEGIN)
    end = text.find(END, start)
    if start < 0 or end < 0:
        raise WireError("it has no certificate")
    try:
        der = ssl.PEM_cert_to_DER_cert(text[start : end + len(END)])
    except ValueError:
        raise WireError("its first certificate is not base64") from None
    return parse(der)


def parse(der: bytes) -> Certificate:
    """Return what a certificate says; raise WireError if it is not one."""
    try:
        fields = list(_parts(_only(_only(der))))
        if fields[0][0] == VERSION:
            del fields[0]
        # serial number, signature, issuer, validity, subject, public key
        not_before_s, not_after_s = (_seconds(tag, value) for tag, value in _parts(fields[3][1]))
        subject = _common_name(fields[4][1])
        names: Sequence[str] = ()
        for tag, value in fields[6:]:
            if tag == EXTENSIONS:
                names = _alternative_names(value)
    except (IndexError, ValueError, OverflowError):
        raise WireError("its first certificate is damaged") from None
    return Certificate(tuple(names or filter(None, [subject])), not_before_s, not_after_s, subject)


def _parts(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and value of each element; raise IndexError where the block is too short."""
    place = 0
    while place < len(block):
        tag, length = block[place], block[place + 1]
        place += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(block[place : place + size], "big")
            place += size
        if place + length > len(block):
            raise IndexError
        yield tag, block[place : place + length]
        place += length


def _only(block: bytes) -> bytes:
    """Return the value of the first element, a sequence."""
    tag, value = next(_parts(block), (0, b""))
    if tag != SEQUENCE:
        raise IndexError
    return value


def _seconds(tag: int, value: bytes) -> float:
    text = value.decode("ascii")
    if tag == UTC_TIME:
        text = ("19" if int(text[:2]) >= CENTURY else "20") + text
    moment = datetime.strptime(text, "%Y%m%d%H%M%SZ")
    return moment.replace(tzinfo=timezone.utc).timestamp()


def _common_name(subject: bytes) -> str:
    for _, relative in _parts(subject):
        for _, attribute in _parts(relative):
            (_, kind), (_, value) = list(_parts(attribute))[:2]
            if kind == COMMON_NAME:
                return value.decode("utf-8", "replace")
    return ""


def _alternative_names(extensions: bytes) -> list[str]:
    names = []
    for _, extension in _parts(_only(extensions)):
        parts = list(_parts(extension))
        if parts[0][1] != ALTERNATIVE_NAME:
            continue
        for tag, value in _parts(_only(parts[-1][1])):
            if tag == DNS_NAME:
                names.append(value.decode("ascii").lower())
            elif tag == IP_ADDRESS:
                names.append(str(ip_address(value)))
    return names
