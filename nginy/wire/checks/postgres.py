"""The postgres check: a startup message, and whether the server takes sessions.

Without a password it asks for no login: a server that wants one serves, as for pg_isready. If it
wants none, the check waits until the session is ready, so a missing database fails. A server that
is starting up, shutting down or out of connections says so by a code, which is in the reason.

With a password it logs in (SCRAM-SHA-256), and with a role it asks whether the server is in
recovery: then it is a standby and takes no writes.

The goodbye is Terminate once the session is ours. Before that, a silent end is more polite:
PostgreSQL logs nothing for it, and a complaint for a Terminate in place of a password.

Source: PostgreSQL's manual, "Frontend/Backend Protocol" (startup, SASL, simple query, message
formats) and "PostgreSQL Error Codes".

Tested in tests/wire/checks/test_protocols.py.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

from nginy.wire.checks import scram
from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.errors import WireError
from nginy.wire.shown import shown

VERSION_3: Final = 3 << 16
TERMINATE: Final = b"X\0\0\0\x04"
AUTHENTICATION: Final = b"R"
ERROR: Final = b"E"
READY_FOR_QUERY: Final = b"Z"
DATA_ROW: Final = b"D"
KINDS: Final = b"RENvSKZTDC"
"""What comes: authentication, errors, notices, parameters, the end; and what is around a row."""
AUTHENTICATION_OK: Final = b"\0\0\0\0"
SASL, SASL_CONTINUE, SASL_FINAL = b"\0\0\0\x0a", b"\0\0\0\x0b", b"\0\0\0\x0c"
SCRAM: Final = b"SCRAM-SHA-256"
MAX_MESSAGE_BYTES: Final = 16384  # real ones have some 100; an error may carry a long text
LOGIN_REFUSED: Final = b"28"
"""The class of error codes that blame our login, and not the server."""


@dataclass(frozen=True, slots=True)
class PostgresCheck:
    """Begins a session as `user` with `database`; an empty one stands for `user`.

    It logs in if there is a `password`, and expects `role` if it is set.
    """

    user: str = "nginy"
    database: str = ""
    password: bytes = field(default=b"", repr=False)
    role: str = ""
    name = "postgres"

    def script(self, talk: Talk, target: Target) -> Script[None]:
        """Begin a session, and ask for the role; read only as far as the settings need it."""
        yield self._startup()
        talk.expected = "the beginning of a session"
        is_ready = yield from self._log_in(talk, target)
        if not self.role:
            return
        if not is_ready:
            raise CheckFailedError("the server wants a password before it tells its role")
        yield _message(b"Q", b"SELECT pg_is_in_recovery()\0")
        talk.expected = "the answer to a query"
        kind, body = yield from _read_message(talk)
        while kind != DATA_ROW:
            if kind == READY_FOR_QUERY:
                raise WireError("the answer to a query has no row")
            kind, body = yield from _read_message(talk)
        role = "slave" if body[6:7] == b"t" else "master"
        if role != self.role:
            raise CheckFailedError(f"role is {role}, expected {self.role}")

    def _log_in(self, talk: Talk, target: Target) -> Script[bool]:
        """Read up to a session that is ready; return False if it wants a password, without one."""
        while True:
            try:
                kind, body = yield from _read_message(talk)
            except LoginRefusedError:
                if self.password or self.role:
                    raise
                return False
            if kind == READY_FOR_QUERY:
                return True
            if kind == AUTHENTICATION and body == AUTHENTICATION_OK:
                talk.goodbye = TERMINATE
            elif kind == AUTHENTICATION:
                if not self.password:
                    return False
                yield from self._prove(talk, target, body)

    def _prove(self, talk: Talk, target: Target, body: bytes) -> Script[None]:
        """Show that we know the password, and see that the server knows it."""
        if body[:4] != SASL or SCRAM not in body[4:].split(b"\0"):
            raise CheckFailedError("the server wants a login other than SCRAM-SHA-256")
        first = scram.first(target.token(12).hex().encode("ascii"))
        opening = scram.NO_BINDING + first
        yield _message(b"p", SCRAM + b"\0" + struct.pack(">I", len(opening)) + opening)
        server_first = yield from _read_sasl(talk, SASL_CONTINUE)
        last, theirs = scram.answer(first, server_first, self.password)
        yield _message(b"p", last)
        if (yield from _read_sasl(talk, SASL_FINAL)) != theirs:
            raise CheckFailedError("the server does not know the password itself")

    def _startup(self) -> bytes:
        pairs = {"user": self.user, "database": self.database or self.user}
        pairs["application_name"] = "nginy"
        texts = b"".join(f"{key}\0{value}\0".encode() for key, value in pairs.items())
        return struct.pack(">II", len(texts) + 9, VERSION_3) + texts + b"\0"


class LoginRefusedError(CheckFailedError):
    """The server does not let us in."""


def _read_sasl(talk: Talk, step: bytes) -> Script[bytes]:
    """Read the server's text in one step of the login."""
    kind, body = yield from _read_message(talk)
    if kind != AUTHENTICATION or body[:4] != step:
        raise WireError("the server's part of the login is malformed")
    return body[4:]


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def _read_message(talk: Talk) -> Script[tuple[bytes, bytes]]:
    """Read one message: its kind and its body; raise CheckFailedError if it is an error."""
    yield from talk.begins_with_one_of(KINDS)
    head = yield from talk.peek(5)
    (length,) = struct.unpack(">I", head[1:])
    if not 4 <= length <= MAX_MESSAGE_BYTES:
        raise talk.unexpected()
    yield from talk.take(5)
    body = yield from talk.take(length - 4)
    if head[:1] == ERROR:
        code, text = parse_error(body)
        is_login = code.startswith(LOGIN_REFUSED)
        raise (LoginRefusedError if is_login else CheckFailedError)(f"{_code(code)} {_text(text)}")
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
