"""The ldap check: an anonymous bind, and its result; an unbind is the goodbye.

Source: RFC 4511 §4.1.1, §4.2 and §4.3; the encoding is BER (X.690 §8.1).

Tested in tests/wire/checks/test_protocols.py.
"""

from dataclasses import dataclass
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.errors import WireError
from nginy.wire.shown import shown

BIND_REQUEST: Final = bytes.fromhex("300c020101 6007 020103 0400 8000")
"""Message 1: version 3, no name, simple authentication without a password."""
UNBIND_REQUEST: Final = bytes.fromhex("3005020102 4200")
SEQUENCE: Final = 0x30
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
ENUMERATED: Final = 0x0A
BIND_RESPONSE: Final = 0x61
MAX_MESSAGE_BYTES: Final = 4096  # a bind response has 14 bytes, and a diagnostic message
RESULTS: Final = {
    1: "operations error",
    2: "protocol error",
    8: "stronger authentication required",
    13: "confidentiality required",
    48: "inappropriate authentication",
    49: "invalid credentials",
    51: "busy",
    52: "unavailable",
    53: "unwilling to perform",
    80: "other error",
}


@dataclass(frozen=True, slots=True)
class LdapCheck:
    """Expects success."""

    name = "ldap"

    def script(self, talk: Talk, _target: Target) -> Script[None]:
        """Bind, and read the result."""
        yield BIND_REQUEST
        talk.expected = "a bind response"
        message = yield from _read_message(talk)
        talk.goodbye = UNBIND_REQUEST
        number, rest = _element(message, INTEGER)
        if number != b"\x01":
            raise WireError("the answer has another message's number")
        response, _ = _element(rest, BIND_RESPONSE)
        result, rest = _element(response, ENUMERATED)
        if result == b"\0":
            return
        code = int.from_bytes(result[:4], "big")
        _, rest = _element(rest, OCTET_STRING)  # the matched name
        diagnostic, _ = _element(rest, OCTET_STRING)
        said = f": {shown(diagnostic)}" if diagnostic else ""
        raise CheckFailedError(f"{RESULTS.get(code, 'the bind has failed')} ({code}){said}")


def _read_message(talk: Talk) -> Script[bytes]:
    """Read what is in the outermost sequence."""
    yield from talk.prefix(bytes((SEQUENCE,)))
    _, length = yield from talk.take(2)
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4:
            raise WireError("the length of the answer is not valid")
        length = int.from_bytes((yield from talk.take(size)), "big")
    if length > MAX_MESSAGE_BYTES:
        raise WireError("the answer is too long")
    return (yield from talk.take(length))


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return the content of the element at the beginning, and what follows it. Raises WireError."""
    if len(data) < 2 or data[0] != tag:
        raise WireError("the answer is not a bind response")
    start, length = 2, data[1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise WireError("an element of the answer is longer than the answer")
    return data[start : start + length], data[start + length :]
