"""The mysql check: the server's greeting; with a user a login; with a role, whether it takes
writes.

Without a user the check only reads the greeting. MySQL counts such clients, and refuses their host
after max_connect_errors of them without a login in between; so a user is the better way, one
without rights and, unless there is a password file, without a password. COM_QUIT is the goodbye
after a login.

Source: MySQL Internals, "Connection Phase": Protocol::HandshakeV10, HandshakeResponse41,
AuthSwitchRequest, "Native Authentication", "Caching SHA-2", and "Command Phase": COM_QUERY, "Text
Resultset"; MariaDB, "Connecting".

Tested in tests/wire/checks/test_protocols.py.
"""

import struct
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.errors import WireError
from nginy.wire.shown import shown

CLIENT_LONG_PASSWORD: Final = 0x1
CLIENT_PROTOCOL_41: Final = 0x200
CLIENT_SECURE_CONNECTION: Final = 0x8000
CLIENT_PLUGIN_AUTH: Final = 0x80000
CAPABILITIES: Final = (
    CLIENT_LONG_PASSWORD | CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH
)
UTF8: Final = 33
MAX_PACKET_BYTES: Final = 1 << 24
MAX_ANSWER_BYTES: Final = 4096  # greetings and errors have some 100
OK, MORE_DATA, AUTH_SWITCH, ERR = 0x00, 0x01, 0xFE, 0xFF
FAST_AUTH_OK: Final = b"\x01\x03"
EOF: Final = 0xFE
COM_QUERY: Final = b"\x03SELECT @@global.read_only"
WRITABLE: Final = (b"0", b"OFF")
COM_QUIT: Final = b"\x01\0\0\0\x01"
NATIVE: Final = b"mysql_native_password"
CACHING: Final = b"caching_sha2_password"


@dataclass(frozen=True, slots=True)
class MysqlCheck:
    """Logs in as `user` with `password`, if there is a user, and expects `role` if there is one.

    A master takes writes; a slave is read-only.
    """

    user: str = ""
    password: bytes = field(default=b"", repr=False)
    role: str = ""
    name = "mysql"

    def script(self, talk: Talk, _target: Target) -> Script[None]:
        """Read the greeting, and log in."""
        talk.expected = "a greeting"
        _, packet = yield from _read_packet(talk)
        salt, plugin = parse_greeting(packet)
        if self.user:
            yield from self._log_in(talk, salt, plugin)
        if self.user and self.role:
            yield _packet(0, COM_QUERY)
            value = yield from _read_value(talk)
            role = "master" if value in WRITABLE else "slave"
            if role != self.role:
                text = f"role is {role} (read_only is {shown(value)}), expected {self.role}"
                raise CheckFailedError(text)

    def _log_in(self, talk: Talk, salt: bytes, plugin: bytes) -> Script[None]:
        talk.expected = "the end of the login"
        yield self._response(salt, plugin)
        while True:
            number, packet = yield from _read_packet(talk)
            if packet[0] == OK:
                talk.goodbye = COM_QUIT
                return
            if packet[0] == AUTH_SWITCH:
                plugin, _, salt = packet[1:].partition(b"\0")
                yield _packet(number + 1, scramble(plugin, self.password, salt.rstrip(b"\0")))
            elif packet != FAST_AUTH_OK:
                raise CheckFailedError("the server wants the password itself, which needs TLS")

    def _response(self, salt: bytes, plugin: bytes) -> bytes:
        answer = scramble(plugin, self.password, salt) if plugin in (NATIVE, CACHING) else b""
        head = struct.pack("<IIB23x", CAPABILITIES, MAX_PACKET_BYTES, UTF8)
        user = self.user.encode() + b"\0"
        rest = bytes((len(answer),)) + answer + plugin + b"\0"
        return _packet(1, head + user + rest)


def parse_greeting(packet: bytes) -> tuple[bytes, bytes]:
    """Return the salt and the name of the authentication plugin. Raises WireError."""
    version, separator, rest = packet[1:].partition(b"\0")
    if packet[0] != 10 or not separator or not version:
        raise WireError(f"{shown(packet)} came, a greeting was expected")
    # thread 4, salt 8, filler 1, capabilities 2, charset 1, status 2, capabilities 2, length 1,
    # reserved 10, salt 12, filler 1, plugin
    if len(rest) < 44:
        raise WireError("the server is older than MySQL 4.1")
    return rest[4:12] + rest[31:43], rest[44:].split(b"\0")[0] or NATIVE


def scramble(plugin: bytes, password: bytes, salt: bytes) -> bytes:
    """Return the proof that we know the password. Raises WireError for an unknown plugin."""
    if not password:
        return b""
    if plugin == NATIVE:
        once = sha1(password, usedforsecurity=False).digest()
        twice = sha1(once, usedforsecurity=False).digest()
        mask = sha1(salt + twice, usedforsecurity=False).digest()
    elif plugin == CACHING:
        once = sha256(password).digest()
        mask = sha256(sha256(once).digest() + salt).digest()
    else:
        raise WireError(f"the server wants the plugin {shown(plugin)}, which nginy does not have")
    return bytes(a ^ b for a, b in zip(once, mask, strict=True))


def _read_packet(talk: Talk) -> Script[tuple[int, bytes]]:
    """Read one packet, its number and its payload; raise CheckFailedError if it is an error."""
    head = yield from talk.peek(4)
    length = int.from_bytes(head[:3], "little")
    if not 0 < length <= MAX_ANSWER_BYTES:
        raise talk.unexpected()
    yield from talk.take(4)
    packet = yield from talk.take(length)
    if packet[0] == ERR:
        raise CheckFailedError(_error(packet))
    return head[3], packet


def _read_value(talk: Talk) -> Script[bytes]:
    """Read the answer to a query, which is one row of one column."""
    talk.expected = "the value of read_only"
    packets = []
    for _ in range(5):  # how many columns, the column, an end, the row, an end
        _, packet = yield from _read_packet(talk)
        packets.append(packet)
    count, _, end, row, last = packets
    if count != b"\x01" or (end[0], last[0]) != (EOF, EOF):
        raise WireError("the answer to a query is not one value")
    return row[1 : 1 + row[0]]


def _packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes((number & 0xFF,)) + payload


def _error(packet: bytes) -> str:
    """Return number and text of an error; before the login it has no SQL state."""
    text = packet[9:] if packet[3:4] == b"#" else packet[3:]
    return f"error {int.from_bytes(packet[1:3], 'little')}: {shown(text)}"
