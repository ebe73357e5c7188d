"""Requests of HTTP/1.1, as far as the admin interface needs them: bytes in, a `Request` out.

The parser is strict where two readings of one request could differ (RFC 9112 §2.2, §5, §6.3): lines
end in CRLF, a field has no blank before its colon and no second line, and a body has exactly one
Content-Length. A refusal has the status and the sentence that the client gets.

The one idea: `parse_request` is a pure function of everything received so far. It returns None
until the request is whole, so its caller keeps one buffer and no state. Limits bound that buffer.

Not here: sockets and deadlines (`admin/client.py`), and who may ask what (`admin/guard.py`).

Source: RFC 9112, RFC 9110 §5-§7, RFC 3986 §2.1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nginy.wire.errors import WireError

HEAD_MAX_BYTES: Final = 8192
BODY_MAX_BYTES: Final = 65536
PARAMETERS_MAX: Final = 64
"""Parameters in one query."""
METHODS: Final = ("GET", "HEAD", "POST", "PATCH", "DELETE")
WITH_BODY: Final = frozenset({"POST", "PATCH"})
"""Methods that must say how long their body is; it may be 0."""

REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
TARGET: Final = re.compile(r"(?:http://([^/?#]*))?(/[^?#]*)(?:\?([^#]*))?", re.IGNORECASE)
ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")
ONLY_ONCE: Final = ("host", "content-length", "transfer-encoding", "authorization", "origin")


class RequestError(WireError):
    """A request that nginy refuses; the message is a sentence for its sender, and the hint its
    end."""

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", allowed: str = ""
    ) -> None:
        super().__init__(f"{message}, {hint}" if hint else message)
        self.message = message
        self.hint = hint
        """What the sender probably meant."""
        self.allowed = allowed
        """The allowed methods, for status 405; "" for all that there are."""
        self.status = status
        """The status of the answer (RFC 9110 §15)."""
        self.code = code
        """The same for programs, in snake_case."""


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request."""

    method: str
    path: tuple[str, ...]
    """The segments between the slashes, decoded: `/a/b%2Fc` is ("a", "b/c")."""
    query: Mapping[str, str]
    """The last value of each parameter, "" for one without a value."""
    fields: Mapping[str, str]
    """By names in lower case; fields of one name are joined by commas."""
    host: str
    """The host that was asked for, without its port, in lower case; IPv6 without brackets."""
    body: bytes
    keeps_alive: bool
    """Whether the client wants to ask again on this connection."""


def parse_request(received: bytes | bytearray) -> tuple[Request, int] | None:
    """Return the request at the start of `received` and its length in bytes; None if it is not
    whole.

    Raises RequestError, as soon as the bytes show it. After that nothing tells where the next
    request begins, so the connection has to be closed.
    """
    end = received.find(b"\r\n\r\n", 0, HEAD_MAX_BYTES)
    if end < 0:
        _check_lines(bytes(received[:HEAD_MAX_BYTES]))
        if len(received) >= HEAD_MAX_BYTES:
            text = f"the head of a request takes at most {HEAD_MAX_BYTES} bytes"
            raise RequestError(431, "head_too_large", text)
        return None
    head = bytes(received[:end])
    _check_lines(head)
    first, *rest = head.split(b"\r\n")
    method, target, minor = _request_line(first)
    fields = _fields(rest)
    if method not in METHODS:
        raise RequestError(405, "method_not_allowed", f"expected {', '.join(METHODS)}")
    authority, path, query = _target(target)
    host = _host(authority, fields)
    length = _body_length(method, fields)
    start = end + 4
    if len(received) < start + length:
        return None
    words = [word.strip().lower() for word in fields.get("connection", "").split(",")]
    keeps_alive = "close" not in words and (minor > 0 or "keep-alive" in words)
    body = bytes(received[start : start + length])
    return Request(method, path, query, fields, host, body, keeps_alive), start + length


def _bad(message: str) -> RequestError:
    return RequestError(400, "bad_request", message)


def _check_lines(head: bytes) -> None:
    """Raise RequestError for line ends that are not CRLF; the last byte may be half of one."""
    if head.count(b"\n") != head.count(b"\r\n"):
        raise _bad("a line ends in a bare LF, expected CRLF")
    if head.count(b"\r") != head.count(b"\r\n") + head.endswith(b"\r"):
        raise _bad("a bare CR, expected CRLF")
    if b"\0" in head:
        raise _bad("the head has a zero byte")


def _request_line(line: bytes) -> tuple[str, str, int]:
    """Return method, target and minor version."""
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _bad("the first line is not a request, expected one such as GET /healthz HTTP/1.1")
    if match[3] != b"1":
        raise RequestError(505, "version_not_supported", "expected HTTP/1.1 or HTTP/1.0")
    return match[1].decode(), match[2].decode(), int(match[4])


def _fields(lines: list[bytes]) -> dict[str, str]:
    """Return the header fields by name in lower case."""
    fields: dict[str, str] = {}
    for line in lines:
        match = FIELD.fullmatch(line)
        if match is None:
            raise _bad("a header line is not a field, expected NAME: VALUE")
        name = match[1].decode().lower()
        value = match[2].decode("latin-1").rstrip(" \t")
        if name not in fields:
            fields[name] = value
        elif name in ONLY_ONCE:
            raise _bad(f"{name} appears twice")
        else:
            fields[name] = f"{fields[name]}, {value}"
    return fields


def _target(target: str) -> tuple[str | None, tuple[str, ...], dict[str, str]]:
    """Return the authority, if the target names one, the path's segments, and the query."""
    match = TARGET.fullmatch(target)
    if match is None:
        raise _bad("the target is not a path, expected one such as /healthz")
    authority, path, query = match.groups()
    segments = tuple(_decoded(segment) for segment in path[1:].split("/"))
    parameters: dict[str, str] = {}
    pairs = query.split("&") if query else []
    if len(pairs) > PARAMETERS_MAX:
        raise _bad(f"a query has at most {PARAMETERS_MAX} parameters")
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name:
            parameters[_decoded(name)] = _decoded(value)
    return authority, segments, parameters


def _decoded(text: str) -> str:
    """Return text with its percent-encoded bytes, which must be UTF-8 (RFC 3986 §2.1)."""
    if "%" not in text:
        return text
    if BAD_ESCAPE.search(text):
        raise _bad("a % in the target does not begin two hexadecimal digits")
    try:
        return ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), text.encode()).decode()
    except UnicodeDecodeError:
        raise _bad("the unescaped target is not UTF-8") from None


def _host(authority: str | None, fields: Mapping[str, str]) -> str:
    """Return the host that the request is for, by the target or else by Host (RFC 9112 §3.2.2)."""
    if "host" not in fields:
        raise _bad("Host is missing")
    match = HOST.fullmatch(fields["host"] if authority is None else authority)
    if match is None:
        raise _bad("Host is not a host with or without a port")
    return match[1].strip("[]").lower()


def _body_length(method: str, fields: Mapping[str, str]) -> int:
    """Return the length of the body in bytes (RFC 9112 §6.3)."""
    text = fields.get("content-length")
    if "transfer-encoding" in fields:
        if text is not None:
            raise _bad("Transfer-Encoding and Content-Length exclude each other")
        raise RequestError(411, "length_required", "a body needs Content-Length")
    if text is None:
        if method in WITH_BODY:
            raise RequestError(411, "length_required", f"{method} needs Content-Length")
        return 0
    if not text.isascii() or not text.isdecimal():
        raise _bad("Content-Length is not a whole number")
    digits = text.lstrip("0")
    if len(digits) > len(str(BODY_MAX_BYTES)) or int(digits or "0") > BODY_MAX_BYTES:
        what = f"a body takes at most {BODY_MAX_BYTES} bytes"
        raise RequestError(413, "body_too_large", what)
    return int(digits or "0")
