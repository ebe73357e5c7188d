"""How many calls a piece of work makes: a cost that is the same on each machine."""

import sys
from collections.abc import Callable
from types import FrameType


def calls(work: Callable[[], object]) -> int:
    """Do the work; return how many functions it has called, Python's and C's, and how often
    generators went on."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count - 2  # of `work` itself, and the one that ends this
