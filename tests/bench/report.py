"""What is printed and saved: a table of each work, the bars in one list, everything as JSON.

The chart is in chart.py, the arithmetic in summary.py. Nothing here measures or prints: the
functions return text, or values for json.dumps().
"""

import dataclasses
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.measure import Bench, Sample
from bench.summary import Row, Spread, Verdict, rows, verdicts
from bench.works import Figure, Work

HEAD = (
    "",
    "rate/s",
    "cost",
    "core",
    "ratio  (min-max)",
    "bar",
    "",
    "p50 µs",
    "p99 µs",
    "errors",
    "",
)


def machine(bench: Bench, rounds: int) -> dict[str, str]:
    """Return what a reader must know about the machine and the run, in words."""
    cores = os.cpu_count() or 1
    is_shared = bench.proxy_cpus == bench.load_cpus
    pinning = (
        "one core for all"
        if is_shared
        else f"proxy on core {_set(bench.proxy_cpus)}, load on {_set(bench.load_cpus)}"
    )
    return {
        "system": platform.platform(),
        "processor": f"{_field('/proc/cpuinfo', 'model name')}, {cores} cores; {pinning}",
        "memory": _field("/proc/meminfo", "MemTotal"),
        # With bbr, which paces by timers, bulk transfers cost up to twice as much as with cubic.
        "congestion": _text("/proc/sys/net/ipv4/tcp_congestion_control"),
        "load before": "{:.2f} {:.2f} {:.2f}".format(*os.getloadavg()),
        "generator": bench.generator.title,
        "run": f"{rounds} rounds, {bench.seconds:g} s a sample, loopback",
    }


def head(facts: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Return the report's opening: machine, run and versions."""
    return _columns([(name, text) for name, text in {**facts, **versions}.items()], "<<")


def work_table(work: Work, samples: Sequence[Sample]) -> str:
    """Return the table of one work: a line for each contender."""
    lines: list[tuple[str, ...]] = [(*HEAD[:2], _cost_title(work), *HEAD[3:])]
    lines += [_cells(work, row) for row in rows(work, samples)]
    return f"{work.name}: {work.title}\n" + _columns(lines, "<>>>><<>>><")


def bars(works: Iterable[Work], samples: Sequence[Sample]) -> str:
    """Return the list of all bars that the samples can judge, and how many are met."""
    found = [verdict for work in works for verdict in verdicts(work, samples)]
    if not found:
        return "No bar can be judged without nginy and a peer."
    met = sum(verdict.is_met for verdict in found)
    lines = [(v.work, v.text, f"{v.measured:.3g}", "met" if v.is_met else "MISSED") for v in found]
    return f"Bars: {met} of {len(found)} met\n" + _columns(lines, "<<><")


def as_json(
    facts: Mapping[str, str],
    versions: Mapping[str, str],
    works: Iterable[Work],
    samples: Sequence[Sample],
    failures: Sequence[str],
) -> dict[str, object]:
    """Return everything that is known about the run, raw samples included, for json.dumps()."""
    works = list(works)
    found: list[Verdict] = [verdict for work in works for verdict in verdicts(work, samples)]
    return {
        "machine": dict(facts),
        "versions": dict(versions),
        "samples": [dataclasses.asdict(sample) for sample in samples],
        "summary": {
            work.name: [dataclasses.asdict(row) for row in rows(work, samples)] for work in works
        },
        "bars": [dataclasses.asdict(verdict) for verdict in found],
        "failures": list(failures),
    }


def _cost_title(work: Work) -> str:
    if work.figure is Figure.MEMORY:
        return "bytes/pair"
    if work.figure is Figure.LATENCY:
        return "slowest ms"
    return f"CPU µs/{work.unit}"


def _cells(work: Work, row: Row) -> tuple[str, ...]:
    """Return the cells of a contender's line, as HEAD names them, with remarks at the end."""
    scale = {Figure.MEMORY: 1.0, Figure.LATENCY: 1e6}.get(work.figure, 1e3)
    cost = row.cost.median / scale
    return (
        row.contender,
        f"{row.rate:,.0f}" if row.rate else "",
        f"{cost:,.2f}" if row.cost.median else "-",
        f"{row.busy:.0%}",
        _ratio(row.ratio),
        "" if row.bar is None else _bar(row),
        {True: "met", False: "MISSED", None: ""}[row.is_met],
        f"{row.p50_us:,.0f}" if row.p50_us else "",
        f"{row.p99_us:,.0f}" if row.p99_us else "",
        str(row.errors),
        _remarks(row),
    )


def _bar(row: Row) -> str:
    assert row.bar is not None
    aim = "" if row.bar.aim is None else f", aim {row.bar.aim:.2f}"
    return f"≥ {row.bar.least:.2f}{aim}"


def _remarks(row: Row) -> str:
    if row.log_cost is not None:
        return f"log {row.log_cost - 1:+.1%}"
    if row.worker_cost is not None:
        return f"{row.worker_cost:.2f} of one worker's"
    if row.slowdown is not None:
        return (
            f"watched: rate {-row.slowdown:+.1%}, p99 {row.p99_added_ms or 0:+.2f} ms; at most: "
            f"scrape {row.scrape_s or 0:.2f} s, /healthz {row.probe_ms or 0:.1f} ms"
        )
    return "" if row.wakeups is None else f"{row.wakeups:.0f} wakeups/s"


def _ratio(ratio: Spread | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio.median:.2f}  ({ratio.least:.2f}-{ratio.most:.2f})"


def _columns(lines: Sequence[Sequence[str]], alignment: str) -> str:
    """Return the lines with their cells under each other; `alignment` has < or > for each."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  "
        + "  ".join(
            f"{cell:{side}{width}}"
            for cell, side, width in zip(line, alignment, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _set(cpus: set[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


def _text(path: str) -> str:
    """Return a line of the kernel's, "unknown" if there is none."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _field(path: str, name: str) -> str:
    """Return the first value of `name` in a /proc file of `name : value` lines."""
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
