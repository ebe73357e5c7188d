"""Samples of several rounds become what is reported: medians, ratios and verdicts. All pure.

Absolute numbers move with the machine's other guests, so every ratio is made within one round,
in which the contenders took turns, and only then the median over the rounds is taken. A sample
with errors is not left out: the errors stand beside it, and no bar is met with them.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.bars import LIMITS, NEAR_BARS, OWN_BARS, RATIO_BARS, RatioBar
from bench.contenders import NGINY
from bench.measure import Sample
from bench.works import Work


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and most of a value over the rounds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Row:
    """One contender in one work, over all rounds."""

    contender: str
    cost: Spread
    rate: float
    busy: float
    errors: int
    p50_us: float
    p99_us: float
    max_us: float
    log_cost: float | None
    worker_cost: float | None
    wakeups: float | None
    slowdown: float | None
    p99_added_ms: float | None
    scrape_s: float | None
    probe_ms: float | None
    ratio: Spread | None  # its cost to nginy's; None without nginy, and for nginy itself
    bar: RatioBar | None

    @property
    def is_met(self) -> bool | None:
        """Whether the bar is met; None where there is none, or nothing to judge."""
        if self.bar is None or self.ratio is None:
            return None
        return self.ratio.median >= self.bar.least


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar of one work: what was asked, what was measured."""

    work: str
    text: str
    measured: float
    is_met: bool


def spread(values: Iterable[float]) -> Spread | None:
    """Return the spread of the values, None if there are none."""
    known = sorted(values)
    return Spread(statistics.median(known), known[0], known[-1]) if known else None


def ratios(samples: Sequence[Sample], contender: str) -> list[float]:
    """Return the contender's cost to nginy's, for each round that has both."""
    base = {s.round: s.cost for s in samples if s.contender == NGINY and s.cost > 0}
    return [
        s.cost / base[s.round]
        for s in samples
        if s.contender == contender and s.round in base and s.cost > 0
    ]


def own_ratios(samples: Sequence[Sample], work: str, other: str) -> list[float]:
    """Return nginy's cost of the work `other` to its cost of `work`, for each round with both."""
    costs = {(s.work, s.round): s.cost for s in samples if s.contender == NGINY and s.cost > 0}
    rounds = {number for _, number in costs}
    return [
        costs[other, number] / costs[work, number]
        for number in sorted(rounds)
        if (other, number) in costs and (work, number) in costs
    ]


def rows(work: Work, samples: Sequence[Sample]) -> list[Row]:
    """Return a row for each contender with samples of `work`, in the order they first came."""
    ours = [s for s in samples if s.work == work.name]
    found = []
    for contender in dict.fromkeys(s.contender for s in ours):
        own = [s for s in ours if s.contender == contender]
        cost = spread(s.cost for s in own)
        assert cost is not None  # a contender is listed for the samples it has
        found.append(
            Row(
                contender=contender,
                cost=cost,
                rate=statistics.median(s.rate for s in own),
                busy=statistics.median(s.busy for s in own),
                errors=sum(s.errors for s in own),
                p50_us=statistics.median(s.p50_us for s in own),
                p99_us=statistics.median(s.p99_us for s in own),
                max_us=max(s.max_us for s in own),
                log_cost=_median(s.log_cost for s in own),
                worker_cost=_median(s.worker_cost for s in own),
                wakeups=_median(s.wakeups for s in own),
                slowdown=_median(s.slowdown for s in own),
                p99_added_ms=_median(s.p99_added_ms for s in own),
                scrape_s=_median(s.scrape_s for s in own),
                probe_ms=_median(s.probe_ms for s in own),
                ratio=None if contender == NGINY else spread(ratios(ours, contender)),
                bar=RATIO_BARS.get(work.name, {}).get(contender),
            )
        )
    return found


def verdicts(work: Work, samples: Sequence[Sample]) -> list[Verdict]:
    """Return a verdict for each bar of `work` that these samples can judge."""
    found = []
    of_work = rows(work, samples)
    own = next((row for row in of_work if row.contender == NGINY), None)
    if own is None:
        return []
    for row in of_work:
        if row.bar is None or row.ratio is None:
            continue
        text = f"≥ {row.bar.least:.2f} to {row.contender}"
        is_met = bool(row.is_met) and own.errors == 0
        found.append(Verdict(work.name, text, row.ratio.median, is_met))
    if work.name in OWN_BARS:
        other, bar = OWN_BARS[work.name]
        if (ratio := spread(own_ratios(samples, work.name, other))) is not None:
            is_met = ratio.median >= bar.least and own.errors == 0
            text = f"≥ {bar.least:.2f} to its own {other}"
            found.append(Verdict(work.name, text, ratio.median, is_met))
    found += _near(work, samples, of_work, is_clean=own.errors == 0)
    for limit in LIMITS.get(work.name, ()):
        values = [
            value
            for s in samples
            if s.work == work.name and s.contender == NGINY
            if (value := getattr(s, limit.field)) is not None
        ]
        if values:
            # of errors not one is forgiven; other values are judged by their median
            measured = sum(values) if limit.field == "errors" else statistics.median(values)
            found.append(Verdict(work.name, limit.text, measured, measured <= limit.most))
    if own.errors and "errors" not in (limit.field for limit in LIMITS.get(work.name, ())):
        found.append(Verdict(work.name, "no errors", own.errors, is_met=False))
    return found


def _near(
    work: Work, samples: Sequence[Sample], of_work: Sequence[Row], *, is_clean: bool
) -> list[Verdict]:
    """Return a verdict for each peer to which the ratio should be near that of another work."""
    if work.name not in NEAR_BARS:
        return []
    other, most_below = NEAR_BARS[work.name]
    of_other = [s for s in samples if s.work == other]
    found = []
    for row in of_work:
        base = spread(ratios(of_other, row.contender))
        if row.ratio is None or base is None:
            continue
        least = base.median - most_below
        text = f"≥ {least:.2f} to {row.contender}, {most_below:.2f} below {other}"
        is_met = row.ratio.median >= least and is_clean
        found.append(Verdict(work.name, text, row.ratio.median, is_met))
    return found


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
