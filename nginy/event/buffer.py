"""Buffer: bytes that were received and not yet sent.

`pos` is nginx's (`ngx_buf_s` in `ngx_buf.h`): the unsent bytes run from there to the end. A proxy
needs nothing else of what nginx's buffer can be (filled bit by bit up to its `last`, a part of a
file, a link of a chain, a flush mark).

Most connections never own a buffer. All reads go into one block of memory that the whole loop
shares, and what the other side takes at once is gone before the next read. Only an unsent rest is
copied into a `Buffer`, which lives until the rest is sent. `event/budget.py` limits how many such
bytes the process holds.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nginy.event.connection import Connection

SHARED_BYTES: Final = 1024 * 1024
"""Size of the memory that all reads of a loop go through, and so of the largest read.

Bulk transfers cost 2.3 to 2.7 times the CPU time with reads of 16 KiB."""

RECORDS_BYTES: Final = 64 * 1024
"""The most encrypted bytes that one read takes: four records of TLS (RFC 8446 §5.1).

What OpenSSL holds of a connection grows to the largest read, and does not shrink."""


class Buffer:
    """A copy of some bytes, and how many of them are sent."""

    __slots__ = ("memory", "pos")

    def __init__(self, data: "bytes | memoryview") -> None:
        self.memory = memoryview(bytes(data))
        self.pos = 0
        """Where the unsent bytes begin."""

    def __len__(self) -> int:
        """Return how many bytes are unsent."""
        return len(self.memory) - self.pos

    def send_to(self, c: "Connection") -> int:
        """Send to `c` what it takes; return a count, AGAIN or ERROR."""
        sent = c.send(self.memory[self.pos :])
        if sent > 0:
            self.pos += sent
        return sent

    def release(self) -> None:
        """Release the bytes; the garbage collector does that."""
