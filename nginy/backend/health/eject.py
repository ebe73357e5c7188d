"""Passive ejection: how long a backend whose sessions fail stays out.

Too many failures are nginx's `max_fails` within `fail_timeout` (`nginy.balancer`). `states` keeps
sessions from an ejected backend, `group` limits how many are out at a time. Here is the arithmetic.

The one idea: a backend that fails again soon after its return stays out longer each time, base x
number of ejections in a row, up to a maximum. Every `base` that it spends in service takes one off
that number. So a flapping backend does less and less harm, and a mended one is forgiven.

Source: Envoy, outlier detection, "Ejection algorithm" (base_ejection_time, max_ejection_time,
max_ejection_percent). Envoy forgives one ejection an analysis interval; nginy has no such interval.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EjectSettings:
    """The key `eject`."""

    base_ms: int
    max_ms: int
    max_percent: int


class Ejection:
    """The ejections of one backend; held by its `Health`."""

    __slots__ = ("in_row", "until_at_ms")

    def __init__(self) -> None:
        self.in_row = 0
        self.until_at_ms = 0  # the end of the last ejection, or of the present one

    def begin(self, settings: EjectSettings, now_ms: int) -> int:
        """Start an ejection after the last one is over; return how long it lasts, in ms."""
        forgiven = (now_ms - self.until_at_ms) // settings.base_ms
        self.in_row = max(self.in_row - forgiven, 0) + 1
        duration_ms = min(settings.base_ms * self.in_row, max(settings.base_ms, settings.max_ms))
        self.until_at_ms = now_ms + duration_ms
        return duration_ms
