"""Slow start: how the weight of a backend grows after it has come back.

`health` decides what counts as coming back, a timer in `checks/watch.py` takes the steps, and
`checks/effect.py` makes them the backend's weight. Here is the arithmetic.

Source: HAProxy configuration manual, `slowstart`; nginx Plus, `slow_start`.

Tested in tests/backend/health/test_health.py.
"""

from typing import Final

SLOW_START_PERCENT: Final = 10
"""Where a weight begins that grows to nominal after a recovery (HAProxy: `slowstart`)."""


def slow_start_percent(elapsed_ms: int, slow_start_ms: int) -> int:
    """Return the share of the weight `elapsed_ms` after a recovery, linear from 10 to 100."""
    grown = (100 - SLOW_START_PERCENT) * elapsed_ms // slow_start_ms
    return min(max(SLOW_START_PERCENT + grown, SLOW_START_PERCENT), 100)
