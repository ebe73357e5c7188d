"""The chart of what a connection costs over the number of backends, as SVG written by hand.

A line is one contender: its median CPU time for a connection with 1, 10, ... backends that take
turns, and a stroke from the least to the most of the rounds. Both scales are logarithmic. The line
of one whose choice does not grow with the pool is level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from bench.chart import NAMESPACE
from bench.measure import Sample
from bench.summary import Spread, spread
from bench.works import Figure, Work

TITLE: Final = "CPU time a connection (µs) over the number of backends, in turns: lower is better"
WIDTH: Final = 900
HEIGHT: Final = 420
LEFT: Final = 60
RIGHT: Final = 160  # for the names
TOP: Final = 64
BOTTOM: Final = 40
NAME_HEIGHT: Final = 16
COLORS: Final = ("#1a7f37", "#c62828", "#e08e0b", "#8e44ad", "#4a6fa5", "#2a9d8f", "#777777")

STYLE: Final = """
text { font: 12px sans-serif; fill: #222 }
.title { font-size: 16px; font-weight: bold } .quiet { fill: #777 }
.grid { stroke: #ddd } path { fill: none; stroke-width: 2 } .span { stroke-width: 1 }
"""


@dataclass(frozen=True, slots=True)
class Point:
    """What a connection costs with this many backends, in microseconds."""

    backends: int
    cost_us: Spread


def points(works: Sequence[Work], samples: Sequence[Sample]) -> dict[str, list[Point]]:
    """Return the points of each contender, from few backends to many."""
    counts = {
        work.name: work.backends
        for work in works
        if (work.load, work.balance, work.figure) == ("connect", "round_robin", Figure.CPU)
    }
    found: dict[str, list[Point]] = {}
    for contender in dict.fromkeys(sample.contender for sample in samples):
        for name, count in sorted(counts.items(), key=lambda item: item[1]):
            of_work = [s for s in samples if (s.work, s.contender) == (name, contender)]
            cost = spread(sample.cost / 1000 for sample in of_work if sample.cost > 0)
            if cost is not None:
                found.setdefault(contender, []).append(Point(count, cost))
    return found


def curve(works: Sequence[Work], samples: Sequence[Sample], caption: str) -> str:
    """Return the SVG document; without a sample it has no line."""
    lines = points(works, samples)
    scale = _Scale([point for line in lines.values() for point in line])
    names_y = _names_y({name: scale.y(line[-1].cost_us.median) for name, line in lines.items()})
    body: list[str] = []
    for number, (name, line) in enumerate(lines.items()):
        body += _line(name, line, scale, names_y[name], COLORS[number % len(COLORS)])
    return "\n".join(
        [
            f'<svg xmlns="{NAMESPACE}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">',
            f"<style>{STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text class="title" x="10" y="22">{TITLE}</text>',
            f'<text class="quiet" x="10" y="40">{escape(caption)}</text>',
            *_grid(scale),
            *body,
            "</svg>\n",
        ]
    )


class _Scale:
    """Backends to x and microseconds to y, both logarithmically."""

    def __init__(self, found: Sequence[Point]) -> None:
        costs = [value for point in found for value in (point.cost_us.least, point.cost_us.most)]
        self.most_backends = max([10, *(point.backends for point in found)])
        self.low = math.log10(min(costs, default=10) * 0.8)
        self.high = math.log10(max(costs, default=100) * 1.2)

    def x(self, backends: int) -> float:
        share = math.log10(backends) / math.log10(self.most_backends)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, cost_us: float) -> float:
        share = (math.log10(cost_us) - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def ticks_us(self) -> list[float]:
        """Return 1, 2 and 5 of each power of ten that is on the scale."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return [tick for tick in ticks if self.low <= math.log10(tick) <= self.high]


def _names_y(wanted: dict[str, float]) -> dict[str, float]:
    """Return where names stand: beside the ends of their lines, and not on top of each other."""
    placed: dict[str, float] = {}
    last = -math.inf
    for name, y in sorted(wanted.items(), key=lambda item: item[1]):
        last = placed[name] = max(y, last + NAME_HEIGHT)
    return placed


def _grid(scale: _Scale) -> list[str]:
    elements = []
    for tick in scale.ticks_us():
        y = scale.y(tick)
        elements.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        elements.append(
            f'<text class="quiet" text-anchor="end" x="{LEFT - 8}" y="{y + 4}">{tick:g}</text>'
        )
    backends = 1
    while backends <= scale.most_backends:
        x, y = scale.x(backends), HEIGHT - BOTTOM + 18
        text = f"{backends:,}"
        elements.append(f'<text class="quiet" text-anchor="middle" x="{x}" y="{y}">{text}</text>')
        backends *= 10
    return elements


def _line(name: str, line: Sequence[Point], scale: _Scale, name_y: float, color: str) -> list[str]:
    places = [(scale.x(point.backends), scale.y(point.cost_us.median)) for point in line]
    path = " L ".join(f"{x} {y}" for x, y in places)
    elements = [f'<path stroke="{color}" d="M {path}"/>']
    for (x, y), point in zip(places, line, strict=True):
        least, most = scale.y(point.cost_us.least), scale.y(point.cost_us.most)
        elements.append(f'<circle fill="{color}" cx="{x}" cy="{y}" r="4"/>')
        elements.append(
            f'<line class="span" stroke="{color}" x1="{x}" x2="{x}" y1="{least}" y2="{most}"/>'
        )
    text = f"{escape(name)} {line[-1].cost_us.median:.0f}"
    elements.append(f'<text x="{WIDTH - RIGHT + 12}" y="{name_y + 4}">{text}</text>')
    return elements
