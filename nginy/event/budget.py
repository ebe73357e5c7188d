"""Budget: how many unsent bytes the whole process should hold, and what to do without memory.

It counts the unsent bytes of all sessions (see `event/buffer.py`). While the budget is spent,
sessions read only what they can send on at once (see `proxy/tcp.py::TcpSession._trickle`): they get
slower, and none ends. The budget follows the memory that the process may still take
(`event/room.py`), and measures it again now and then, since limits change.

If memory runs out anyway, Python raises MemoryError. For that moment the budget puts some aside,
the ballast: enough to end one session in order, and to log why.
"""

import contextlib
import mmap
from collections.abc import Callable
from typing import Final

from nginy.event.room import room_bytes

BUDGET_BYTES: Final = 32 * 1024 * 1024
"""Unsent bytes of all sessions together above which no session keeps more, with room enough.

100 stalled uploads pinned 34 MB with reads of 1 MiB, and 2.7 MB with reads of 256 KiB."""
ROOM_SHARE: Final = 4
"""The room divided by this may hold unsent bytes; the rest is for everything else."""
MEASURE_MS: Final = 1000
"""How long a measurement of the room holds; one costs up to 30 µs."""
BALLAST_BYTES: Final = 2 * 1024 * 1024
"""Put aside: Python's allocator takes a mebibyte at a time. It is never touched, so it takes up
address space and no memory."""


class Budget:
    """How many unsent bytes the process holds, and how many it should. Created by the loop, closed
    with it."""

    __slots__ = (
        "_allowed_bytes",
        "_ballast",
        "_measured_at_ms",
        "_room",
        "is_spent",
        "limit_bytes",
        "used_bytes",
    )

    def __init__(
        self, limit_bytes: int = BUDGET_BYTES, room: Callable[[], int | None] = room_bytes
    ) -> None:
        """Hold at most `limit_bytes`, and less if `room` leaves less: bytes, None for no limit."""
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.is_spent = False
        """Whether as many bytes are held as should be; the methods below keep it up to date."""
        self._room = room
        self._allowed_bytes = limit_bytes
        self._measured_at_ms: int | None = None
        self._ballast: mmap.mmap | None = None
        self._take_ballast()

    def hold(self, count: int, now_ms: int) -> None:
        """Count bytes that somebody keeps from now on."""
        self.used_bytes += count
        self.measure(now_ms)

    def give_back(self, count: int) -> None:
        """Count bytes that nobody keeps any longer."""
        self.used_bytes -= count
        if self.is_spent:
            self._judge()

    def measure(self, now_ms: int) -> None:
        """Find out whether the budget is spent, and once in a while how much room there is."""
        last_ms = self._measured_at_ms
        if last_ms is None or now_ms - last_ms >= MEASURE_MS:
            self._measured_at_ms = now_ms
            room = self._room()
            if room is None:
                self._allowed_bytes = self.limit_bytes
            else:
                self._allowed_bytes = (room + self.used_bytes) // ROOM_SHARE
            if room is None or room > 2 * BALLAST_BYTES:
                self._take_ballast()
        self._judge()

    def _judge(self) -> None:
        self.is_spent = self.used_bytes >= min(self._allowed_bytes, self.limit_bytes)

    def starve(self, now_ms: int) -> None:
        """Release the ballast, and treat the budget as spent: there is no memory left."""
        self.close()
        self._measured_at_ms = now_ms
        self._allowed_bytes = 0
        self.is_spent = True

    def _take_ballast(self) -> None:
        if self._ballast is None:
            with contextlib.suppress(OSError):
                self._ballast = mmap.mmap(-1, BALLAST_BYTES)

    def close(self) -> None:
        """Release the ballast."""
        if self._ballast is not None:
            self._ballast.close()
            self._ballast = None
