"""Masks: takes secrets out of texts that others read.

`without` is for a text that has its values whole. `without_cut` is for a message, which may show
only the beginning of a long value, followed by "...", or escapes in place of control characters.

Not here: which values are secrets (config/secrets.py, config/node.py).
"""

from collections.abc import Iterable
from typing import Final

MASK: Final = "***"
CUT: Final = "..."
"""What follows the beginning of a long value."""
_SHORTEST: Final = 2
"""One letter before `CUT` is no secret, and may be anything's."""
_LONGEST: Final = 4096
"""No message shows more of a value."""


def without(text: str, values: Iterable[str]) -> str:
    """Return a text with `***` wherever one of the values stands.

    The longer ones come first, as one may stand in another.
    """
    for value in values:
        text = text.replace(value, MASK)
    return text


def without_cut(message: str, values: Iterable[str]) -> str:
    """Return a message with `***` also in place of values that it escapes or cuts short."""
    for value in sorted(values, key=len, reverse=True):
        for shown in dict.fromkeys((value, repr(value)[1:-1])):
            message = _without_beginning(message.replace(shown, MASK), shown)
    return message


def _without_beginning(message: str, value: str) -> str:
    end = len(message)
    while (at := message.rfind(CUT, 0, end)) >= 0:
        before = message[:at]
        sizes = range(min(at, len(value), _LONGEST), _SHORTEST - 1, -1)
        size = next((size for size in sizes if before.endswith(value[:size])), 0)
        message = f"{before[: at - size]}{MASK if size else ''}{message[at:]}"
        end = at - size if size else at + len(CUT) - 1  # the value may have cuts of its own
    return message
