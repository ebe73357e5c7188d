"""The last results of a backend's checks: when each began, how long it took, and how it went.

nginy may check ten thousand backends, so a result is one number: 320 bytes a backend and not 2,000.
Of the last one there is also the head of what both sides have said.

Pure; `checks/watch.py` notes results, the admin interface shows them.
"""

from array import array
from collections.abc import Iterator
from typing import Final

KEPT: Final = 16
TOOK_BITS: Final = 20
"""A check takes at most 2^20 ms, which is a quarter of an hour."""


class CheckResults:
    """A ring of `KEPT` results."""

    __slots__ = ("_count", "_ring", "said")

    def __init__(self) -> None:
        self.said = (b"", b"")
        """The first bytes that were sent for the last check, and those that came."""
        self._ring = array("q")
        self._count = 0

    def add(self, began_at_ms: int, took_ms: int, *, has_passed: bool) -> None:
        """Note one result."""
        took_ms = min(took_ms, (1 << TOOK_BITS) - 1)
        packed = ((began_at_ms << TOOK_BITS) | took_ms) << 1 | has_passed
        if len(self._ring) < KEPT:
            self._ring.append(packed)
        else:
            self._ring[self._count % KEPT] = packed
        self._count += 1

    def __iter__(self) -> Iterator[tuple[int, int, bool]]:
        """Yield began_at_ms, took_ms and whether it has passed; the latest first."""
        length = len(self._ring)
        for back in range(1, length + 1):
            packed = self._ring[(self._count - back) % length]
            rest = packed >> 1
            yield rest >> TOOK_BITS, rest & ((1 << TOOK_BITS) - 1), bool(packed & 1)
