"""The checks of mail servers: smtp, pop3 and imap.

smtp reads the banner and says EHLO, HELO if the server knows no EHLO. pop3 and imap read the
greeting. Each leaves as its RFC asks: QUIT, QUIT, LOGOUT.

Source: RFC 5321 §3.1 and §4.2, RFC 1939 §4, RFC 3501 §7.1.

Tested in tests/wire/checks/test_protocols.py.
"""

import re
from dataclasses import dataclass
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.shown import shown

REPLY_LINE: Final = re.compile(rb"([2-5][0-9]{2})([ -]|$)")
DOMAIN: Final = re.compile(r"[A-Za-z0-9.-]+")
UNKNOWN_COMMAND: Final = frozenset({500, 502, 504})
"""How a server answers EHLO that speaks only HELO (RFC 5321 §4.1.4)."""


@dataclass(frozen=True, slots=True)
class SmtpCheck:
    """Expects 220 at the beginning, and 250 after EHLO."""

    name = "smtp"

    def script(self, talk: Talk, target: Target) -> Script[None]:
        """Read the banner, and introduce this machine."""
        host = target.hostname if DOMAIN.fullmatch(target.hostname) else "localhost"
        talk.expected = "220"
        yield from talk.begins_with_one_of(b"2345")
        code, line = yield from _read_reply(talk)
        talk.goodbye = b"QUIT\r\n"
        if code != 220:
            raise _unexpected(line, "220")
        talk.expected = "250"
        yield f"EHLO {host}\r\n".encode("ascii")
        code, line = yield from _read_reply(talk)
        if code in UNKNOWN_COMMAND:
            yield f"HELO {host}\r\n".encode("ascii")
            code, line = yield from _read_reply(talk)
        if code != 250:
            raise _unexpected(line, "250")


@dataclass(frozen=True, slots=True)
class Pop3Check:
    """Expects +OK."""

    name = "pop3"

    def script(self, talk: Talk, _target: Target) -> Script[None]:
        """Read the greeting."""
        talk.expected = '"+OK"'
        yield from talk.begins_with_one_of(b"+-")
        line = yield from talk.line()
        talk.goodbye = b"QUIT\r\n"
        if line.split(b" ")[0] != b"+OK":
            raise _unexpected(line, talk.expected)


@dataclass(frozen=True, slots=True)
class ImapCheck:
    """Expects OK or PREAUTH."""

    name = "imap"

    def script(self, talk: Talk, _target: Target) -> Script[None]:
        """Read the greeting."""
        talk.expected = '"* OK"'
        yield from talk.prefix(b"* ")
        line = yield from talk.line()
        if line.split(b" ")[1].upper() not in (b"OK", b"PREAUTH"):
            raise _unexpected(line, talk.expected)
        talk.goodbye = b"a LOGOUT\r\n"


def _read_reply(talk: Talk) -> Script[tuple[int, bytes]]:
    """Read a reply of any number of lines; return its code and its last line."""
    first = b""
    while True:
        line = yield from talk.line()
        match = REPLY_LINE.match(line)
        first = first or line[:3]
        if match is None or match[1] != first:
            raise _unexpected(line, talk.expected)
        if match[2] != b"-":
            return int(match[1]), line


def _unexpected(line: bytes, expected: str) -> CheckFailedError:
    return CheckFailedError(f"{shown(line)} came, {expected} was expected")
