"""TracedLoop: a loop that notes what it does.

Nothing of this exists before a recording begins. Then the loop's class is exchanged for
`TracedLoop`, whose `turn` notes the time between the steps. What the steps go through notes the
time between two handlers (`Recorder`). When the recording ends, the loop runs its usual code again.

Read first: `loop`, `trace`.

Tested in tests/event/test_trace.py.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nginy.event.connection import Connection
from nginy.event.epoll import BATCH
from nginy.event.event import Event
from nginy.event.loop import SUSPENDED_MS, Loop
from nginy.event.meter import MeteredClock, MeteredLoop
from nginy.event.recorder import Recorder, now
from nginy.event.timer import Owner, Timer


class _Events(list[Event]):
    """The posted events, for `Loop._run_posted` to go through."""

    def __init__(self, loop: "TracedLoop", events: list[Event]) -> None:
        super().__init__(events)
        self._noted = loop.recorder.posted(loop, events)

    def __iter__(self) -> Iterator[Event]:
        return self._noted


class _Calls(dict[Callable[[], None], Owner]):
    """The calls that are due soon, for the loop to go through."""

    def __init__(self, loop: "TracedLoop", calls: dict[Callable[[], None], Owner]) -> None:
        super().__init__(calls)
        self._noted = loop.recorder.calls(loop, calls.items())

    def items(self) -> Any:
        """Return the calls."""
        return self._noted


class TracedLoop(MeteredLoop):
    """A loop whose turns are recorded; see above."""

    __slots__ = ()

    recorder: Recorder

    def turn(self, max_wait_ms: int | None = None) -> None:
        """Do one turn as `Loop.turn` does, which a test compares with this, and note it."""
        recorder = self.recorder
        began_ns = recorder.begin_turn(self)
        # -- 1. how long may we sleep?
        deadline_ms = self.timers.next_deadline_ms()
        wait_s = 0 if self._posted or self._calls else self._wait_s(deadline_ms, max_wait_ms)
        # -- 2. sleep until a descriptor is ready or a timer is due
        select_ns = now()
        batch = self.interest.wait(wait_s)
        woke_ns = now()
        # -- 3. read the clock, the only time in this turn
        self.clock.update()
        # -- 4. what became ready
        ready_ns = recorder.at_ns = now()
        self._serve(batch)
        # -- 5. timers that are due
        timers_ns = recorder.at_ns
        if deadline_ms is not None and deadline_ms <= self.clock.now_ms:
            late_ms = self.clock.now_ms - deadline_ms
            if late_ms > SUSPENDED_MS:
                self.clock.skip(late_ms)
            if late_ms > SUSPENDED_MS or not batch or len(batch) >= BATCH:
                self._catch_up()
            self._run_timers(self.timers.expired(self.clock.now_ms))
        # -- 6. what was put off before this step
        posted_ns = recorder.at_ns
        recorder.put_off = len(self._posted) + len(self._calls)
        if self._posted or self._calls:
            self._run_posted()
        recorder.end_turn(
            (
                next(recorder.numbers),
                began_ns,
                select_ns,
                woke_ns,
                ready_ns,
                timers_ns,
                posted_ns,
                now(),
                len(batch),
                -1 if wait_s is None else round(wait_s * 1000),
                -1 if deadline_ms is None else max(self.clock.now_ms - deadline_ms, -1),
                recorder.put_off,
                self.connections,
                self.budget.used_bytes,
                recorder.boxes,
            )
        )

    def _serve(self, batch: Iterable[tuple[Connection, int]]) -> None:
        super()._serve(self.recorder.ready(self, batch))

    def _run_timers(self, timers: Iterable[Timer]) -> None:
        super()._run_timers(self.recorder.expired(timers))

    def _run_posted(self) -> None:
        self._posted = _Events(self, self._posted)
        if self._calls:
            self._calls = _Calls(self, self._calls)
        super()._run_posted()


def begin_recording(loop: Loop, recorder: Recorder) -> None:
    """Record a loop's turns from the next one on."""
    _become(loop, TracedLoop)
    if isinstance(loop, TracedLoop):  # for the type checker
        loop.recorder = recorder
        gc.callbacks.append(recorder.collected)


def end_recording(loop: Loop) -> None:
    """Let a loop turn as before."""
    if isinstance(loop, TracedLoop):
        gc.callbacks.remove(loop.recorder.collected)
        del loop.recorder
        _become(loop, MeteredLoop if isinstance(loop.clock, MeteredClock) else Loop)


def _become(loop: Loop, kind: type[Loop]) -> None:
    loop.__class__ = kind
