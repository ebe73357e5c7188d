"""Trace: what a loop does in each of its turns, as records.

A record is a tuple that is appended, of numbers and of texts that exist anyway. What becomes of the
records is decided afterwards, in slices (`admin/chrome.py`). All instants are
nanoseconds of CLOCK_MONOTONIC, which is the same for all processes of a machine, so that the
records of several workers fit together.

    turn   select  | boxes: handlers of what is ready | boxes: timers | boxes: what was put off |
           sleeping  each box begins where the one before ends

`event/traced.py` has the loop that writes the records. What an owner is (a session, a listener, a
client of the admin interface) is for the layers above to know: they pass `role_of`, and hear of
sessions that may have got further by `look`.

Read first: `loop`. Next: `traced`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from itertools import count as counting
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any, Final, NamedTuple, TypeAlias

from nginy.event.connection import Connection
from nginy.event.event import Event
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.event.meter import NS_A_MS, MeteredClock
from nginy.event.signals import SignalReceiver
from nginy.event.timer import Owner, Timer

now: Final = time.monotonic_ns

PART_EVENTS: Final = 4000
"""In what is passed on in one go."""
KEPT_TURNS: Final = 200
"""What `/loop` shows."""

ACCEPT, CLIENT_READ, UPSTREAM_READ, WRITE, TIMER, POSTED, ADMIN, OTHER = KINDS = (
    "accept",
    "client read",
    "upstream read",
    "write",
    "timer",
    "posted",
    "admin",
    "other",
)
AGAIN, MORE, EOF, ERROR, CLOSED, WAITS, EARLY, PUT_OFF, DONE = OUTCOMES = (
    "AGAIN",
    "MORE",
    "EOF",
    "ERROR",
    "closed",
    "waits",
    "back to sleep",
    "put off",
    "done",
)
"""A read that took all there was, or stopped before; the end of the stream; an error; the
connection is closed; a write waits for room; a timer went back to sleep; an accept is due in step
6; nothing special."""


class Role(IntEnum):
    """What the owner of a connection, a timer or a call is."""

    OTHER = 0
    SESSION = 1
    LISTENER = 2
    ADMIN = 3


class Box(NamedTuple):
    """One handler that ran; what is appended is a plain tuple like this."""

    kind: str
    began_ns: int
    ended_ns: int
    number: int
    """Of the session, 0 for none; of the first one that was accepted."""
    amount: int
    """Bytes received or sent; sessions accepted."""
    outcome: str
    what: str


class Turn(NamedTuple):
    """One turn; what is appended is a plain tuple like this."""

    number: int
    began_ns: int
    select_ns: int
    woke_ns: int
    ready_ns: int
    """Step 4 begins."""
    timers_ns: int
    posted_ns: int
    ended_ns: int
    ready: int
    """Connections that the selector has reported."""
    wait_ms: int
    """How long it might have slept, -1 for ever."""
    late_ms: int
    """By how much the first timer was late, -1 if none was due."""
    put_off: int
    """Events and calls that ran in step 6."""
    connections: int
    buffered_bytes: int
    boxes: list[tuple[Any, ...]]


Mark: TypeAlias = tuple[str, int, int, str, str]
"""Beside the turns: `b`, `n`, `e` or `i`, when, the number of the session, a name, a text."""


class Trace:
    """What is kept of one stretch of time. Written by a `Recorder`."""

    __slots__ = (
        "began_ns",
        "begun",
        "count",
        "ended_ns",
        "is_truncated",
        "marks",
        "max_events",
        "parts",
        "turns",
    )

    def __init__(self, max_events: int) -> None:
        self.max_events = max_events
        self.turns: list[tuple[Any, ...]] = []
        self.marks: list[Mark] = []
        self.parts = [0]
        """The turns with which parts begin, for what is passed on in parts."""
        self.count = 0
        """Boxes, turns and marks so far."""
        self.is_truncated = False
        """Whether there was more than may be kept."""
        self.begun: dict[int, int] = {}
        """When the sessions began that did so meanwhile, by number."""
        self.began_ns = now()
        self.ended_ns: int | None = None

    def add(self, turn: tuple[Any, ...], boxes: int) -> None:
        """Keep a turn with so many boxes, if there is room."""
        if self.count >= self.max_events:
            self.is_truncated = True
            return
        self.turns.append(turn)
        self.count += boxes + 1
        if self.count >= len(self.parts) * PART_EVENTS:
            self.parts.append(len(self.turns))

    def mark(self, kind: str, at_ns: int, number: int, name: str, text: str = "") -> None:
        """Note what is beside the turns, if there is room."""
        if self.count >= self.max_events:
            self.is_truncated = True
            return
        self.marks.append((kind, at_ns, number, name, text))
        self.count += 1


def _ignore(_owner: Owner, _at_ns: int) -> None:
    """Do nothing: nobody follows sessions."""


class Recorder:
    """Notes what a `TracedLoop` does: the last turns, and all of them while there is a trace."""

    __slots__ = (
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
        "trace",
        "turns",
    )

    def __init__(self, role_of: Callable[[Owner | None], Role]) -> None:
        self.role_of = role_of
        self.roles: dict[type, Role] = {}
        """Of types of owners, all of whom have the same one."""
        self.look: Callable[[Owner, int], None] = _ignore
        self.turns: deque[tuple[Any, ...]] = deque(maxlen=KEPT_TURNS)
        self.trace: Trace | None = None
        self.boxes: list[tuple[Any, ...]] = []
        """Of the present turn."""
        self.at_ns = self.gc_ns = now()
        """When the last box ended, or the step began; when a collection of garbage began."""
        self.numbers = counting(1)
        self.put_off = 0
        """What step 6 of this turn is about to run."""
        self.fired = self.early = 0
        """Timers that fired; those of them that went back to sleep."""

    def role(self, owner: Owner | None) -> Role:
        """Return what an owner is."""
        found = self.roles.get(type(owner))
        if found is None:
            found = self.role_of(owner)
            if not isinstance(owner, Listener):  # some are the admin interface's
                self.roles[type(owner)] = found
        return found

    def begin_turn(self, loop: Loop) -> None:
        """Begin a turn, and measure the one before it if somebody does."""
        clock = loop.clock
        if isinstance(clock, MeteredClock):
            clock.meter.turns.count((now() - clock.read_ns) / NS_A_MS)
        self.boxes = []

    def count_lag(self, loop: Loop) -> None:
        """Measure how late timers are if somebody does."""
        clock, deadline_ms = loop.clock, loop.timers.next_deadline_ms()
        if isinstance(clock, MeteredClock) and deadline_ms is not None:
            clock.meter.lags.count(max(clock.now_ms - deadline_ms, 0))

    def end_turn(self, turn: tuple[Any, ...]) -> None:
        """Keep a turn."""
        self.turns.append(turn)
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
        """Yield what is ready, one direction at a time."""
        for c, mask in batch:
            owner: Any = c.data
            if mask & EVENT_READ:
                is_heard, before, started = c.read.active, c.received, loop.sessions_started
                yield c, mask & ~EVENT_WRITE
                if is_heard:
                    self.box_read(c, owner, before, "")
                    self.note_begun(loop, started)
            if mask & EVENT_WRITE:
                is_heard, before, action = c.write.active, c.sent, self._action(c, owner)
                yield c, EVENT_WRITE
                if is_heard:
                    self.box_write(c, owner, before, action)

    def _action(self, c: Connection, owner: Any) -> str:
        """Return what is done with a connection, and on which side of a session."""
        if self.role(owner) != Role.SESSION:
            return c.action
        if owner.client is c:
            return c.action if not c.sent else "to client"
        return "to upstream" if c.sent or c.received else "connected to upstream"

    def box_read(self, c: Connection, owner: Any, before: int, step: str) -> None:
        """Note that the handler of `c.read` has run; `step` names another step than 4."""
        began_ns, self.at_ns = self.at_ns, now()
        rev, role, count = c.read, self.role(owner), c.received - before
        if rev.error:
            outcome = ERROR
        elif rev.eof:
            outcome = EOF
        elif c.fd < 0:
            outcome = CLOSED
        else:
            outcome = MORE if rev.ready else AGAIN
        if role == Role.SESSION:
            number = owner.number
            kind = CLIENT_READ if owner.client is c else UPSTREAM_READ
            if not before or outcome not in (AGAIN, MORE):
                self.look(owner, self.at_ns)
            if step:
                kind, step = step, kind
            box = (kind, began_ns, self.at_ns, number, count, outcome, step)
        elif role == Role.LISTENER:
            if not count and not step:
                outcome = PUT_OFF
            kind = ACCEPT if not count else CLIENT_READ
            box = (kind, began_ns, self.at_ns, 0, count, outcome, c.action)
        else:
            kind = ADMIN if role == Role.ADMIN else step or OTHER
            box = (kind, began_ns, self.at_ns, 0, count, outcome, c.action)
            if isinstance(owner, SignalReceiver) and owner.last is not None and self.trace:
                self.trace.mark("i", began_ns, 0, "signal", owner.last.name)
        self.boxes.append(box)

    def box_write(self, c: Connection, owner: Any, before: int, action: str) -> None:
        """Note that the handler of `c.write` has run."""
        began_ns, self.at_ns = self.at_ns, now()
        role, number, kind = self.role(owner), 0, WRITE
        if c.write.error:
            outcome = ERROR
        elif c.fd < 0:
            outcome = CLOSED
        else:
            outcome = WAITS if c.write.active else DONE
        if role == Role.SESSION:
            number = owner.number
            self.look(owner, self.at_ns)
        else:
            kind = ADMIN if role == Role.ADMIN else OTHER
        count = c.sent - before
        self.boxes.append((kind, began_ns, self.at_ns, number, count, outcome, action))

    def note_begun(self, loop: Loop, started: int) -> None:
        """Note the sessions that the last handler has begun."""
        last = loop.sessions_started
        if last > started:
            kind, began_ns, ended_ns, _, count, outcome, what = self.boxes[-1]
            count = last - started if kind == ACCEPT else count
            self.boxes[-1] = (kind, began_ns, ended_ns, started + 1, count, outcome, what)
            if self.trace is not None:
                self.trace.begun.update(
                    (number, began_ns) for number in range(started + 1, last + 1)
                )

    def expired(self, timers: Iterable[Timer]) -> Iterator[Timer]:
        """Yield timers that are due."""
        for timer in timers:
            owner: Any = timer.data
            what = getattr(timer.handler, "__name__", "")
            yield timer
            began_ns, self.at_ns = self.at_ns, now()
            self.fired += 1
            self.early += timer.is_running
            role = self.role(owner)
            number = 0
            if role == Role.SESSION:
                number = owner.number
                self.look(owner, self.at_ns)
            kind = ADMIN if role == Role.ADMIN else TIMER
            outcome = EARLY if timer.is_running else DONE
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
            if role == Role.SESSION:
                number = owner.number
                self.look(owner, self.at_ns)
            kind = ADMIN if role == Role.ADMIN else POSTED
            what = type(owner).__name__
            self.boxes.append((kind, began_ns, self.at_ns, number, 0, DONE, what))
            self.note_begun(loop, started)
