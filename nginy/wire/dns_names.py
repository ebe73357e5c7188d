"""Domain names inside DNS messages: text to wire form, compressed wire form to canonical form.

Messages made of such names are in `dns`; files that map names to addresses are in `hosts`.

The one idea: keep a name as its *canonical wire form*, uncompressed and in lower case
(`b"\\x03www\\x07example\\x03com\\x00"`). Two names are the same if and only if these bytes are,
whatever odd bytes a label holds; a dot inside a label cannot pass for a border between two. Length
octets are at most 63, below every letter, so `bytes.lower()` leaves them alone.

Compression (RFC 1035 §4.1.4) is where attackers strike: pointers that loop, point forward or out of
the message, and names built of many pointers so that decoding them takes quadratic time.
`NameReader` follows only pointers that go strictly backward, and remembers every suffix it has
decoded, so a whole message costs time in proportion to its length.

Read next: `dns`.
"""

import re
from typing import Final

from nginy.wire.errors import WireError

MAX_NAME_BYTES: Final = 255  # RFC 1035 §2.3.4, length octets and the root's zero included
MAX_LABEL_BYTES: Final = 63  # the same; the two high bits mark a pointer
POINTER: Final = 0xC0  # both high bits set: the other six and the next octet are an offset
HEADER_BYTES: Final = 12  # RFC 1035 §4.1.1; no name starts within the header
ROOT: Final = b"\0"

# Letters, digits and hyphens (RFC 1123 §2.1), and the underscore of SRV names (RFC 2782).
LABEL: Final = re.compile(rb"[a-z0-9_-]{1,63}")
PLAIN_BYTES: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


def encode_name(name: str) -> bytes:
    """Return the canonical wire form of a host name; a dot at its end is allowed.

    It refuses names beyond ASCII; they have an `xn--` form.
    Raises WireError. Source: RFC 1035 §3.1.
    """
    try:
        labels = name.removesuffix(".").lower().encode("ascii").split(b".")
    except UnicodeEncodeError:
        raise WireError(
            "a host name must be ASCII (an international name in its xn-- form)"
        ) from None
    for label in labels:
        if LABEL.fullmatch(label) is None:
            raise WireError("a host name is made of labels of 1 to 63 letters, digits, - and _")
    wire = b"".join(bytes((len(label),)) + label for label in labels) + ROOT
    if len(wire) > MAX_NAME_BYTES:
        raise WireError(f"a host name has at most {MAX_NAME_BYTES - 2} characters")
    return wire


def is_host_name(name: str) -> bool:
    """Return whether `encode_name` takes the name."""
    try:
        encode_name(name)
    except WireError:
        return False
    return True


def name_text(wire: bytes) -> str:
    r"""Return a canonical wire form as text without a final dot; the root alone is ".".

    It writes bytes that `encode_name` would not take as \DDD (RFC 1035 §5.1), so the text is
    printable and `encode_name` refuses to send it out again.
    """
    labels: list[str] = []
    offset = 0
    while wire[offset]:
        end = offset + 1 + wire[offset]
        labels.append("".join(map(_byte_text, wire[offset + 1 : end])))
        offset = end
    return ".".join(labels) or "."


def _byte_text(byte: int) -> str:
    return chr(byte) if byte in PLAIN_BYTES else f"\\{byte:03d}"


class NameReader:
    """Reads the compressed names of one message; the message's parser makes it and drops it."""

    __slots__ = ("_message", "_suffixes")

    def __init__(self, message: bytes) -> None:
        self._message = message
        # Where a label begins -> the canonical form from there on.
        self._suffixes: dict[int, bytes] = {}

    def read(self, start: int) -> tuple[bytes, int]:
        """Return the canonical form of the name at `start`, and the offset that follows it there.

        Raises WireError if the name leaves the message, is longer than 255 bytes, holds a reserved
        label type, or has a pointer that does not go backward to before the part that held it.
        """
        labels: list[tuple[int, bytes]] = []
        offset = segment = start
        end = 0  # set by the first pointer or the root: where the name ends in place
        # Only names behind a pointer need the cache: labels in place are read once anyway.
        while not (end and offset in self._suffixes):
            length = self._byte(offset)
            if length >= POINTER:
                end = end or offset + 2
                offset = segment = self._pointer(offset, segment)
            elif length == 0:
                end = end or offset + 1
                self._suffixes[offset] = ROOT
            else:
                labels.append((offset, self._label(offset, length)))
                offset += 1 + length
        name = self._suffixes[offset]
        for offset, label in reversed(labels):
            name = label + name
            self._suffixes[offset] = name
        if len(name) > MAX_NAME_BYTES:
            raise WireError("a name is too long")
        return name, end

    def _byte(self, offset: int) -> int:
        if offset >= len(self._message):
            raise WireError("a name runs out of the message")
        return self._message[offset]

    def _pointer(self, offset: int, segment: int) -> int:
        target = (self._byte(offset) & ~POINTER) << 8 | self._byte(offset + 1)
        if not HEADER_BYTES <= target < segment:
            raise WireError("a compression pointer does not go backward")
        return target

    def _label(self, offset: int, length: int) -> bytes:
        if length > MAX_LABEL_BYTES:
            raise WireError("a label has a reserved type")
        end = offset + 1 + length
        if end > len(self._message):
            raise WireError("a name runs out of the message")
        return self._message[offset:end].lower()
