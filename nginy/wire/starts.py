r"""How a stream starts: the text of `starts`, and whether first bytes are what it says.

A literal, or after a "~" a regular expression, which has to match from the very first byte; escapes
are those of `expect.py`. A client sends its first bytes in any pieces, and to wait for more of them
is to keep that client waiting. So the verdict comes with the first byte that decides it.

The one idea: a pattern that can match a longer text matches a shorter one as well, if each of its
characters may also be the end of the text. `partial` rewrites it so: "ab" becomes
"(?:a|\Z)(?:b|\Z)". If that does not match, no further byte can help.

Where the rewriting does not know a construct (a look-ahead, a reference to a group), only a
complete text decides.
"""

import re
from dataclasses import dataclass
from typing import Final

from nginy.wire.expect import Verdict, parse_expect
from nginy.wire.shown import shown

_TOKEN: Final = re.compile(
    rb"""
      (?P<group> \( (?: \?: | \?P<\w+> | (?!\?) ) )
    | (?P<close> \) | \| )
    | (?P<repeat> (?: [*+?] | \{\d*,?\d*\} ) [?+]? )
    | (?P<place> \^ | \\A )
    | (?P<end> \$ | \\Z )
    | (?P<one> \[\^?\]?(?:\\.|[^\]\\])*\] | \\x[0-9A-Fa-f]{2} | \\[dDwWsSnrtfv] | \\[^A-Za-z0-9]
             | [^\\\[(|)] )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Starts:
    """What a stream has to start with, made by `parse_starts`."""

    text: str
    """As configured."""
    prefix: bytes
    """The literal, if there is no pattern."""
    pattern: re.Pattern[bytes] | None = None
    can_match: re.Pattern[bytes] | None = None
    """Matches whatever may still become a match; None if that cannot be told."""

    def __str__(self) -> str:
        return shown(self.prefix if self.pattern is None else b"~" + self.pattern.pattern)

    def judge(self, head: bytes, *, is_complete: bool) -> Verdict:
        """Judge the first bytes as far as they have come; if they are complete: YES or NO."""
        if self.pattern is None:
            if head.startswith(self.prefix):
                return Verdict.YES
            is_open = self.prefix.startswith(head)
        else:
            if self.pattern.match(head) is not None:
                return Verdict.YES
            is_open = self.can_match is None or self.can_match.match(head) is not None
        return Verdict.MORE if is_open and not is_complete else Verdict.NO


def parse_starts(text: str) -> Starts:
    """Return the start that a text of the configuration describes. Raises WireError."""
    expected = parse_expect(text)
    pattern = expected.pattern
    if pattern is None:
        return Starts(text, expected.prefix)
    rewritten = partial(pattern.pattern)
    return Starts(text, b"", pattern, None if rewritten is None else re.compile(rewritten))


def partial(pattern: bytes) -> bytes | None:
    r"""Return a pattern that matches each text which more bytes may turn into a match of `pattern`.

    None if it has an unknown construct. A match at the end is enough: a repetition of "(?:a|\Z)"
    stops there, as it cannot repeat nothing.
    """
    written = []
    place = 0
    while place < len(pattern):
        token = _TOKEN.match(pattern, place)
        if token is None:
            return None
        place = token.end()
        taken = token[0]
        if token["one"] is not None:
            written.append(rb"(?:%s|\Z)" % taken)
        elif token["group"] is not None:
            written.append(b"(?:")
        elif token["end"] is not None:
            # More bytes may follow, and what follows this is beyond the end of a match.
            written.append(rb"\Z")
        else:
            written.append(taken)
    rewritten = b"".join(written)
    try:
        re.compile(rewritten)
    except (re.error, OverflowError, RecursionError):
        return None
    return rewritten
