"""What nginy serves, by which backends, and whether all is well: the overview, and the two probes.

Each function is a generator that looks at some hundreds of backends, yields, and goes on in the
next turn: see `admin/answer.py`. It repeats what `backend/pool.py` and `backend/health/health.py`
say of a backend, and works out nothing itself.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from nginy.admin.answer import Facts, Slices
from nginy.admin.facts.live import count_bytes
from nginy.admin.facts.merge import merge_rows, sum_members
from nginy.admin.facts.sampling import LISTENERS_MAX, Sample
from nginy.admin.facts.shape import flag, number, optional, real, row, rows, table, text
from nginy.admin.facts.source import Details, Source, known, silence, stamp
from nginy.admin.facts.upstreams import told_counts
from nginy.admin.pace import LOOK_US, ROW_US, Pace
from nginy.admin.subject import Front, Subject
from nginy.backend.backend import Backend
from nginy.backend.health.states import TROUBLES, State
from nginy.backend.pool import BackendPool
from nginy.backend.unusable import OUT, in_counts
from nginy.event.histogram import TURN_BOUNDS_MS, quantile_s
from nginy.event.meter import meter_of
from nginy.text.times import utc_text

T = TypeVar("T")

ROWS_MAX: Final = 200
"""The most rows of each list in the overview."""
GROUP_US: Final = 4
"""The cost of beginning an upstream."""
LISTS: Final = ("listeners", "upstreams", "problems")
WORDS: Final = {state: str(state) for state in State}


@dataclass(slots=True)
class Group:
    """An upstream and its backends, counted."""

    pool: BackendPool
    usable: int = 0
    sessions: int = 0
    states: dict[str, int] = field(default_factory=dict)
    troubled: list[Backend] = field(default_factory=list)
    """The first `ROWS_MAX` of the backends in one of `TROUBLES`."""
    since_at_ms: int | None = None
    """When the latest of the backends that are not up stopped being up; None if all are up."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How many backends are unusable, by the reason."""
    out_until_s: int = 0
    """When the first backend that failures have taken out comes back."""

    def add(self, backend: Backend, now_s: int) -> None:
        """Count a backend."""
        health = backend.health
        state = health.state
        word = WORDS[state]
        self.states[word] = self.states.get(word, 0) + 1
        self.sessions += backend.conns
        reason = self.pool.why_not(backend, now_s)
        if not reason:
            self.usable += 1
        else:
            self.reasons[reason] += 1
        if reason == OUT:
            until_s = backend.checked_s + backend.fail_timeout_s
            self.out_until_s = min(self.out_until_s or until_s, until_s)
        if state in TROUBLES and len(self.troubled) < ROWS_MAX:
            self.troubled.append(backend)
        if state is not State.UP:
            self.since_at_ms = max(self.since_at_ms or 0, health.since_at_ms)

    def why_none(self, now_s: int) -> str:
        """Return why no backend is usable, in the words of the log."""
        return in_counts(self.reasons, len(self.pool.backends), self.out_until_s - now_s)


def count(subject: Subject) -> Slices[list[Group]]:
    """Return all upstreams, counted."""
    groups = []
    pace = Pace()
    for pool in subject.pools():
        group = Group(pool)
        for backend in pool.backends:
            group.add(backend, subject.loop.clock.now_ms // 1000)
            if pace.is_over(LOOK_US):
                yield None
        groups.append(group)
        if pace.is_over(GROUP_US):
            yield None
    return groups


def facts(subject: Subject, _wanted: Details) -> Slices[Facts]:
    """Return what one process knows of itself; a worker reports it as it is."""
    groups = yield from count(subject)
    yield from count_bytes(subject.loop)
    fronts = subject.fronts()
    yield None
    listeners = yield from _rows(_front, fronts)
    yield None
    upstreams = yield from _rows(partial(_upstream, subject), groups)
    yield None
    troubled = ((group, backend) for group in groups for backend in group.troubled)
    problems = yield from _rows(partial(_down, subject), troubled)
    yield None
    loop = subject.loop
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


def merge(reports: Sequence[Facts]) -> Facts:
    """Return the facts of all workers together."""
    return {
        "sessions": {"now": 0, "total": 0, **sum_members(reports, "sessions")},
        "connections": {"now": 0, "limit": 0, **sum_members(reports, "connections")},
        "bytes": {"received": 0, "sent": 0, **sum_members(reports, "bytes")},
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


def overview(subject: Subject) -> Slices[Facts]:
    """Return one screenful."""
    found = yield from known(subject, OVERVIEW)
    yield None
    loop = subject.loop
    samples = subject.samples
    subject.gone.add_to_overview(found)
    if samples.is_due(time.monotonic()):
        samples.add(_sample(found, subject))
    subject.zero.add_to_overview(found, -1)
    found["problems"] = [*_problems(subject, found), *found["problems"]]
    if subject.needs_restart:
        sentence = f"needs a restart: {', '.join(subject.needs_restart)}"
        found["problems"].append(_problem("notice", sentence, None))
    result, at_ms = subject.last_reload or (None, 0)
    last_reload = None if result is None else {"result": result, "at": utc_text(at_ms)}
    uptime_ms = loop.clock.wall_ms() - subject.started_at_ms
    return {
        **stamp(subject, found),
        "version": subject.version,
        "uptime_s": uptime_ms / 1000,
        "status": subject.status,
        "config": {
            "file": subject.file,
            "file_changed": _has_changed(subject),
            "generation": subject.generation,
            "loaded_at": utc_text(subject.loaded_at_ms),
            "last_reload": last_reload,
            "needs_restart": list(subject.needs_restart),
        },
        "sessions": {**found["sessions"], "rate": samples.rate("total")},
        "connections": found["connections"],
        "bytes": {
            **found["bytes"],
            "received_rate": samples.rate("received"),
            "sent_rate": samples.rate("sent"),
        },
        "loop": {
            "busy": samples.rate("busy_s"),
            "lag_p99_s": quantile_s(found["loop"]["lags"], TURN_BOUNDS_MS, 0.99),
        },
        **{name: found[name][:ROWS_MAX] for name in LISTS},
        "more": {name: max(len(found[name]) - ROWS_MAX, 0) for name in LISTS},
        "draining": subject.draining,
        "counters_reset_at": None if subject.zero_at_ms is None else utc_text(subject.zero_at_ms),
    }


def _sample(found: Facts, subject: Subject) -> Sample:
    sessions, connections = found["sessions"], found["connections"]
    listeners: dict[str, int] = {}
    for each in found["listeners"][:LISTENERS_MAX]:
        name = f"{each['name']} {each['protocol']}"
        listeners[name] = listeners.get(name, 0) + each["received"] + each["sent"]
    before, lags = subject.lags, found["loop"]["lags"]
    subject.lags = lags
    recent = [max(a - b, 0) for a, b in zip(lags, before or [0] * len(lags), strict=False)]
    return Sample(
        time.monotonic(),
        sessions["now"],
        sessions["total"],
        found["bytes"]["received"],
        found["bytes"]["sent"],
        connections["now"],
        found["loop"]["busy_s"],
        quantile_s(recent, TURN_BOUNDS_MS, 0.99) or 0.0,
        listeners,
    )


def _has_changed(subject: Subject) -> bool:
    """Whether the configuration file is newer than what runs; False if nobody can tell."""
    try:
        return os.stat(subject.file).st_mtime > subject.loaded_at_ms / 1000
    except OSError:
        return False


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
    return _problem("warning", sentence, subject.wall_text(health.since_at_ms))


def _problems(subject: Subject, found: Facts) -> Iterator[dict[str, object]]:
    """Yield what is worse than a backend that is down."""
    silent = silence(found)
    if silent is not None:
        yield _problem("error", silent, None)
    for group in found["upstreams"]:
        if not group["usable"]:
            yield _problem("error", _shortage(group, 1), group["since"])
    if subject.last_reload is not None and subject.last_reload[0] == "refused":
        at = utc_text(subject.last_reload[1])
        yield _problem("error", "the last reload was refused, the log says why", at)


def _problem(severity: str, sentence: str, since: str | None) -> dict[str, object]:
    return {"severity": severity, "text": sentence, "since": since}


def _shortage(group: Facts, minimum: int) -> str:
    """Return why an upstream has fewer usable backends than it needs."""
    said = f"{group['name']}: {group['usable']} of {group['backends']} backends usable"
    if minimum > 1:
        said += f", {minimum} needed"
    if not group["usable"]:
        said += f" ({group['why_none']})"
    return said


def unreadiness(
    subject: Subject, upstream: str | None, minimum: int | None
) -> Slices[list[str] | None]:
    """Return why nginy should get no clients: nothing if it should, None if the upstream is
    unknown.

    `upstream` and `minimum` replace what the configuration says.
    """
    if subject.status != "serving":
        return [subject.draining or subject.status]
    found = yield from known(subject, OVERVIEW)
    if "workers" in found and not found["workers"]["answered"]:
        return [str(silence(found))]
    groups = [each for each in found["upstreams"] if upstream in (None, each["name"])]
    if upstream is not None and not groups:
        return None
    reasons = []
    for group in groups:
        least = minimum
        if least is None:
            least = subject.ready.get(group["name"], subject.ready.get("min_up", 1))
        if group["usable"] < least:
            reasons.append(_shortage(group, least))
    return reasons
