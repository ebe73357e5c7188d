"""Buffer: bytes that were received and not yet sent.

`pos` is nginx's (`ngx_buf_s` in `ngx_buf.h`): bytes are taken there, up to the end. What nginx's
buffer can also be (filled bit by bit up to its `last`, a part of a file, a link of a chain, a flush
mark) is not needed by a proxy that passes bytes on.

Most connections never own a buffer. Reading goes into one buffer that the whole loop shares, and
what the other side takes at once is gone again before the next read; only an unsent rest is copied
into a `Buffer`, which lives until it is sent. How many such bytes the process should hold at most
is in `event/budget.py`.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nginy.event.connection import Connection

SHARED_BYTES: Final = 1024 * 1024
"""Size of the buffer that all reads of a loop go through: the most that is read at a time.

Bulk transfers cost 2.3 to 2.7 times the CPU time with reads of 16 KiB."""


class Buffer:
    """A copy of some bytes, and how many of them are taken."""

    __slots__ = ("_memory", "pos")

    def __init__(self, data: "bytes | memoryview") -> None:
        self._memory = memoryview(bytes(data))
        self.pos = 0
        """Where the bytes that are still to be sent begin."""

    def __len__(self) -> int:
        """Return how many bytes are still to be sent."""
        return len(self._memory) - self.pos

    def send_to(self, c: "Connection") -> int:
        """Send to `c` what it takes; return a count, AGAIN or ERROR."""
        sent = c.send(self._memory[self.pos :])
        if sent > 0:
            self.pos += sent
        return sent

    def release(self) -> None:
        """Let go of the bytes; the garbage collector does it."""
