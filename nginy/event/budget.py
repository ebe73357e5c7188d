"""Budget: how many unsent bytes the whole process should hold.

The rests of all sessions are counted here (see `event/buffer.py`). While there is little of the
budget left, nobody reads in large pieces (see `proxy/tcp.py`).
"""

from typing import Final

BUDGET_BYTES: Final = 32 * 1024 * 1024
"""Unsent bytes over all sessions above which no session reads more than its `proxy_buffer_size` at
a time.

100 stalled uploads pinned 34 MB with reads of 1 MiB, and 2.7 MB with reads of 256 KiB."""


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
