"""Built-in answers: a listener with `return` sends its text and closes.

nginx: `ngx_stream_return_module.c`. nginy does one thing better: it reads and drops what the client
sends until the client closes, or has taken the answer and had a few seconds. A close with unread
bytes makes the kernel send a reset, which throws away the rest of the answer (nginx's HTTP side
knows this as `lingering_close`). An end that cuts the answer short is a reset.

On a UDP listener each datagram gets one datagram in return, and is a session of its own, as in
nginx.
"""

from collections.abc import Callable
from typing import Final

from nginy.event.buffer import Buffer
from nginy.event.connect import failure_text
from nginy.event.connection import AGAIN, ERROR, Connection
from nginy.event.datagram import DatagramReceiver, SharedConnection
from nginy.event.event import Event
from nginy.event.timer import Timer
from nginy.proxy.handler import ProtocolHandler
from nginy.proxy.phases.arrival import Arrival
from nginy.proxy.session import Reason, Session
from nginy.proxy.udp.stranger import admitted
from nginy.text.address import SockAddr

LINGER_MS: Final = 5000
"""A client that has the answer gets this long to close (nginx `lingering_timeout`)."""
DISCARD_BYTES: Final = 1024 * 1024
"""Bytes read and dropped for one event; then the others get their turn."""


class ReplyHandler(ProtocolHandler):
    """Makes sessions that answer by themselves."""

    __slots__ = ("text",)

    kind = "reply"

    text: Callable[[Session], bytes]
    """Makes the answer; set by config/building/build.py."""

    def accept_handler(self, client: Connection) -> None:
        """Begin the session of a client that was just accepted."""
        self.begin(self.session_of(client))

    def session_of(self, client: Connection) -> "ReplySession":
        """Return a session of a client, not yet begun."""
        return ReplySession(self, client)


class DatagramReplyHandler(ProtocolHandler):
    """Answers datagrams by itself."""

    __slots__ = ("text",)

    protocol = "UDP"
    kind = "udp reply"

    text: Callable[[Session], bytes]
    """Makes the answer; set by config/building/build.py."""

    def datagram_handler(
        self, receiver: DatagramReceiver, sockaddr: SockAddr, local: bytes, data: memoryview
    ) -> None:
        """Answer a datagram, unless it comes from port 0, to which nobody can send (RFC 768)."""
        if not sockaddr[1]:
            return
        client = SharedConnection(receiver, sockaddr, local)
        arrival = None
        if self.phases:
            stranger = admitted(self, client, self.drops, data)
            if stranger is None:
                return
            arrival = stranger.arrival
        self.answer(receiver, arrival, client, data)

    def answer(
        self,
        receiver: DatagramReceiver,
        arrival: Arrival | None,
        client: SharedConnection,
        data: memoryview,
    ) -> None:
        """Answer a datagram of a client that no phase has refused."""
        session = receiver.serving = Session(self, client)
        session.arrival = arrival
        client.action = "returning text"
        client.received = len(data)
        if client.send(self.text(session)) < 0:
            session.finalize(Reason.CLIENT_RESET, failure_text("sendmsg", client.errno))
        else:
            session.finalize(Reason.COMPLETED)


class ReplySession(Session):
    """A client that gets its answer and is sent away."""

    __slots__ = ("_unsent_bytes",)

    handler: ReplyHandler
    client: Connection
    _unsent_bytes: int
    """What the client had not taken of the answer when the timer was started."""

    def start(self) -> None:
        """Send the answer, or as much of it as the client takes now."""
        client, loop = self.client, self.client.loop
        client.action = "returning text"
        if loop.connections > loop.max_connections:
            self.finalize(Reason.OVER_LIMIT, "worker_connections are used up")
            return
        client.buffer = Buffer(self.handler.text(self))
        loop.budget.hold(len(client.buffer), loop.clock.now_ms)
        client.read.handler = self._discard_handler
        client.read.timer = Timer(self._idle_timer_handler, self)
        client.resume_read()
        self._write_handler(client.write)
        if client.buffer is not None:
            self._start_timer(self.handler.settings.timeout_ms)

    def _start_timer(self, timeout_ms: int | None) -> None:
        timer, loop = self.client.read.timer, self.client.loop
        self._unsent_bytes = self._count_unsent()
        if timer is not None and timeout_ms is not None:
            loop.timers.start(timer, loop.clock.now_ms + timeout_ms)

    def _count_unsent(self) -> int:
        """Return how much of the answer the client's kernel has not taken yet."""
        held = 0 if self.client.buffer is None else len(self.client.buffer)
        return held + self.client.unsent_bytes()

    def _write_handler(self, event: Event) -> None:
        client = self.client
        if client.buffer is None:
            return
        sent = client.buffer.send_to(client)
        if sent == AGAIN:
            event.handler = self._write_handler
            client.resume_write()
            return
        if sent == ERROR:
            self.finalize(Reason.CLIENT_RESET)
            return
        client.loop.budget.give_back(sent)
        if client.buffer:
            event.handler = self._write_handler
            client.resume_write()
            return
        client.buffer = None
        client.pause_write()
        client.action = "waiting for the client to close"
        client.shutdown()
        self._start_timer(LINGER_MS)
        if client.read.eof:
            self.finalize(Reason.COMPLETED)

    def _discard_handler(self, event: Event) -> None:
        client = self.client
        discarded = 0
        while discarded < DISCARD_BYTES:
            count = client.recv(client.loop.memory)
            if count == AGAIN:
                return
            if count <= 0:
                self._read_ended(count)
                return
            discarded += count
            if not event.ready:
                return
        client.loop.post(event)

    def _read_ended(self, outcome: int) -> None:
        if outcome == ERROR:
            # After the answer was sent, how the client closes is its own affair.
            self.finalize(Reason.CLIENT_RESET if self.client.buffer else Reason.COMPLETED)
        elif self.client.buffer is None:
            self.finalize(Reason.COMPLETED)
        else:
            self.client.pause_read()

    def _idle_timer_handler(self, _timer: Timer) -> None:
        """End the session, unless the client is still taking the answer."""
        unsent = self._count_unsent()
        if not unsent:
            self.finalize(Reason.COMPLETED)
        elif unsent < self._unsent_bytes:
            self._start_timer(self.handler.settings.timeout_ms)
        else:
            self.finalize(Reason.CLIENT_IDLE, reset=True)

    def finalize(self, reason: Reason, detail: str = "", reset: bool = False) -> None:
        """End the session, with a reset if that cuts the answer short."""
        super().finalize(reason, detail, reset or self.client.buffer is not None)
