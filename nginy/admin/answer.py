"""Answers: a status, a body and its type, and the bytes they make.

Every answer forbids what a browser might do with it: keep it, guess another type, load anything, or
show it inside another site's page. JSON is made in slices, since a list may be long: `encode` is a
generator that yields between them and returns the text. Its caller collects the values first, so
the answer shows a single moment.

Source: RFC 9110 §8 and §15, RFC 9112 §4 and §6.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar

from nginy.admin.pace import BYTE_US, Pace
from nginy.wire.request import METHODS, RequestError

T = TypeVar("T")

Facts: TypeAlias = dict[str, Any]
"""Members by name, as in JSON."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Work that waits for something, and looks again after this time."""

    duration_ms: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of an answer that has no end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Poll:
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
    """The workers that have not answered in time."""

    def stamp(self) -> dict[str, object]:
        """Return how many were asked, how many have answered, and which have not."""
        return {"asked": self.asked, "answered": len(self.facts), "late": list(self.late)}


Slices: TypeAlias = Generator[Pause | Chunk | Poll | None, Replies | None, T]
"""Work that yields after each slice, some 0.5 ms at most, and returns what it was for.

It yields None to go on in the next turn, a `Pause` to go on later, a `Chunk` to send to its client
at once, or a `Poll`, whose replies are sent to it."""

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
FREE_US: Final = 1.5
"""The cost of freeing a row."""
DUMPS_US: Final = 3
"""The cost of encoding an empty object."""

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
    pieces: Sequence[bytes] = ()
    """What follows the body, if the answer is too long for one piece."""

    def to_bytes(self, *, has_body: bool = True, keeps_alive: bool = True) -> bytes:
        """Return the message without its pieces; without a body, it answers HEAD."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body) + sum(map(len, self.pieces))}",
            f"Connection: {'keep-alive' if keeps_alive else 'close'}",
            *self.fields,
        ]
        head = "".join(f"{line}\r\n" for line in lines) + HEADERS + "\r\n"
        return head.encode("ascii") + (self.body if has_body else b"")


def refusal(error: RequestError) -> Answer:
    """Return the answer that refuses a request."""
    told = {"code": error.code, "message": error.message, "hint": error.hint or None}
    fields: tuple[str, ...] = ()
    if error.status == HTTPStatus.UNAUTHORIZED:
        fields = ("WWW-Authenticate: Bearer",)
    elif error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields = (f"Allow: {error.allowed or ', '.join(METHODS)}",)
    elif error.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        fields = ("Retry-After: 1",)
    return Answer(error.status, dumps({"error": told}).encode() + b"\n", JSON, fields)


def dumps(value: object, indent: int | None = None) -> str:
    """Return a value as JSON in ASCII, so that no text from outside can break anything."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, indent=indent, separators=separators)


def encode(members: Mapping[str, object], *, is_pretty: bool) -> Slices[list[bytes]]:
    """Return an object as JSON in pieces, each made in a slice."""
    indent = 2 if is_pretty else None
    end, colon = ("\n", ": ") if is_pretty else ("", ":")
    before, after = ("    ", "\n  ") if is_pretty else ("", "")
    pieces: list[bytes] = []
    pace, texts = Pace(), [f"{{{end}"]
    for place, (name, value) in enumerate(members.items()):
        texts.append(f"{f',{end}' if place else ''}{'  ' if is_pretty else ''}{dumps(name)}{colon}")
        if not isinstance(value, list) or not value:
            texts.append(_shifted(dumps(value, indent), 2, is_pretty))
            continue
        texts.append(f"[{end}")
        for index, row in enumerate(value):
            text = _shifted(dumps(row, indent), 4, is_pretty)
            texts.append(f"{f',{end}' if index else ''}{before}{text}")
            if pace.is_over(DUMPS_US + BYTE_US * len(text)):
                pieces.append("".join(texts).encode("ascii"))
                texts.clear()
                yield None
        texts.append(f"{after}]")
    texts.append(f"{end}}}\n")
    pieces.append("".join(texts).encode("ascii"))
    return pieces


def discard(*lists: list[Any]) -> Slices[None]:
    """Empty lists that are no longer needed: freeing ten thousand rows at once takes 8 ms."""
    pace = Pace()
    for rows in lists:
        while rows:
            rows.pop()
            if pace.is_over(FREE_US):
                yield None


def _shifted(text: str, columns: int, is_pretty: bool) -> str:
    return text.replace("\n", f"\n{' ' * columns}") if is_pretty else text
