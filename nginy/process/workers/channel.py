"""Channel: what connects the supervisor and one worker, a pair of unix sockets.

A message is a word, a short text and, from the supervisor, descriptors (SCM_RIGHTS of unix(7)).
The sockets keep messages apart and in order (SOCK_SEQPACKET), and neither end ever waits for the
other. However one process dies, the other end reads EOF.

A worker sends the supervisor plain text, which the supervisor neither unpickles nor executes.
Workers may run as another user, and nothing from the network may control a process that may be
root's.

`worker.py` lists the words. nginx: `ngx_channel.c`.

Tested in tests/run/test_workers.py.
"""

import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import Final

from nginy.event.connection import Connection
from nginy.event.event import Event
from nginy.event.loop import Loop

TEXT_MAX_CHARACTERS: Final = 4000
"""Enough for a page of problems; the rest is cut off."""
MESSAGE_MAX_BYTES: Final = 65536
DESCRIPTORS_MAX: Final = 250
"""Descriptors in one message: SCM_MAX_FD of the kernel is 253."""
READ_QUOTA: Final = 16
"""Messages taken in one turn."""
LEFT_MAX: Final = 1000
"""More than the kernel keeps of a process that has ended: some 280 in 208 KiB."""

Received = Callable[[str, str, list[int]], None]
"""Takes a word, a text and the descriptors, which are the callee's to close."""


class Channel:
    """One end. Closed by its owner, or by itself once the other end is gone."""

    __slots__ = ("_closed", "_connection", "_max_fds", "_received", "_socket")

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        received: Received,
        closed: Callable[[], None],
        max_fds: int = 0,
    ) -> None:
        """Call `received` with each message of up to `max_fds` descriptors. Call `closed` when the
        process at the other end is gone.
        """
        sock.setblocking(False)
        self._socket = sock
        self._received = received
        self._closed = closed
        self._max_fds = max_fds
        self._connection = Connection(loop, sock, "")
        self._connection.data = self
        self._connection.read.handler = self._read_handler
        self._connection.resume_read()

    def send(self, word: str, text: str = "", fds: Sequence[int] = ()) -> bool:
        """Send a message, in several parts if there are many descriptors.

        Return False if some of it did not leave: the other process does not read, or the system has
        no room for more descriptors in flight. The end of the other process does not count as a
        failure: `closed` reports that.
        """
        if self._connection.fd < 0:
            return True
        data = f"{word} {text[:TEXT_MAX_CHARACTERS]}".encode(errors="replace")
        try:
            for first in range(0, max(1, len(fds)), DESCRIPTORS_MAX):
                part = fds[first : first + DESCRIPTORS_MAX]
                if part:
                    socket.send_fds(self._socket, [data], part)
                else:
                    self._socket.send(data)
        except ConnectionError:
            return True
        except OSError:
            return False
        return True

    def send_last(self, word: str, text: str, wait_ms: int) -> bool:
        """Send as `send` does, but wait for room: this process is about to end, and serves
        nobody.
        """
        if self.send(word, text):
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return bool(poll.poll(wait_ms)) and self.send(word, text)

    def drain(self) -> None:
        """Read what is left, after the end of the other process."""
        c = self._connection
        for _ in range(LEFT_MAX):  # a child of that process may go on sending
            if c.fd < 0 or not self._read_some():
                return

    def close(self) -> None:
        """Close this end."""
        self._connection.close()

    def abort(self) -> None:
        """Go on: a bug in handling one message must not make the process deaf to the next."""

    def _read_handler(self, event: Event) -> None:
        c = self._connection
        for _ in range(READ_QUOTA):
            if not self._read_some():
                event.ready = False
                return
            if c.fd < 0:
                return
        c.loop.post(event)

    def _read_some(self) -> bool:
        """Take a message, or the end; return False if there is nothing yet."""
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, MESSAGE_MAX_BYTES, self._max_fds)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # it ended with messages unread; those it sent come next
            return True
        except OSError:
            data, fds = b"", []
        if not data:
            self.close()
            self._closed()
            return True
        for fd in fds:
            os.set_inheritable(fd, False)
        word, _, text = data.decode(errors="replace").partition(" ")
        self._received(word, text, fds)
        return True
