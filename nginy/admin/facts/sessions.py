"""Sessions: the open ones that match a filter, and their end if an operator orders it.

An id is PID.NUMBER, as in the log ("17758#0: *13"), so it is never used again. Lists are in the
order of ids and come in pages. `top` keeps a heap of the largest as it goes, so it never sorts all
of them.

nginx: none. HAProxy: `show sess`, `shutdown session`.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappush, heapreplace
from typing import Final

from nginy.admin.answer import Facts, Slices
from nginy.admin.facts.live import walk, walk_timers
from nginy.admin.facts.shape import number, optional, real, row, rows, text
from nginy.admin.facts.source import Details, Source
from nginy.admin.pace import ROW_US, Pace
from nginy.admin.subject import Subject
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.proxy.access import Table, parse_network
from nginy.proxy.context import host_of
from nginy.proxy.handler import ProxyHandler
from nginy.proxy.session import Reason, Session

LIMIT: Final = 1000
"""Sessions in one answer."""
STATES: Final = ("connecting", "queued", "established", "client_closed", "backend_closed")
ORDERS: Final = ("bytes", "age", "idle")
KILL_SLICE: Final = 10
"""Sessions ended in one turn: some 0.4 ms."""

ATTEMPT: Final = row(
    address=text,
    started=text,
    connect_ms=optional(number),
    errno=number,
    received=number,
    sent=number,
)
TIMER: Final = row(what=text, due_in_s=real)
SESSION: Final = row(
    id=text,
    protocol=text,
    listener=text,
    upstream=optional(text),
    backend=optional(text),
    client=text,
    state=text,
    started=text,
    age_s=real,
    idle_s=real,
    received=number,
    sent=number,
    unsent=number,
    attempts=number,
)


def state_of(session: Session) -> str:
    """Return one of `STATES`."""
    attempt = session.attempts[-1] if session.attempts else None
    if attempt is None or attempt.connected_at_ms is None:
        return "queued" if session.client.action == "waiting for a backend" else "connecting"
    upstream = session.upstream
    if session.handler.protocol == "TCP":
        if session.client.read.eof:
            return "client_closed"
        if upstream is not None and upstream.read.eof:
            return "backend_closed"
    return "established"


def _backend(session: Session) -> str | None:
    return session.attempts[-1].address if session.attempts else None


def _upstream(session: Session) -> str | None:
    handler = session.handler
    return handler.pool.name if isinstance(handler, ProxyHandler) else None


def _idle_ms(session: Session, now_ms: int) -> int:
    upstream = session.upstream
    last_ms = session.client.active_at_ms
    if upstream is not None:
        last_ms = max(last_ms, upstream.active_at_ms)
    return now_ms - last_ms


def _bytes(session: Session) -> int:
    return session.bytes_received + session.bytes_sent


@dataclass(frozen=True, slots=True)
class Filter:
    """Which sessions are meant; None means any."""

    listener: str | None = None
    upstream: str | None = None
    backend: str | None = None
    client: Table | None = None
    protocol: str | None = None
    state: str | None = None
    min_age_ms: int = 0
    min_idle_ms: int = 0
    min_bytes: int = 0
    ids: frozenset[int] | None = None
    """Numbers of sessions of this process."""

    def fits(self, session: Session, now_ms: int) -> bool:
        """Whether a session is one of them; the cheapest test comes first."""
        handler = session.handler
        return (
            (self.ids is None or session.number in self.ids)
            and self.listener in (None, handler.name)
            and self.protocol in (None, handler.protocol.lower())
            and now_ms - session.client.start_time_ms >= self.min_age_ms
            and _bytes(session) >= self.min_bytes
            and _idle_ms(session, now_ms) >= self.min_idle_ms
            and self._fits_place(session)
        )

    def _fits_place(self, session: Session) -> bool:
        return (
            (self.upstream is None or self.upstream == _upstream(session))
            and (self.backend is None or self.backend == _backend(session))
            and (self.state is None or self.state == state_of(session))
            and (self.client is None or self.client.owner(host_of(session.client.sockaddr)) == 0)
        )


def parse_filter(wanted: Details, pid: int) -> Filter:
    """Return the filter of a request, whose values were checked when it came in."""
    client, ids = wanted.get("client"), wanted.get("ids")
    return Filter(
        wanted.get("listener"),
        wanted.get("upstream"),
        wanted.get("backend"),
        None if client is None else Table([(parse_network(client), 0)]),
        wanted.get("protocol"),
        wanted.get("state"),
        wanted.get("min_age_ms", 0),
        wanted.get("min_idle_ms", 0),
        wanted.get("min_bytes", 0),
        None
        if ids is None
        else frozenset(number for owner, number in map(split_id, ids) if owner == pid),
    )


def split_id(text: str) -> tuple[int, int]:
    """Return process and number of an id; raises ValueError."""
    pid, _, number_text = text.partition(".")
    if not (text.isascii() and pid.isdecimal() and number_text.isdecimal() and len(text) <= 40):
        raise ValueError(f"{text[:50]} is no id of a session")
    return int(pid), int(number_text)


def session_row(subject: Subject, session: Session, pid: int) -> Facts:
    """Return all facts about a session."""
    client, upstream, now_ms = session.client, session.upstream, subject.loop.clock.now_ms
    unsent = sum(
        len(c.buffer) for c in (client, upstream) if c is not None and c.buffer is not None
    )
    return {
        "id": f"{pid}.{session.number}",
        "protocol": session.handler.protocol.lower(),
        "listener": session.handler.name,
        "upstream": _upstream(session),
        "backend": _backend(session),
        "client": client.addr_text,
        "state": state_of(session),
        "started": subject.wall_text(client.start_time_ms),
        "age_s": (now_ms - client.start_time_ms) / 1000,
        "idle_s": _idle_ms(session, now_ms) / 1000,
        "received": session.bytes_received,
        "sent": session.bytes_sent,
        "unsent": unsent,
        "attempts": len(session.attempts),
    }


class _Heap:
    """The sessions with the largest keys."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, int, int, Session]] = []
        self._turns = itertools.count(0, -1)
        """Tells apart sessions with one number, which come from two workers of an earlier process;
        the first of them to come goes first."""

    def add(self, key: int, session: Session) -> None:
        entry = (key, -session.number, next(self._turns), session)
        if len(self._heap) < self._size:
            heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapreplace(self._heap, entry)

    def largest_first(self) -> list[Session]:
        return [session for *_, session in sorted(self._heap, reverse=True)]


def _key_of(order: str | None, now_ms: int) -> Callable[[Session], int]:
    if order is None:
        return lambda session: -session.number
    if order == "bytes":
        return _bytes
    if order == "age":
        return lambda session: now_ms - session.client.start_time_ms
    return lambda session: _idle_ms(session, now_ms)


def _collect(subject: Subject, wanted: Details) -> Slices[Facts]:
    pid, now_ms = subject.pid, subject.loop.clock.now_ms
    chosen = parse_filter(wanted, pid)
    limit = wanted.get("limit", LIMIT)
    after_pid, after = wanted.get("after") or (0, 0)
    by = wanted.get("by")
    heap = _Heap(limit)
    key_of = _key_of(by, now_ms)
    matched = 0

    def look(session: Session) -> None:
        nonlocal matched
        if not chosen.fits(session, now_ms):
            return
        matched += 1
        if by is not None or (pid, session.number) > (after_pid, after):
            heap.add(key_of(session), session)

    yield from walk(subject.loop, look)
    sessions = heap.largest_first()
    facts: list[Facts] = []
    pace = Pace()
    for session in sessions:
        if session.end is None:
            facts.append(session_row(subject, session, pid))
        if pace.is_over(ROW_US):
            yield None
    is_whole = bool(sessions) and wanted.get("is_whole", False)
    timers = (yield from _timers(subject, sessions[0])) if is_whole else []
    return {
        "sessions": facts,
        "matched": matched,
        "attempts": _attempts(subject, sessions[0]) if is_whole else [],
        "timers": timers,
    }


def _timers(subject: Subject, session: Session) -> Slices[list[Facts]]:
    """Return what a session waits for, and until when, the next first; O(all timers)."""
    loop = subject.loop
    running: dict[Timer, int] = {}

    def note(deadline_ms: int, timer: Timer) -> None:
        if timer.data is session:
            running[timer] = deadline_ms

    yield from walk_timers(loop, note)
    now_ms = loop.clock.now_ms
    return [
        {"what": str(timer).partition(" of ")[0], "due_in_s": max(ms - now_ms, 0) / 1000}
        for timer, ms in sorted(running.items(), key=lambda each: each[1])
        if timer.is_running  # without a handler, perhaps, if it was cancelled meanwhile
    ]


def _attempts(subject: Subject, session: Session) -> list[Facts]:
    """Return all attempts of a session."""
    found = []
    for attempt in session.attempts:
        connected_at_ms = attempt.connected_at_ms
        upstream = session.upstream if attempt.backend is not None else None
        found.append(
            {
                "address": attempt.address,
                "started": subject.wall_text(attempt.started_at_ms),
                "connect_ms": None
                if connected_at_ms is None
                else connected_at_ms - attempt.started_at_ms,
                "errno": attempt.errno,
                "received": attempt.bytes_received if upstream is None else upstream.received,
                "sent": attempt.bytes_sent if upstream is None else upstream.sent,
            }
        )
    return found


def order_key(session: Facts) -> tuple[int, int]:
    """Return the key that orders the sessions of several workers."""
    try:
        return split_id(session["id"])
    except ValueError:
        return 0, 0


def _merge(reports: Sequence[Facts]) -> Facts:
    sessions = [each for report in reports for each in report["sessions"]]
    return {
        "sessions": sorted(sessions, key=order_key),
        "matched": sum(report["matched"] for report in reports),
        "attempts": [each for report in reports for each in report["attempts"]],
        "timers": [each for report in reports for each in report["timers"]],
    }


SESSIONS: Final = Source(
    "sessions",
    _collect,
    row(
        sessions=rows(SESSION, LIMIT + 1),
        matched=number,
        attempts=rows(ATTEMPT, 100),
        timers=rows(TIMER, 100),
    ),
    _merge,
)


class Killer:
    """Ends sessions, at most so many a second. Created for one order; its timer keeps it alive."""

    def __init__(
        self, loop: Loop, sessions: list[Session], per_second: int, *, reset: bool
    ) -> None:
        self._loop = loop
        self._sessions = sessions
        self._per_second = per_second
        self._reset = reset
        self._timer = Timer(self._next_handler, self)

    def work(self) -> int:
        """End the first ones now and the others later; return how many ended now."""
        count = 0
        slice_ = min(self._per_second, KILL_SLICE)
        while self._sessions and count < slice_:
            session = self._sessions.pop()
            if session.end is None:
                session.finalize(Reason.KILLED_BY_OPERATOR, reset=self._reset)
                count += 1
        if self._sessions:
            delay_ms = max(1000 * slice_ // self._per_second, 10)
            self._loop.timers.start(self._timer, self._loop.clock.now_ms + delay_ms)
        else:
            self._loop.timers.cancel(self._timer)
        return count

    def _next_handler(self, _timer: Timer) -> None:
        self.work()

    def abort(self) -> None:
        """Leave the others alone, after a bug in the end of one."""
        self._sessions.clear()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "sessions that an operator ends"


def _kill(subject: Subject, wanted: Details) -> Slices[Facts]:
    chosen = parse_filter(wanted, subject.pid)
    now_ms = subject.loop.clock.now_ms
    found: list[Session] = []

    def look(session: Session) -> None:
        if chosen.fits(session, now_ms):
            found.append(session)

    yield from walk(subject.loop, look)
    found.sort(key=lambda session: -session.number)
    killer = Killer(subject.loop, found, wanted["per_second"], reset=wanted.get("reset", False))
    total = len(found)
    return {"killed": killer.work() if found else 0, "total": total}


KILL: Final = Source(
    "kill",
    _kill,
    row(killed=number, total=number),
    lambda reports: {name: sum(report[name] for report in reports) for name in ("killed", "total")},
)
