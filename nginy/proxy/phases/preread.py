"""Preread: a client's first bytes decide on its way, and stay where they are.

The phase `ChooseRoute` asks the routes of a listener (`proxy/routing/routes.py`). Where they depend
on what the client sends, it looks without taking (MSG_PEEK), each time more has come. So nobody has
to replay anything: whoever reads next, a backend's session or a TLS handshake, finds the stream
from its first byte on, also behind a PROXY header.

A client may wait for the server to speak first, as those of SSH, SMTP and MySQL do. If nothing has
come in time, the phase chooses as for a client that sends nothing. A ClientHello that does not fit
into the buffer, is wrong, or stays incomplete ends the session; the routes judge anything else as
it is.

The one idea: wait for more, not for something. With edges, new bytes are a new report. Without, a
peeked socket stays readable and would wake the loop in every turn, so SO_RCVLOWAT (socket(7)) asks
for one byte more than was seen. FIN counts as readable whatever it asks; if nothing is new then,
that is the end of the stream. The kernel does not heed SO_RCVLOWAT on unix sockets (`unix_poll`),
so a timer looks at those.

nginx: ngx_stream_ssl_preread_module.c, and `ngx_stream_core_preread_phase`, which reads into a
buffer of `preread_buffer_size`.
"""

from _socket import AF_UNIX, MSG_PEEK, SO_RCVLOWAT, SOL_SOCKET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from nginy.event.connection import AGAIN, Connection
from nginy.event.timer import Timer
from nginy.proxy.context import host_of
from nginy.proxy.phases.phase import Passage, Phase, PhaseResult, Phases, Refusal
from nginy.proxy.phases.reading import Reading
from nginy.proxy.routing.conditions import ClientFacts, knows
from nginy.proxy.routing.routes import Route, RouteTable
from nginy.proxy.session import Reason, Session
from nginy.proxy.udp.stranger import Stranger
from nginy.wire.client_hello import NOT_TLS, Hello, Records, parse
from nginy.wire.errors import WireError
from nginy.wire.expect import Verdict

LOOK_MS: Final = 20
"""How long an unfinished message on a unix socket waits for the next look, where no edge reports
more of it."""


@dataclass(frozen=True, slots=True)
class ChooseRoute(Phase):
    """Chooses the route that a client takes (`routes`)."""

    table: RouteTable
    port: int
    """The listener's."""
    texts: Mapping[str, Callable[[Session], str]]
    """The functions that fill in the texts with variables that routes name."""
    has_default: bool
    """Whether a client that no route matches goes to the listener's own target."""
    size_bytes: int
    timeout_ms: int

    def run(self, session: Session, rest: Phases) -> PhaseResult:
        """Choose at once, or wait for the bytes that the choice depends on."""
        texts = self.texts
        host = host_of(session.client.sockaddr)
        facts = ClientFacts(host, self.port, lambda text: texts[text](session))
        client = session.client
        if not isinstance(client, Connection):
            first = session.first if isinstance(session, Stranger) else b""
            knows(facts, first, NOT_TLS, is_complete=True)
            return self.choose(session, facts)
        if not self.table.waits:
            verdict = self.choose(session, facts)
            if verdict is not Passage.WAIT:
                return verdict
        preread = Preread(session, client, rest)
        preread.phase, preread.facts, preread.seen, preread.records = self, facts, 0, None
        # A client that speaks first has mostly done so by now: no timer, and no other event.
        verdict = preread.look()
        if verdict is Passage.WAIT:
            preread.wait(self.timeout_ms)
        return verdict

    def choose(self, session: Session, facts: ClientFacts) -> PhaseResult:
        """Follow the first route that holds."""
        route = self.table.choose(facts)
        if route is Verdict.MORE:
            return Passage.WAIT
        if isinstance(route, Route):
            if route.target.is_denied:
                text = f"denied by route {route.number}"
                return Refusal(Reason.DENIED, text, "access")
            session.arrived().route = route
        elif not self.has_default:
            return Refusal(Reason.NO_ROUTE, Reason.NO_ROUTE.sentence, "access")
        return Passage.PASS


class Preread(Reading):
    """What a client sends first, until a route is chosen."""

    __slots__ = ("facts", "phase", "records", "seen")

    action = "prereading client data"  # nginx

    phase: ChooseRoute
    facts: ClientFacts
    records: Records | None
    """Those of a ClientHello that was not whole at the first look."""
    seen: int
    """How many bytes there were at the last look."""

    def look(self) -> PhaseResult:
        """Look at all there is, and choose if that is enough."""
        client = self.client
        try:
            head = client.socket.recv(self.phase.size_bytes, MSG_PEEK)
        except OSError as error:
            if client.failed(client.read, error) == AGAIN:
                return Passage.WAIT
            return self._bad("client reset the connection before its first message was complete")
        count = len(head)
        has_ended = not count or client.read.pending_eof
        if count and count == self.seen and not client.loop.interest.is_edge_triggered:
            if client.socket.family == AF_UNIX:
                return self._look_later()
            has_ended = True
        verdict = self._judge(head, has_ended=has_ended)
        if verdict is Passage.WAIT:
            self._await_more(count)
        else:
            self._restore()
        return verdict

    def _judge(self, head: bytes, *, has_ended: bool) -> PhaseResult:
        """Choose by the first bytes, which may be all that will come."""
        is_full = len(head) >= self.phase.size_bytes
        try:
            hello = parse(head, self.records)
        except WireError as error:
            return self._bad(f"bad ClientHello: {error}")
        if hello is None and head and has_ended:
            return self._bad("client closed the connection inside its ClientHello")
        if hello is None and is_full:
            text = f"the ClientHello does not fit into preread: size ({self.phase.size_bytes})"
            return self._bad(text)
        self._note(head, hello, is_complete=has_ended or is_full)
        return self.phase.choose(self.session, self.facts)

    def late(self) -> PhaseResult:
        """Choose by what has come; not inside a ClientHello, whose name may still come."""
        self._restore()
        if self.facts.hello is None and self.facts.head:
            return Refusal(Reason.PREREAD_LATE, Reason.PREREAD_LATE.sentence, "invalid")
        self._note(self.facts.head, self.facts.hello, is_complete=True)
        return self.phase.choose(self.session, self.facts)

    def _note(self, head: bytes, hello: Hello | None, *, is_complete: bool) -> None:
        knows(self.facts, head, hello, is_complete=is_complete)
        if self.facts.hello is not None:
            # For variables, in conditions and later.
            self.session.arrived().hello = self.facts.hello

    def _bad(self, detail: str) -> PhaseResult:
        self._restore()
        return Refusal(Reason.BAD_PREREAD, detail, "invalid")

    # Waiting for more than there is, where the selector keeps reporting what there is.

    def _await_more(self, count: int) -> None:
        client = self.client
        self.seen = count
        if self.records is None:
            self.records = Records()
        if not client.loop.interest.is_edge_triggered and client.socket.family != AF_UNIX:
            client.socket.setsockopt(SOL_SOCKET, SO_RCVLOWAT, count + 1)

    def _restore(self) -> None:
        """Make the selector report any byte again."""
        client = self.client
        if self.seen and not client.loop.interest.is_edge_triggered:
            if client.socket.family == AF_UNIX:
                timer, client.read.timer = client.read.timer, None
                if timer is not None:
                    client.loop.timers.cancel(timer)
                    del timer.handler
            else:
                client.socket.setsockopt(SOL_SOCKET, SO_RCVLOWAT, 1)

    def _look_later(self) -> PhaseResult:
        client = self.client
        client.pause_read()
        if client.read.timer is None:
            client.read.timer = Timer(self._look_timer_handler, self.session)
        client.loop.timers.start(client.read.timer, client.loop.clock.now_ms + LOOK_MS)
        return Passage.WAIT

    def _look_timer_handler(self, _timer: Timer) -> None:
        self.client.resume_read()
