"""Shapes: what is taken of a value from another process."""

import pytest
from nginy.admin.facts.shape import (
    TEXT_MAX_CHARACTERS,
    WORDS_MAX,
    flag,
    number,
    optional,
    real,
    row,
    rows,
    table,
    text,
)


@pytest.mark.parametrize("value", [-1, True, 1.5, "1", None, [], {}, 1 << 63])
def test_what_is_no_number_is_0(value: object) -> None:
    assert number(value) == 0


@pytest.mark.parametrize(
    ("value", "taken"), [(2, 2.0), (0.5, 0.5), (-0.5, 0.0), (True, 0.0), (float("nan"), 0.0)]
)
def test_real_numbers_are_not_negative(value: object, taken: float) -> None:
    assert real(value) == taken


def test_texts_flags_and_null() -> None:
    assert text("x" * 1000) == "x" * TEXT_MAX_CHARACTERS
    assert text(7) == ""
    assert flag(True) is True
    assert flag(1) is False
    assert optional(number)(None) is None
    assert optional(number)(3) == 3


def test_members_that_nobody_has_named_are_gone_and_missing_ones_there() -> None:
    take = row(name=text, counts=table(number), list=rows(number, 2))
    assert take({"name": "a", "evil": 1, "counts": {"up": 1, "x": "y"}, "list": [1, 2, 3]}) == {
        "name": "a",
        "counts": {"up": 1, "x": 0},
        "list": [1, 2],
    }
    assert take(None) == {"name": "", "counts": {}, "list": []}


def test_a_table_has_a_limit() -> None:
    assert len(table(number)({str(i): i for i in range(1000)})) == WORDS_MAX
