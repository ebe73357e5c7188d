"""The loop: one turn of it is the whole program's heartbeat.

`Loop.turn` does six things in nginx's order (`ngx_process_events_and_timers` in `ngx_event.c`): it
works out how long it may sleep, asks the selector, reads the clock, runs the handlers of what
became ready, then those of the timers that are due, then what was put off: posted events and calls.
Everything nginy does, it does in one of those handlers.

Contract for handlers
- A handler never blocks and never runs unboundedly: it stops after a quota and posts its event for
  later.
- Any handler may close any connection. A closed connection's events are not active, and the loop
  tests that right before each call. So no handler runs for a connection that is gone, whatever else
  is in the batch.
- A handler does not raise for what a peer does. If one raises anyway, that is a bug in nginy: the
  loop logs it with its traceback and ends the session that it served. MemoryError is nobody's bug:
  the session ends, without a traceback, and the others get by with less.

Listeners post their event instead of accepting at once. So new clients come after those that are
connected, when the descriptors closed in this turn are free again. What a handler posts runs in
step 6 of the same turn; what is posted during step 6 waits for the next turn. nginx runs its posted
queue until it is empty, which lets one busy connection starve the rest.
"""

import logging
import sys
from collections.abc import Callable, Iterable
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Final

from nginy.event.budget import Budget
from nginy.event.buffer import RECORDS_BYTES, SHARED_BYTES
from nginy.event.clock import Clock, MonotonicClock
from nginy.event.connection import Connection
from nginy.event.epoll import BATCH, EVENT_EOF, EVENT_ERROR
from nginy.event.event import Event
from nginy.event.handshakes import Handshakes
from nginy.event.pipe import Pipes
from nginy.event.reserve import REPORT_MS, Reserve
from nginy.event.selector import open_selector
from nginy.event.timer import Owner, Timer, TimerWheel
from nginy.log.limit import RateLimited, similar

if TYPE_CHECKING:
    from nginy.event.child import Child

logger = logging.getLogger("nginy.event")

SUSPENDED_MS: Final = 500
"""A timer that is later than this shows that the process was not running: a turn takes no more than
a tenth of it."""


class Loop:
    """One event loop: a selector, a clock, a timer wheel and the list of posted events."""

    __slots__ = (
        "_calls",
        "_limited",
        "_posted",
        "budget",
        "children",
        "clock",
        "connections",
        "handshakes",
        "interest",
        "max_connections",
        "memory",
        "pipes",
        "recorder",  # for trace.py
        "records",
        "reserve",
        "running",
        "selector",
        "sessions_started",
        "timers",
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
        """What all reads go into; its contents mean nothing once the handler has returned."""
        self.records = memoryview(bytearray(RECORDS_BYTES))
        """What encrypted bytes go into, on their way to OpenSSL."""
        self.reserve = Reserve()
        """Descriptors held back for the sessions of accepted clients."""
        self.pipes = Pipes(self.reserve)
        """What long transfers go through instead of memory."""
        self.children: dict[int, Child] = {}
        """The child processes that are watched, by process id."""
        self.connections = 0
        """Open connections, both sides (nginx: `worker_connections` less `free_connection_n`)."""
        self.max_connections = max_connections
        self.sessions_started = 0
        """Sessions so far; the last one's number (nginx `ngx_connection_counter`)."""
        self.running = False
        self._posted: list[Event] = []
        self._limited = RateLimited(REPORT_MS)
        self._calls: dict[Callable[[], None], Owner] = {}
        self.handshakes = Handshakes(self.soon)
        """Steps that cost so much that a turn does only a few."""

    def post(self, event: Event) -> None:
        """Run the event's handler in step 6 of this turn, or of the next if step 6 has begun.

        An event is in the list at most once.
        """
        if not event.posted:
            event.posted = True
            self._posted.append(event)

    def soon(self, call: Callable[[], None], owner: Owner) -> None:
        """Make a call in step 6 of this turn, or of the next if step 6 has begun.

        For what must not begin before the caller has returned, and for work in slices. The loop
        calls once, however often it was asked. Nobody can cancel the call, so it has to check
        whether it is still wanted. If it raises, `owner` is aborted.
        """
        self._calls[call] = owner

    def run(self) -> None:
        """Turn until a handler clears `running`."""
        self.running = True
        while self.running:
            try:
                self.turn()
            except MemoryError:
                self.starve()

    def turn(self, max_wait_ms: int | None = None) -> None:
        """Do one turn, sleeping until something happens, at most `max_wait_ms` (None: no limit)."""
        # -- 1. how long may we sleep?
        deadline_ms = self.timers.next_deadline_ms()
        wait_s = 0 if self._posted or self._calls else self._wait_s(deadline_ms, max_wait_ms)
        # -- 2. sleep until a descriptor is ready or a timer is due
        batch = self.interest.wait(wait_s)
        # -- 3. read the clock, the only time in this turn
        self.clock.update()
        # -- 4. what became ready
        self._serve(batch)
        # -- 5. timers that are due
        if deadline_ms is not None and deadline_ms <= self.clock.now_ms:
            late_ms = self.clock.now_ms - deadline_ms
            if late_ms > SUSPENDED_MS:
                self.clock.skip(late_ms)
            if late_ms > SUSPENDED_MS or not batch or len(batch) >= BATCH:
                self._catch_up()
            self._run_timers(self.timers.expired(self.clock.now_ms))
        # -- 6. what was put off before this step
        if self._posted or self._calls:
            self._run_posted()

    def close(self) -> None:
        """Close the selector, after all connections have been closed."""
        self.pipes.close()
        self.reserve.close()
        self.budget.close()
        self.selector.close()

    def _wait_s(self, deadline_ms: int | None, max_wait_ms: int | None) -> float | None:
        if deadline_ms is not None:
            wait_ms = max(0, deadline_ms - self.clock.now_ms)
            max_wait_ms = wait_ms if max_wait_ms is None else min(wait_ms, max_wait_ms)
        return None if max_wait_ms is None else max_wait_ms / 1000

    def _serve(self, batch: Iterable[tuple[Connection, int]]) -> None:
        """Note what the selector has reported, and run the handlers of active events.

        `active` is tested last, right before the handler runs: an earlier handler of the same batch
        may have closed or paused this connection.
        """
        for c, mask in batch:
            try:
                if mask & EVENT_READ:
                    rev = c.read
                    rev.ready = True
                    if mask & EVENT_EOF:
                        rev.pending_eof = True
                        if mask & EVENT_ERROR:
                            rev.error = c.write.error = True
                    if rev.active:
                        rev.handler(rev)
                if mask & EVENT_WRITE:
                    wev = c.write
                    wev.ready = True
                    if wev.active:
                        wev.handler(wev)
            except Exception:  # noqa: BLE001 - a bug ends one session, not the process
                self._abort(c)

    def _catch_up(self) -> None:
        """Serve what the selector has not reported yet, before a timer says that it never came.

        While the process was stopped, or swapped out, bytes went on arriving. When it wakes up,
        epoll_wait() may find its timeout over and return without a look, or return a full batch and
        leave more behind. Busy sessions would seem idle, and answers to checks that are there would
        seem missing. Events that stopped at a quota have bytes waiting, too.
        """
        for _ in range(self.connections // BATCH + 1):
            batch = self.interest.wait(0)
            self._serve(batch)
            if len(batch) < BATCH:
                break
        if self._posted:
            self._run_posted()

    def _run_timers(self, timers: Iterable[Timer]) -> None:
        is_verbose = logger.isEnabledFor(logging.DEBUG)  # asked once: it costs 0.3 us
        for timer in timers:
            # Looked up before the call: a handler that closes its owner clears the reference.
            owner = timer.data
            try:
                if is_verbose:
                    logger.debug("timer is due: %s", timer)
                timer.handler(timer)
            except Exception:  # noqa: BLE001 - a bug ends one session, not the process
                self._abort(owner)

    def _run_posted(self) -> None:
        posted, self._posted = self._posted, []
        calls: dict[Callable[[], None], Owner] | None = None
        if self._calls:
            calls, self._calls = self._calls, {}
        for event in posted:
            # A handler that ran since may have closed the connection, which clears `posted`, or
            # paused it, which clears `active`.
            if not event.posted:
                continue
            event.posted = False
            if event.active:
                c = event.data
                try:
                    event.handler(event)
                except Exception:  # noqa: BLE001 - a bug ends one session, not the process
                    self._abort(c)
        if calls is not None:
            self._call(calls)

    def _call(self, calls: dict[Callable[[], None], Owner]) -> None:
        for call, owner in calls.items():
            try:
                call()
            except Exception:  # noqa: BLE001 - a bug ends one session, not the process
                self._abort(owner)

    def _abort(self, owner: Owner) -> None:
        """Log the exception that is being handled, and abort the owner."""
        try:
            if isinstance(sys.exc_info()[1], MemoryError):
                self.starve()
            else:
                logger.critical("bug in nginy, the session is closed: %r", owner, exc_info=True)
            owner.abort()
        except Exception:
            # A bug in ending it, too. What it has not closed is lost; the process goes on.
            logger.critical("bug in nginy, the session cannot be closed", exc_info=True)

    def starve(self) -> None:
        """Get by without memory: free some, and let no session keep any."""
        now_ms = self.clock.now_ms
        self.budget.starve(now_ms)
        self.interest.remind()
        suppressed = self._limited.admit("memory", now_ms)
        if suppressed is not None:
            logger.critical("out of memory, sessions slow down%s", similar(suppressed))
