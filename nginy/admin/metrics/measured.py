"""What Prometheus may ask for: all counts of one process or of several workers.

Rows of listeners, upstreams and backends are the same as in other answers. This module collects
them, adds what the system says of the process and what the loop has measured, and `exposition.py`
writes all of it as text.

Dead workers leave their counters behind (`facts/tally.py`), so that no sum falls.

Source for the process_ figures: proc(5); https://prometheus.io/docs/instrumenting/writing_clientlibs/
"""

import os
import resource
from collections.abc import Sequence
from typing import Final

from nginy.admin.answer import Facts, Slices
from nginy.admin.facts.backends import ADDED, BACKEND, KEY, backend_row, join, members_of
from nginy.admin.facts.live import count_bytes
from nginy.admin.facts.merge import merge_rows
from nginy.admin.facts.shape import number, real, row, rows, table, text
from nginy.admin.facts.source import Details, Source
from nginy.admin.facts.upstreams import (
    HISTOGRAM,
    LISTENER,
    UPSTREAM,
    collect_upstreams,
    histogram_row,
    listener_rows,
    merge_listeners,
    merge_upstreams,
)
from nginy.admin.pace import ROW_US, Pace
from nginy.admin.subject import Subject
from nginy.event.histogram import TURN_BOUNDS_MS, Histogram
from nginy.event.meter import meter_of

DESCRIPTOR_US: Final = 1
DESCRIPTORS: Final = "/proc/self/fd"
PAGE_BYTES: Final = resource.getpagesize()
SCOPES: Final = ("process", "listener", "upstream", "backend")
BACKENDS_MAX: Final = 1000
"""Backends with series of their own."""

PROCESS: Final = row(
    worker=text,
    started_s=real,
    cpu_s=real,
    resident_bytes=number,
    open_fds=number,
    max_fds=number,
    connections=number,
    connections_limit=number,
    buffered_bytes=number,
    turns=HISTOGRAM,
    lags=HISTOGRAM,
    lost_lines=table(number),
    admin_s=real,
)


def process_row(subject: Subject) -> Slices[Facts]:
    """Return what the system and the loop say of this process."""
    fds = yield from open_fds(subject)
    loop, usage = subject.loop, resource.getrusage(resource.RUSAGE_SELF)
    meter = meter_of(loop)
    none = Histogram(TURN_BOUNDS_MS)
    turns, lags = (none, none) if meter is None else (meter.turns, meter.lags)
    return {
        "worker": subject.worker,
        "started_s": subject.started_at_ms / 1000,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "resident_bytes": _resident_bytes(usage.ru_maxrss * 1024),
        "open_fds": fds,
        "max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "connections": loop.connections,
        "connections_limit": loop.max_connections,
        "buffered_bytes": loop.budget.used_bytes,
        "turns": histogram_row(turns),
        "lags": histogram_row(lags),
        "lost_lines": dict(subject.lost_lines()),
        "admin_s": subject.admin_ns / 1e9,
    }


def open_fds(subject: Subject, directory: str = DESCRIPTORS) -> Slices[int]:
    """Return how many descriptors are open. Linux tells since 6.2; before, they must be counted."""
    try:
        known = os.stat(directory).st_size
    except OSError:  # there is no /proc
        known = 0
    return known or (yield from count_fds(subject, directory))


def count_fds(subject: Subject, directory: str = DESCRIPTORS) -> Slices[int]:
    """Count the open descriptors, or add the connections of now to what was counted a moment ago.

    There may be a hundred thousand.
    """
    loop = subject.loop
    if subject.fds_thrift.allows(loop.connections * DESCRIPTOR_US, loop.clock.now_ms):
        with subject.fds_thrift.refund():
            count = yield from _entries(directory)
        subject.other_fds = count - loop.connections
    return subject.other_fds + loop.connections


def _entries(directory: str) -> Slices[int]:
    """Count the entries of a directory, one for each open descriptor. If none is left to read it
    with, all that a process may have are open.
    """
    count, pace = -1, Pace()  # one belongs to the directory itself
    try:
        entries = os.scandir(directory)
    except OSError:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with entries:
        for _ in entries:
            count += 1
            if pace.is_over(DESCRIPTOR_US):
                yield None
    return count


def _resident_bytes(peak_bytes: int) -> int:
    """Return the memory in use; without a descriptor to ask with, the most that it ever was."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except OSError:
        return peak_bytes


def _collect(subject: Subject, wanted: Details) -> Slices[Facts]:
    scopes = wanted.get("scopes", SCOPES)
    facts: Facts = {"processes": [], "listeners": [], "upstreams": [], "backends": [], "omitted": 0}
    if "process" in scopes:
        facts["processes"] = [(yield from process_row(subject))]
        yield None
    if "listener" in scopes:  # this counts the bytes of open sessions as well
        facts["listeners"] = yield from listener_rows(subject)
        yield None
    name = wanted.get("upstream")
    if "upstream" in scopes:
        facts["upstreams"] = (yield from collect_upstreams(subject, {"name": name}))["upstreams"]
    if "backend" in scopes:
        if "listener" not in scopes:
            yield from count_bytes(subject)
        yield from _backends(subject, name, int(wanted.get("backends_max", BACKENDS_MAX)), facts)
    return facts


def _backends(subject: Subject, name: str | None, backends_max: int, facts: Facts) -> Slices[None]:
    """Add the rows of backends, whole upstreams at a time, as long as there is room."""
    pace = Pace()
    for pool in subject.pools():
        if name not in (None, pool.name):
            continue
        count = len(pool.backends) + len(pool.left)
        if len(facts["backends"]) + count > backends_max:
            facts["omitted"] += count
            if pace.is_over(1):
                yield None
            continue
        for backend in members_of(pool):
            facts["backends"].append(backend_row(subject, pool, backend))
            if pace.is_over(ROW_US):
                yield None


def _merge(reports: Sequence[Facts]) -> Facts:
    return {
        "processes": [each for report in reports for each in report["processes"]],
        "listeners": merge_listeners([each["listeners"] for each in reports]),
        "upstreams": merge_upstreams([each["upstreams"] for each in reports]),
        "backends": merge_rows((each["backends"] for each in reports), KEY, ADDED, join),
        "omitted": max((each["omitted"] for each in reports), default=0),
    }


MEASURED: Final = Source(
    "measured",
    _collect,
    row(
        processes=rows(PROCESS, 1),
        listeners=rows(LISTENER),
        upstreams=rows(UPSTREAM),
        backends=rows(BACKEND),
        omitted=number,
    ),
    _merge,
)
