"""The loop: one turn of it is the whole program's heartbeat.

`Loop.turn` does six things in nginx's order (`ngx_process_events_and_timers` in `ngx_event.c`): it
works out how long it may sleep, asks the selector, reads the clock, runs the handlers of what
became ready, then those of the timers that are due, then the events that were posted. Everything
nginy does, it does in one of those handlers.

Contract for handlers
- A handler never blocks and never runs unboundedly: it stops after a quota and posts its event for
  later.
- Any handler may close any connection. A closed connection's events are not active, which is
  tested right before each call, so no handler is ever called for a connection that is gone,
  whatever else is in the batch.
- A handler does not raise for what a peer does. If one raises all the same, that is a bug in
  nginy: it is logged with its traceback, and the session it served is ended. That is the only
  blind `except` of the program.

Listeners post their event instead of accepting at once, so new clients are served after those that
are already there: descriptors closed in the turn are free again by then. What a handler posts runs
in step 6 of the same turn; what is posted during step 6 waits for the next one. nginx runs its
posted queue until it is empty, which lets one busy connection starve the rest.
"""

import logging
from collections.abc import Iterable, Iterator
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import TypeVar

from nginy.event.buffer import SHARED_BYTES, Budget
from nginy.event.clock import Clock, MonotonicClock
from nginy.event.connection import Connection
from nginy.event.event import Event, Owner
from nginy.event.selector import EVENT_EOF, EVENT_ERROR, open_selector
from nginy.event.timer import Timer, TimerWheel

logger = logging.getLogger("nginy.event")


Runnable = TypeVar("Runnable", Event, Timer)


class Loop:
    """One event loop: a selector, a clock, a timer wheel and the list of posted events."""

    __slots__ = (
        "_posted",
        "budget",
        "clock",
        "connections",
        "interest",
        "max_connections",
        "memory",
        "running",
        "selector",
        "sessions_started",
        "timers",
        "turns",
    )

    def __init__(
        self,
        event_method: str = "auto",
        clock: Clock | None = None,
        max_connections: int = 16384,
    ) -> None:
        """Open the selector; raises ValueError if the system lacks `event_method`."""
        self.selector, self.interest = open_selector(event_method)
        self.clock: Clock = clock or MonotonicClock()
        self.timers = TimerWheel()
        self.budget = Budget()
        self.memory = memoryview(bytearray(SHARED_BYTES))
        """What everyone reads into; its contents mean nothing once the handler has returned."""
        self.connections = 0
        """Open connections, both sides (nginx: `worker_connections` less `free_connection_n`)."""
        self.max_connections = max_connections
        self.sessions_started = 0
        """Sessions so far; the last one's number (nginx `ngx_connection_counter`)."""
        self.running = False
        self.turns = 0
        self._posted: list[Event] = []

    def post(self, event: Event) -> None:
        """Have the event's handler run in step 6 of this turn, or of the next if step 6 has begun.

        An event is in the list at most once.
        """
        if not event.posted:
            event.posted = True
            self._posted.append(event)

    def run(self) -> None:
        """Turn until a handler clears `running`."""
        self.running = True
        while self.running:
            self.turn()

    def turn(self, max_wait_ms: int | None = None) -> None:
        """Do one turn, sleeping until something happens, at most `max_wait_ms` (None: no limit)."""
        # -- 1. how long may we sleep?
        wait_s = self._wait_s(max_wait_ms)
        # -- 2. sleep until a descriptor is ready or a timer is due
        batch = self.selector.select(wait_s)
        # -- 3. read the clock, the only time in this turn
        self.clock.update()
        self.turns += 1
        # -- 4. what became ready
        self._run(self._ready(batch))
        # -- 5. timers that are due
        self._run(self.timers.expired(self.clock.now_ms))
        # -- 6. what was posted before this step
        self._run(self._take_posted())

    def close(self) -> None:
        """Close the selector; every connection has to be closed before."""
        self.selector.close()

    def _wait_s(self, max_wait_ms: int | None) -> float | None:
        if self._posted:
            return 0
        deadline_ms = self.timers.next_deadline_ms()
        if deadline_ms is not None:
            wait_ms = max(0, deadline_ms - self.clock.now_ms)
            max_wait_ms = wait_ms if max_wait_ms is None else min(wait_ms, max_wait_ms)
        return None if max_wait_ms is None else max_wait_ms / 1000

    def _ready(self, batch: list[tuple[SelectorKey, int]]) -> Iterator[Event]:
        """Note what the selector reported and yield the events that someone waits for.

        `active` is tested last of all, right before the handler runs: an earlier handler of the
        same batch may have closed or paused this connection.
        """
        for key, mask in batch:
            c: Connection = key.data
            if mask & EVENT_READ:
                rev = c.read
                rev.ready = True
                if mask & EVENT_EOF:
                    rev.pending_eof = True
                    rev.error = mask & EVENT_ERROR != 0
                if rev.active:
                    yield rev
            if mask & EVENT_WRITE:
                wev = c.write
                wev.ready = True
                if mask & EVENT_ERROR:
                    wev.error = True
                if wev.active:
                    yield wev

    def _take_posted(self) -> Iterator[Event]:
        posted, self._posted = self._posted, []
        for event in posted:
            # A closed connection's event is no longer posted, and a paused one's not active: a
            # handler that ran in between has seen to that.
            if event.posted:
                event.posted = False
                if event.active:
                    yield event

    def _run(self, queue: Iterable[Runnable]) -> None:
        for item in queue:
            # Asked before, since a connection that is closed meanwhile lets go of its events.
            owner = item.data
            try:
                item.handler(item)
            except Exception:  # noqa: BLE001 - the one blind except: a bug ends one session, not the process
                self._abort(owner)

    def _abort(self, owner: Owner) -> None:
        """Log the exception being handled and end whoever it happened to."""
        logger.critical("bug in nginy, the session is closed: %r", owner, exc_info=True)
        try:
            owner.abort()
        except Exception:
            # A bug in the ending as well: what it has not closed is lost, the process is not.
            logger.critical("bug in nginy, the session cannot be closed", exc_info=True)
