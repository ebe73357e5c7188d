"""Buffer: bytes that were received and not yet sent, and the budget that all of them share.

`pos`, `last` and `end` are nginx's (`ngx_buf_s` in `ngx_buf.h`): bytes are taken at `pos` and
added at `last`, neither beyond `end`. What nginx's buffer can also be (a part of a file, a link of
a chain, a flush mark) is not needed by a proxy that passes bytes on.

Most connections never own a buffer. Reading goes into one buffer that the whole loop shares, and
what the other side takes at once is gone again before the next read; only an unsent rest is copied
into a `Buffer`, which lives until it is sent. The `Budget` counts those rests over the whole
process: while there is little of it left, nobody reads in large pieces (see `proxy/tcp.py`).
"""

from typing import Final

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
    """A run of bytes between `pos` and `last`, in memory that ends at `end`."""

    __slots__ = ("_memory", "last", "pos")

    def __init__(self, data: "bytes | bytearray | memoryview" = b"", size_bytes: int = 0) -> None:
        """Hold `data`, with room for `size_bytes` in all if that is more."""
        self._memory = bytearray(data)
        self.pos = 0
        """Where the bytes that are still to be sent begin."""
        self.last = len(self._memory)
        """Where they end."""
        if size_bytes > self.last:
            self._memory.extend(bytes(size_bytes - self.last))

    @property
    def end(self) -> int:
        """Where the memory ends."""
        return len(self._memory)

    def __len__(self) -> int:
        """Return how many bytes are still to be sent."""
        return self.last - self.pos

    def pending(self) -> memoryview:
        """Return the bytes still to be sent; no copy."""
        return memoryview(self._memory)[self.pos : self.last]

    def free(self) -> memoryview:
        """Return the memory behind the last byte, to be received into; no copy."""
        return memoryview(self._memory)[self.last :]

    def consume(self, count: int) -> None:
        """Take `count` bytes from the front: they were sent."""
        self.pos += count

    def fill(self, count: int) -> None:
        """Count `count` bytes as added: they were received into `free()`."""
        self.last += count
