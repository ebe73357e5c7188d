"""A clock that moves only when a test moves it: an hour passes in no time, and never by itself."""

from nginy.event.pauses import Pauses

START_MS = 1_000_000_000
WALL_MS = 1_795_458_901_000  # 2026-11-23 18:35:01 UTC


class FakeClock:
    """Satisfies `nginy.event.clock.Clock`."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms
        self.skipped_ms = 0
        self.pauses = Pauses()
        self._started_at_ms = now_ms
        self.updates = 0
        """How often it was asked for the time anew: once in each turn of a loop."""

    def advance(self, duration_ms: int) -> None:
        """Let time pass."""
        self.now_ms += duration_ms

    def update(self) -> None:
        """Count: the loop asks for the time, but only the test makes it pass."""
        self.updates += 1

    def skip(self, pause_ms: int) -> None:
        """Do nothing: time that a test lets pass is not a pause."""

    def wall_ms(self) -> int:
        """Return the time of day, which passes along."""
        return WALL_MS + self.now_ms - self._started_at_ms
