"""AdminClient: one connection of the admin interface, a request at a time.

nginy reads from a client until its request is whole, and not again until the answer has left:
requests sent ahead wait in the kernel. No client can stay for long: each state has a deadline,
which arriving bytes do not extend.

 ┌──> reading ──> answering ──> sending ──┬──> lingering ──> closed
 └────────────────────────────────────────┘    if the connection cannot go on

Lingering is for a client that gets a refusal while it still sends. Closing at once would send a
reset, and the reset would overtake the answer (RFC 9112 §9.6).

nginx: `ngx_http_wait_request_handler`, `ngx_http_set_lingering_close`.

Tested in tests/admin/test_server_live.py.
"""

import socket
import struct
from collections.abc import Iterator
from typing import Final, Protocol

from nginy.admin.answer import Answer, refusal
from nginy.event.connection import AGAIN, EOF, ERROR, Connection
from nginy.event.event import Event
from nginy.event.timer import Timer
from nginy.wire.request import (
    BODY_MAX_BYTES,
    HEAD_MAX_BYTES,
    Request,
    RequestError,
    parse_request,
)

REQUEST_MS: Final = 5_000
"""How long a request may take to arrive, from its first byte."""
KEEPALIVE_MS: Final = 30_000
"""How long a connection may wait for a request."""
SEND_MS: Final = 30_000
"""How long an answer may take to leave."""
LONG_BYTES: Final = 8 << 20
SEND_BYTES_A_S: Final = 1 << 20
"""A longer answer, such as a trace, gets more time if its client reads the rest at this rate."""
BEHIND_MAX_BYTES: Final = 65_536
"""Unsent bytes of an endless answer, above which its client is cut off."""
CLIENT_LINGER_MS: Final = 1_000
CREDENTIALS: Final = "3i"
"""struct ucred of unix(7): process, user and group."""
PIECE_BYTES: Final = 65_536
"""Received, or sent, in one go."""


class Door(Protocol):
    """What a client needs of the listener that it came through (`server.py`)."""

    def requested(self, client: "AdminClient", request: Request) -> None:
        """Answer the request, or refuse it."""

    def hold(self, count: int) -> None:
        """Note bytes of an answer that begin to wait; a negative count ends that."""

    def left(self, client: "AdminClient") -> None:
        """Forget the client."""


class AdminClient:
    """Created by its door for an accepted connection, which it owns."""

    __slots__ = (
        "_c",
        "_closes",
        "_door",
        "_has_end",
        "_head_only",
        "_held",
        "_pieces",
        "_received",
        "_timer",
        "_unsent",
    )

    def __init__(self, door: Door, c: Connection) -> None:
        self._c = c
        self._door = door
        self._received = bytearray()
        self._unsent: memoryview | None = None
        self._pieces: Iterator[bytes] = iter(())
        """What follows the bytes that are unsent."""
        self._held = 0
        """Bytes of the answer that have not left."""
        self._closes = self._head_only = False
        self._has_end = True
        """Whether the whole answer is known."""
        # It does not count as one of worker_connections: it must get in when they are used up.
        c.loop.connections -= 1
        c.data = self
        c.action = "answering an admin client"
        self._timer = c.read.timer = Timer(self._timeout_handler, self)
        c.read.handler = self._read_handler
        c.write.handler = self._write_handler

    @property
    def is_open(self) -> bool:
        """Whether the client still wants its answer."""
        return self._c.fd >= 0

    @property
    def sender(self) -> str:
        """Who asks, for the log: the user behind a unix socket, or else an address."""
        sock = self._c.socket
        if sock.family != socket.AF_UNIX:
            return f"at {self._c.addr_text}"
        size = struct.calcsize(CREDENTIALS)
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _ = struct.unpack(CREDENTIALS, data)
        return f"uid {uid} (pid {pid})"

    def start(self) -> None:
        """Wait for the first request."""
        self._wait(KEEPALIVE_MS)
        self._c.resume_read()

    def _wait(self, duration_ms: int) -> None:
        self._c.loop.timers.start(self._timer, self._c.loop.clock.now_ms + duration_ms)

    # Reading.

    def _read_handler(self, event: Event) -> None:
        c = self._c
        room = HEAD_MAX_BYTES + BODY_MAX_BYTES - len(self._received)
        count = c.recv(c.loop.memory[: min(room, PIECE_BYTES)])
        if count == AGAIN:
            return
        if count in (EOF, ERROR):
            self.close()
            return
        if not self._received:
            self._wait(REQUEST_MS)
        self._received += c.loop.memory[:count]
        self._look()
        if event.ready and event.active:
            c.loop.post(event)

    def _look(self) -> None:
        """Pass a request on, if it is whole."""
        if not self.is_open:
            return
        try:
            found = parse_request(self._received)
        except RequestError as error:
            self.refuse(error)
            return
        if found is None:
            return
        request, length = found
        del self._received[:length]
        self._c.pause_read()
        self._wait(SEND_MS)
        self._closes = not request.keeps_alive
        self._head_only = request.method == "HEAD"
        self._door.requested(self, request)

    def refuse(self, error: RequestError) -> None:
        """Answer bytes that are no request, or a request that is refused, and close."""
        self._closes = True
        self._c.pause_read()
        self._wait(SEND_MS)
        self.answer(refusal(error))

    # Answering.

    def answer(self, answer: Answer) -> None:
        """Send the answer; look at the next request when all of it has left."""
        data = answer.to_bytes(has_body=not self._head_only, keeps_alive=not self._closes)
        pieces = () if self._head_only else answer.pieces
        self._head_only = False
        self._held = len(data) + sum(map(len, pieces))
        if pieces and self._held <= PIECE_BYTES:
            # In one call: the client may have asked the process to end, and this turn may be the
            # last.
            data, pieces = b"".join((data, *pieces)), ()
        self._unsent = memoryview(data)
        self._pieces = filter(None, pieces)  # an empty one would look like the end
        self._door.hold(self._held)
        self._wait(SEND_MS + 1000 * max(self._held - LONG_BYTES, 0) // SEND_BYTES_A_S)
        self._send()

    def push(self, data: bytes) -> None:
        """Send more of an answer that has no end; close a client that does not keep up."""
        unsent = bytes(self._unsent or b"")
        if not self.is_open or len(unsent) + len(data) > BEHIND_MAX_BYTES:
            self.close()
            return
        self._closes, self._has_end = True, False
        self._held += len(data)
        self._door.hold(len(data))
        self._unsent = memoryview(unsent + data)
        self._send()

    def _write_handler(self, _event: Event) -> None:
        if self._unsent is not None:
            self._send()

    def _send(self) -> None:
        c, unsent = self._c, self._unsent
        if unsent is None:
            return
        count = c.send(unsent[:PIECE_BYTES])
        if count == ERROR:
            self.close()
            return
        if count > 0:
            self._held -= count
            self._door.hold(-count)
            unsent = self._unsent = unsent[count:]
        if not unsent and (piece := next(self._pieces, None)) is not None:
            unsent = self._unsent = memoryview(piece)
        if not unsent and not self._has_end:
            self._unsent = None
            c.pause_write()
        elif not unsent:
            self._sent()
        elif c.write.active and c.write.ready:
            c.loop.post(c.write)
        else:
            c.resume_write()

    def _sent(self) -> None:
        c = self._c
        self._unsent = None
        c.pause_write()
        if self._closes:
            c.shutdown()
            self._received.clear()
            c.read.handler = self._discard_handler
            self._wait(CLIENT_LINGER_MS)
            c.resume_read()
            return
        self._wait(REQUEST_MS if self._received else KEEPALIVE_MS)
        c.resume_read()
        if self._received:
            c.loop.soon(self._look, self)

    def _discard_handler(self, event: Event) -> None:
        c = self._c
        count = c.recv(c.loop.memory[:PIECE_BYTES])
        if count in (EOF, ERROR):
            self.close()
        elif count != AGAIN and event.ready:
            c.loop.post(event)

    def wait_on(self, duration_ms: int) -> None:
        """Note that the answer takes its time; close if the client has gone meanwhile."""
        if self._c.peek() in (EOF, ERROR):
            self.close()
        else:
            self._wait(duration_ms + SEND_MS)

    # The end.

    def _timeout_handler(self, _timer: Timer) -> None:
        """End a connection that has been in one state for too long."""
        if self._received and self._unsent is None and not self._closes:
            text = f"the request was not whole in {REQUEST_MS // 1000}s"
            self.refuse(RequestError(408, "request_timeout", text))
        else:
            self.close()

    def close(self) -> None:
        """Close the connection; harmless when closed already."""
        c = self._c
        if c.fd < 0:
            return
        self._door.hold(-self._held)
        self._held = 0
        self._unsent, self._pieces = None, iter(())
        c.loop.connections += 1
        c.close()
        self._door.left(self)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f"admin client {self._c.addr_text}"

    def abort(self) -> None:
        """Close; the loop calls this after a bug."""
        self.close()
