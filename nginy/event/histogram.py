"""Histogram: counts durations by the first of a few bounds that they do not exceed.

Pure: the caller measures, and passes milliseconds. Counting costs a bisection among a dozen bounds,
cheap enough for each session.

Source: the histogram of Prometheus, whose counts are cumulative only in its text.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

CONNECT_BOUNDS_MS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
"""Bounds for connecting to backends."""
TURN_BOUNDS_MS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000)
"""Bounds for turns of the loop, and for timers that are late."""


class Histogram:
    """Counts of durations: one for each bound, which includes it, and one for those above all."""

    __slots__ = ("bounds_ms", "counts", "sum_ms")

    def __init__(self, bounds_ms: Sequence[float]) -> None:
        self.bounds_ms = bounds_ms
        self.counts = [0] * (len(bounds_ms) + 1)
        self.sum_ms = 0.0

    def count(self, duration_ms: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds_ms, duration_ms)] += 1
        self.sum_ms += duration_ms


def quantile_s(counts: Sequence[int], bounds_ms: Sequence[float], share: float) -> float | None:
    """Return the bound, in seconds, that this share of the durations does not exceed.

    None without any duration, or if the share goes beyond the last bound.
    """
    wanted, seen = share * sum(counts), 0
    for bound_ms, count in zip(bounds_ms, counts, strict=False):
        seen += count
        if seen and seen >= wanted:
            return bound_ms / 1000
    return None
