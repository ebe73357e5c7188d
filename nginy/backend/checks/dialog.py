"""Dialog: one inquiry to a server over a stream connection, its answer, and a clean end.

The load check and the health checks differ in what they say and in how they judge the answers; a
`Talk` (`wire/checks/talk.py`) knows both. The rest is here: connect, shake hands for TLS, send and
receive as the talk says until it is over or the deadline comes, and tell the owner once.

The one idea: the owner hears the verdict at once, and does not wait for the end of the connection.
The end is clean: the protocol's own goodbye, such as QUIT, and our FIN, then reading up to the
server's FIN for at most 100 ms, then close. So a server's log shows a client that left, not one
that reset.

`health` decides what a result does to a backend; `watch` decides when to ask.

Tested in tests/backend/checks/test_checker_live.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from nginy.backend.checks.open_checks import OpenChecks
from nginy.event.connect import (
    OUR_ERRORS,
    ConnectFailure,
    connect_errno,
    connect_stream,
    failure_text,
)
from nginy.event.connection import AGAIN, EOF, ERROR, Connection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.event.tls import DONE, TlsConnection, start_tls
from nginy.event.tls_client import ClientContexts
from nginy.text.address import Address
from nginy.wire.checks.talk import Step, Talk
from nginy.wire.shown import SHOWN_MAX_BYTES
from nginy.wire.tls_failure import (
    SHOWN_BY_CERTIFICATE,
    certificate_failure,
    handshake_failure,
    name_failure,
    tls_failure,
)

FIN_WAIT_MS: Final = 100
"""How long to wait for the server's FIN after ours."""
READS: Final = 4
"""Reads for one event; then others have their turn."""

CONNECTING: Final = "connecting"
SENDING: Final = "sending"
WAITING: Final = "waiting for the answer"
LINGERING: Final = "waiting for the end"


@dataclass(frozen=True, slots=True)
class Result:
    """How a check has ended: it passed, unless `failure` says in a clause why it did not.

    With `is_ours` we could not make the check, for a reason of our own, so the backend has neither
    passed nor failed. With `is_silent` it passed because nothing came.
    """

    failure: str = ""
    is_ours: bool = False
    is_silent: bool = False
    sent: bytes = field(default=b"", compare=False)
    """The first bytes sent, for people who look at the check."""
    got: bytes = field(default=b"", compare=False)
    """The first bytes received."""

    def having(self, sent: bytes, got: bytes) -> "Result":
        """Return the result with what both sides have said."""
        if not sent and not got:
            return self
        return Result(self.failure, self.is_ours, self.is_silent, sent, got[:SHOWN_MAX_BYTES])


PASSED: Final = Result()
PASSED_IN_SILENCE: Final = Result(is_silent=True)

Ended = Callable[[Result], None]
"""Takes the result of a check; called once, unless the check is closed before that."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What to say to a server, and whether within TLS; `server_name` is the server's name there."""

    talk: Talk
    head: bytes = b""
    """Sent ahead of all else, TLS included: a PROXY header."""
    tls: ClientContexts | None = None
    server_name: str = ""


def call_failed(call: str, code: int) -> Result:
    """Return the failure "connect() failed (111: Connection refused)" for a call and its errno."""
    return Result(failure_text(call, code), code in OUR_ERRORS)


class Dialog:
    """One inquiry on its way. Created by `Checker`; closes its connection itself."""

    __slots__ = (
        "_action",
        "_address",
        "_c",
        "_deadline_ms",
        "_ended",
        "_got",
        "_inquiry",
        "_loop",
        "_open",
        "_refusal",
        "_sent",
        "_step",
        "_talk",
        "_unsent",
    )

    def __init__(self, loop: Loop, open_checks: OpenChecks, inquiry: Inquiry, ended: Ended):
        self._loop = loop
        self._open = open_checks
        self._inquiry = inquiry
        self._ended: Ended | None = ended
        self._c: Connection | None = None
        self._talk = inquiry.talk
        self._step = Step()
        self._sent = self._got = b""
        self._unsent = b"" if inquiry.tls else inquiry.head
        self._address: Address | None = None
        self._deadline_ms = 0
        self._action = CONNECTING
        self._refusal = ""
        """Why the certificate was refused, in short, while it is looked at once more."""

    def __repr__(self) -> str:
        """Show what it is doing, and the connection."""
        return f"<Dialog {self._action} {self._c!r}>"

    def start(self, address: Address, deadline_ms: int) -> None:
        """Connect, and have a result by `deadline_ms`; it may tell the owner before this
        returns."""
        self._address = address
        self._deadline_ms = deadline_ms
        self._connect(address)

    def _connect(self, address: Address) -> None:
        c = connect_stream(self._loop, address)
        if isinstance(c, ConnectFailure):
            self._finish(Result(c.text, c.is_ours))
            return
        self._c = c
        c.data = self
        c.action = "checking a backend"
        c.read.timer = Timer(self._deadline_handler, self)
        self._loop.timers.start(c.read.timer, self._deadline_ms)
        self._open.add(self)
        c.write.handler = self._connect_handler
        c.resume_write()

    # From connecting to the answer.

    def _connect_handler(self, event: Event) -> None:
        c = event.data
        code = connect_errno(event)
        if code:
            self._finish(call_failed("connect", code))
        elif self._inquiry.tls is None:
            self._ask(c)
        else:
            self._start_tls(c, self._inquiry.tls)

    def _start_tls(self, c: Connection, contexts: ClientContexts) -> None:
        head = self._inquiry.head
        if head and c.send(head) < len(head):  # the first bytes of a connection always fit
            self._finish(call_failed("send", c.errno))
            return
        self._action = "shaking hands (TLS)"
        context = contexts.lenient if self._refusal else contexts.strict
        name = self._inquiry.server_name if contexts.settings.sends_name else None
        tls = start_tls(c, context, name)
        c.read.handler = c.write.handler = self._handshake_handler
        c.resume_read()
        self._shake_hands(tls)

    def _handshake_handler(self, event: Event) -> None:
        c = event.data
        if isinstance(c, TlsConnection):
            self._shake_hands(c)

    def _shake_hands(self, c: TlsConnection) -> None:
        outcome = c.handshake()
        if outcome == DONE and self._refusal:
            self._read_certificate(c)
        elif outcome == DONE:
            self._refusal = self._wrong_name(c)
            if self._refusal:
                self._finish(self._tls_result(self._refusal))
            else:
                self._ask(c)
        elif outcome == AGAIN:
            # A level-triggered selector reports a socket as writable for ever.
            if c.write.ready:
                c.pause_write()
            else:
                c.resume_write()
        elif c.tls.failure:
            self._handshake_failed(c)
        else:
            self._finish(self._broken("recv", c))

    def _handshake_failed(self, c: TlsConnection) -> None:
        """Say why; for some certificates, take a look first, and say more.

        OpenSSL shows no certificate that it refuses. So a second connection asks for it again, and
        lets it pass.
        """
        words = handshake_failure(c.tls.failure, c.tls.verify_code, c.tls.verify_message)
        if self._refusal or c.tls.verify_code not in SHOWN_BY_CERTIFICATE or not self._address:
            self._finish(self._tls_result(words))
            return
        self._refusal = words
        self._disconnect()
        self._action = CONNECTING
        self._connect(self._address)

    def _read_certificate(self, c: TlsConnection) -> None:
        certificate, now_s = c.tls.object.getpeercert(), self._loop.clock.wall_ms() / 1000
        words = certificate_failure(certificate or {}, self._inquiry.server_name, now_s)
        self._refusal = words or self._refusal
        self._finish(self._tls_result(self._refusal))

    def _wrong_name(self, c: TlsConnection) -> str:
        """Return what is wrong with the certificate's name, if OpenSSL did not know it."""
        contexts = self._inquiry.tls
        if contexts is None or not contexts.settings.leaves_name:
            return ""
        return name_failure(c.tls.object.getpeercert() or {}, self._inquiry.server_name)

    def _tls_result(self, words: str, what: str = "TLS handshake failed") -> Result:
        name = self._talk.stage
        return Result(f"{name}: {words}" if name else f"{what} ({words})")

    def _broken(self, call: str, c: Connection) -> Result:
        """Return the failure of a call on a connection that may have TLS."""
        if isinstance(c, TlsConnection) and c.tls.failure:
            return self._tls_result(tls_failure(c.tls.failure), "TLS failed")
        result = call_failed(call, c.errno)
        return result if result.is_ours else Result(self._talk.lost(result.failure))

    def _ask(self, c: Connection) -> None:
        self._action = SENDING
        c.read.handler = self._answer_handler
        c.write.handler = self._send_handler
        self._follow(c, self._talk.begin())

    def _follow(self, c: Connection, step: Step) -> None:
        """Do what the talk says."""
        self._step = step
        if step.failure:
            self._finish(Result(step.failure))
            return
        if step.timeout_ms is not None and c.read.timer is not None:
            end_ms = self._loop.clock.now_ms + step.timeout_ms
            self._loop.timers.start(c.read.timer, min(end_ms, self._deadline_ms))
        sends = b"".join(step.sends)
        self._unsent += sends
        if len(self._sent) < SHOWN_MAX_BYTES:
            self._sent = (self._sent + sends)[:SHOWN_MAX_BYTES]
        if self._unsent:
            self._action = SENDING
            c.resume_write()
        self._send_handler(c.write)

    def _send_handler(self, event: Event) -> None:
        c = event.data
        if self._unsent:
            sent = c.send(memoryview(self._unsent))
            if sent == AGAIN:
                return
            if sent == ERROR:
                self._finish(self._broken("send", c))
                return
            self._unsent = self._unsent[sent:]
        if self._unsent:
            return
        c.pause_write()
        if self._step.is_over:
            self._finish(PASSED)
            return
        self._action = WAITING
        c.resume_read()
        if c.read.ready:
            self._loop.post(c.read)

    def _answer_handler(self, event: Event) -> None:
        c, memory = event.data, self._loop.memory
        for _ in range(READS):
            count = c.recv(memory)
            if count == AGAIN:
                return
            if count == ERROR:
                self._finish(self._broken("recv", c))
                return
            if len(self._got) < SHOWN_MAX_BYTES:
                self._got += bytes(memory[: min(count, SHOWN_MAX_BYTES)])
            self._follow(c, self._talk.receive(memory[:count], is_eof=count == EOF))
            if self._ended is None:
                return
        self._loop.post(event)

    def _deadline_handler(self, _timer: Timer) -> None:
        if self._action == WAITING:
            self._finish(Result(self._talk.late()))
        else:
            self._finish(Result(self._talk.in_words(f"timed out while {self._action}")))

    # The end.

    def _finish(self, result: Result) -> None:
        """End the connection, cleanly if there is one, and tell the owner."""
        c = self._c
        if self._refusal and self._ended is not None:
            result = self._tls_result(self._refusal)  # whatever has kept us from a second look
        self._talk.close()
        if c is not None:
            if self._action == LINGERING:
                return
            if self._action == CONNECTING or c.read.eof or c.errno:
                self._disconnect()
            else:
                self._linger(c)
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(result.having(self._sent, self._got))

    def _linger(self, c: Connection) -> None:
        """Say goodbye and send FIN, then wait for the server's FIN."""
        self._action = LINGERING
        self._open.has_result(self)
        if self._talk.goodbye and not self._unsent:
            c.send(memoryview(self._talk.goodbye))  # if there is no room, the FIN says it alone
        c.pause_write()
        c.shutdown()
        c.read.handler = self._linger_handler
        c.resume_read()
        if c.read.ready:
            self._loop.post(c.read)
        if c.read.timer is not None:
            c.read.timer.handler = self._linger_timer_handler
            self._loop.timers.start(c.read.timer, self._loop.clock.now_ms + FIN_WAIT_MS)

    def _linger_handler(self, event: Event) -> None:
        for _ in range(READS):
            count = event.data.recv(self._loop.memory)
            if count == AGAIN:
                return
            if count <= 0:
                self._disconnect()
                return
        self._loop.post(event)

    def _linger_timer_handler(self, _timer: Timer) -> None:
        self._disconnect()

    def _disconnect(self) -> None:
        self._open.discard(self)
        c, self._c = self._c, None
        if c is not None:
            c.close()

    def cancel(self) -> None:
        """Give up without telling the owner. A connection that exists ends cleanly."""
        self._ended = None
        self._finish(PASSED)

    def close(self) -> None:
        """Close the connection at once, without telling the owner."""
        self._ended = None
        self._talk.close()
        self._disconnect()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f"check of {self._address}"

    def abort(self) -> None:
        """Give up after a bug in a handler; the backend has neither passed nor failed."""
        ended, self._ended = self._ended, None
        self.close()
        if ended is not None:
            ended(Result("internal error", is_ours=True))
