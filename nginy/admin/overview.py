"""What is being served, by whom, and whether all is well: the overview, and the two probes.

Each function is a generator that looks at some hundreds of backends, yields, and goes on in the
next turn: see `answer.py`. What it says of a backend is what `backend/pool.py` and
`backend/health/health.py` say; nothing is worked out anew here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from nginy.admin.answer import Slices
from nginy.admin.subject import Front, Subject
from nginy.backend.backend import Backend
from nginy.backend.health.states import State
from nginy.backend.pool import BackendPool
from nginy.proxy.handler import ProxyHandler
from nginy.text.times import utc_text

ROWS_MAX: Final = 200
"""Of each list in the overview."""
BACKENDS_A_SLICE: Final = 500
"""Backends looked at in one turn: some 0.4 ms."""
WORDS: Final = {state: str(state) for state in State}
PROBLEMS: Final = frozenset({State.EJECTED, State.DOWN, State.UNRESOLVED})
"""States that nobody has asked for."""


@dataclass(slots=True)
class Group:
    """An upstream and its backends, counted."""

    pool: BackendPool
    usable: int = 0
    sessions: int = 0
    states: dict[str, int] = field(default_factory=dict)
    troubled: list[Backend] = field(default_factory=list)
    """The first `ROWS_MAX` of the backends in one of `PROBLEMS`."""
    since_at_ms: int | None = None
    """When the last backend went; None as long as one is up."""

    def add(self, backend: Backend, now_s: int) -> None:
        """Count a backend."""
        health = backend.health
        state = health.state
        word = WORDS[state]
        self.states[word] = self.states.get(word, 0) + 1
        self.sessions += backend.conns
        if not self.pool.why_not(backend, now_s):
            self.usable += 1
        if state in PROBLEMS and len(self.troubled) < ROWS_MAX:
            self.troubled.append(backend)
        if state is not State.UP:
            self.since_at_ms = max(self.since_at_ms or 0, health.since_at_ms)


def count(subject: Subject) -> Slices[list[Group]]:
    """Return all upstreams, counted."""
    groups = []
    looked_at = 0
    for pool in subject.pools():
        group = Group(pool)
        for backend in pool.backends:
            group.add(backend, subject.loop.clock.now_ms // 1000)
            looked_at += 1
            if looked_at % BACKENDS_A_SLICE == 0:
                yield
        groups.append(group)
        looked_at += 1
        if looked_at % BACKENDS_A_SLICE == 0:
            yield
    return groups


def overview(subject: Subject) -> Slices[dict[str, object]]:
    """Return one screenful."""
    groups = yield from count(subject)
    fronts = subject.fronts()
    yield
    loop = subject.loop
    problems = list(_problems(subject, groups))
    lists: dict[str, tuple[int, list[dict[str, object]]]] = {
        "listeners": (len(fronts), [_front(front) for front in fronts[:ROWS_MAX]]),
        "upstreams": (len(groups), [_upstream(group) for group in groups[:ROWS_MAX]]),
        "problems": (len(problems), problems[:ROWS_MAX]),
    }
    result, at_ms = subject.last_reload or (None, 0)
    last_reload = None if result is None else {"result": result, "at": utc_text(at_ms)}
    uptime_ms = loop.clock.wall_ms() - subject.started_at_ms
    return {
        **subject.stamp(),
        "version": subject.version,
        "uptime_s": uptime_ms / 1000,
        "status": subject.status,
        "config": {
            "file": subject.file,
            "generation": subject.generation,
            "loaded_at": utc_text(subject.loaded_at_ms),
            "last_reload": last_reload,
            "needs_restart": list(subject.needs_restart),
        },
        "sessions": {
            "now": sum(front.handler.sessions for front in fronts),
            "rate": None,
            "total": loop.sessions_started,
        },
        "connections": {"now": loop.connections, "limit": loop.max_connections},
        "bytes": {"received_rate": None, "sent_rate": None},
        "loop": {"busy": None, "lag_p99_s": None},
        **{name: rows for name, (_, rows) in lists.items()},
        "more": {name: max(total - ROWS_MAX, 0) for name, (total, _) in lists.items()},
        "draining": subject.draining,
    }


def _front(front: Front) -> dict[str, object]:
    handler = front.handler
    counters = handler.counters
    return {
        "name": handler.name,
        "address": front.address,
        "protocol": handler.protocol.lower(),
        "to": handler.pool.name if isinstance(handler, ProxyHandler) else None,
        "sessions": counters.open,
        "sessions_total": counters.sessions + counters.open,
        "received": counters.bytes_received,
        "sent": counters.bytes_sent,
        "retiring": front.is_retiring,
    }


def _upstream(group: Group) -> dict[str, object]:
    queue = group.pool.queue
    return {
        "name": group.pool.name,
        "usable": group.usable,
        "backends": len(group.pool.backends),
        "states": group.states,
        "sessions": group.sessions,
        "queue": 0 if queue is None else len(queue),
    }


def _problems(subject: Subject, groups: list[Group]) -> Iterator[dict[str, object]]:
    """Yield what is wrong, the worst first."""
    for group in groups:
        if not group.usable:
            since_at_ms = group.since_at_ms
            since = None if since_at_ms is None else subject.wall_text(since_at_ms)
            yield _problem("error", _shortage(subject, group, 1), since)
    if subject.last_reload is not None and subject.last_reload[0] == "refused":
        at = utc_text(subject.last_reload[1])
        yield _problem("error", "the last reload was refused, the log says why", at)
    for group in groups:
        for backend in group.troubled:
            health = backend.health
            text = f"{group.pool.name}: {backend.addr_text} {health.state}: {health.reason}"
            yield _problem("warning", text, subject.wall_text(health.since_at_ms))
    if subject.needs_restart:
        text = f"takes a restart: {', '.join(subject.needs_restart)}"
        yield _problem("notice", text, None)


def _problem(severity: str, text: str, since: str | None) -> dict[str, object]:
    return {"severity": severity, "text": text, "since": since}


def _shortage(subject: Subject, group: Group, minimum: int) -> str:
    """Return why an upstream has fewer usable backends than it needs."""
    total = len(group.pool.backends)
    text = f"{group.pool.name}: {group.usable} of {total} backends usable"
    if minimum > 1:
        text += f", {minimum} needed"
    if not group.usable:
        text += f" ({group.pool.why_none((), subject.loop.clock.now_ms // 1000)})"
    return text


def unreadiness(
    subject: Subject, upstream: str | None, minimum: int | None
) -> Slices[list[str] | None]:
    """Return why nginy should get no clients, nothing if it should; None without the upstream.

    `upstream` and `minimum` take the place of what the configuration says.
    """
    if subject.status != "serving":
        return [subject.draining or subject.status]
    groups = yield from count(subject)
    if upstream is not None:
        groups = [group for group in groups if group.pool.name == upstream]
        if not groups:
            return None
    reasons = []
    for group in groups:
        least = minimum
        if least is None:
            least = subject.ready.get(group.pool.name, subject.ready.get("min_up", 1))
        if group.usable < least:
            reasons.append(_shortage(subject, group, least))
    return reasons
