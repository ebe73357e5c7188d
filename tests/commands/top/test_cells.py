"""Numbers, times and texts of unknown origin, in columns."""

import pytest
from nginy.commands.top.cells import (
    ASCII,
    UNICODE,
    count,
    fit,
    rate,
    scaled,
    span,
    sparks,
    width_of,
)


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "-"), (0, "0"), (91, "91"), (999, "999"), (999.7, "1.0k"), (1234, "1.2k"),
     (16_800, "17k"), (9_960, "10k"), (84e7, "840M"), (2e15, "2000T")],
)  # fmt: skip
def test_a_number_takes_five_places_at_most(value: float | None, told: str) -> None:
    assert scaled(value) == told
    assert len(told) <= 5


def test_counts_are_whole_and_slow_rates_have_a_digit_more() -> None:
    assert [count(each) for each in (None, 8412, 99_999, 123_456)] == [
        "-",
        "8,412",
        "99,999",
        "123k",
    ]
    assert [rate(each) for each in (None, 0, 0.42, 9.96, 312.4)] == ["-", "0", "0.4", "10", "312"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "-"), (-5, "0s"), (12, "12s"), (59.9, "59s"), (300, "5m"), (11_080, "3h04m"),
     (273_660, "3d04h")],
)  # fmt: skip
def test_a_time_has_two_units_at_most(seconds: float | None, told: str) -> None:
    assert span(seconds) == told


@pytest.mark.parametrize(
    "text",
    ["", "short", "a text that is too long", "日本語日本語日本語", "e\u0301" * 20, "\x1b[2J\x07"],
)
@pytest.mark.parametrize("cut", [UNICODE.cut, ASCII.cut])
def test_every_text_takes_its_column_and_controls_nothing(text: str, cut: str) -> None:
    for width in range(15):
        for is_right in (False, True):
            made = fit(text, width, cut, is_right=is_right)
            assert width_of(made) == width
            assert made.isprintable()
            assert made.isascii() or cut == UNICODE.cut


def test_a_chart_goes_from_the_lowest_to_the_highest() -> None:
    assert sparks([0, 5, 10], UNICODE) == "▁▅█"
    assert sparks([0, 0], ASCII) == "__"
    assert sparks([], ASCII) == ""
