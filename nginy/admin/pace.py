"""Pace: how much work a slice has done, and whether it should end.

A slice takes 0.5 ms at most, so that no client waits longer because of an answer. Reading a clock
for each row would cost as much as some rows do, and no test could repeat the result. So the code
states the cost of each step, as measured on a slow machine, and a slice ends when its steps add up
to `SLICE_US`.

Pure.
"""

from typing import Final

SLICE_US: Final = 300
"""What a slice may cost by estimate; the rest is for what estimates leave out."""
LOOK_US: Final = 0.7
"""The cost of looking at a backend and counting it."""
ROW_US: Final = 15
"""The cost of a row with many facts."""
BYTE_US: Final = 0.015
"""The cost of a byte of JSON or of metrics."""


class Pace:
    """Adds up what steps cost. Created for one piece of work."""

    __slots__ = ("_spent_us",)

    def __init__(self) -> None:
        self._spent_us = 0.0

    def is_over(self, cost_us: float) -> bool:
        """Count a step; return whether the slice should end, so that the next step begins one."""
        self._spent_us += cost_us
        if self._spent_us < SLICE_US:
            return False
        self._spent_us = 0.0
        return True
