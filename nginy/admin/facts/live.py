"""The open sessions, found as `proxy/closer.py` finds them, a few hundred in each turn.

Nobody keeps a list of TCP sessions; the selector knows them by their connections. A walk may miss a
session that begins meanwhile, and sees none twice.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from nginy.admin.answer import Slices
from nginy.admin.pace import Pace
from nginy.admin.subject import Subject
from nginy.backend.backend import Counters
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.proxy.session import Session

TELL_US: Final = 0.5
SLICE: Final = 200
"""Connections looked at in one turn: some 0.1 ms, and 0.2 ms where each session is looked at."""
LOOK_US: Final = 0.4
"""The cost of a connection there."""
TIMER_US: Final = 1.5
"""The cost of looking at a timer."""


def met(loop: Loop) -> Iterator[list[Session]]:
    """Yield the sessions that each slice of a walk has met; each session once.

    Numbers would not do: sessions that come from two workers of an earlier process may have the
    same one.
    """
    seen: set[Session] = set()
    connections = iter(loop.interest.connections())
    while some := list(islice(connections, SLICE)):
        found: list[Session] = []
        for c in some:
            owner = c.data
            if c.fd >= 0 and isinstance(owner, Session) and owner.end is None and owner not in seen:
                seen.add(owner)
                found.append(owner)
        yield found
    if not loop.interest.is_edge_triggered:
        # A connection that waits for nothing is not registered there; a timer has its session.
        pace, found = Pace(), []
        for _, timer in loop.timers.running():
            owner = timer.data
            if isinstance(owner, Session) and owner.end is None and owner not in seen:
                seen.add(owner)
                found.append(owner)
            if pace.is_over(TIMER_US):
                yield found
                found = []
        yield found


def walk(loop: Loop, look: Callable[[Session], object]) -> Slices[None]:
    """Call `look` once with each session."""
    for sessions in met(loop):
        for session in sessions:
            look(session)
        yield None


def walk_timers(loop: Loop, look: Callable[[int, Timer], object]) -> Slices[None]:
    """Call `look` with the deadline and each timer that runs.

    One that is set again meanwhile may be missing, or come twice.
    """
    pace = Pace()
    for deadline_ms, timer in loop.timers.running():
        look(deadline_ms, timer)
        if pace.is_over(TIMER_US):
            yield None


def count_bytes(subject: Subject) -> Slices[None]:
    """Bring the byte counts that are reported up to date, with those of open sessions.

    Does nothing if that was done a moment ago (`admin/thrift.py`). A session that ends before the
    walk reaches it may be missing until the next time.
    """
    loop = subject.loop
    if not subject.bytes_thrift.allows(loop.connections * LOOK_US, loop.clock.now_ms):
        return
    with subject.bytes_thrift.refund():
        yield from _count_bytes(loop)
        subject.bytes_counted_at_ms = loop.clock.now_ms


def _count_bytes(loop: Loop) -> Slices[None]:
    found: dict[int, tuple[Counters, list[int]]] = {}
    for sessions in met(loop):
        for session in sessions:
            received, sent = session.bytes_received, session.bytes_sent
            attempt = session.attempts[-1] if session.attempts else None
            backend = None if attempt is None else attempt.backend
            _add(found, session.handler.counters, received, sent)
            if backend is not None:
                _add(found, backend.counters, received, sent)
        yield None
    pace = Pace()
    for counters, (received, sent) in found.values():
        counters.told_received = max(counters.told_received, received)
        counters.told_sent = max(counters.told_sent, sent)
        if pace.is_over(TELL_US):
            yield None


def _add(
    found: dict[int, tuple[Counters, list[int]]], counters: Counters, received: int, sent: int
) -> None:
    known = found.get(id(counters))
    if known is None:
        # The bytes of ended sessions as of now: a session that ends from here on still counts as
        # open.
        ended = [counters.bytes_received, counters.bytes_sent]
        known = found[id(counters)] = counters, ended
    live = known[1]
    live[0] += received
    live[1] += sent
