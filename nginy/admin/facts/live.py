"""The open sessions, found as `proxy/closer.py` finds them, a few hundred in each turn.

Nobody keeps a list of TCP sessions; the selector knows them by their connections. A walk may miss a
session that begins meanwhile, and sees none twice.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

from nginy.admin.answer import Slices
from nginy.admin.pace import Pace
from nginy.backend.backend import Counters
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.proxy.session import Session

TELL_US: Final = 0.5
SLICE: Final = 200
"""Connections looked at in one turn: some 0.1 ms, and 0.3 ms where each session is looked at."""
TIMER_US: Final = 1.5
"""The cost of looking at a timer."""


def walk(loop: Loop, look: Callable[[Session], object]) -> Slices[None]:
    """Call `look` once with each session."""
    seen: set[int] = set()

    def look_once(owner: object) -> None:
        if isinstance(owner, Session) and owner.end is None and owner.number not in seen:
            seen.add(owner.number)
            look(owner)

    connections = iter(loop.interest.connections())
    while True:
        count = 0
        for c in islice(connections, SLICE):
            count += 1
            if c.fd >= 0:
                look_once(c.data)
        if count < SLICE:
            break
        yield None
    if not loop.interest.is_edge_triggered:
        # A connection that waits for nothing is not registered there; a timer has its session.
        yield from walk_timers(loop, lambda _, timer: look_once(timer.data))


def walk_timers(loop: Loop, look: Callable[[int, Timer], object]) -> Slices[None]:
    """Call `look` with the deadline and each timer that runs.

    One that is set again meanwhile may be missing, or come twice.
    """
    pace = Pace()
    for deadline_ms, timer in loop.timers.running():
        look(deadline_ms, timer)
        if pace.is_over(TIMER_US):
            yield None


def count_bytes(loop: Loop) -> Slices[None]:
    """Bring the byte counts that are reported up to date, with those of open sessions.

    A session that ends before the walk reaches it may be missing until the next time.
    """
    found: dict[int, tuple[Counters, list[int]]] = {}

    def add(session: Session) -> None:
        attempt = session.attempts[-1] if session.attempts else None
        backend = None if attempt is None else attempt.backend
        both = session.bytes_received, session.bytes_sent
        _add(found, session.handler.counters, both)
        if backend is not None:
            _add(found, backend.counters, both)

    yield from walk(loop, add)
    pace = Pace()
    for counters, (received, sent) in found.values():
        counters.told_received = max(counters.told_received, received)
        counters.told_sent = max(counters.told_sent, sent)
        if pace.is_over(TELL_US):
            yield None


def _add(
    found: dict[int, tuple[Counters, list[int]]], counters: Counters, live: tuple[int, int]
) -> None:
    known = found.get(id(counters))
    if known is None:
        # The bytes of ended sessions as of now: a session that ends from here on still counts as
        # open.
        ended = [counters.bytes_received, counters.bytes_sent]
        known = found[id(counters)] = counters, ended
    known[1][0] += live[0]
    known[1][1] += live[1]
