"""Backends: each with its state, why, since when and until when, and what it has done so far.

`rows` answers "why does this one get no clients", with the words of `backend/pool.py` and of
`backend/health/`; `health` adds what each cause says, and the checks. Upstreams are in
`upstreams.py`.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from nginy.admin.answer import Facts, Slices
from nginy.admin.events import Event
from nginy.admin.facts.live import count_bytes
from nginy.admin.facts.merge import merge_rows
from nginy.admin.facts.shape import flag, number, optional, real, row, rows, table, text
from nginy.admin.facts.source import Details, Source
from nginy.admin.pace import ROW_US, Pace
from nginy.admin.subject import Subject
from nginy.backend.backend import Backend
from nginy.backend.checks.monitor import PoolMonitor
from nginy.backend.health.states import Cause, State
from nginy.backend.pool import BackendPool
from nginy.backend.unusable import out_until_ms
from nginy.wire.checks.http import HttpCheck
from nginy.wire.shown import shown

MATCH_US: Final = 2.5
"""The cost of matching a backend against what is asked for."""
LIMIT: Final = 1000
"""Backends in one answer."""
WORST: Final = {str(state): int(state) for state in State}

BACKEND: Final = row(
    upstream=text,
    address=text,
    name=text,
    state=text,
    operator=text,
    reason=optional(text),
    cause=optional(text),
    since=text,
    usable=flag,
    why_not=optional(text),
    failed_until=optional(text),
    weight=row(file=number, now=number, effective=real),
    max_conns=row(file=number, now=number),
    conns=number,
    sessions_total=number,
    received=number,
    sent=number,
    failures=number,
    checks=row(total=number, failed=number),
    connect_ms=optional(number),
    selected_at=optional(text),
    down_s=real,
    changes=number,
    check_s=optional(real),
    changed_by=optional(text),
    backup=flag,
    leaving=flag,
)
PASSED: Final = "passed"
"""The value of `Health.last_check` after a check without failure."""
OPEN_QUESTIONS: Final = frozenset({"smtp", "pop3", "imap", "ldap", "ssh", "dns", "ntp", "sip"})
"""Checks that send no text of the configuration, so nothing that may be a password."""
ADDED: Final = ("sessions_total", "received", "sent", "failures")


def backend_row(subject: Subject, pool: BackendPool, backend: Backend) -> Facts:
    """Return all facts about a backend."""
    clock, health, settings = subject.loop.clock, backend.health, backend.settings
    now_ms = clock.now_ms
    now_s = now_ms // 1000
    counters, override = backend.counters, backend.override
    is_leaving = backend.left_at_ms is not None
    why_not = "left" if is_leaving else pool.why_not(backend, now_s)
    until_ms = out_until_ms(backend, now_s) or health.ejection_ends_at_ms
    cause = None if health.state is State.UP else health.voices.worst
    unusable_ms = health.past.unusable_ms
    if health.state is not State.UP:
        unusable_ms += now_ms - health.since_at_ms
    selected_at_ms = backend.selected_at_ms
    return {
        "upstream": pool.name,
        "address": backend.addr_text,
        "name": backend.name,
        "state": str(health.state),
        "operator": str(health.voices.word(Cause.OPERATOR)),
        "reason": health.reason or None,
        "cause": None if cause is None else cause.value,
        "since": subject.wall_text(health.since_at_ms),
        "usable": not why_not,
        "why_not": why_not or None,
        "failed_until": None if until_ms is None else subject.wall_text(until_ms),
        "weight": {
            "file": settings.weight,
            "now": -(-backend.weight // pool.scale),
            "effective": backend.effective_weight / pool.scale,
        },
        "max_conns": {"file": settings.max_conns, "now": backend.max_conns},
        "conns": backend.conns,
        "sessions_total": backend.sessions_total,
        "received": counters.received,
        "sent": counters.sent,
        "failures": backend.failures,
        "checks": {"total": health.checks_total, "failed": health.checks_failed_total},
        "connect_ms": backend.connect_ms,
        "selected_at": subject.wall_text(selected_at_ms) if selected_at_ms else None,
        "down_s": unusable_ms / 1000,
        "changes": health.past.count,
        "check_s": next((took_ms / 1000 for _, took_ms, _ in health.schedule.results), None),
        "changed_by": override.by if override is not None else None,
        "backup": settings.backup,
        "leaving": is_leaving,
    }


def members_of(pool: BackendPool) -> Iterator[Backend]:
    """Yield the backends of a pool, and those that have left it and still serve."""
    backends, left = pool.backends, pool.left  # both at once: a reload may come in between
    yield from backends
    yield from (backend for backend in left if backend.conns)


def _fits(backend: Backend, pool: BackendPool, wanted: Details, now_s: int) -> bool:
    """Whether a backend is one of those that are asked for."""
    if wanted.get("address") not in (None, backend.addr_text, backend.name):
        return False
    if wanted.get("name") not in (None, backend.name):
        return False
    if wanted.get("state") not in (None, str(backend.health.state)):
        return False
    words = wanted.get("words")
    if words and not _matches(backend, pool, words):
        return False
    usable = wanted.get("usable")
    return usable is None or usable is not bool(pool.why_not(backend, now_s))


def _matches(backend: Backend, pool: BackendPool, words: Sequence[str]) -> bool:
    """Whether the text of a backend contains all words."""
    health = backend.health
    text = f"{pool.name}/{backend.addr_text} {backend.name} {health.state} {health.reason}".lower()
    return all(word in text for word in words)


def collect(subject: Subject, wanted: Details) -> Slices[Facts]:
    """Return the backends that fit, of one upstream or of all, from `after` on.

    With `bytes`, their byte counts include open sessions, which takes a look at each session.
    """
    if wanted.get("bytes"):
        yield from count_bytes(subject)
    wanted = {**wanted, "words": str(wanted.get("match") or "").lower().split()}
    after, limit = int(wanted.get("after", 0)), int(wanted.get("limit", LIMIT))
    found: list[Facts] = []
    matched, pace = 0, Pace()
    upstream = wanted["upstream"]
    pools = [pool for pool in subject.pools() if upstream in (None, pool.name)]
    for pool in pools:
        for backend in members_of(pool):
            if pace.is_over(MATCH_US):
                yield None
            if not _fits(backend, pool, wanted, subject.loop.clock.now_ms // 1000):
                continue
            matched += 1
            if after < matched <= after + limit:
                found.append(backend_row(subject, pool, backend))
                if pace.is_over(ROW_US):
                    yield None
    return {"is_known": bool(pools), "backends": found, "matched": matched}


def join(known: Facts, other: Facts) -> None:
    """Merge the rows of two workers: the worse state counts."""
    if known["state"] != other["state"]:
        words = known.setdefault("differs", [known["state"]])
        if other["state"] not in words:
            words.append(other["state"])
    if WORST.get(other["state"], 0) > WORST.get(known["state"], 0):
        names = ("state", "reason", "cause", "since", "usable", "why_not", "failed_until")
        known.update({name: other[name] for name in names})
    elif known["usable"] and not other["usable"]:
        known.update({name: other[name] for name in ("usable", "why_not", "failed_until")})
    weight = known["weight"]
    weight["effective"] = min(weight["effective"], other["weight"]["effective"])
    known["conns"] = max(known["conns"], other["conns"])
    known["down_s"] = max(known["down_s"], other["down_s"])
    known["changes"] = max(known["changes"], other["changes"])
    for name, value in other["checks"].items():
        known["checks"][name] = max(known["checks"][name], value)
    if known["connect_ms"] is None:
        known["connect_ms"] = other["connect_ms"]
    known["selected_at"] = max(known["selected_at"] or "", other["selected_at"] or "") or None


def _firsts(subject: Subject, wanted: Details) -> Slices[Facts]:
    """Return the first backends of every upstream, as long as there is room."""
    found: list[Facts] = []
    pace, limit, most = Pace(), int(wanted["limit"]), int(wanted["per_upstream"])
    for pool in subject.pools():
        room = max(min(limit - len(found), most), 0)
        for backend in islice(members_of(pool), room):
            found.append(backend_row(subject, pool, backend))
            if pace.is_over(ROW_US):
                yield None
    return {"is_known": True, "backends": found, "matched": len(found)}


KEY: Final = ("upstream", "name", "address")


def _merge(reports: Sequence[Facts]) -> Facts:
    return {
        "is_known": any(each["is_known"] for each in reports),
        "backends": merge_rows((each["backends"] for each in reports), KEY, ADDED, join),
        "matched": max((each["matched"] for each in reports), default=0),
    }


BACKENDS: Final = Source(
    "backends",
    collect,
    row(is_known=flag, backends=rows(BACKEND), matched=number),
    _merge,
)


FIRSTS: Final = Source("firsts", _firsts, BACKENDS.shape, _merge)


def _health(subject: Subject, wanted: Details) -> Slices[Facts]:
    """Return what each cause says about one backend."""
    facts = yield from collect(subject, {**wanted, "limit": 1})
    monitor = subject.monitor(wanted["upstream"])
    if monitor is None or not facts["backends"]:
        return facts
    address = facts["backends"][0]["address"]
    backend = next((b for b in members_of(monitor.pool) if b.addr_text == address), None)
    if backend is not None:
        facts["health"] = [_health_row(subject, monitor, backend)]
    return facts


def _health_row(subject: Subject, monitor: PoolMonitor, backend: Backend) -> Facts:
    health, now_ms = backend.health, subject.loop.clock.now_ms
    next_at_ms = health.schedule.next_at_ms if monitor.is_asking else None
    return {
        "voices": {cause.value: str(word) for cause, word in health.voices.words().items()},
        "checks": {
            "total": health.checks_total,
            "failed": health.checks_failed_total,
            "in_row": health.fails_in_row or health.passes_in_row,
            "next_in_s": None if next_at_ms is None else max(next_at_ms - now_ms, 0) / 1000,
            "last": _last_check(subject, monitor, backend),
        },
        "results": [
            {"at": subject.wall_text(at_ms), "took_s": took_ms / 1000, "passed": has_passed}
            for at_ms, took_ms, has_passed in health.schedule.results
        ],
    }


def _last_check(subject: Subject, monitor: PoolMonitor, backend: Backend) -> Facts | None:
    """Return how the last check went; None before there was one.

    A worker that has heard of it from another one, or from the process before, knows less.
    """
    health = backend.health
    if not health.last_check:
        return None
    results = health.schedule.results
    at_ms, took_ms, _ = next(iter(results), (None, None, None))
    has_passed = health.last_check == PASSED
    return {
        "at": None if at_ms is None else subject.wall_text(at_ms),
        "took_s": None if took_ms is None else took_ms / 1000,
        "passed": has_passed,
        "detail": None if has_passed else health.last_check,
        "sent": _sent(monitor, backend),
        "got": _head(results.said[1]),
    }


def _sent(monitor: PoolMonitor, backend: Backend) -> str | None:
    """Return the head of what was sent for the last check, unless it may be a password."""
    sent, probe = backend.health.schedule.results.said[0], monitor.settings.probe
    if probe is None:
        return None
    if isinstance(probe.question, HttpCheck):
        line = sent.partition(b"\r\n")[0]
        target, mark, query = line.partition(b"?")
        return _head(target + mark + b"*** " + query.rpartition(b" ")[2] if mark else line)
    return _head(sent) if probe.question.name in OPEN_QUESTIONS else None


def _head(data: bytes) -> str | None:
    return shown(data) if data else None


HEALTH_ROW: Final = row(
    voices=table(text),
    checks=row(
        total=number,
        failed=number,
        in_row=number,
        next_in_s=optional(real),
        last=optional(
            row(
                at=optional(text),
                took_s=optional(real),
                passed=flag,
                detail=optional(text),
                sent=optional(text),
                got=optional(text),
            )
        ),
    ),
    results=rows(row(at=text, took_s=real, passed=flag), 16),
)


def _merge_health(reports: Sequence[Facts]) -> Facts:
    """Take the report of the worker that makes the checks: the others hear from it."""
    merged = _merge(reports)
    found = [each for report in reports for each in report["health"]]
    asks = [each for each in found if each["checks"]["next_in_s"] is not None]
    merged["health"] = (asks or found)[:1]
    return merged


HEALTH: Final = Source(
    "health",
    _health,
    row(is_known=flag, backends=rows(BACKEND), matched=number, health=rows(HEALTH_ROW, 1)),
    _merge_health,
)


def health_of(facts: Facts, history: list[Event]) -> Facts:
    """Return the answer about one backend's health."""
    [found] = facts["health"]
    names = ("at", "before", "after", "cause", "text")
    return {**found, "history": [{name: each[name] for name in names} for each in history]}
