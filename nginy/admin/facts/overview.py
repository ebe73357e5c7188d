"""What nginy serves, by which backends, and whether all is well: the facts of the overview.

Each function is a generator that looks at some hundreds of backends, yields, and goes on in the
next turn: see `admin/answer.py`. `group.py` counts an upstream; `summary.py` makes the answers.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, TypeVar

from nginy.admin.answer import Facts, Slices
from nginy.admin.facts.group import TROUBLED_MAX, Group, counted_group
from nginy.admin.facts.live import count_bytes
from nginy.admin.facts.merge import merge_rows, sum_members
from nginy.admin.facts.shape import flag, number, optional, real, row, rows, table, text
from nginy.admin.facts.source import Details, Source
from nginy.admin.facts.upstreams import told_counts
from nginy.admin.pace import ROW_US, Pace
from nginy.admin.subject import Front, Subject
from nginy.backend.backend import Backend
from nginy.event.meter import meter_of

T = TypeVar("T")

ROWS_MAX: Final = TROUBLED_MAX
"""The most rows of each list in the overview."""
GROUP_US: Final = 4
"""The cost of beginning an upstream."""
LISTS: Final = ("listeners", "upstreams", "problems")


def count(subject: Subject) -> Slices[list[Group]]:
    """Return all upstreams, counted."""
    groups = []
    pace = Pace()
    for pool in subject.pools():
        now_s = subject.loop.clock.now_ms // 1000
        groups.append((yield from counted_group(pool, now_s, pace)))
        if pace.is_over(GROUP_US):
            yield None
    return groups


def facts(subject: Subject, _wanted: Details) -> Slices[Facts]:
    """Return what one process knows of itself; a worker reports it as it is."""
    groups = yield from count(subject)
    yield from count_bytes(subject)
    fronts = subject.fronts()
    yield None
    listeners = yield from _rows(_front, fronts)
    yield None
    upstreams = yield from _rows(partial(_upstream, subject), groups)
    yield None
    troubled = ((group, backend) for group in groups for backend in group.troubled)
    problems = yield from _rows(partial(_down, subject), troubled)
    yield None
    loop, counted_at_ms = subject.loop, subject.bytes_counted_at_ms
    return {
        "sessions": {
            "now": sum(front.handler.sessions for front in fronts),
            "total": loop.sessions_started,
        },
        "connections": {"now": loop.connections, "limit": loop.max_connections},
        "bytes": {
            "received": sum(each["received"] for each in listeners),
            "sent": sum(each["sent"] for each in listeners),
        },
        "bytes_age_ms": None if counted_at_ms is None else loop.clock.now_ms - counted_at_ms,
        "loop": loop_facts(subject),
        "listeners": listeners,
        "upstreams": upstreams,
        "problems": problems,
    }


def loop_facts(subject: Subject) -> Facts:
    """Return what the loop has measured."""
    meter = meter_of(subject.loop)
    if meter is None:
        return {"busy_s": 0.0, "lags": []}
    return {"busy_s": meter.turns.sum_ms / 1000, "lags": list(meter.lags.counts)}


def _rows(make: Callable[[T], Facts], items: Iterable[T]) -> Slices[list[Facts]]:
    """Return a row for each item, made in slices."""
    rows, pace = [], Pace()
    for item in items:
        rows.append(make(item))
        if pace.is_over(ROW_US):
            yield None
    return rows


def _front(front: Front) -> dict[str, object]:
    handler = front.handler
    return {
        "name": handler.name,
        "address": front.address,
        "protocol": handler.protocol.lower(),
        "to": handler.leads_to,
        **told_counts(handler.counters),
        "retiring": front.is_retiring,
    }


def _upstream(subject: Subject, group: Group) -> dict[str, object]:
    queue = group.pool.queue
    since_at_ms = None if group.usable else group.since_at_ms
    now_s = subject.loop.clock.now_ms // 1000
    return {
        "name": group.pool.name,
        "usable": group.usable,
        "backends": len(group.pool.backends),
        "states": group.states,
        "sessions": group.sessions,
        "queue": 0 if queue is None else len(queue),
        "why_none": None if group.usable else group.why_none(now_s),
        "since": None if since_at_ms is None else subject.wall_text(since_at_ms),
    }


def _down(subject: Subject, troubled: tuple[Group, Backend]) -> dict[str, object]:
    group, backend = troubled
    health = backend.health
    sentence = f"{group.pool.name}: {backend.addr_text} {health.state}: {health.reason}"
    return problem("warning", sentence, subject.wall_text(health.since_at_ms))


def problem(severity: str, sentence: str, since: str | None) -> dict[str, object]:
    """Return something that is wrong, with its instant as text."""
    return {"severity": severity, "text": sentence, "since": since}


def merge(reports: Sequence[Facts]) -> Facts:
    """Return the facts of all workers together."""
    return {
        "sessions": {"now": 0, "total": 0, **sum_members(reports, "sessions")},
        "connections": {"now": 0, "limit": 0, **sum_members(reports, "connections")},
        "bytes": {"received": 0, "sent": 0, **sum_members(reports, "bytes")},
        "bytes_age_ms": _oldest([each["bytes_age_ms"] for each in reports]),
        "loop": {
            # With several workers, the share of their total time.
            "busy_s": sum(r["loop"]["busy_s"] for r in reports) / max(len(reports), 1),
            "lags": [sum(counts) for counts in zip(*_lags(reports), strict=False)],
        },
        "listeners": merge_rows(
            (each["listeners"] for each in reports),
            ("address", "protocol", "retiring"),
            ("sessions", "sessions_total", "received", "sent"),
        ),
        "upstreams": merge_rows(
            (each["upstreams"] for each in reports), ("name",), ("queue",), _join
        ),
        "problems": merge_rows((each["problems"] for each in reports), ("text",)),
    }


def _oldest(ages_ms: Sequence[int | None]) -> int | None:
    """Return the greatest age; None if one is unknown.

    Ages and not times: the clock of a worker that was stopped is behind those of others.
    """
    known = [each for each in ages_ms if each is not None]
    return max(known) if known and len(known) == len(ages_ms) else None


def _lags(reports: Sequence[Facts]) -> list[list[int]]:
    return [report["loop"]["lags"] for report in reports]


def _join(known: Facts, other: Facts) -> None:
    """Merge the rows of two workers: an upstream is as good as the worse of them says."""
    if other["states"] != known["states"]:
        known["differs"] = True
    if other["usable"] < known["usable"]:
        known.update({name: other[name] for name in ("usable", "states", "why_none", "since")})
    known["sessions"] = max(known["sessions"], other["sessions"])  # the workers count together


OVERVIEW: Final = Source(
    "overview",
    facts,
    row(
        sessions=row(now=number, total=number),
        connections=row(now=number, limit=number),
        bytes=row(received=number, sent=number),
        bytes_age_ms=optional(number),
        loop=row(busy_s=real, lags=rows(number, 32)),
        listeners=rows(
            row(
                name=text,
                address=text,
                protocol=text,
                to=optional(text),
                sessions=number,
                sessions_total=number,
                received=number,
                sent=number,
                retiring=flag,
            )
        ),
        upstreams=rows(
            row(
                name=text,
                usable=number,
                backends=number,
                states=table(number),
                sessions=number,
                queue=number,
                why_none=optional(text),
                since=optional(text),
            )
        ),
        problems=rows(row(severity=text, text=text, since=optional(text))),
    ),
    merge,
)
