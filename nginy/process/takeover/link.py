"""Link: one end of the connection between a nginy and its successor, on the loop.

It keeps messages until the kernel has room for them, and tells the sender that a message has left,
or never will: which process owns a session depends on that (`messages.py`). However the other
process ends, this end first reads everything that it has sent.
"""

import contextlib
import errno
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable
from typing import Final

from nginy.event.connection import Connection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.process.takeover.messages import (
    DESCRIPTORS_MAX,
    MESSAGE_MAX_BYTES,
    Message,
    MessageError,
    decode,
    encode,
)

ANCILLARY_BYTES: Final = socket.CMSG_LEN(DESCRIPTORS_MAX * 4)
"""Room for the descriptors of a message, which are ints."""
READ_QUOTA: Final = 16
"""Messages taken in one turn: some 2 ms, if each is a session."""
SEND_BUFFER_BYTES: Final = 1024 * 1024
"""The buffer that we ask for; the system grants at most `net.core.wmem_max`."""

CROWDED: Final = frozenset((errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM))
"""Errors when too many descriptors are on their way, or memory is short."""
CROWDED_MS: Final = 20
"""When to try again after that."""

Left = Callable[[bool], None]
"""Called once, with whether a message has left."""


def link_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a new link; raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (ours, theirs):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return ours, theirs


class Link:
    """One end. Closed by its owner, to which `ended` says that nothing more will come."""

    __slots__ = ("_connection", "_ended", "_is_over", "_received", "_socket", "_timer", "_unsent")

    decode: Callable[[bytes, list[int]], Message] = staticmethod(decode)
    """What a message is, by its bytes and descriptors."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        received: Callable[[Message], None],
        ended: Callable[[str], None],
    ) -> None:
        """Call `received` with each message, and `ended` once, with what was wrong: "" if nothing.

        Raises OSError, and leaves `sock` open, if the loop cannot watch it.
        """
        sock.setblocking(False)
        self._socket = sock
        self._received = received
        self._ended = ended
        self._is_over = False
        self._unsent: deque[tuple[bytes, Message, Left | None]] = deque()
        self._timer = Timer(self._crowded_handler, self)
        self._connection = c = Connection(loop, sock, "")
        c.data = self
        c.action = "handing sessions over"
        c.read.handler = self._read_handler
        c.write.handler = self._write_handler
        c.resume_read()

    @property
    def is_open(self) -> bool:
        """Whether this end is open."""
        return self._connection.fd >= 0

    @property
    def backlog(self) -> int:
        """How many messages wait for room."""
        return len(self._unsent)

    def send(self, message: Message, left: Left | None = None) -> None:
        """Send a message, now or as soon as there is room; raises MessageError if it is too long.

        Its descriptors must stay open until `left` has been called.
        """
        whole = encode(message)
        if not self.is_open:
            if left is not None:
                left(False)
            return
        self._unsent.append((whole, message, left))
        if len(self._unsent) == 1:
            self._flush()

    def cut_off(self) -> None:
        """Let nothing more come, and take what has come so far, skipping anything malformed."""
        if not self.is_open:
            return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)
        self._is_over = True
        while (received := self._receive()) is not None and received[0]:
            with contextlib.suppress(MessageError):
                self._hand_on(*received)

    def close(self) -> None:
        """Close this end; whatever waits for room will not leave."""
        self._connection.loop.timers.cancel(self._timer)
        self._connection.close()
        self._fail_unsent()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the link to the other nginy"

    def abort(self) -> None:
        """End the link after a bug in the handling of a message."""
        self._end("a bug in handling a message")

    def _flush(self) -> None:
        while self._unsent:
            whole, message, left = self._unsent[0]
            try:
                if message.fds:
                    socket.send_fds(self._socket, [whole], message.fds)
                else:
                    self._socket.send(whole)
            except BlockingIOError:
                self._connection.write.ready = False
                self._connection.resume_write()
                return
            except OSError as error:
                if error.errno in CROWDED:
                    loop = self._connection.loop
                    loop.timers.start(self._timer, loop.clock.now_ms + CROWDED_MS)
                    return
                self._fail_unsent()
                return
            self._unsent.popleft()
            if left is not None:
                left(True)
        if self.is_open:
            self._connection.pause_write()

    def _fail_unsent(self) -> None:
        while self._unsent:
            _, _, left = self._unsent.popleft()
            if left is not None:
                left(False)

    def _crowded_handler(self, _timer: Timer) -> None:
        self._flush()

    def _write_handler(self, _event: Event) -> None:
        self._flush()

    def _read_handler(self, event: Event) -> None:
        for _ in range(READ_QUOTA):
            if not self._take():
                return
        if self.is_open:  # the last message may have closed it
            self._connection.loop.post(event)

    def _take(self) -> bool:
        """Take one message; return False if there is none now, or will be none any more."""
        if self._is_over or not self.is_open:
            return False
        received = self._receive()
        if received is None:
            return False
        whole, fds = received
        if not whole:
            self._end("")
            return False
        try:
            self._hand_on(whole, fds)
        except MessageError as error:
            self._end(str(error))
            return False
        return True

    def _hand_on(self, whole: bytes, fds: list[int]) -> None:
        try:
            message = self.decode(whole, fds)
        except (MessageError, MemoryError):
            for fd in fds:
                os.close(fd)
            raise
        try:
            self._received(message)
        except MessageError as error:
            raise MessageError(f'"{message.word}": {error}') from error

    def _receive(self) -> tuple[bytes, list[int]] | None:
        """Return a message with its descriptors; None if there is none yet, b"" at the end."""
        while True:
            try:
                # Not socket.recv_fds(), which ignores flags before Python 3.13.
                whole, ancillary, _, _ = self._socket.recvmsg(
                    MESSAGE_MAX_BYTES + 1, ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                self._connection.read.ready = False
                return None
            except ConnectionResetError:  # it died with messages unread; those it sent come next
                continue
            except OSError:
                return b"", []
            fds = array("i")
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            return whole, fds.tolist()

    def _end(self, what: str) -> None:
        """Tell the owner, once, that nothing more will come."""
        if not self._is_over:
            self._is_over = True
            if self.is_open:
                self._connection.pause_read()
            self._ended(what)
