"""Connection: one socket that we own, with its two events.

The counterpart of nginx's `ngx_connection_s` (`ngx_connection.h`), field by field where Python has
a use for the field. Absent are `pool` (the garbage collector does it), `socklen`, `type` and bit
widths (addresses are tuples), `queue` (pooling connections brought nothing measurable) and
`instance` (see `Event`). `log` is the module's logger, `log->action` is `Connection.action`.

A connection knows how to receive, send, shut down and close. Only its owner knows what the bytes
mean: the object in `data` (a session, a health check, a listener). Reading and writing have
outcomes that cannot be confused: a count above zero is bytes, `EOF` is the end of the stream,
`AGAIN` means "would block", `ERROR` means that the connection is broken, for the reason in `errno`.
No method raises anything for what a peer does.

**One owner closes, in one order** (`ngx_close_connection`): timers, posted events and flags; the
interest; the buffer; then the descriptor. After that `fd` is -1, no handler is called, and no
reference leads from here to the owner, so closing leaves nothing to the cyclic garbage collector.

Sockets are `_socket.socket` objects, the C type beneath `socket.socket`. Leaving out the Python
layer above it saves 5 % of the CPU time of a short connection.
"""

import errno
import struct
import sys
from _socket import (
    MSG_PEEK,
    SHUT_WR,
    SO_ERROR,
    SO_LINGER,
    SOL_SOCKET,
    socket,
)
from abc import ABC, abstractmethod
from fcntl import ioctl
from selectors import EVENT_READ, EVENT_WRITE
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Final

from nginy.event.event import Event, ignore
from nginy.event.timer import Owner
from nginy.text.address import SockAddr, sockaddr_text

if TYPE_CHECKING:
    from nginy.event.buffer import Buffer
    from nginy.event.loop import Loop
    from nginy.event.pipe import Pipe

EOF: Final = 0
"""Outcome of `recv`: the peer has finished sending (nginx: 0)."""
ERROR: Final = -1
"""Outcome: the connection is broken, `Connection.errno` says how (NGX_ERROR)."""
AGAIN: Final = -2
"""Outcome: the call would block, and the event is no longer ready (NGX_AGAIN)."""

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, with 0 seconds: close() sends RST and drops unsent bytes (RFC 9293 §3.10.4,
ABORT)."""


class ConnectionBase(ABC):
    """The fields of everything that has the shape of a connection: a `Connection` itself, or a
    client that shares its listener's socket (`event/datagram.py`)."""

    __slots__ = (
        "_local_sockaddr",
        "action",
        "active_at_ms",
        "buffer",
        "data",
        "errno",
        "fd",
        "full_reads",
        "loop",
        "number",
        "read",
        "received",
        "registered",
        "sent",
        "sockaddr",
        "socket",
        "start_time_ms",
        "tls",
        "write",
    )

    socket: socket
    read: Event
    write: Event

    def __init__(self, loop: "Loop", fd: int, sockaddr: SockAddr) -> None:
        self.loop = loop
        self.fd = fd
        """The descriptor; -1 once closed, the test for a stale connection."""
        self.sockaddr = sockaddr
        """The peer's address."""
        self.data: Owner | None = None
        """The owner, which this connection serves; cleared by `close`."""
        self.action = ""
        """The present action, for the log: "connecting to upstream" (nginx `log->action`)."""
        self.buffer: Buffer | Pipe | None = None
        """Bytes received from this connection that the other side has not taken; None without
        any."""
        self.received = 0
        """Bytes received."""
        self.sent = 0
        """Bytes sent."""
        self.full_reads = 0
        """How many reads in a row filled their buffer: the measure of a bulk transfer."""
        self.number = 0
        """The session's number, in every log line about it."""
        self.start_time_ms = self.active_at_ms = loop.clock.now_ms
        """When it was opened, and when it last moved a byte, which idle timers look at."""
        self.errno = 0
        """Why the last call ended with ERROR."""
        self.registered = 0
        """What a level-triggered selector has been told (see `LevelInterest`)."""
        self._local_sockaddr: SockAddr | None = None

    def __repr__(self) -> str:
        """Show number, descriptor, peer and both events."""
        return (
            f"<{type(self).__name__} {self.number} fd={self.fd} {self.addr_text} "
            f"read={self.read!r} write={self.write!r}>"
        )

    @property
    def addr_text(self) -> str:
        """The peer's address as text (nginx `addr_text`), "unix:" for an unnamed unix peer."""
        return sockaddr_text(self.sockaddr)

    def note_local_sockaddr(self) -> None:
        """Ask for our own address now, so that we still know it after the close."""
        if self._local_sockaddr is None:
            try:
                self._local_sockaddr = self.socket.getsockname()
            except OSError:  # it is closed
                return

    @property
    def local_sockaddr(self) -> SockAddr:
        """Our own address, which the kernel tells once; "" if the connection is closed."""
        self.note_local_sockaddr()
        return self._local_sockaddr or ""

    @abstractmethod
    def send(self, memory: "bytes | memoryview") -> int:
        """Send what the kernel takes of `memory`; return a count, AGAIN or ERROR."""

    @abstractmethod
    def close(self, reset: bool = False) -> None:
        """Close, with RST instead of FIN if `reset`; harmless when closed already."""


class Connection(ConnectionBase):
    """One socket, its two events and what is known about its peer (nginx `ngx_connection_t`).

    Created by a `Listener` or by `event/connect.py`; only its owner closes it, through `close`.
    """

    __slots__ = ()

    is_plain = True
    """The bytes sent and received are the socket's own. With TLS they are not."""

    directions = EVENT_READ | EVENT_WRITE
    """What an edge-triggered selector is told to report."""

    def __init__(self, loop: "Loop", sock: socket, sockaddr: SockAddr) -> None:
        """Begin to watch `sock`; raises OSError, and leaves it open, if the selector has no
        room."""
        ConnectionBase.__init__(self, loop, sock.fileno(), sockaddr)  # super() costs 60 ns more
        self.socket = sock
        self.read = Event(self, ignore)
        self.write = Event(self, ignore)
        loop.interest.add(self)
        loop.connections += 1

    # Interest: the owner says what it waits for, and the loop calls its handler.

    def resume_read(self) -> None:
        """Call the read handler from now on, in this turn if there is something to read."""
        if not self.read.active:
            self.read.active = True
            self.loop.interest.change(self.read)

    def pause_read(self) -> None:
        """Stop calling the read handler; what arrives stays in the kernel."""
        if self.read.active:
            self.read.active = False
            self.loop.interest.change(self.read)

    def resume_write(self) -> None:
        """Call the write handler as soon as the connection is writable."""
        if not self.write.active:
            self.write.active = True
            self.loop.interest.change(self.write)

    def pause_write(self) -> None:
        """Stop calling the write handler."""
        if self.write.active:
            self.write.active = False
            self.loop.interest.change(self.write)

    # Bytes.

    def recv(self, memory: memoryview) -> int:
        """Receive into `memory`, which must not be empty; return a count, EOF, AGAIN or ERROR.

        `read.ready` stays set only if there may be more to read. After a short read there is not,
        unless the selector has reported the peer's FIN: then EOF waits behind the bytes (nginx
        `ngx_unix_recv`).
        """
        rev = self.read
        try:
            count = self.socket.recv_into(memory)
        except OSError as error:
            return self.failed(rev, error)
        if not count:
            rev.eof = True
            rev.ready = False
            return EOF
        if count < len(memory) and not rev.pending_eof:
            rev.ready = False
        self.received += count
        return count

    def send(self, memory: "bytes | memoryview") -> int:
        """Send what the kernel takes of `memory`; return a count, AGAIN or ERROR (nginx
        `ngx_unix_send`)."""
        wev = self.write
        try:
            count = self.socket.send(memory)
        except OSError as error:
            return self.failed(wev, error)
        if count < len(memory):
            wev.ready = False
        self.sent += count
        return count

    def peek(self) -> int:
        """Return 1 if a byte waits to be received, else EOF, AGAIN or ERROR; takes nothing."""
        try:
            data = self.socket.recv(1, MSG_PEEK)
        except OSError as error:
            return self.failed(self.read, error)
        return len(data)

    def failed(self, event: Event, error: OSError) -> int:
        """Note what a call in this direction has raised; return its outcome, AGAIN or ERROR."""
        event.ready = False
        if isinstance(error, BlockingIOError):
            return AGAIN
        event.error = True
        self.errno = error.errno or 0
        return ERROR

    def drop_buffer(self) -> None:
        """Drop the buffer, with the bytes in it."""
        if self.buffer is not None:
            self.loop.budget.give_back(len(self.buffer))
            self.buffer.release()
            self.buffer = None

    # The end.

    def shutdown(self) -> None:
        """Send FIN after the bytes already sent; receiving goes on (half-close, RFC 9293 §3.6)."""
        self.write.eof = True
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError as error:
            # The peer has reset the connection already; reading will say so.
            if error.errno != errno.ENOTCONN:
                self.failed(self.write, error)

    def say_goodbye(self) -> bool:
        """Send what has to come before a close; return False if it waits for room.

        The kernel sends its FIN after all that it holds, so there is nothing to do.
        """
        return True

    def take_error(self) -> int:
        """Return the socket's pending error, 0 if none: the result of a connect (SO_ERROR)."""
        try:
            self.errno = self.socket.getsockopt(SOL_SOCKET, SO_ERROR)
        except OSError as error:
            self.errno = error.errno or errno.EBADF
        return self.errno

    def unsent_bytes(self) -> int:
        """Return how many bytes the kernel holds that the peer has not acknowledged (SIOCOUTQ)."""
        try:
            count = int.from_bytes(ioctl(self.fd, TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:
            return 0
        # The kernel counts a FIN too: it has a sequence number of its own (RFC 9293 §3.4).
        return max(0, count - self.write.eof)

    def close(self, reset: bool = False) -> None:
        """Close, with RST instead of FIN if `reset`; harmless when closed already.

        No handler of this connection is called after that. `data` and the handlers are cleared, so
        the connection keeps no owner alive.
        """
        if self.fd < 0:
            return
        loop = self.loop
        self.read.close(loop.timers)
        self.write.close(loop.timers)
        loop.interest.remove(self)
        loop.connections -= 1
        self.drop_buffer()
        self.data = None
        self.fd = -1
        try:
            if reset:
                self.socket.setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)
            self.socket.close()
        except OSError as error:
            # Such as ECONNRESET; the descriptor is gone anyway (close(2)).
            self.errno = error.errno or 0

    def abort(self) -> None:
        """Abort the owner, or close without one; the loop calls this after a bug."""
        if self.data is None:
            self.close(reset=True)
        else:
            self.data.abort()
