"""Polling, to wait for what the kernel does not report, such as a file that grows.

It does without pytest, because the benchmark and the proofs of scale-out use it too. Tests wait
with `program.wait_until`, or, if a loop turns, with `Harness.turn_until`.
"""

import select
import time
from collections.abc import Callable
from typing import Final

POLL_S: Final = 0.002


def comes_true(condition: Callable[[], object], patience_s: float, poll_s: float = POLL_S) -> bool:
    """Return True as soon as `condition()` is true, and False if it is not within `patience_s`."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() >= deadline_s:
            return False
        select.select((), (), (), poll_s)
    return True
