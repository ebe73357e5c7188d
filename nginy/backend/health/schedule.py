"""When the next check of a backend is due.

`health` knows what its result means; `checks` has the timers and sockets.

The one idea: checks start on a grid of slots one interval apart, and each slot gets a jitter of its
own. So jitter never adds up, and nginy detects a dead backend after fails x interval, give or take
one jitter, however long each check takes. Each backend of a group has its grid shifted, which
spreads their first checks over one interval.

The next check is never lost: starting a check sets `next_at_ms`, not its result, and it never lies
in the past. It is None only while checks are paused.
"""

import random
from dataclasses import dataclass

from nginy.backend.health.results import CheckResults


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How a backend is checked: the part of `health_check` that is policy.

    `interval_changing_ms` holds while a row of results is under way that would change the state;
    None stands for the state's own interval. `fails` and `passes` are results in a row,
    `is_initially_up` is `initial: up`. The jitter must be less than all intervals.
    """

    interval_ms: int
    interval_down_ms: int
    timeout_ms: int
    jitter_ms: int
    fails: int
    passes: int
    is_initially_up: bool
    interval_changing_ms: int | None = None


class CheckSchedule:
    """The slots of one backend's checks; held by its `Health`."""

    __slots__ = ("_next_slot_at_ms", "_slot_at_ms", "next_at_ms", "results")

    def __init__(self) -> None:
        self._slot_at_ms = 0  # of the check that started last
        self._next_slot_at_ms = 0
        self.next_at_ms: int | None = None
        self.results = CheckResults()
        """How the last checks went."""

    def begin(self, first_slot_at_ms: int, interval_ms: int) -> None:
        """Lay the grid through a first slot; `plan` then sets the time of the check in it."""
        self._slot_at_ms = first_slot_at_ms - interval_ms

    def start(self, interval_ms: int, now_ms: int) -> None:
        """Enter the slot of a check that starts now.

        Outside its slot, the grid begins anew from now. So a delay of whole slots (a stopped
        process, a slow turn) causes no burst of missed checks, and a check ahead of its time does
        not put off the next one.
        """
        is_in_slot = 0 <= now_ms - self._next_slot_at_ms < interval_ms
        self._slot_at_ms = self._next_slot_at_ms if is_in_slot else now_ms

    def plan(self, interval_ms: int, jitter_ms: int, now_ms: int, rng: random.Random) -> None:
        """Plan the next check, one interval after the last slot and up to a jitter later."""
        self._next_slot_at_ms = self._slot_at_ms + interval_ms
        self.next_at_ms = max(self._next_slot_at_ms + rng.randint(0, jitter_ms), now_ms)

    def follow(self, other: "CheckSchedule") -> None:
        """Plan what another schedule has planned."""
        self._slot_at_ms, self._next_slot_at_ms = other.slots
        self.next_at_ms = other.next_at_ms

    @property
    def slots(self) -> tuple[int, int]:
        """The slot of the last check, and that of the next one."""
        return self._slot_at_ms, self._next_slot_at_ms

    def pause(self) -> None:
        """Plan no check."""
        self.next_at_ms = None

    def resume(self, now_ms: int) -> None:
        """Plan a check at once: the backend has left a state without checks."""
        self._next_slot_at_ms = self.next_at_ms = now_ms
