"""The mqtt check: CONNECT, and what the broker says to it; DISCONNECT is the goodbye.

Each check has a client identifier of its own, so that two checks never throw each other out, and
asks for a clean session, so that the broker keeps nothing.

Source: MQTT 3.1.1 §3.1, §3.2 and §3.14.

Tested in tests/wire/checks/test_protocols.py.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target

CONNACK: Final = b"\x20\x02"
DISCONNECT: Final = b"\xe0\x00"
CLEAN_SESSION: Final = 0x02
HAS_PASSWORD: Final = 0x40
HAS_USER: Final = 0x80
KEEP_ALIVE_S: Final = 60  # any will do: the check leaves at once
RETURN_CODES: Final = {
    1: "the protocol version is unacceptable",
    2: "the client identifier is rejected",
    3: "the server is unavailable",
    4: "bad user name or password",
    5: "not authorized",
}


@dataclass(frozen=True, slots=True)
class MqttCheck:
    """Connects as `user` with `password`, or as nobody if there is no user."""

    user: str = ""
    password: bytes = field(default=b"", repr=False)
    name = "mqtt"

    def script(self, talk: Talk, target: Target) -> Script[None]:
        """Connect, and read the return code."""
        yield self._connect(b"nginy-" + target.token(6).hex().encode("ascii"))
        talk.expected = "CONNACK"
        yield from talk.prefix(CONNACK)
        *_, code = yield from talk.take(4)
        if code:
            words = RETURN_CODES.get(code, "an unknown return code")
            raise CheckFailedError(f"{words} ({code})")
        talk.goodbye = DISCONNECT

    def _connect(self, client: bytes) -> bytes:
        flags, texts = CLEAN_SESSION, [client]
        if self.user:
            flags |= HAS_USER
            texts.append(self.user.encode())
        if self.user and self.password:
            flags |= HAS_PASSWORD
            texts.append(self.password)
        body = b"\0\x04MQTT" + struct.pack(">BBH", 4, flags, KEEP_ALIVE_S)
        body += b"".join(struct.pack(">H", len(text)) + text for text in texts)
        return b"\x10" + _length(len(body)) + body


def _length(value: int) -> bytes:
    """Return a remaining length: seven bits a byte, the low ones first (§2.2.3)."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
