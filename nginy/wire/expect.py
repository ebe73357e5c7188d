r"""What a check sends and expects: the keys `send` and `expect`.

Both are texts of the configuration. `send` is bytes with escapes. `expect` is a literal that the
answer must start with, or after a "~" a regular expression that must match somewhere in it. \xNN
stands for a byte in both; write a literal that starts with a tilde as \x7e.

`backend/checks/checker.py` has the sockets; `http` judges HTTP answers.

The one idea: three verdicts, three values. A wrong first byte is a NO at once, and a short answer
needs MORE. Only the caller knows whether more can come: a datagram and a closed connection are
complete.

Source: nginx Plus, ngx_stream_upstream_hc_module, `match`.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from nginy.wire.errors import WireError
from nginy.wire.shown import shown

# The head of a longer answer decides. This also bounds what a regular expression that backtracks
# can cost, as the loop waits for it.
MAX_ANSWER_BYTES: Final = 4096

ESCAPE: Final = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.|$)", re.DOTALL)
SIMPLE_ESCAPES: Final = {
    b"r": b"\r",
    b"n": b"\n",
    b"t": b"\t",
    b"\\": b"\\",
    b'"': b'"',
    b"'": b"'",
}

NESTED: Final = re.compile(r"[+*}][^()]*\)[+*{]")
"""A group that repeats something and is repeated itself: what makes backtracking exponential."""


class Verdict(Enum):
    """Whether an answer is the expected one."""

    YES = "as expected"
    NO = "not as expected"
    MORE = "incomplete"


def unescape(text: str) -> bytes:
    r"""Return the bytes of a text with \xNN, \r, \n, \t, \\ and quotes; the rest is UTF-8.

    A lone surrogate is the byte it stands for (PEP 383). Raises WireError on any other escape, so
    that no typing error goes to a backend.
    """
    return ESCAPE.sub(_unescape_one, text.encode("utf-8", "surrogateescape"))


def _unescape_one(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    if len(escape) == 3:
        return bytes.fromhex(escape[1:].decode("ascii"))
    if escape not in SIMPLE_ESCAPES:
        raise WireError(r"an escape is one of \xNN \r \n \t \\ \" and \'")
    return SIMPLE_ESCAPES[escape]


@dataclass(frozen=True, slots=True)
class Expect:
    """An expectation, made by `parse_expect`: a literal `prefix` if there is no `pattern`."""

    prefix: bytes
    pattern: re.Pattern[bytes] | None = None

    def __str__(self) -> str:
        """Return the expectation for a message."""
        return shown(self.prefix if self.pattern is None else b"~" + self.pattern.pattern)

    def judge(self, received: bytes, *, is_complete: bool) -> Verdict:
        """Judge an answer as far as it has come; with `is_complete` the verdict is YES or NO.

        Only the first MAX_ANSWER_BYTES count.
        """
        head = received[:MAX_ANSWER_BYTES]
        if self._is_met(head):
            return Verdict.YES
        if is_complete or len(received) >= MAX_ANSWER_BYTES or not self._can_be_met(head):
            return Verdict.NO
        return Verdict.MORE

    def _is_met(self, head: bytes) -> bool:
        if self.pattern is not None:
            return self.pattern.search(head) is not None
        return head.startswith(self.prefix)

    def end(self, received: bytes) -> int:
        """Return where the expected part ends, of an answer whose verdict is YES."""
        match = None if self.pattern is None else self.pattern.search(received[:MAX_ANSWER_BYTES])
        return len(self.prefix) if match is None else match.end()

    def _can_be_met(self, head: bytes) -> bool:
        return self.pattern is not None or self.prefix.startswith(head)


def parse_expect(text: str) -> Expect:
    """Return the expectation of a configuration's text. Raises WireError."""
    if not text.startswith("~"):
        prefix = unescape(text)
        if not 0 < len(prefix) <= MAX_ANSWER_BYTES:
            raise WireError(f"an expected text has 1 to {MAX_ANSWER_BYTES} bytes")
        return Expect(prefix)
    if NESTED.search(text):
        raise WireError("a repetition within a repetition can take for ever to match")
    try:
        return Expect(b"", re.compile(text[1:].encode("utf-8", "surrogateescape")))
    except (re.error, RecursionError, OverflowError) as error:
        raise WireError(f"not a regular expression: {error}") from None
