"""Visitor: a client that never came, from which `explain` gets the values of variables.

It looks like a session to the texts that `proxy/variables.py` compiles; a second way to fill in
variables would know less than the real one. It has neither a socket nor a loop, and never ends.

Tested in tests/commands/test_explain.py.
"""

from nginy.event.clock import MonotonicClock
from nginy.event.connection import ConnectionBase
from nginy.event.loop import Loop
from nginy.proxy.context import ConnectionContext
from nginy.proxy.lookups import Definition
from nginy.proxy.session import SESSIONS, ListenerCounters, Session
from nginy.proxy.texts import Variables
from nginy.text.address import SockAddr


class Visitor(Session):
    """The first client of a listener after a start."""

    __slots__ = ("_context", "_variables")

    def __init__(self, context: ConnectionContext, definitions: dict[str, Definition]) -> None:
        self.client = VisitorConnection(context.sockaddr)
        self.client.number = context.number
        self.client.data = self
        self.handler = VisitedListener(context)
        self.arrival = self.upstream = self.end = None
        self.attempts = ()
        self.detail = ""
        self._context = context
        self._variables = Variables(MonotonicClock(), definitions)

    @property
    def context(self) -> ConnectionContext:
        """The facts of the client."""
        return self._context

    def filled_in(self, text: str) -> str:
        """Return a text with the values of its variables; what only a header can say is empty."""
        return self._variables.compile(text)(self)


class VisitorConnection(ConnectionBase):
    """An address without a socket."""

    __slots__ = ()

    def __init__(self, sockaddr: SockAddr) -> None:
        self.sockaddr = sockaddr
        self.received = self.sent = self.start_time_ms = 0
        self.action = ""

    def send(self, memory: bytes | memoryview) -> int:
        """Take everything, as nobody is there."""
        return len(memory)

    def close(self, reset: bool = False) -> None:
        """Close nothing."""


class VisitedListener:
    """What a session needs of its handler, as far as variables ask for it."""

    loop: Loop
    logger = SESSIONS
    is_verbose = False

    def __init__(self, context: ConnectionContext) -> None:
        self.name = context.listener
        self.protocol = context.protocol
        self.local_sockaddr = context.local_sockaddr
        self.counters = ListenerCounters()

    def session_ended(self, session: Session) -> None:
        """Count nothing: there was no session."""
