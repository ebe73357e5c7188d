"""The redis check: PING, and with a role, whether the server is master or slave.

A server that loads its data or has lost its master answers PING with an error, and fails. AUTH
comes first if there is a password; QUIT is the goodbye.

Source: redis.io, "Redis serialization protocol specification", "AUTH" and "ROLE".

Tested in tests/wire/checks/test_protocols.py.
"""

from dataclasses import dataclass, field

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.shown import shown


@dataclass(frozen=True, slots=True)
class RedisCheck:
    """Expects `role` unless it is empty; logs in if there is a `password`, as `user` if set."""

    role: str = ""
    user: str = ""
    password: bytes = field(default=b"", repr=False)
    name = "redis"

    def script(self, talk: Talk, _target: Target) -> Script[None]:
        """Log in, ping, and ask for the role."""
        if self.password:
            user = (self.user.encode(),) if self.user else ()
            yield command(b"AUTH", *user, self.password)
            yield from _expect(talk, b"+OK")
        talk.goodbye = command(b"QUIT")
        yield command(b"PING")
        yield from _expect(talk, b"+PONG")
        if self.role:
            yield command(b"ROLE")
            role = yield from _read_role(talk)
            if role != self.role.encode():
                raise CheckFailedError(f"role is {_word(role)}, expected {self.role}")


def command(*words: bytes) -> bytes:
    """Return a command as an array of bulk strings, which may hold any bytes."""
    bulk = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%s" % (len(words), bulk)


def _expect(talk: Talk, wanted: bytes) -> Script[None]:
    """Read a simple string."""
    talk.expected = shown(wanted)
    # An error is a line, too, and worth reading to its end.
    if (yield from talk.peek(1)) != b"-":
        yield from talk.prefix(wanted)
    line = yield from talk.line()
    if line != wanted:
        raise CheckFailedError(f"{shown(line)} came, {talk.expected} was expected")


def _read_role(talk: Talk) -> Script[bytes]:
    """Read the answer to ROLE, an array, up to its first item, a bulk string."""
    talk.expected = "a role"
    for kind in (b"*", b"$"):
        line = yield from talk.line()
        if line[:1] != kind or not line[1:].isdigit():
            raise CheckFailedError(f"{shown(line)} came, a role was expected")
    return (yield from talk.line())


def _word(role: bytes) -> str:
    """Return a role for a message."""
    return role.decode() if role.isalpha() else shown(role)
