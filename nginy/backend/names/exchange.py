"""One query to the name servers: over UDP, repeated or to another server, and over TCP if
necessary.

An `Exchange` sends one query until a server answers it, or none of them has, and tells its owner
once. `queries` decides what to ask and remembers the answers, `resolver` turns hosts and services
into queries, and `nginy.wire.dns` has the messages.

The one idea: only an answer to this very query ends the wait. Each attempt has a connected socket
of its own, so the kernel chooses a port that no attacker can foresee, and passes on datagrams of
that one server alone. The id is random (RFC 5452 §4). It drops anything else that arrives, and asks
a server that sends too much of it over TCP, where guessing does not help.

The second round asks without EDNS where the first one failed: some servers, and some firewalls in
front of them, drop or refuse what they do not know (RFC 6891 §7).

Read next: `queries`.

Tested in tests/backend/names/test_resolver_live.py.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import Final

from nginy.backend.names.servers import ServerMemory
from nginy.event.connect import ConnectFailure, connect_datagram, connect_stream
from nginy.event.connection import AGAIN, EOF, Connection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.text.address import Address
from nginy.wire.dns import (
    ENDLESS_ALIASES,
    Answer,
    Outcome,
    Query,
    RecordType,
    encode_query,
    frame,
    parse_response,
    unframe,
)
from nginy.wire.errors import MalformedAnswerError, WireError

ROUNDS: Final = 2
"""How often each server is asked: a datagram may be lost."""
DATAGRAM_QUOTA: Final = 16
"""Datagrams read for one event; then the others have their turn."""
MAX_FOREIGN: Final = 64
"""Datagrams of an attempt that answer something else; more mean that an attacker guesses ids."""
MAX_FOLLOWED: Final = 4
"""Unfinished chains of aliases that are followed, each with one more query."""
OLD_SERVER: Final = frozenset(("FORMERR", "NOTIMP", "BADVERS"))
"""How servers refuse EDNS that they do not know (RFC 6891 §7)."""

Done = Callable[[Answer | None, str], None]
"""Takes the answer and, if there is none or it FAILED, why. None means that no server answered."""


class Exchange:
    """One query on its way. Created by `Queries`; closes its sockets itself."""

    __slots__ = (
        "_asked_at_ms",
        "_connection",
        "_done",
        "_followed",
        "_foreign",
        "_loop",
        "_malformed",
        "_memory",
        "_message",
        "_no_edns",
        "_query",
        "_received",
        "_refusal",
        "_rng",
        "_server",
        "_servers",
        "_timeout_ms",
        "_timer",
        "_unsent",
        "_uses_edns",
        "_why",
    )

    def __init__(
        self,
        loop: Loop,
        servers: Sequence[Address],
        memory: ServerMemory,
        timeout_ms: int,
        rng: random.Random,
        done: Done,
    ) -> None:
        """Divide `timeout_ms` among all attempts; `rng` must be unpredictable."""
        self._loop = loop
        self._memory = memory
        ordered = memory.order(servers, loop.clock.now_ms)
        self._servers: Iterator[Address] = chain.from_iterable(repeat(ordered, ROUNDS))
        self._timeout_ms = max(timeout_ms // (ROUNDS * max(len(servers), 1)), 1)
        self._rng = rng
        self._done = done
        self._timer = Timer(self._timeout_handler, self)
        self._connection: Connection | None = None
        self._uses_edns = True
        self._no_edns: set[Address] = set()
        """Servers to be asked without EDNS, as they did not answer with it."""
        self._asked_at_ms = 0
        self._refusal: Answer | None = None
        """The last answer by which a server said that it cannot tell."""
        self._malformed = ""
        """What is wrong with an answer of the server being asked, "" if nothing is."""
        self._foreign = self._followed = 0
        self._received = bytearray()
        self._unsent = b""
        self._why = "no name server"

    def start(self, name: str, record_type: RecordType) -> None:
        """Ask; `done` may come before this returns."""
        try:
            self._set_query(name, record_type)
        except WireError as error:
            self._finish(None, str(error))
            return
        self._ask_next()

    def close(self) -> None:
        """Stop waiting, and tell nobody."""
        self._disconnect()
        self._servers = chain()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "question to a name server"

    def abort(self) -> None:
        """Count a bug in a handler as a failed lookup: its owner tries again later."""
        self._finish(None, "internal error")

    def _set_query(self, name: str, record_type: RecordType) -> None:
        self._query = Query(self._rng.getrandbits(16), name, record_type)
        self._encode()

    def _encode(self) -> None:
        self._message = encode_query(self._query, edns=self._uses_edns)

    # Over UDP.

    def _ask_next(self) -> None:
        """Ask the next server, or give up if there is none."""
        for server in self._servers:
            self._server = server
            knows_edns = self._memory.has_edns(server, self._loop.clock.now_ms)
            self._uses_edns = knows_edns and server not in self._no_edns
            self._encode()
            if self._ask():
                return
        self._finish(self._refusal, self._why)

    def _ask_other(self, why: str) -> None:
        """Ask the next server, as this one has failed."""
        self._note(why)
        self._no_edns.add(self._server)
        self._ask_next()

    def _ask(self) -> bool:
        """Ask the server over UDP; return False if that fails at once."""
        self._disconnect()
        self._foreign = 0
        self._malformed = ""
        self._asked_at_ms = self._loop.clock.now_ms
        c = connect_datagram(self._loop, self._server)
        if isinstance(c, ConnectFailure):
            return self._failed(c.errno)
        self._attach(c)
        c.read.handler = self._datagram_handler
        if c.send(self._message) < 0:
            return self._failed(c.errno)
        c.resume_read()
        return True

    def _attach(self, c: Connection) -> None:
        c.data = self
        c.action = "resolving a name"
        self._connection = c
        self._loop.timers.start(self._timer, self._loop.clock.now_ms + self._timeout_ms)

    def _failed(self, code: int) -> bool:
        """Note the errno of a call that failed; return False."""
        self._note(os.strerror(code))
        return False

    def _note(self, why: str) -> None:
        """Keep why the last attempt failed, and at which server."""
        self._why = f"{self._server}: {why}"

    def _datagram_handler(self, event: Event) -> None:
        c = event.data
        memory = self._loop.memory
        for _ in range(DATAGRAM_QUOTA):
            count = c.recv(memory)
            if count == AGAIN:
                return
            if count < 0:
                self._ask_other(os.strerror(c.errno))
                return
            self._heard(bytes(memory[:count]))
            if self._connection is not c:
                return
        self._loop.post(event)

    def _heard(self, message: bytes) -> None:
        try:
            answer = parse_response(message, self._query)
        except WireError as error:
            # The wait goes on: an attacker who guesses the id must not end it with garbage.
            if isinstance(error, MalformedAnswerError):
                self._malformed = f"malformed answer: {error}"
            self._foreign += 1
            if self._foreign > MAX_FOREIGN:
                self._ask_over_tcp()
            return
        if answer.outcome is Outcome.TRUNCATED:
            self._memory.note_answer(self._server, self._loop.clock.now_ms)
            self._ask_over_tcp()
        else:
            self._judge(answer)

    # Over TCP.

    def _ask_over_tcp(self) -> None:
        """Ask the same server over a connection, with as much time again."""
        self._disconnect()
        c = connect_stream(self._loop, self._server)
        if isinstance(c, ConnectFailure):
            self._ask_other(os.strerror(c.errno))
            return
        self._attach(c)
        self._received.clear()
        self._unsent = frame(self._message)
        c.write.handler = self._send_handler
        c.read.handler = self._receive_handler
        c.resume_write()

    def _send_handler(self, event: Event) -> None:
        c = event.data
        sent = c.send(self._unsent)
        if sent == AGAIN:
            return
        if sent < 0:
            self._ask_other(os.strerror(c.errno))
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            c.pause_write()
            c.resume_read()

    def _receive_handler(self, event: Event) -> None:
        c = event.data
        count = c.recv(self._loop.memory)
        if count == AGAIN:
            return
        if count <= 0:
            self._ask_other("connection closed" if count == EOF else os.strerror(c.errno))
            return
        self._received += self._loop.memory[:count]
        message = unframe(bytes(self._received))
        if message is None:
            if event.ready:
                self._loop.post(event)
            return
        try:
            answer = parse_response(message, self._query)
        except WireError as error:
            self._ask_other(f"malformed answer: {error}")
            return
        if answer.outcome is Outcome.TRUNCATED:
            self._ask_other("an answer over TCP is truncated")
        else:
            self._judge(answer)

    # What an answer means.

    def _judge(self, answer: Answer) -> None:
        """Take an answer, go on with what it leaves open, or ask another server."""
        now_ms = self._loop.clock.now_ms
        self._memory.note_answer(self._server, now_ms)
        if answer.outcome is Outcome.FAILED:
            self._refused(answer)
            return
        if not self._uses_edns and self._server in self._no_edns:
            self._memory.note_plain(self._server, now_ms)
        if answer.outcome is Outcome.EMPTY and self._is_unfinished(answer.canonical):
            self._followed += 1
            if self._followed > MAX_FOLLOWED:
                self._refused(Answer(Outcome.FAILED, problem=ENDLESS_ALIASES))
            else:
                self._ask_again(answer.canonical)
        else:
            self._finish(answer, "")

    def _refused(self, answer: Answer) -> None:
        """Ask on, as the server cannot tell: the same one without EDNS if that may be the
        reason."""
        self._refusal = answer
        self._note(answer.reason)
        self._no_edns.add(self._server)
        if self._uses_edns and answer.reason in OLD_SERVER:
            self._uses_edns = False
            self._ask_again(self._query.name)
        else:
            self._ask_next()

    def _is_unfinished(self, canonical: str) -> bool:
        """Whether an answer without a record ends at another name than the query's."""
        return canonical != self._query.name.lower().removesuffix(".")

    def _ask_again(self, name: str) -> None:
        """Ask the same server another question."""
        try:
            self._set_query(name, self._query.type)
        except WireError as error:
            self._finish(None, str(error))
            return
        if not self._ask():
            self._ask_next()

    def _timeout_handler(self, _timer: Timer) -> None:
        if not self._malformed:
            now_ms = self._loop.clock.now_ms
            self._memory.note_silence(self._server, self._asked_at_ms, now_ms)
        self._ask_other(self._malformed or "timed out")

    # The end.

    def _disconnect(self) -> None:
        self._loop.timers.cancel(self._timer)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _finish(self, answer: Answer | None, why: str) -> None:
        self.close()
        self._done(answer, why)
