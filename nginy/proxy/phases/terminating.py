"""Terminating TLS: the phase in which a listener with `tls` shakes hands with its clients.

`ServerTls` says how: which certificate for which name, and what else to ask for. The phase reads
the client's first message itself, before OpenSSL does. So it chooses the certificate before
anything costs CPU time, recognizes a client that speaks no TLS (and tells it so, if it speaks
HTTP, after which it reads the request to its end), and can log what a client offered that it turns
away. Then the bytes go to OpenSSL, and `event/tls.py::TlsConnection` takes the place of the plain
connection for the rest of the session.

Each step waits in a queue (`event/handshakes.py`), as it costs so much.

nginx: `ngx_stream_ssl_handler` and `ngx_stream_ssl_servername` in `ngx_stream_ssl_module.c`,
`ngx_http_ssl_handshake` for plain HTTP.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Final

from nginy.event.connection import AGAIN, EOF, ERROR, Connection
from nginy.event.event import Event, ignore
from nginy.event.records import CUT
from nginy.event.timer import Timer
from nginy.event.tls import DONE, TlsConnection, start_tls
from nginy.proxy.phases.phase import Passage, Phase, PhaseResult, Phases, Refusal, enter, refuse
from nginy.proxy.session import Reason, Session
from nginy.wire.client_hello import NOT_TLS, Hello, Records, parse
from nginy.wire.errors import WireError
from nginy.wire.shown import shown
from nginy.wire.tls_failure import tls_failure

MAX_HELLO_BYTES: Final = 64 * 1024
"""Post-quantum keys make hellos of 2 to 4 KB; more than this is an attack."""

UNRECOGNIZED_NAME: Final = 112
NO_APPLICATION_PROTOCOL: Final = 120
DECODE_ERROR: Final = 50
"""Alerts (RFC 8446 §6)."""

HTTP_REQUEST: Final = re.compile(rb"[A-Z]{3,16} [/*]|PRI \* HTTP/2|CONNECT ")
HTTP_TEXT: Final = b"This port speaks TLS, and the request came without it.\n"
HTTP_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(HTTP_TEXT), HTTP_TEXT)
)

HTTP_LINGER_MS: Final = 5000
"""A client that speaks HTTP has this long to end its request and to close (nginx
`lingering_timeout`). A close with unread bytes is a reset, which may overtake the answer."""

VERSION_FAILURES: Final = frozenset(
    ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "NO_PROTOCOLS_AVAILABLE", "UNKNOWN_PROTOCOL")
)


GONE: Final = {
    EOF: "client closed the connection before its first message was complete",
    ERROR: "client reset the connection",
}


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How a listener terminates TLS; made by `config/building/tls.py`."""

    default: SSLContext
    by_name: Mapping[str, SSLContext]
    """Contexts by the names of their certificates, `*.example.com` among them."""
    rejects_unknown: bool = False
    """Whether a name that no certificate has, or no name, ends the handshake."""
    alpn: frozenset[str] = frozenset()
    """Application protocols, one of which a client has to offer if it offers any."""
    timeout_ms: int = 60_000
    is_ragged: bool = False

    def context_for(self, name: str) -> SSLContext | None:
        """Return the context whose certificate is for `name`, else the default; None: reject."""
        by_name = self.by_name
        found = by_name.get(name) or by_name.get(f"*.{name.partition('.')[2]}")
        return found or (None if self.rejects_unknown else self.default)


@dataclass(frozen=True, slots=True)
class TlsPhase(Phase):
    """Shakes hands with the client (`tls`), unless its route says otherwise."""

    tls: ServerTls | None
    """None: the client is passed through."""
    by_route: Mapping[int, ServerTls | None] = field(default_factory=dict)
    """What holds in its place for the routes with these numbers."""

    def run(self, session: Session, rest: Phases) -> PhaseResult:
        """Wait for the client's first message."""
        client = session.client
        route = None if session.arrival is None else session.arrival.route
        tls = self.tls if route is None else self.by_route.get(route.number, self.tls)
        if tls is None or not isinstance(client, Connection):
            return Passage.PASS
        ServerHandshake(session, client, tls, rest).wait()
        return Passage.WAIT


class ServerHandshake:
    """A handshake on its way. Lives as long as the client's handlers refer to it."""

    __slots__ = (
        "_client",
        "_held",
        "_hello",
        "_is_queued",
        "_records",
        "_refusal",
        "_rest",
        "_session",
        "_tls",
    )

    def __init__(self, session: Session, client: Connection, tls: ServerTls, rest: Phases) -> None:
        self._session = session
        self._client = client
        self._tls = tls
        self._rest = rest
        self._held = b""
        """The client's first message as far as it has come."""
        self._records: Records | None = None
        """The TLS records of a first message that did not come in one piece."""
        self._hello: Hello = NOT_TLS
        self._refusal: Refusal | None = None
        """Why it ends, while the phase drops the rest of a plain request."""
        self._is_queued = False

    def wait(self) -> None:
        """Make the loop call when the client has sent something, or is late."""
        client = self._client
        loop = client.loop
        client.action = "TLS handshaking"
        client.read.handler = client.write.handler = self._handler
        timer = client.write.timer = Timer(self._timer_handler, self._session)
        loop.timers.start(timer, loop.clock.now_ms + self._tls.timeout_ms)
        self._session.arrived().promise(loop.reserve)
        client.resume_read()

    def _handler(self, _event: Event) -> None:
        if not self._is_queued:
            self._is_queued = True
            self._client.loop.handshakes.add(self._step, self._session)

    def _step(self) -> None:
        """Take what has come and go on as far as that leads."""
        self._is_queued = False
        client = self._client
        if client.fd < 0 or self._refusal is not None:
            return
        if client.is_plain:
            refusal = self._read_hello()
            if refusal is not None:
                self._end(refusal)
                return
        if not isinstance(client, TlsConnection):
            # There may be more, or a FIN, which no edge will report.
            if client.read.ready and self._refusal is None:
                self._handler(client.read)
            return
        outcome = client.handshake()
        if outcome == DONE:
            self._end(None)
        elif outcome == ERROR:
            self._end(_refused(self._failure(client)))
        elif client.tls.unsent:
            client.resume_write()
        else:
            client.pause_write()

    def _read_hello(self) -> Refusal | None:
        """Read the first message; when it is whole, begin TLS, or return why not."""
        client = self._client
        memory = client.loop.records
        count = client.recv(memory)
        if count <= 0:
            return None if count == AGAIN else _refused(GONE[count])
        self._held += memory[:count]
        client.received = 0  # the session counts what is within TLS
        try:
            hello = parse(self._held, self._records)
        except WireError as error:
            self._send_alert(DECODE_ERROR)
            return _refused(f"bad ClientHello, {error}")
        if hello is None:
            self._records = self._records or Records()
            if len(self._held) <= MAX_HELLO_BYTES:
                return None
            return _refused(f"a ClientHello of more than {MAX_HELLO_BYTES} bytes")
        return self._start(hello) if hello.is_tls else self._not_tls()

    def _start(self, hello: Hello) -> Refusal | None:
        """Choose the certificate and begin TLS, or return why not."""
        tls, name = self._tls, hello.server_name
        context = tls.context_for(name)
        if context is None:
            self._send_alert(UNRECOGNIZED_NAME)
            asked = f'client asks for "{name}"' if name else "client asks for no name"
            return _refused(f"{asked}, no certificate has it (unknown_sni: reject)")
        if tls.alpn and hello.alpn and tls.alpn.isdisjoint(hello.alpn):
            self._send_alert(NO_APPLICATION_PROTOCOL)
            return _refused(f"client offers {', '.join(hello.alpn)} only (alpn)")
        self._hello = hello
        client = start_tls(self._client, context, is_server=True, received=self._held)
        self._held = b""
        client.tls.server_name = name
        client.tls.is_ragged = tls.is_ragged
        return None

    def _not_tls(self) -> Refusal | None:
        """Return what has come instead of TLS; answer HTTP, and end later."""
        if not HTTP_REQUEST.match(self._held):
            return _refused(f"client does not speak TLS, {shown(self._held)} came")
        client = self._client
        self._held = b""
        self._refusal = _refused("client speaks plain HTTP")
        client.send(HTTP_ANSWER)
        client.shutdown()
        client.read.handler, client.write.handler = self._discard_handler, ignore
        timer, loop = client.write.timer, client.loop
        if timer is not None:
            loop.timers.start(timer, loop.clock.now_ms + HTTP_LINGER_MS)
        if client.read.ready:
            loop.post(client.read)
        return None

    def _discard_handler(self, event: Event) -> None:
        """Drop a part of the request; at its end, the session ends."""
        client = self._client
        count = client.recv(client.loop.memory)
        client.received = 0
        if count == AGAIN:
            return
        if count <= 0:
            self._end(self._refusal)
        elif event.ready:
            client.loop.post(event)

    def _send_alert(self, description: int) -> None:
        self._client.send(bytes((21, 3, 3, 0, 2, 2, description)))
        self._client.sent = 0

    def _failure(self, client: TlsConnection) -> str:
        """Return in words why the handshake has failed."""
        tls, version = client.tls, self._hello.version
        if not tls.failure:
            return GONE[ERROR]
        if tls.failure == CUT:
            return "client closed the connection in the middle of it"
        if tls.failure in VERSION_FAILURES and version:
            return f"client offers {version} only"
        return tls_failure(tls.failure, tls.verify_code, tls.verify_message)

    def _timer_handler(self, _timer: Timer) -> None:
        late = Refusal(Reason.HANDSHAKE_LATE, Reason.HANDSHAKE_LATE.sentence, "invalid")
        self._end(self._refusal or late)

    def _end(self, refusal: Refusal | None) -> None:
        """Go on after the wait."""
        client, session = self._client, self._session
        timer, client.write.timer = client.write.timer, None
        if timer is not None:
            client.loop.timers.cancel(timer)
            del timer.handler  # which refers to the timer's owner by way of this object
        client.pause_read()
        client.pause_write()
        client.read.handler = client.write.handler = ignore
        session.arrived().redeem()
        if refusal is not None:
            refuse(session, refusal)
            return
        client.action = ""
        client.active_at_ms = client.loop.clock.now_ms
        enter(session, self._rest)


def _refused(why: str) -> Refusal:
    return Refusal(Reason.BAD_HANDSHAKE, f"TLS handshake failed: {why}", "invalid")
