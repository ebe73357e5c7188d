"""Trace: what a loop does in each of its turns, as records.

A record is an appended tuple, of numbers and of texts that exist anyway. Other modules turn the
records into text afterwards, in slices (`admin/loop/chrome.py`, `admin/loop/view.py`). All instants
are nanoseconds of CLOCK_MONOTONIC, which is the same for all processes of a machine, so the records
of several workers fit together.

    turn   select  | boxes: handlers of what is ready | boxes: timers | boxes: what was put off |
           sleeping  each box begins where the one before ends

`event/recorder.py` writes them, for the loop in `event/traced.py`. What an owner is (a session, a
listener, a client of the admin interface) is for the layers above to know.

Pure: instants are passed in.

Read first: `loop`. Next: `recorder`.
"""

from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias

PART_EVENTS: Final = 4000
"""Events in one part of a trace, as it is passed on."""
KEPT_TURNS: Final = 200
"""Turns that `/loop` shows."""
KEPT_OWN_TURNS: Final = 40
"""Of them, those that served nobody, or only the admin interface. The page itself causes many, and
they must not displace the others."""

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
AGAIN, MORE, EOF, ERROR, CLOSED, WAITS, EARLY, SET_AGAIN, PUT_OFF, DONE = OUTCOMES = (
    "AGAIN",
    "MORE",
    "EOF",
    "ERROR",
    "closed",
    "waits",
    "back to sleep",
    "set again",
    "put off",
    "done",
)
"""A read that took all there was, or stopped before; the end of the stream; an error; the
connection is closed; a write waits for room; a session's timer went back to sleep; another timer
runs again; an accept is due in step 6; nothing special."""

TO_CLIENT, TO_UPSTREAM, CONNECTED = ("to client", "to upstream", "connected to upstream")
"""What a session's write did, if the session has no more telling action."""


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
    """The records of one stretch of time. Written by a `Recorder`."""

    __slots__ = (
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
        """The turns with which parts begin, as the trace is passed on in parts."""
        self.count = 0
        """Boxes, turns and marks so far."""
        self.is_truncated = False
        """Whether there was more than may be kept."""
        self.begun: dict[int, int] = {}
        """When sessions began that were accepted meanwhile, by number."""
        self.ended_ns: int | None = None

    def add(self, turn: tuple[Any, ...], boxes: int) -> None:
        """Keep a turn with this many boxes, if there is room."""
        if self.count >= self.max_events:
            self.is_truncated = True
            return
        self.turns.append(turn)
        self.count += boxes + 1
        if self.count >= len(self.parts) * PART_EVENTS:
            self.parts.append(len(self.turns))

    def mark(self, kind: str, at_ns: int, number: int, name: str, text: str = "") -> None:
        """Keep a mark beside the turns, if there is room."""
        if self.count >= self.max_events:
            self.is_truncated = True
            return
        self.marks.append((kind, at_ns, number, name, text))
        self.count += 1
