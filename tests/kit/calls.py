"""How many calls a piece of work makes: a cost that is the same on each machine."""

import gc
import sys
from collections.abc import Callable
from types import FrameType


def calls(work: Callable[[], object]) -> int:
    """Do the work; return how many functions it has called, Python's and C's, and how often
    generators went on.

    The garbage collector rests meanwhile: what it calls would count.
    """
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before, collects = sys.getprofile(), gc.isenabled()
    gc.disable()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    return count - 2  # of `work` itself, and the one that ends this
