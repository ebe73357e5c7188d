"""Answers: a status, a body and its type, and the bytes they make.

Every answer forbids what a browser might do with it: keep it, guess another type, load anything, or
show it inside another site's page. JSON is made in slices, since a list may be long: `encode` is a
generator that yields between them and returns the text. Its caller takes the values first, so that
the answer shows one moment.

Source: RFC 9110 §8 and §15, RFC 9112 §4 and §6.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar

from nginy.wire.request import METHODS, RequestError

T = TypeVar("T")

Facts: TypeAlias = dict[str, Any]
"""Members by name, as in JSON."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Work that waits for something, and looks again after this time."""

    duration_ms: int


@dataclass(frozen=True, slots=True)
class Question:
    """What a supervisor asks its workers."""

    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the question as text; equal questions have equal texts."""
        return json.dumps({"kind": self.kind, "details": self.details}, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Replies:
    """What workers have answered."""

    facts: Sequence[Facts] = ()
    asked: int = 0
    late: Sequence[str] = ()
    """Who has not answered in time."""

    def stamp(self) -> dict[str, object]:
        """Return how many were asked, how many have answered, and who has not."""
        return {"asked": self.asked, "answered": len(self.facts), "late": list(self.late)}


Slices: TypeAlias = Generator[Pause | Question | None, Replies | None, T]
"""Work that yields after each slice, some 0.5 ms at most, and returns what it was for.

It yields None to go on in the next turn, a `Pause` to go on later, or a `Question`, whose replies
are sent to it."""

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
ROWS_A_SLICE: Final = 100
"""Rows made into JSON at a time: 0.3 to 0.4 ms."""

HEADERS: Final = (
    "Cache-Control: no-store\r\n"
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets."""

    status: int
    body: bytes
    content_type: str = JSON
    fields: tuple[str, ...] = ()
    """More header lines."""

    def to_bytes(self, *, has_body: bool = True, keeps_alive: bool = True) -> bytes:
        """Return the message; one without a body is the answer to HEAD."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            f"Connection: {'keep-alive' if keeps_alive else 'close'}",
            *self.fields,
        ]
        head = "".join(f"{line}\r\n" for line in lines) + HEADERS + "\r\n"
        return head.encode("ascii") + (self.body if has_body else b"")


def refusal(error: RequestError, hint: str = "") -> Answer:
    """Return the answer that refuses a request."""
    told = {"code": error.code, "message": str(error), "hint": hint or None}
    fields: tuple[str, ...] = ()
    if error.status == HTTPStatus.UNAUTHORIZED:
        fields = ("WWW-Authenticate: Bearer",)
    elif error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields = (f"Allow: {hint or ', '.join(METHODS)}",)
    elif error.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        fields = ("Retry-After: 1",)
    return Answer(error.status, dumps({"error": told}).encode() + b"\n", JSON, fields)


def dumps(value: object, indent: int | None = None) -> str:
    """Return a value as JSON in ASCII, so that no text from outside can break anything."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, indent=indent, separators=separators)


def encode(members: Mapping[str, object], *, is_pretty: bool) -> Slices[bytes]:
    """Return an object as JSON, lists by slices."""
    indent = 2 if is_pretty else None
    end, colon = ("\n", ": ") if is_pretty else ("", ":")
    parts = []
    for name, value in members.items():
        if isinstance(value, list) and value:
            rows: list[str] = []
            for row in value:
                rows.append(_shifted(dumps(row, indent), 4, is_pretty))
                if len(rows) % ROWS_A_SLICE == 0:
                    yield None
            before, after = ("    ", "\n  ") if is_pretty else ("", "")
            joined = f",{end}".join(f"{before}{row}" for row in rows)
            text = f"[{end}{joined}{after}]"
        else:
            text = _shifted(dumps(value, indent), 2, is_pretty)
        parts.append(f"{'  ' if is_pretty else ''}{dumps(name)}{colon}{text}")
    return f"{{{end}{f',{end}'.join(parts)}{end}}}\n".encode("ascii")


def _shifted(text: str, columns: int, is_pretty: bool) -> str:
    return text.replace("\n", f"\n{' ' * columns}") if is_pretty else text
