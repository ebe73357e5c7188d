"""The states that a backend has left: how many, and for how long it could not serve in them.

`health.py` adds each state when it ends; the admin interface shows the sums.

Tested in tests/backend/health/test_health.py.
"""

from nginy.backend.health.states import State


class PastStates:
    """Sums over the states of one backend that have ended; held by its `Health`."""

    __slots__ = ("count", "unusable_ms")

    def __init__(self) -> None:
        self.count = 0
        self.unusable_ms = 0

    def add(self, state: State, duration_ms: int) -> None:
        """Note the end of a state."""
        self.count += 1
        if state is not State.UP:
            self.unusable_ms += duration_ms
