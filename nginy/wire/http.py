"""As much HTTP/1 as a health check speaks: a GET request out, the status of the answer in.

The check itself, its socket and its deadline are in `backend/checks/checker.py`. nginy proxies
below HTTP: nothing here ever sees a client's bytes.

The one idea: a check is done as soon as the status line is known. Headers and body are not read,
and bytes that cannot become a status line are refused at once instead of at the timeout, since
"answers wrongly" should not take longer to detect than "is gone".

Source: RFC 9112 §3 and §4. As nginx does, a status line may lack its reason and the space ahead of
it, and may end in LF alone.
"""

import re
from typing import Final

from nginy.wire.errors import WireError

MAX_STATUS_LINE_BYTES: Final = 1024  # real ones have some 40; the rest is room for a long reason
MIN_STATUS: Final = 100
MAX_STATUS: Final = 599  # RFC 9110 §15: five classes

STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
# Every head of a status line, so that a wrong byte is noticed when it comes.
STATUS_LINE_SHAPE: Final = b"HTTP/1.d ddd"
REQUEST_TARGET: Final = re.compile(r"/[!-~]*")
HOST: Final = re.compile(r"[!-~]+")
STATUS_RANGE: Final = re.compile(r"([0-9]{3})(?:-([0-9]{3}))?")


def build_request(path: str, host: str, *, version: str = "1.1") -> bytes:
    """Return a GET request that asks the server to close afterwards.

    `host` is what the Host field says, with a port where one belongs. `version` is "1.0" or "1.1".
    Raises WireError if path or host would break the request's lines, or the version is another.
    """
    if version not in ("1.0", "1.1"):
        raise WireError("the version of a request is 1.0 or 1.1")
    if REQUEST_TARGET.fullmatch(path) is None:
        raise WireError("a path starts with / and has neither spaces nor characters beyond ASCII")
    if HOST.fullmatch(host) is None:
        raise WireError("a host has neither spaces nor characters beyond ASCII")
    lines = (
        f"GET {path} HTTP/{version}",
        f"Host: {host}",
        "User-Agent: nginy",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def parse_status(received: bytes, *, is_eof: bool) -> int | None:
    """Return the status of an answer, or None while its first line is incomplete.

    `is_eof` says that no more bytes will come. Raises WireError if this is no HTTP/1 answer, its
    status line is cut short, or longer than MAX_STATUS_LINE_BYTES.
    """
    match = STATUS_LINE.match(received[:MAX_STATUS_LINE_BYTES])
    if match is not None:
        return int(match[1])
    if not _is_head(received) or b"\n" in received:
        raise WireError("the answer is not HTTP")
    if len(received) >= MAX_STATUS_LINE_BYTES:
        raise WireError("the status line is too long")
    if is_eof:
        raise WireError("the status line is incomplete")
    return None


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
