"""Reading: a phase that waits for the first bytes of a client.

While a phase waits, it is the reader of the client's connection, and it has a deadline. What it
looks for is the subclass's business: a PROXY header (`proxy/phases/real_address.py`), or whatever
decides on the client's way (`proxy/phases/preread.py`). When it knows enough, it takes its handlers
and its timer back and lets the session go on through the phases after it, which find the connection
as it was.

nginx: the `peer` and `preread` timers of `ngx_stream_core_preread_phase` in
ngx_stream_core_module.c.

Tested in tests/proxy/phases/test_real_address_live.py.
"""

from abc import ABC, abstractmethod

from nginy.event.connection import Connection
from nginy.event.event import Event, ignore
from nginy.event.timer import Timer
from nginy.proxy.phases.phase import Passage, PhaseResult, Phases, Refusal, enter, refuse
from nginy.proxy.session import Session


class Reading(ABC):
    """The first bytes of one client, on their way. Lives as long as its handlers refer to it."""

    __slots__ = ("_rest", "client", "session")

    action = ""
    """What the log says the session is doing meanwhile."""

    def __init__(self, session: Session, client: Connection, rest: Phases) -> None:
        self.session = session
        self.client = client
        self._rest = rest

    @abstractmethod
    def look(self) -> PhaseResult:
        """Look at what there is; WAIT as long as that is not enough."""

    @abstractmethod
    def late(self) -> PhaseResult:
        """Decide without the bytes that did not come in time."""

    def wait(self, timeout_ms: int) -> None:
        """Make the loop call when there is more to read, or when time is up."""
        client = self.client
        loop = client.loop
        client.action = self.action
        client.read.handler = self._read_handler
        timer = client.write.timer = Timer(self._first_bytes_timer_handler, self.session)
        loop.timers.start(timer, loop.clock.now_ms + timeout_ms)
        self.session.arrived().promise(loop.reserve)
        client.resume_read()

    def _read_handler(self, _event: Event) -> None:
        verdict = self.look()
        if verdict is not Passage.WAIT:
            # There may be more, which an edge-triggered selector has reported with this event.
            self.client.read.ready = True
            self._end(verdict)

    def _first_bytes_timer_handler(self, _timer: Timer) -> None:
        self._end(self.late())

    def _end(self, verdict: PhaseResult) -> None:
        """Go on after the wait."""
        client, session = self.client, self.session
        timer, client.write.timer = client.write.timer, None
        if timer is not None:
            client.loop.timers.cancel(timer)
            del timer.handler  # which refers to the timer's owner by way of this object
        client.pause_read()
        client.read.handler = ignore
        session.arrived().redeem()
        if isinstance(verdict, Refusal):
            refuse(session, verdict)
        else:
            client.action = ""
            enter(session, self._rest)
