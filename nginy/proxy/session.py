"""Session: one client's exchange, and the one reason why it ends.

A `ProtocolHandler` creates every session, whatever its protocol. The session lives through the
handlers of its connections, and ends in `finalize`, once. That gives its backend back, closes both
connections, and counts and logs it with a status (nginx's), a termination code of two letters
(HAProxy's, "8.5. Session state at disconnection") and one plain sentence.

The table of this module, `Reason`, has a code for each end. `proxy/upstream.py` connects,
`proxy/tcp.py` and `proxy/udp/handler.py` exchange bytes.

nginx: `ngx_stream_session_t` in `ngx_stream.h`, `ngx_stream_finalize_session` in
`ngx_stream_handler.c`.
"""

import logging
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from nginy.backend.backend import Counters
from nginy.event.connection import Connection, ConnectionBase
from nginy.event.loop import Loop
from nginy.proxy.attempt import Attempt
from nginy.proxy.context import ConnectionContext
from nginy.proxy.phases.arrival import Arrival
from nginy.text.address import SockAddr

SESSIONS: Final = logging.getLogger("nginy.proxy")
"""The logger of sessions whose listener has no error log of its own."""


class Reason(Enum):
    """Why a session ended: status, termination code, sentence, and the level of its log line.

    The first letter of a code says who ended the session: C or c the client (by an act, by
    silence), S or s the backend, P the proxy's own rules, R a resource, D a backend that went down,
    K an operator, L the session's own limit. The second says when: C connecting, Q queued, D in
    data, R before the request was complete.
    """

    COMPLETED = (200, "--", "completed", logging.INFO)
    CLIENT_GONE_CONNECTING = (
        400, "CC", "client went away while connecting to upstream", logging.INFO,
    )  # fmt: skip
    CLIENT_RESET = (200, "CD", "client reset the connection", logging.INFO)
    CLIENT_IDLE = (200, "cD", "idle timeout, client was silent", logging.INFO)
    BACKEND_TIMED_OUT = (502, "sC", "connecting to upstream timed out", logging.ERROR)
    BACKEND_UNREACHABLE = (502, "SC", "connecting to upstream failed", logging.ERROR)
    NO_BACKEND = (502, "SC", "no usable backend", logging.ERROR)
    BACKEND_RESET = (502, "SD", "backend reset the connection", logging.ERROR)
    BACKEND_IDLE = (200, "sD", "idle timeout, backend was silent", logging.INFO)
    NO_ANSWER = (200, "--", "no answer", logging.DEBUG)
    ANSWERS_MISSING = (502, "sD", "backend has left datagrams unanswered", logging.ERROR)
    BACKEND_DOWN = (200, "DD", "backend went down", logging.INFO)
    CLIENT_LEFT_QUEUE = (400, "CQ", "client went away while waiting for a backend", logging.INFO)
    QUEUE_TIMED_OUT = (502, "sQ", "no backend was free in time", logging.ERROR)
    BAD_HEADER = (400, "CR", "bad PROXY header", logging.INFO)
    HEADER_LATE = (400, "cR", "the PROXY header did not come in time", logging.INFO)
    BAD_HANDSHAKE = (400, "CR", "TLS handshake failed", logging.INFO)
    HANDSHAKE_LATE = (400, "cR", "the TLS handshake did not end in time", logging.INFO)
    BAD_PREREAD = (400, "CR", "bad first message", logging.INFO)
    PREREAD_LATE = (400, "cR", "the ClientHello was not complete in time", logging.INFO)
    DENIED = (403, "PR", "denied by access", logging.INFO)
    NO_ROUTE = (403, "PR", "no route matches", logging.INFO)
    QUEUE_FULL = (503, "PC", "too many clients are waiting for a backend", logging.ERROR)
    OVER_LIMIT = (503, "PC", "over a limit", logging.WARNING)
    RESOURCE = (500, "RC", "no descriptor, port or memory", logging.CRITICAL)
    TOO_LONG = (200, "LD", "max_session_time reached", logging.INFO)
    KILLED = (200, "KD", "closed because nginy stopped", logging.INFO)
    KILLED_BY_OPERATOR = (200, "KD", "closed by an operator", logging.INFO)
    BUG = (500, "ID", "internal error", logging.CRITICAL)

    def __init__(self, status: int, code: str, sentence: str, level: int) -> None:
        self.status = status
        self.code = code
        self.sentence = sentence
        self.level = level

    # By identity: Enum's own hash is written in Python, and takes 0.3 us of each session.
    __hash__ = object.__hash__


COMPLETED: Final = Reason.COMPLETED
"""As a global name, for what every session passes: a member of an Enum costs 40 ns to look up."""

BEFORE_CONTENT: Final = frozenset(
    (
        Reason.BAD_HEADER,
        Reason.HEADER_LATE,
        Reason.BAD_HANDSHAKE,
        Reason.HANDSHAKE_LATE,
        Reason.DENIED,
        Reason.OVER_LIMIT,
    )
)
"""Reasons by which a phase refuses a session: nginy has not looked for a backend."""


@dataclass(slots=True)
class ListenerCounters(Counters):
    """The counters of a listener, over all reloads."""

    open: int = 0
    """Open sessions."""


class SessionHandler(Protocol):
    """What a session needs of the handler that began it (`proxy/handler.py`)."""

    @property
    def loop(self) -> Loop:
        """The loop that the session lives on."""

    @property
    def counters(self) -> ListenerCounters:
        """The counters of the listener."""

    @property
    def name(self) -> str:
        """The listener's name."""

    @property
    def protocol(self) -> str:
        """ "TCP" or "UDP"."""

    @property
    def local_sockaddr(self) -> SockAddr | None:
        """The address that clients ask; None if only each client's socket knows it."""

    @property
    def logger(self) -> logging.Logger:
        """The logger that sessions write to."""

    @property
    def is_verbose(self) -> bool:
        """Whether sessions log their beginning and a good end."""

    def session_ended(self, session: "Session") -> None:
        """Count a session and write it to the access log; called once for each."""


class Session:
    """One client's exchange (nginx `ngx_stream_session_t`).

    Owns its client connection and its upstream connection: `finalize` closes both. Nobody keeps a
    list of TCP sessions; they live as long as a connection's `data` refers to them.
    """

    __slots__ = (
        "arrival",
        "attempts",
        "client",
        "detail",
        "end",
        "handler",
        "upstream",
    )

    def __init__(
        self,
        handler: SessionHandler,
        client: ConnectionBase,
    ) -> None:
        self.handler = handler
        """The handler that began it, with the settings that hold for it to its end."""
        self.client = client
        self.arrival: Arrival | None = None
        """What a phase has found out about the client; None if none had to."""
        self.upstream: Connection | None = None
        self.attempts: tuple[Attempt, ...] = ()
        """One for each backend tried; the last is the one in use."""
        self.end: Reason | None = None
        """Why it has ended; None as long as it goes on."""
        self.detail = ""
        """Replaces the reason's own sentence, unless it is empty."""
        client.data = self
        if client.number:  # it goes on for another one: see `proxy/routing/routed.py`
            return
        handler.loop.sessions_started = client.number = handler.loop.sessions_started + 1
        if handler.local_sockaddr is None:
            client.note_local_sockaddr()
        handler.counters.open += 1
        if handler.is_verbose:
            self.log(logging.INFO, "client connected")

    @property
    def number(self) -> int:
        """The session's number, counted from 1 since the process started; a successor counts on."""
        return self.client.number

    @property
    def context(self) -> ConnectionContext:
        """The facts of the client, made on demand: a session at rest does not need them, and most
        sessions never do."""
        client, handler = self.client, self.handler
        return ConnectionContext(
            client.number,
            handler.protocol,
            handler.name,
            client.sockaddr,
            handler.local_sockaddr or client.local_sockaddr,
        )

    def arrived(self) -> Arrival:
        """Return what the phases have found out about the client, for one to add to it."""
        if self.arrival is None:
            self.arrival = Arrival(self.client.sockaddr)
        return self.arrival

    def __repr__(self) -> str:
        """Show the number, both connections and the reason, if there is one already."""
        return (
            f"<{type(self).__name__} {self.number} client={self.client!r} "
            f"upstream={self.upstream!r} {self.termination} {self.reason}>"
        )

    @property
    def status(self) -> int:
        """The status it has ended with (nginx `$status`), 0 as long as it goes on."""
        return 0 if self.end is None else self.end.status

    @property
    def termination(self) -> str:
        """The termination code, "" as long as it goes on."""
        return "" if self.end is None else self.end.code

    @property
    def reason(self) -> str:
        """Why it has ended, in a sentence; "" as long as it goes on."""
        return self.detail or ("" if self.end is None else self.end.sentence)

    @property
    def bytes_received(self) -> int:
        """Bytes received from the client."""
        return self.client.received

    @property
    def bytes_sent(self) -> int:
        """Bytes sent to the client."""
        return self.client.sent

    @property
    def requests(self) -> int:
        """Client datagrams; a TCP session is one request."""
        return 1

    @property
    def responses(self) -> int:
        """Datagrams from the backend; 1 for a TCP session that was answered at all."""
        return 1 if self.client.sent else 0

    def finalize(self, reason: Reason, detail: str = "", reset: bool = False) -> None:
        """End the session; only the first call counts.

        `detail` takes the place of the reason's own sentence. `reset` closes with RST, so that
        neither side takes a broken stream for a complete one.
        """
        if self.end is not None:
            return
        self.end = reason
        self.detail = detail
        if reason is not COMPLETED or self.handler.is_verbose:
            level = None if self.arrival is None else self.arrival.log_level
            self.log(level or reason.level, self.reason)
        if self.upstream is not None:
            self.upstream.close(reset)
        self.client.close(reset)
        self.handler.session_ended(self)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f"session {self.number}, client {self.client.addr_text}"

    def abort(self) -> None:
        """End the session after a bug in one of its handlers, or for want of memory."""
        is_starved = isinstance(sys.exc_info()[1], MemoryError)
        self.finalize(Reason.RESOURCE if is_starved else Reason.BUG, reset=True)
        # Something is left to close only if the bug is in the ending itself.
        self.client.close(reset=True)
        if self.upstream is not None:
            self.upstream.close(reset=True)

    def start(self) -> None:
        """Go to the content: connect to a backend, or answer. A UDP session has none to start."""

    def kill(self) -> None:
        """End the session because the process ends."""
        self.finalize(Reason.KILLED)

    def log(self, level: int, message: str) -> None:
        """Write to the error log, in nginx's grammar: what, while doing what, for which client.

        nginx: `ngx_stream_log_error` in `ngx_stream_handler.c`.
        """
        logger = self.handler.logger
        if not logger.isEnabledFor(level):
            return
        client, upstream = self.client, self.upstream
        parts = [message]
        if client.action:
            parts.append(f" while {client.action}")
        parts.append(f", client: {client.addr_text}, listener: {self.handler.name}")
        if self.attempts:
            parts.append(f", upstream: {self.attempts[-1].address}")
        parts.append(f", bytes from/to client:{client.received}/{client.sent}")
        if upstream is not None:
            parts.append(f", bytes from/to upstream:{upstream.received}/{upstream.sent}")
        kind = (message, self.attempts[-1].address if self.attempts else "")
        logger.log(level, "%s", "".join(parts), extra={"number": self.number, "kind": kind})
