"""Cells: numbers, times and names as they fit into the columns of a terminal.

Widths are those on the screen: East Asian letters take two columns, combining marks none. This
module escapes control characters in all text from outside.

Pure.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nginy.text.escape import escape_control

KILO: Final = 1000
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400
GROUPED_MAX: Final = 100_000
"""Smaller counts are shown whole."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The signs of one alphabet."""

    shapes: dict[str, str]
    """One for each state of a backend, as on the page."""
    sparks: str
    """From low to high."""
    cut: str
    """Ends a text that is longer than its column."""
    cursor: str = ">"


UNICODE: Final = Glyphs(
    {
        "up": "●",
        "draining": "◆",
        "maintenance": "◆",
        "ejected": "▲",
        "checking": "▲",
        "down": "■",
        "unresolved": "○",
    },
    "▁▂▃▄▅▆▇█",
    "…",
)
ASCII: Final = Glyphs(
    {
        "up": "+",
        "draining": "=",
        "maintenance": "=",
        "ejected": "!",
        "checking": "!",
        "down": "#",
        "unresolved": "o",
    },
    "_.:-=+*#",
    "~",
)


def width_of(text: str) -> int:
    """Return how many places a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def fit(text: str, width: int, cut: str, *, is_right: bool = False) -> str:
    """Return text that takes exactly `width` places."""
    text = escape_control(text)
    if cut.isascii():
        text = text.encode("ascii", "replace").decode()
    missing = width - width_of(text)
    if missing < 0:
        text = _shortened(text, width - len(cut)) + cut if width >= len(cut) else ""
        missing = width - width_of(text)
    return " " * missing + text if is_right else text + " " * missing


def _shortened(text: str, width: int) -> str:
    """Return the beginning of a text that takes at most `width` places."""
    taken = 0
    for place, letter in enumerate(text):
        taken += _width(letter)
        if taken > width:
            return text[:place]
    return text


def count(value: float | None) -> str:
    """Return a whole number: 8,412 or 123k."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value < GROUPED_MAX else scaled(value)


def rate(value: float | None) -> str:
    """Return how often something happens a second: 0, 0.4 or 312."""
    if value is None:
        return "-"
    return f"{value:.1f}" if 0 < value < 9.95 else count(value)


def scaled(value: float | None) -> str:
    """Return a number in four places or fewer: 91, 1.2k, 840M."""
    if value is None:
        return "-"
    for letter in ("", "k", "M", "G", "T"):
        if value < KILO - 0.5 or letter == "T":
            is_short = bool(letter) and value < 9.95
            return f"{value:.1f}{letter}" if is_short else f"{value:.0f}{letter}"
        value /= KILO
    return ""


def span(seconds: float | None) -> str:
    """Return a length of time in two units at most: 12s, 5m, 3h04m, 3d04h."""
    if seconds is None:
        return "-"
    whole = max(int(seconds), 0)
    if whole < MINUTE_S:
        return f"{whole}s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S}m"
    if whole < DAY_S:
        return f"{whole // HOUR_S}h{whole % HOUR_S // MINUTE_S:02}m"
    return f"{whole // DAY_S}d{whole % DAY_S // HOUR_S:02}h"


def sparks(points: Sequence[float], glyphs: Glyphs) -> str:
    """Return a small chart, one sign for each point."""
    top = max(points, default=0) or 1
    last = len(glyphs.sparks) - 1
    return "".join(glyphs.sparks[round(last * point / top)] for point in points)
