"""Parts of pages: numbers, times and small charts as HTML.

Pure. All text from outside goes through `quoted`.

Tested in tests/admin/page/test_document.py.
"""

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Final

from nginy.admin.facts.sampling import Sample

SPARK_WIDTH: Final = 120
SPARK_HEIGHT: Final = 24
CHART_S: Final = 300
"""The time that a chart shows, once so much has passed."""
CHART_LEAST_S: Final = 20
POINTS_MAX: Final = 75
"""Points in one chart, so that a page with a hundred charts stays small."""
Points = Sequence[tuple[float, float]]
"""Instants in seconds, and values."""
KILO: Final = 1000


def quoted(text: object) -> str:
    """Return a text as HTML that shows it."""
    return escape(str(text))


def clock(at: str | None) -> str:
    """Return the time of day of an instant, with its full text as the title."""
    if not at:
        return ""
    return f'<time datetime="{quoted(at)}" title="{quoted(at)}">{quoted(at[11:19])}</time>'


def scaled(value: float | None, unit: str = "") -> str:
    """Return a number with three digits or so: 8.4 k, 91 M."""
    if value is None:
        return "-"
    for letter in ("", "k", "M", "G", "T"):
        if value < KILO or letter == "T":
            digits = f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
            return f"{digits}{' ' if letter or unit else ''}{letter}{unit}"
        value /= KILO
    return ""


def thinned(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return samples for one chart, the last one among them."""
    step = -(-len(samples) // POINTS_MAX)
    return samples[(len(samples) - 1) % step :: step] if step > 1 else samples


def values(samples: Sequence[Sample], name: str) -> Points:
    """Return a value at each sample."""
    return [(each.at_s, getattr(each, name)) for each in samples]


def rates(samples: Sequence[Sample], name: str) -> Points:
    """Return the growth of a count per second, from one sample to the next."""
    return [
        (b.at_s, max(getattr(b, name) - getattr(a, name), 0) / max(b.at_s - a.at_s, 0.001))
        for a, b in pairwise(samples)
    ]


def sparkline(points: Points) -> str:
    """Return a line through points over the last minutes, as SVG; nothing for fewer than two."""
    box = f'viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" preserveAspectRatio="none"'
    if len(points) < 2:
        return f'<svg {box} aria-hidden="true"></svg>'
    top = max(value for _, value in points) or 1
    end_s = points[-1][0]
    span_s = min(max(end_s - points[0][0], CHART_LEAST_S), CHART_S)
    places = " ".join(
        f"{SPARK_WIDTH * (1 - (end_s - at_s) / span_s):.1f},"
        f"{SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 4) * value / top:.1f}"
        for at_s, value in points
        if end_s - at_s <= span_s
    )
    return f'<svg {box} aria-hidden="true"><polyline points="{places}"/></svg>'
