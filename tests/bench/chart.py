"""The chart of the ratios, as SVG written by hand: no plotting library, readable in any browser.

A row is one work against one peer: a dot at the median ratio, a line from the least to the most
of the rounds, a tick where the bar is. Right of 1 nginy needs less than the peer, left of it more.
The scale is logarithmic, so that twice as good and half as good are equally far from level.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final
from xml.sax.saxutils import escape

from bench.measure import Sample
from bench.summary import Row, rows
from bench.works import Work

NAMESPACE: Final = "http://www.w3.org/2000/svg"
TITLE: Final = "Cost of a peer / cost of nginy, same round: right of 1, nginy needs less"
WIDTH: Final = 900
LABEL_WIDTH: Final = 260
VALUE_WIDTH: Final = 150
TOP: Final = 64
ROW_HEIGHT: Final = 20
GAP: Final = 12  # between works
TICKS: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)

STYLE: Final = """
text { font: 12px sans-serif; fill: #222 }
.title { font-size: 16px; font-weight: bold } .quiet { fill: #777 }
.grid { stroke: #ddd } .level { stroke: #444 }
.span { stroke-width: 2 } .bar { stroke: #000; stroke-width: 2 }
.met { fill: #1a7f37; stroke: #1a7f37 } .missed { fill: #c62828; stroke: #c62828 }
.none { fill: #4a6fa5; stroke: #4a6fa5 }
"""


def chart(works: Iterable[Work], samples: Sequence[Sample], caption: str) -> str:
    """Return the SVG document of all ratios to nginy in these samples."""
    groups = [
        (work, [row for row in rows(work, samples) if row.ratio is not None]) for work in works
    ]
    groups = [(work, of_work) for work, of_work in groups if of_work]
    scale = _Scale([row for _, of_work in groups for row in of_work])
    body: list[str] = []
    y = TOP
    for work, of_work in groups:
        body.append(f'<text x="10" y="{y + 14}">{escape(work.name)}</text>')
        for row in of_work:
            body += _row(row, scale, y + ROW_HEIGHT // 2)
            y += ROW_HEIGHT
        y += GAP
    return "\n".join(
        [
            f'<svg xmlns="{NAMESPACE}" viewBox="0 0 {WIDTH} {y + 10}" width="{WIDTH}">',
            f"<style>{STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text class="title" x="10" y="22">{TITLE}</text>',
            f'<text class="quiet" x="10" y="40">{escape(caption)}</text>',
            *_grid(scale, y),
            *body,
            "</svg>\n",
        ]
    )


class _Scale:
    """Ratios to x, logarithmically, wide enough for all of `found` and at least 0.5 to 2."""

    def __init__(self, found: Sequence[Row]) -> None:
        values = [0.5, 2.0]
        for row in found:
            if row.ratio is not None:
                values += [row.ratio.least, row.ratio.most]
            if row.bar is not None:
                values.append(row.bar.least)
        self.low, self.high = math.log2(min(values)) - 0.1, math.log2(max(values)) + 0.1

    def x(self, ratio: float) -> float:
        """Return the x of a ratio above 0, in pixels."""
        share = (math.log2(ratio) - self.low) / (self.high - self.low)
        return round(LABEL_WIDTH + share * (WIDTH - LABEL_WIDTH - VALUE_WIDTH), 1)

    def has(self, ratio: float) -> bool:
        """Tell whether the ratio is on the scale."""
        return self.low <= math.log2(ratio) <= self.high


def _grid(scale: _Scale, bottom: int) -> list[str]:
    lines = []
    for tick in filter(scale.has, TICKS):
        x, kind = scale.x(tick), "level" if tick == 1 else "grid"
        lines.append(f'<line class="{kind}" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{bottom}"/>')
        lines.append(
            f'<text class="quiet" text-anchor="middle" x="{x}" y="{TOP - 8}">{tick:g}</text>'
        )
    return lines


def _row(row: Row, scale: _Scale, y: int) -> list[str]:
    assert row.ratio is not None
    kind = {True: "met", False: "missed", None: "none"}[row.is_met]
    left, middle, right = map(scale.x, (row.ratio.least, row.ratio.median, row.ratio.most))
    bar = "" if row.bar is None else f", bar {row.bar.least:.2f}"
    name, text_y = escape(row.contender), y + 4
    elements = [
        f'<text text-anchor="end" x="{LABEL_WIDTH - 12}" y="{text_y}">{name}</text>',
        f'<line class="span {kind}" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>',
        f'<circle class="{kind}" cx="{middle}" cy="{y}" r="4"/>',
        f'<text x="{WIDTH - VALUE_WIDTH + 12}" y="{text_y}">{row.ratio.median:.2f}{bar}</text>',
    ]
    if row.bar is not None:
        x = scale.x(row.bar.least)
        elements.append(f'<line class="bar" x1="{x}" x2="{x}" y1="{y - 7}" y2="{y + 7}"/>')
    return elements
