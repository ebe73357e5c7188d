"""Recording: the turns of this process's loop, for the page `/loop` and for traces.

Both end by themselves. The page shows the last turns, and each request for it extends their
recording by ten seconds. A trace has a length, and is kept for a minute after its end. While there
is neither, the loop runs its usual code, and there is no timer.

`Follower` learns from the records how sessions get on: it looks at a session after each handler
that may have changed something about it, and never after an ordinary message.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from nginy.admin.answer import Slices
from nginy.admin.pace import LOOK_US, Pace
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.event.recorder import Recorder, now
from nginy.event.timer import Owner, Timer
from nginy.event.trace import Role, Trace
from nginy.event.traced import begin_recording, end_recording
from nginy.proxy.session import Session

LEASE_MS: Final = 10_000
KEPT_MS: Final = 60_000
"""How long a trace is kept after its end."""
FOLLOW_US: Final = 5
"""The cost of marking what has changed about a session."""
OURS: Final = ("nginy.admin.", "nginy.process.workers.reports")
"""Modules whose objects serve clients of the admin interface."""


def role_of(owner: Owner | None) -> Role:
    """Return what an owner is."""
    if isinstance(owner, Session):
        return Role.SESSION
    if isinstance(owner, Listener):
        door = getattr(owner.handler, "__self__", None)
        return Role.ADMIN if type(door).__module__.startswith(OURS) else Role.LISTENER
    return Role.ADMIN if type(owner).__module__.startswith(OURS) else Role.OTHER


@dataclass(slots=True)
class TraceOrder:
    """A trace, ordered from all processes that serve."""

    identity: int
    base_ns: int
    """Where its time begins."""
    wall_ms: int
    """The same instant by the wall clock."""
    ends_at_ms: int
    seq: int
    """The number of the last event before it."""


class Follower:
    """Marks in a trace what happens to sessions."""

    __slots__ = ("_is_anonymous", "_trace", "seen")

    def __init__(self, trace: Trace, *, is_anonymous: bool) -> None:
        self._trace = trace
        self._is_anonymous = is_anonymous
        """Whether to note no client's address."""
        self.seen: dict[int, list[Any]] = {}
        """For each session: its attempts, and whether it is connected, answered, half-closed,
        ended."""

    def look(self, owner: Owner, at_ns: int) -> None:
        """Mark what has changed about a session, if there is room."""
        if self._trace.is_truncated:
            return
        s: Any = owner
        number, mark = s.number, self._trace.mark
        began_ns = self._trace.begun.get(number, 0)
        seen = self.seen.get(number)
        if seen is None:
            seen = self.seen[number] = [0, False, False, False, False]
            client = "" if self._is_anonymous else s.client.addr_text
            mark("b", began_ns, number, s.handler.name, client)
            if not began_ns:  # it is older than the trace, and so is its state so far
                seen[:4] = self._of(s)
                began_ns = at_ns
        else:
            began_ns = at_ns
        tried, *flags = self._of(s)
        for attempt in s.attempts[seen[0] :]:
            mark("n", began_ns, number, "connecting", attempt.address)
        seen[0] = tried
        for index, name in enumerate(("connected", "first byte", "half-close"), 1):
            if flags[index - 1] and not seen[index]:
                seen[index] = True
                mark("n", at_ns, number, name, s.attempts[-1].address if s.attempts else "")
        if s.end is not None and not seen[4]:
            seen[4] = True
            mark("e", at_ns, number, s.end.code, s.reason)

    @staticmethod
    def _of(s: Any) -> tuple[int, bool, bool, bool]:
        attempt = s.attempts[-1] if s.attempts else None
        upstream = s.upstream
        return (
            len(s.attempts),
            attempt is not None and attempt.connected_at_ms is not None,
            attempt is not None and attempt.first_byte_at_ms is not None,
            s.end is None
            and s.handler.protocol == "TCP"
            and (s.client.read.eof or (upstream is not None and upstream.read.eof)),
        )

    def finish(self, sessions: Iterable[Session], at_ns: int) -> Slices[None]:
        """Mark the sessions whose handlers never ran during the trace; `sessions` are the open
        ones.

        Two clients may do so at once: each session is marked once.
        """
        trace, pace = self._trace, Pace()
        for session in sessions:
            if session.number in trace.begun:
                self.look(session, at_ns)
            if pace.is_over(FOLLOW_US):
                yield None
        for number, began_ns in trace.begun.items():
            if number not in self.seen:
                self.seen[number] = [0, True, True, True, True]
                trace.mark("b", began_ns, number, "", "")
                trace.mark("e", began_ns, number, "", "it ended where it began")
            if pace.is_over(LOOK_US):
                yield None


class Recording:
    """What is recorded of a loop, and for how long. Belongs to a `Subject`."""

    def __init__(self, loop: Loop) -> None:
        """Record nothing."""
        self._loop = loop
        self._lease_timer = Timer(self._lease_handler, self)
        self._trace_timer = Timer(self._trace_handler, self)
        self.recorder: Recorder | None = None
        """None while no turns are recorded."""
        self.trace: Trace | None = None
        """The trace that is being recorded, or the last one."""
        self.trace_id = 0
        self.follower: Follower | None = None
        """Follows the sessions of the trace until it is finished."""

    @property
    def is_tracing(self) -> bool:
        """Whether a trace is being recorded."""
        return self.trace is not None and self.trace.ended_ns is None

    def _record(self) -> Recorder:
        if self.recorder is None:
            self.recorder = Recorder(role_of)
            begin_recording(self._loop, self.recorder)
        return self.recorder

    def watch(self) -> Recorder:
        """Record the last turns for ten more seconds."""
        recorder = self._record()
        loop = self._loop
        loop.timers.start(self._lease_timer, loop.clock.now_ms + LEASE_MS)
        return recorder

    def begin_trace(self, identity: int, duration_ms: int, most: int, is_anonymous: bool) -> None:
        """Record all turns for a while, and drop the previous trace."""
        recorder = self._record()
        self.trace_id = identity
        self.trace = Trace(most)
        self.follower = Follower(self.trace, is_anonymous=is_anonymous)
        recorder.begin_trace(self.trace, self.follower.look)
        loop = self._loop
        loop.timers.start(self._trace_timer, loop.clock.now_ms + duration_ms)

    def _lease_handler(self, _timer: Timer) -> None:
        self._rest()

    def _trace_handler(self, timer: Timer) -> None:
        """End the trace, or forget it."""
        trace = self.trace
        if trace is None or self.recorder is None or trace.ended_ns is not None:
            self.trace = self.follower = None
            self._rest()
            return
        trace.ended_ns = now()
        self._rest()
        self._loop.timers.start(timer, self._loop.clock.now_ms + KEPT_MS)

    def _rest(self) -> None:
        """Stop recording if neither a page nor a trace needs it any more."""
        recorder = self.recorder
        if recorder is None or self.is_tracing:
            return
        recorder.end_trace()
        if not self._lease_timer.is_running:
            end_recording(self._loop)
            self.recorder = None

    def finish(self, sessions: Iterable[Session]) -> Slices[None]:
        """Complete a trace that has ended with what is known of open sessions."""
        trace, follower = self.trace, self.follower
        if trace is not None and follower is not None and trace.ended_ns is not None:
            yield from follower.finish(sessions, trace.ended_ns)
            if self.follower is follower:
                self.follower = None

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the recording of the loop"

    def abort(self) -> None:
        """Go on after a bug, without a recording."""
        self._loop.timers.cancel(self._lease_timer)
        self._loop.timers.cancel(self._trace_timer)
        end_recording(self._loop)
        self.recorder = self.trace = self.follower = None
