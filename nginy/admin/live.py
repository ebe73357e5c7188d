"""The open sessions, which this finds as `proxy/closer.py` does, some hundreds a turn.

Nobody keeps a list of TCP sessions; the selector knows them by their connections. Those that begin
while a walk is under way may be missing, none comes twice.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

from nginy.admin.answer import Slices
from nginy.event.loop import Loop
from nginy.proxy.session import Session

SLICE: Final = 500
"""Connections looked at in one turn: some 0.2 ms."""


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
        for owner in list(loop.timers.owners()):
            look_once(owner)


def live_bytes(loop: Loop) -> Slices[dict[int, list[int]]]:
    """Return the bytes that open sessions have received and sent, by the id of their counters."""
    found: dict[int, list[int]] = {}

    def add(session: Session) -> None:
        both = found.setdefault(id(session.handler.counters), [0, 0])
        both[0] += session.bytes_received
        both[1] += session.bytes_sent

    yield from walk(loop, add)
    return found
