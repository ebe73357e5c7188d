"""Buffer: bytes that were received and not yet sent, and the budget that all of them share.

`pos` is nginx's (`ngx_buf_s` in `ngx_buf.h`): bytes are taken there, up to the end. What nginx's
buffer can also be (filled bit by bit up to its `last`, a part of a file, a link of a chain, a flush
mark) is not needed by a proxy that passes bytes on.

Most connections never own a buffer. Reading goes into one buffer that the whole loop shares, and
what the other side takes at once is gone again before the next read; only an unsent rest is copied
into a `Buffer`, which lives until it is sent. The `Budget` counts those rests over the whole
process: while there is little of it left, nobody reads in large pieces (see `proxy/tcp.py`).
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nginy.event.connection import Connection

BUDGET_BYTES: Final = 32 * 1024 * 1024
"""Unsent bytes over all sessions above which no session reads more than its `proxy_buffer_size` at
a time.

100 stalled uploads pinned 34 MB with reads of 1 MiB, and 2.7 MB with reads of 256 KiB."""

SHARED_BYTES: Final = 1024 * 1024
"""Size of the buffer that all reads of a loop go through: the most that is read at a time.

Bulk transfers cost 2.3 to 2.7 times the CPU time with reads of 16 KiB."""


class Budget:
    """How many unsent bytes the process holds, and how many it should."""

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int = BUDGET_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    @property
    def is_spent(self) -> bool:
        """Whether more bytes are held than should be."""
        return self.used_bytes >= self.limit_bytes


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
