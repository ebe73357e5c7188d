"""Timers, and the wheel that keeps them until they are due.

A load balancer arms a timer for every session and almost none ever fires, so arming and cancelling
must cost nothing that grows with the number of timers. The wheel is the hashed one of Varghese and
Lauck ("Hashed and Hierarchical Timing Wheels", SOSP 1987, scheme 6): time is cut into ticks, and
all timers of one tick share one slot. Two things differ from the paper, because Python offers
better material than an array of lists:

- The slots are a dict from tick to slot, so a far deadline needs no second wheel.
- A slot is itself a dict (its keys are the timers), so that cancelling removes the entry at once:
  10,000 sessions a second that each cancel a timer of 60 s would otherwise leave 600,000 dead ones
  behind.

A heap of the ticks in use says when the next slot is due. One push serves all timers of a tick,
and the loop can sleep exactly until then: an idle process wakes up for a deadline and for nothing
else.

nginx keeps a red-black tree (`ngx_event_timer.c`). Here as there, no timer moves for each byte that
pushes its deadline back. The owner notes its last activity, and when the timer fires early, starts
it again for the rest (see `proxy/ending.py::EndingSession._idle_timer_handler`).
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Final, Protocol

TICK_MS: Final = 10
"""Width of a slot: the most by which a timer may be late. Nothing in a proxy is timed finer than
this."""


class Owner(Protocol):
    """What the loop needs of the owner of a timer, a connection or a call: a way to end it after a
    bug, and a name for log lines."""

    def abort(self) -> None:
        """Release everything at once, the connection included, or make sure that work can go on.

        The loop calls this while it handles what one of the owner's handlers has raised, so
        `sys.exc_info` tells a bug from MemoryError, which is nobody's fault.
        """


class Timer:
    """One deadline. Its owner creates it; `TimerWheel.start` arms it, `TimerWheel.cancel` disarms
    it."""

    __slots__ = ("data", "handler", "slot")

    def __init__(self, handler: "Callable[[Timer], None]", data: Owner) -> None:
        self.handler = handler
        """Called with the timer itself when it is due. It may start the timer again. Its name says
        what the timer is for."""
        self.data = data
        """The owner, which the loop aborts if the handler raises."""
        self.slot: dict[Timer, None] | None = None
        """The slot that holds this timer, None while it is not running."""

    def __str__(self) -> str:
        """Say in words what it is for, by the name of its handler and the owner."""
        name = getattr(self.handler, "__name__", "").strip("_").removesuffix("_handler")
        return f"{name.replace('_', ' ')} of {self.data}"

    @property
    def is_running(self) -> bool:
        """Whether the timer is armed."""
        return self.slot is not None


class TimerWheel:
    """All running timers of one loop, by the tick in which they are due."""

    __slots__ = ("_slots", "_ticks")

    def __init__(self) -> None:
        self._slots: dict[int, dict[Timer, None]] = {}
        self._ticks: list[int] = []

    def start(self, timer: Timer, deadline_ms: int) -> None:
        """Arm `timer` for the instant `deadline_ms`, moving it if it is running already.

        It never fires before that instant, and fires at most `TICK_MS` after it if the loop is on
        time.
        """
        if timer.slot is not None:
            del timer.slot[timer]
        tick = -(-deadline_ms // TICK_MS)
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = {}
            heappush(self._ticks, tick)
        slot[timer] = None
        timer.slot = slot

    def cancel(self, timer: Timer) -> None:
        """Disarm `timer`; does nothing if it is not running."""
        if timer.slot is not None:
            del timer.slot[timer]
            timer.slot = None

    def running(self) -> Iterator[tuple[int, Timer]]:
        """Yield the deadline and each running timer, except those started or moved meanwhile."""
        return ((at * TICK_MS, one) for at in [*self._slots] for one in [*self._slots.get(at, ())])

    def next_deadline_ms(self) -> int | None:
        """Return when the next timer is due, None with no timer running; drops slots left empty."""
        ticks = self._ticks
        while ticks:
            if self._slots[ticks[0]]:
                return ticks[0] * TICK_MS
            del self._slots[heappop(ticks)]
        return None

    def expired(self, now_ms: int) -> Iterator[Timer]:
        """Yield each timer due by `now_ms`, disarmed, in the order of their ticks.

        The due slots are collected first: a handler that starts a timer with no delay gets it in
        the next turn, so it cannot keep this one from ending (libuv, `src/timer.c
        uv__run_timers`). A timer that another handler cancels or moves meanwhile is not yielded.
        """
        ticks = self._ticks
        last = now_ms // TICK_MS
        due = []
        while ticks and ticks[0] <= last:
            due.append(self._slots.pop(heappop(ticks)))
        for slot in due:
            while slot:
                timer = next(iter(slot))
                del slot[timer]
                timer.slot = None
                yield timer
