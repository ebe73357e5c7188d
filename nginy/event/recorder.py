"""Recorder: writes the records of a trace while a loop turns.

The steps of a turn go through lists: what is ready, what is due, what was put off. A recorder
yields each entry of such a list to the step, and when the step asks for the next one, the handler
has run. So it sees each handler without a change of the loop.

It keeps the last turns, in two rows so that idle ones do not displace busy ones, and all turns
while there is a `Trace`.

Read first: `trace`. Next: `traced`.

Tested in tests/event/test_trace.py.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count as counting
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any, Final

from nginy.event.connection import Connection
from nginy.event.event import Event
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.event.meter import NS_A_MS, MeteredClock
from nginy.event.signals import SignalReceiver
from nginy.event.timer import Owner, Timer
from nginy.event.trace import (
    ACCEPT,
    ADMIN,
    AGAIN,
    CLIENT_READ,
    CLOSED,
    CONNECTED,
    DONE,
    EARLY,
    EOF,
    ERROR,
    KEPT_OWN_TURNS,
    KEPT_TURNS,
    MORE,
    OTHER,
    POSTED,
    PUT_OFF,
    SET_AGAIN,
    TIMER,
    TO_CLIENT,
    TO_UPSTREAM,
    UPSTREAM_READ,
    WAITS,
    WRITE,
    Role,
    Trace,
)

now: Final = time.monotonic_ns

# Global names: a member of an Enum costs 40 ns to look up.
SESSION: Final = Role.SESSION
LISTENER: Final = Role.LISTENER
OURS: Final = Role.ADMIN


def _ignore(_owner: Owner, _at_ns: int) -> None:
    """Do nothing: nobody follows sessions."""


class Recorder:
    """Notes what a `TracedLoop` does: the last turns, and all of them while there is a trace."""

    __slots__ = (
        "_own",
        "_turns",
        "at_ns",
        "boxes",
        "early",
        "fired",
        "gc_ns",
        "look",
        "numbers",
        "put_off",
        "role_of",
        "roles",
        "sessions",
        "trace",
    )

    def __init__(self, role_of: Callable[[Owner | None], Role]) -> None:
        self.role_of = role_of
        self.roles: dict[type, Role] = {}
        """By the type of the owner, if all of that type have the same one."""
        self.sessions: set[Any] = set()
        """The types of sessions."""
        self.look: Callable[[Owner, int], None] = _ignore
        self._turns: deque[tuple[Any, ...]] = deque(maxlen=KEPT_TURNS - KEPT_OWN_TURNS)
        self._own: deque[tuple[Any, ...]] = deque(maxlen=KEPT_OWN_TURNS)
        self.trace: Trace | None = None
        self.boxes: list[tuple[Any, ...]] = []
        """Of the present turn."""
        self.at_ns = self.gc_ns = now()
        """When the last box ended, or the step began; when a collection of garbage began."""
        self.numbers = counting(1)
        self.put_off = 0
        """What step 6 of this turn is about to run."""
        self.fired = self.early = 0
        """Timers that fired; how many of them went back to sleep."""

    def role(self, owner: Owner | None) -> Role:
        """Return what an owner is."""
        found = self.roles.get(type(owner))
        if found is None:
            found = self.role_of(owner)
            if not isinstance(owner, Listener):  # some are the admin interface's
                self.roles[type(owner)] = found
            if found is SESSION:
                self.sessions.add(type(owner))
        return found

    def last_turns(self, after: int = 0) -> list[tuple[Any, ...]]:
        """Return the last turns, as far as their numbers are greater than `after`."""
        return sorted(
            (turn for turn in (*self._turns, *self._own) if turn[0] > after),
            key=lambda turn: turn[0],
        )

    def begin_turn(self, loop: Loop) -> int:
        """Begin a turn, and measure the one before it if the loop has a meter; return when."""
        clock, began_ns = loop.clock, now()
        if isinstance(clock, MeteredClock):
            clock.meter.turns.count((began_ns - clock.read_ns) / NS_A_MS)
        self.boxes = []
        return began_ns

    def end_turn(self, turn: tuple[Any, ...]) -> None:
        """Keep a turn."""
        for box in self.boxes:
            if box[0] != ADMIN:
                self._turns.append(turn)
                break
        else:
            self._own.append(turn)
        if self.trace is not None:
            self.trace.add(turn, len(self.boxes))

    def begin_trace(self, trace: Trace, look: Callable[[Owner, int], None]) -> None:
        """Keep all turns in `trace` from now on; `look` hears of sessions that may have got
        further, and when."""
        self.trace, self.look = trace, look

    def end_trace(self) -> None:
        """Keep the last turns only."""
        self.trace, self.look = None, _ignore

    def collected(self, phase: str, info: dict[str, int]) -> None:
        """Note a collection of garbage; one of `gc.callbacks`."""
        if phase == "start":
            self.gc_ns = now()
        elif self.trace is not None:
            took_us = (now() - self.gc_ns) // 1000
            text = f"generation {info['generation']}, {took_us} us, {info['collected']} objects"
            self.trace.mark("i", self.gc_ns, 0, "gc", text)

    # What the steps of a turn go through, with the time noted between two handlers.

    def ready(
        self, loop: Loop, batch: Iterable[tuple[Connection, int]]
    ) -> Iterator[tuple[Connection, int]]:
        """Yield what is ready, one direction at a time.

        An ordinary message of a session, what a busy loop reads most, is noted here in 0.3 us, half
        of it for the clock and the tuple. The general way takes 0.5 us more.
        """
        add, sessions = self.boxes.append, self.sessions
        for entry in batch:
            c, mask = entry
            owner: Any = c.data
            rev, before = c.read, c.received
            is_heard, started = rev.active, loop.sessions_started
            is_read_alone = mask & EVENT_READ and is_heard and not c.write.active
            if is_read_alone and before and owner.__class__ in sessions:
                yield entry
                if c.fd < 0 or rev.eof or rev.error:
                    self.box_read(c, owner, before, "")
                    continue
                began_ns = self.at_ns
                self.at_ns = at_ns = now()
                kind = CLIENT_READ if owner.client is c else UPSTREAM_READ
                outcome = MORE if rev.ready else AGAIN
                add((kind, began_ns, at_ns, owner.number, c.received - before, outcome, ""))
                continue
            if mask & EVENT_READ:
                yield c, mask & ~EVENT_WRITE
                if is_heard:
                    self.box_read(c, owner, before, "")
                    if loop.sessions_started > started:
                        self.note_begun(loop, started)
            if mask & EVENT_WRITE:
                is_heard, before, action = c.write.active, c.sent, self._action(c, owner)
                yield c, EVENT_WRITE
                if is_heard:
                    self.box_write(c, owner, before, action)

    def _action(self, c: Connection, owner: Any) -> str:
        """Return what is done with a connection, and on which side of a session."""
        if self.role(owner) is not SESSION:
            return c.action
        if owner.client is c:
            return c.action if not c.sent else TO_CLIENT
        return TO_UPSTREAM if c.sent or c.received else CONNECTED

    def box_read(self, c: Connection, owner: Any, before: int, step: str) -> None:
        """Note that the handler of `c.read` has run; `step` names another step than 4."""
        began_ns, self.at_ns = self.at_ns, now()
        rev, count = c.read, c.received - before
        role = self.roles.get(type(owner)) or self.role(owner)
        if rev.error:
            outcome = ERROR
        elif rev.eof:
            outcome = EOF
        elif c.fd < 0:
            outcome = CLOSED
        else:
            outcome = MORE if rev.ready else AGAIN
        if role is SESSION:
            number = owner.number
            kind = CLIENT_READ if owner.client is c else UPSTREAM_READ
            if not before or outcome not in (AGAIN, MORE):
                self.look(owner, self.at_ns)
            if step:
                kind, step = step, kind
            box = (kind, began_ns, self.at_ns, number, count, outcome, step)
        elif role is LISTENER:
            if not count and not step:
                outcome = PUT_OFF
            kind = ACCEPT if not count else CLIENT_READ
            box = (kind, began_ns, self.at_ns, 0, count, outcome, c.action)
        else:
            kind = ADMIN if role is OURS else step or OTHER
            box = (kind, began_ns, self.at_ns, 0, count, outcome, c.action)
            if isinstance(owner, SignalReceiver) and owner.last is not None and self.trace:
                self.trace.mark("i", began_ns, 0, "signal", owner.last.name)
        self.boxes.append(box)

    def box_write(self, c: Connection, owner: Any, before: int, action: str) -> None:
        """Note that the handler of `c.write` has run."""
        began_ns, self.at_ns = self.at_ns, now()
        role, number, kind = self.roles.get(type(owner)) or self.role(owner), 0, WRITE
        if c.write.error:
            outcome = ERROR
        elif c.fd < 0:
            outcome = CLOSED
        else:
            outcome = WAITS if c.write.active else DONE
        if role is SESSION:
            number = owner.number
            self.look(owner, self.at_ns)
        else:
            kind = ADMIN if role is OURS else OTHER
        count = c.sent - before
        self.boxes.append((kind, began_ns, self.at_ns, number, count, outcome, action))

    def note_begun(self, loop: Loop, started: int) -> None:
        """Note the sessions that the last handler has begun."""
        last = loop.sessions_started
        kind, began_ns, ended_ns, _, count, outcome, what = self.boxes[-1]
        count = last - started if kind == ACCEPT else count
        self.boxes[-1] = (kind, began_ns, ended_ns, started + 1, count, outcome, what)
        if self.trace is not None and not self.trace.is_truncated:
            self.trace.begun.update((number, began_ns) for number in range(started + 1, last + 1))

    def expired(self, timers: Iterable[Timer]) -> Iterator[Timer]:
        """Yield timers that are due."""
        for timer in timers:
            owner: Any = timer.data
            what = getattr(timer.handler, "__name__", "")
            yield timer
            began_ns, self.at_ns = self.at_ns, now()
            self.fired += 1
            role = self.role(owner)
            number = 0
            if role is SESSION:
                number = owner.number
                self.look(owner, self.at_ns)
            kind = ADMIN if role is OURS else TIMER
            outcome = SET_AGAIN if timer.is_running else DONE
            if number and timer.is_running:
                self.early += 1
                outcome = EARLY
            self.boxes.append((kind, began_ns, self.at_ns, number, 0, outcome, what))

    def posted(self, loop: Loop, events: Iterable[Event]) -> Iterator[Event]:
        """Yield events that were put off."""
        for event in events:
            if not event.posted or not event.active:
                yield event
                continue
            c, owner = event.data, event.data.data
            before, started = c.received, loop.sessions_started
            is_read, sent = c.read is event, c.sent
            yield event
            if is_read:
                self.box_read(c, owner, before, POSTED)
                if loop.sessions_started > started:
                    self.note_begun(loop, started)
            else:
                self.box_write(c, owner, sent, "")

    def calls(
        self, loop: Loop, calls: Iterable[tuple[Callable[[], None], Owner]]
    ) -> Iterator[tuple[Callable[[], None], Owner]]:
        """Yield calls that were put off."""
        for call, served in calls:
            owner: Any = served
            started = loop.sessions_started
            yield call, owner
            began_ns, self.at_ns = self.at_ns, now()
            role, number = self.role(owner), 0
            if role is SESSION:
                number = owner.number
                self.look(owner, self.at_ns)
            kind = ADMIN if role is OURS else POSTED
            what = type(owner).__name__
            self.boxes.append((kind, began_ns, self.at_ns, number, 0, DONE, what))
            if loop.sessions_started > started:
                self.note_begun(loop, started)
