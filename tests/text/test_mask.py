"""Masks: values, whole and in part."""

import pytest
from nginy.text.mask import without, without_cut


def test_a_value_leaves_stars() -> None:
    assert without("one two three", ["two", "one"]) == "*** *** three"


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        ('"hush-hush" is no name', '"***" is no name'),
        ('"say hush-hu..." is no name', '"say ***..." is no name'),
        ("return old -> hush...", "return old -> ***..."),
        ("{a: hush-...} -> [hush-hu..., b]", "{a: ***...} -> [***..., b]"),
        ("cut twice: hush-.....", "cut twice: ***....."),
        ("{...}", "{...}"),
        ("...", "..."),
        ("wash...", "wash..."),
    ],
)
def test_the_beginning_of_a_value_leaves_stars(message: str, cleaned: str) -> None:
    assert without_cut(message, ["hush-hush"]) == cleaned


def test_a_value_with_dots_is_found_before_others() -> None:
    assert without_cut("a se...cr... b", ["se...cret"]) == "a ***... b"


def test_a_value_is_found_among_escapes() -> None:
    value = "hush\nit's"
    for shown in ("hush\\nit's", repr(value), "hush\\nit..."):
        assert "hush" not in without_cut(f"is {shown}", [value])
