"""Shapes: what to take of a value from another process, and what to drop.

A worker has fewer rights than its supervisor, which trusts nothing that it writes. A shape takes
any value and returns one of its kind: a value that does not fit becomes 0, "" or None, a long one
is cut, and members without a shape are dropped.

Pure. `merge.py` and the modules that collect facts compose shapes of these.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

TEXT_MAX_CHARACTERS: Final = 500
NUMBER_MAX: Final = (1 << 63) - 1
ROWS_MAX: Final = 10_000
WORDS_MAX: Final = 64
"""Members of an object whose names are not known beforehand."""

Shape: TypeAlias = Callable[[object], Any]


def number(value: object) -> int:
    """Take a whole number that is not negative."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 <= value <= NUMBER_MAX else 0


def real(value: object) -> float:
    """Take any number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 <= value <= NUMBER_MAX else 0.0


def text(value: object) -> str:
    """Take text."""
    return value[:TEXT_MAX_CHARACTERS] if isinstance(value, str) else ""


def flag(value: object) -> bool:
    """Take true or false."""
    return value is True


def optional(shape: Shape) -> Shape:
    """Take null as well."""
    return lambda value: None if value is None else shape(value)


def row(**members: Shape) -> Shape:
    """Take an object with these members."""

    def take(value: object) -> dict[str, Any]:
        found = value if isinstance(value, Mapping) else {}
        return {name: shape(found.get(name)) for name, shape in members.items()}

    return take


def rows(shape: Shape, rows_max: int = ROWS_MAX) -> Shape:
    """Take a list."""

    def take(value: object) -> list[Any]:
        found = value[:rows_max] if isinstance(value, list) else []
        return [shape(each) for each in found]

    return take


def table(shape: Shape) -> Shape:
    """Take an object with members of any name."""

    def take(value: object) -> dict[str, Any]:
        found = list(value.items())[:WORDS_MAX] if isinstance(value, Mapping) else []
        return {text(name): shape(each) for name, each in found}

    return take
