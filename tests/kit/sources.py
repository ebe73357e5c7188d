"""Sources as syntax trees, each parsed once for all tests of a process that read them."""

import ast
from functools import cache


@cache
def parsed(source: str) -> ast.Module:
    """Return the tree of a source; nobody may change it."""
    return ast.parse(source)
