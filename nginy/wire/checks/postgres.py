"""The postgres check: a startup message, and whether the server takes sessions.

It asks for no password: a server that wants one serves, as for pg_isready. If it wants none, the
check waits until the session is ready, so a missing database fails. A server that is starting up,
shutting down or out of connections says so by a code, which is in the reason.

The goodbye is Terminate once the session is ours. Before that a silent end is the polite one:
PostgreSQL logs nothing for it, and a complaint for a Terminate in place of a password.

Source: PostgreSQL's manual, "Frontend/Backend Protocol" (startup, message formats) and
"PostgreSQL Error Codes".

Tested in tests/wire/checks/test_protocols.py.
"""

import struct
from dataclasses import dataclass
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.errors import WireError
from nginy.wire.shown import shown

VERSION_3: Final = 3 << 16
TERMINATE: Final = b"X\0\0\0\x04"
AUTHENTICATION: Final = b"R"
ERROR: Final = b"E"
READY_FOR_QUERY: Final = b"Z"
KINDS: Final = b"RENvSKZ"
"""The messages of a startup: authentication, errors, notices, parameters, the end."""
MAX_MESSAGE_BYTES: Final = 16384  # real ones have some 100; an error may carry a long text
LOGIN_REFUSED: Final = b"28"
"""The class of codes that say who we are is the trouble, and not the server."""


@dataclass(frozen=True, slots=True)
class PostgresCheck:
    """Begins a session as `user` with `database`, which is `user` if it is empty."""

    user: str = "nginy"
    database: str = ""
    name = "postgres"

    def script(self, talk: Talk, _target: Target) -> Script[None]:
        """Begin a session, and read as far as it goes without a password."""
        yield self._startup()
        talk.expected = "the beginning of a session"
        while True:
            kind, body = yield from _read_message(talk)
            if kind == ERROR:
                code, text = parse_error(body)
                if code.startswith(LOGIN_REFUSED):
                    return
                raise CheckFailedError(f"{_code(code)} {_text(text)}")
            if kind == AUTHENTICATION and body != b"\0\0\0\0":
                return
            if kind == AUTHENTICATION:
                talk.goodbye = TERMINATE
            if kind == READY_FOR_QUERY:
                return

    def _startup(self) -> bytes:
        pairs = {"user": self.user, "database": self.database or self.user}
        pairs["application_name"] = "nginy"
        texts = b"".join(f"{key}\0{value}\0".encode() for key, value in pairs.items())
        return struct.pack(">II", len(texts) + 9, VERSION_3) + texts + b"\0"


def _read_message(talk: Talk) -> Script[tuple[bytes, bytes]]:
    """Read one message: its kind and its body."""
    yield from talk.begins_with_one_of(KINDS)
    head = yield from talk.take(5)
    (length,) = struct.unpack(">I", head[1:])
    if not 4 <= length <= MAX_MESSAGE_BYTES:
        raise WireError("a message of the server has no valid length")
    body = yield from talk.take(length - 4)
    return head[:1], body


def parse_error(body: bytes) -> tuple[bytes, bytes]:
    """Return code and message of an ErrorResponse; b"" for what is missing."""
    fields = {field[:1]: field[1:] for field in body.split(b"\0") if field}
    return fields.get(b"C", b""), fields.get(b"M", b"")


def _code(code: bytes) -> str:
    return code.decode("ascii") if code.isalnum() and code.isascii() else shown(code)


def _text(text: bytes) -> str:
    """Return the server's message, in quotes unless it is plain."""
    plain = text.isascii() and text.decode("ascii").isprintable() and len(text) <= 200
    return text.decode("ascii") if plain and text else shown(text)
