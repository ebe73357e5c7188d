"""Pauses: when the process was suspended, and for how long; the loop's clock leaves that out.

To show a moment of the loop's clock as a time of day, add the pauses since then
(`admin/subject.py`).

Pure.

Tested in tests/event/test_clock.py.
"""

from typing import Final

KEPT: Final = 100


class Pauses:
    """The pauses of one clock."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: list[tuple[int, int]] = []
        """When the last ones ended, and how long they were; older ones count as the first."""

    def add(self, ended_at_ms: int, pause_ms: int) -> None:
        """Note a pause that has just ended."""
        self._found.append((ended_at_ms, pause_ms))
        if len(self._found) > KEPT:
            (_, first_ms), (at_ms, second_ms) = self._found[:2]
            self._found[:2] = [(at_ms, first_ms + second_ms)]

    def since(self, at_ms: int) -> int:
        """Return how long the pauses after a moment were, together."""
        return sum(pause_ms for ended_at_ms, pause_ms in self._found if ended_at_ms > at_ms)
