"""As much HTTP/1 as a health check speaks: a request out, the status of the answer in.

`checks/http.py` has the check, and reads bodies. nginy proxies below HTTP: nothing here ever sees a
client's bytes.

The one idea: refuse bytes at once that cannot become a status line, because a check should find a
wrong answer as quickly as a closed port. The parser passes over interim answers (1xx).

Source: RFC 9112 §3 and §4, RFC 9110 §15.2. As nginx does, a status line may lack its reason and the
space ahead of it, and may end in LF alone.
"""

import re
from collections.abc import Iterable
from typing import Final

from nginy.wire.errors import WireError

MAX_STATUS_LINE_BYTES: Final = 1024  # real ones have some 40; the rest is room for a long reason
MAX_INTERIM_BYTES: Final = 16384  # 103 (Early Hints) comes with links; a page has some dozens
MIN_STATUS: Final = 100
MAX_STATUS: Final = 599  # RFC 9110 §15: five classes

STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
INTERIM: Final = frozenset(range(100, 200)) - {101}
"""Statuses before the final one. 101 is final: what follows it is not HTTP."""
END_OF_HEADERS: Final = re.compile(rb"\n\r?\n")
# Every head of a status line, so that a wrong byte is noticed when it comes.
STATUS_LINE_SHAPE: Final = b"HTTP/1.d ddd"
REQUEST_TARGET: Final = re.compile(r"/[!-~]*")
HOST: Final = re.compile(r"[!-~]+")
HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
HEADER_VALUE: Final = re.compile(r"[\t -~]*")
OWN_HEADERS: Final = frozenset({"host", "connection", "content-length", "transfer-encoding"})
WITH_BODY: Final = frozenset({"POST", "PUT"})
"""Methods that say the length of a body even if it is empty (RFC 9110 §8.6)."""
STATUS_RANGE: Final = re.compile(r"([0-9]{3})(?:-([0-9]{3}))?")


def build_request(
    path: str,
    host: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> bytes:
    """Return a request that asks the server to close afterwards.

    `host` is the Host field, with a port where one belongs. `headers` follow it; without one of
    that name, User-Agent is nginy. Raises WireError if a text would break the request's lines, or a
    header is one that belongs to this function.
    """
    if REQUEST_TARGET.fullmatch(path) is None:
        raise WireError("a path starts with / and has neither spaces nor characters beyond ASCII")
    if HOST.fullmatch(host) is None:
        raise WireError("a host has neither spaces nor characters beyond ASCII")
    fields = [("Host", host)]
    for name, value in headers:
        if HEADER_NAME.fullmatch(name) is None or name.lower() in OWN_HEADERS:
            raise WireError(f'"{name}" cannot be the name of a header')
        if HEADER_VALUE.fullmatch(value) is None:
            raise WireError(f"the header {name} has control characters, or some beyond ASCII")
        fields.append((name, value))
    if not any(name.lower() == "user-agent" for name, _ in fields):
        fields.append(("User-Agent", "nginy"))
    fields.append(("Connection", "close"))
    if body or method in WITH_BODY:
        fields.append(("Content-Length", str(len(body))))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), ""]
    return "".join(f"{line}\r\n" for line in lines).encode("ascii") + body


def parse_status(received: bytes, *, is_eof: bool) -> int | None:
    """Return the status of an answer, or None while its status line is incomplete.

    Interim answers do not count. `is_eof` says that no more bytes will come. Raises WireError if
    this is no HTTP/1 answer, its status line is cut short or longer than MAX_STATUS_LINE_BYTES, or
    interim answers take more than MAX_INTERIM_BYTES.
    """
    start = 0
    while True:
        status, end = _parse_status_line(received, start, is_eof=is_eof)
        if status not in INTERIM:
            return status
        # An answer without headers ends with the line end of its status line, and another one.
        blank = END_OF_HEADERS.search(received, end - 1)
        if (len(received) if blank is None else blank.end()) > MAX_INTERIM_BYTES:
            raise WireError(f"interim answers (status {status}) are too long")
        if blank is None and is_eof:
            raise WireError(f"only an interim answer came (status {status})")
        if blank is None:
            return None
        start = blank.end()


def _parse_status_line(received: bytes, start: int, *, is_eof: bool) -> tuple[int | None, int]:
    """Return the status of the line at `start`, None while it is incomplete, and where it ends."""
    match = STATUS_LINE.match(received, start, start + MAX_STATUS_LINE_BYTES)
    if match is not None:
        return int(match[1]), match.end()
    line = received[start:]
    if not _is_head(line) or b"\n" in line:
        raise WireError("the answer is not HTTP")
    if len(line) >= MAX_STATUS_LINE_BYTES:
        raise WireError("the status line is too long")
    if is_eof and start:
        raise WireError("only interim answers came")
    if is_eof:
        raise WireError("the status line is incomplete")
    return None, start


def _is_head(received: bytes) -> bool:
    """Say whether the bytes can be the head of a status line."""
    return all(
        chr(byte).isdecimal() if shape == ord("d") else byte == shape
        for byte, shape in zip(received, STATUS_LINE_SHAPE, strict=False)
    )


def parse_statuses(text: str) -> frozenset[int]:
    """Return the statuses that a configuration lists: "200", "200 204", "200-399", "200, 300-399".

    Raises WireError.
    """
    statuses: set[int] = set()
    for word in text.replace(",", " ").split():
        match = STATUS_RANGE.fullmatch(word)
        if match is None:
            raise WireError("a status is a number of three digits, or a range such as 200-399")
        first, last = int(match[1]), int(match[2] or match[1])
        if not MIN_STATUS <= first <= last <= MAX_STATUS:
            raise WireError(f"a status lies within {MIN_STATUS}-{MAX_STATUS}, the lower one first")
        statuses.update(range(first, last + 1))
    if not statuses:
        raise WireError("at least one status is needed")
    return frozenset(statuses)


def format_statuses(statuses: frozenset[int]) -> str:
    """Return statuses as a configuration lists them: "200-399", "200, 204"."""
    ranges: list[list[int]] = []
    for status in sorted(statuses):
        if ranges and status == ranges[-1][1] + 1:
            ranges[-1][1] = status
        else:
            ranges.append([status, status])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
