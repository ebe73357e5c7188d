"""The http check: a request, the status of the answer, and what its body begins with.

Without an expectation of the body the check ends as soon as the status is known. With one it reads
the head and as much of the body as decides, whether its end is a length, a last chunk or the end of
the connection. `nginy/wire/http.py` has the request and the status line.

The request asks the server to close, and so needs no goodbye.

Source: RFC 9112 §6 and §7.1.
"""

import re
from dataclasses import dataclass
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.errors import WireError
from nginy.wire.expect import Expect, Verdict
from nginy.wire.http import INTERIM, build_request, format_statuses, parse_status
from nginy.wire.shown import what_came

MAX_HEADER_BYTES: Final = 16384  # a content security policy may have some thousand
CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;|\Z)")
LENGTH: Final = re.compile(rb"[0-9]{1,15}")
WITHOUT_BODY: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """Asks for `path`; `host` is the backend's address if it is empty."""

    path: str = "/"
    host: str = ""
    statuses: frozenset[int] = frozenset(range(200, 400))
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    expect: Expect | None = None
    name: str = ""
    """What reasons begin with."""

    def script(self, talk: Talk, target: Target) -> Script[None]:
        """Ask, and read as much of the answer as decides."""
        expected = format_statuses(self.statuses)
        talk.expected = f"status {expected}"
        host = self.host or ("localhost" if target.address.is_unix else str(target.address))
        yield build_request(
            self.path, host, method=self.method, headers=self.headers, body=self.body
        )
        status = yield from _status(talk)
        if status not in self.statuses:
            raise CheckFailedError(f"status {status} came, {expected} was expected")
        if self.expect is not None:
            fields = yield from _head(talk)
            is_empty = self.method == "HEAD" or status in WITHOUT_BODY
            talk.expected = f"a body with {self.expect}"
            yield from _judge_body(talk, self.expect, fields, is_empty=is_empty)


def _status(talk: Talk) -> Script[int]:
    """Wait for the status of the final answer, and leave all unread."""
    while True:
        received = bytes(talk.received)
        if not received:
            yield from talk.more()
            continue
        try:
            status = parse_status(received, is_eof=talk.is_eof)
        except WireError as error:
            raise CheckFailedError(f"{error}: {what_came(received, '')}") from None
        if status is not None:
            return status
        yield from talk.more()


def _head(talk: Talk) -> Script[dict[bytes, bytes]]:
    """Read the head of the final answer, and return its fields by lower-case name."""
    while True:
        status_line = yield from talk.line(MAX_HEADER_BYTES)
        fields: dict[bytes, bytes] = {}
        while line := (yield from talk.line(MAX_HEADER_BYTES)):
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip(b" \t")
        if int(status_line[9:12]) not in INTERIM:
            return fields


def _judge_body(
    talk: Talk, expect: Expect, fields: dict[bytes, bytes], *, is_empty: bool
) -> Script[None]:
    """Read the body until it meets the expectation or cannot meet it any more."""
    body = bytearray()
    is_chunked = fields.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
    left = 0 if is_empty else _length(fields)
    if is_chunked and not is_empty:
        left = yield from _chunk_size(talk)
    while True:
        is_complete = left == 0 or (left is None and talk.is_eof and not talk.received)
        verdict = expect.judge(bytes(body), is_complete=is_complete)
        if verdict is Verdict.YES:
            return
        came = what_came(body, str(expect))
        if verdict is Verdict.NO:
            raise CheckFailedError(f"the body is not as expected: {came}")
        if talk.is_eof and not talk.received:
            raise CheckFailedError(f"the body is incomplete: {came}")
        if not talk.received:
            yield from talk.more()
        piece = bytes(talk.received[:left])
        del talk.received[: len(piece)]
        body += piece
        if left is not None:
            left -= len(piece)
        if is_chunked and not left:
            if (yield from talk.line()):
                raise WireError("a chunk of the body is longer than it says")
            left = yield from _chunk_size(talk)


def _length(fields: dict[bytes, bytes]) -> int | None:
    """Return the length of a body, None if it ends with the connection."""
    text = fields.get(b"content-length")
    if text is None:
        return None
    if not LENGTH.fullmatch(text):
        raise WireError("the answer has no valid Content-Length")
    return int(text)


def _chunk_size(talk: Talk) -> Script[int]:
    """Read the line ahead of a chunk; a size of 0 is the end."""
    match = CHUNK_SIZE.match((yield from talk.line()))
    if match is None:
        raise WireError("a chunk of the body has no valid size")
    return int(match[1], 16)
