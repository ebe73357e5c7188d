"""Sources as syntax trees, each parsed once for all tests of a process that read them."""

import ast
import gc
from functools import cache


@cache
def parsed(source: str) -> ast.Module:
    """Return the tree of a source; nobody may change it.

    The garbage collector rests meanwhile: it would look through the growing tree again and again,
    which takes three times as long as parsing.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        tree = ast.parse(source)
        gc.freeze()
        return tree
    finally:
        if collects:
            gc.enable()
