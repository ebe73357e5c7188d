"""Samples: what the rates and the small charts are made of.

Each answer of the page takes a sample, at most one a second. So there is a history only while the
page is open, and there is no timer. A pause of a minute begins the history anew.

With thousands of sessions, bytes are not counted for each answer (`admin/thrift.py`). A sample then
waits until they have been; otherwise rates would be 0, and twice what they are, by turns.

Pure.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

KEPT: Final = 300
LISTENERS_MAX: Final = 50
"""How many listeners have a history."""
LEAST_S: Final = 0.9
"""From one sample to the next."""
LATER_S: Final = 0.05
"""A moment that is later than another by less may be the same one: reports take time to arrive."""
LEASE_S: Final = 60.0
"""Older ones say nothing about now."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Counts at one moment."""

    at_s: float
    sessions: int = 0
    total: int = 0
    received: int = 0
    sent: int = 0
    connections: int = 0
    busy_s: float = 0.0
    lag_s: float = 0.0
    """How late timers were since the previous sample: the 99th percentile."""
    listeners: Mapping[str, int] = field(default_factory=dict)
    """Bytes so far, both ways, of the first listeners."""


class Samples:
    """The latest samples, without a gap between them."""

    def __init__(self) -> None:
        self._ring: deque[Sample] = deque(maxlen=KEPT)

    def is_due(self, at_s: float, age_s: float | None) -> bool:
        """Whether the last one is old enough for another, and bytes have been counted since.

        They were counted `age_s` ago; None: never.
        """
        if age_s is None:
            return False
        passed_s = at_s - self._ring[-1].at_s if self._ring else LEASE_S
        return passed_s >= LEAST_S and passed_s - age_s > LATER_S

    def add(self, sample: Sample, age_s: float | None = 0.0) -> None:
        """Take a sample, unless the last one is too young, or bytes were last counted before it."""
        if not self.is_due(sample.at_s, age_s):
            return
        if self._ring and sample.at_s - self._ring[-1].at_s > LEASE_S:
            self._ring.clear()
        self._ring.append(sample)

    def all(self) -> Sequence[Sample]:
        """Return them, the oldest first."""
        return tuple(self._ring)

    def rate(self, name: str) -> float | None:
        """Return how much a count grows a second at the moment; None if that is not known yet."""
        if len(self._ring) < 2:
            return None
        before, last = self._ring[-2], self._ring[-1]
        grown = getattr(last, name) - getattr(before, name)
        return max(float(grown), 0.0) / (last.at_s - before.at_s)
