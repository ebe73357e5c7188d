"""Durations and sizes, there and back."""

import random

import pytest
from nginy.errors import InvalidValueError
from nginy.text.units import (
    DURATION_MAX_MS,
    SIZE_MAX_BYTES,
    format_duration,
    format_size,
    parse_duration_ms,
    parse_size_bytes,
)


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("1ms", 1),
        ("500ms", 500),
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("1d2h3m4s5ms", 93_784_005),
        ("90s", 90_000),
        ("0h5s", 5000),
        ("3650d", DURATION_MAX_MS),
    ],
)
def test_a_duration_is_read_in_milliseconds(text: str, duration_ms: int) -> None:
    assert parse_duration_ms(text) == duration_ms


@pytest.mark.parametrize(
    ("text", "clause", "hint"),
    [
        ("0", "would be over at once", "off"),
        ("000", "would be over at once", "off"),
        ("0s", "would be over at once", "off"),
        ("0m0s", "would be over at once", "off"),
        ("10", "has no unit", "10s"),
        ("", "is not a duration", None),
        ("s", "is not a duration", None),
        ("1.5s", "is not a duration", "1s500ms"),
        ("-1s", "is not a duration", None),
        ("10 s", "is not a duration", "10s"),
        ("30s1m", "is not a duration", "1m30s"),
        ("1h 30m", "is not a duration", "1h30m"),
        ("1 hour, 30 minutes", "is not a duration", "1h30m"),
        ("1h 30", "is not a duration", None),
        ("1h 30x", "is not a duration", None),
        ("1s1s", "is not a duration", None),
        ("10sec", "is not a duration", "10s"),
        ("10S", "is not a duration", "10s"),
        ("off", "is not a duration", None),
        ("٣s", "is not a duration", None),
        ("3650d1ms", "is more than ten years", "off"),
        ("9" * 5000, "has no unit", "9" * 5000 + "s"),
        ("9" * 5000 + "s", "is not a duration", None),
    ],
)
def test_what_is_no_duration_is_refused(text: str, clause: str, hint: str | None) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_duration_ms(text)
    assert (caught.value.clause, caught.value.hint) == (clause, hint)


def test_a_duration_is_printed_with_the_largest_units() -> None:
    assert format_duration(90_000) == "1m30s"
    assert format_duration(86_400_000) == "1d"
    assert format_duration(1) == "1ms"
    assert format_duration(0) == "0ms"


def test_every_duration_is_printed_as_it_is_read() -> None:
    rng = random.Random(5)
    for _ in range(2000):
        duration_ms = rng.randint(1, 10 ** rng.randint(1, 11))
        assert parse_duration_ms(format_duration(duration_ms)) == duration_ms


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("512", 512),
        ("16k", 16_384),
        ("16K", 16_384),
        ("1m", 1_048_576),
        ("2G", 2_147_483_648),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size_bytes: int) -> None:
    assert parse_size_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "k", "1kb", "1.5k", "-1", "16 k", "1t", "9" * 5000, "٣k"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match="is not a size"):
        parse_size_bytes(text)


def test_a_size_beyond_64_bits_is_refused() -> None:
    assert parse_size_bytes("8589934591g") <= SIZE_MAX_BYTES
    with pytest.raises(InvalidValueError, match="is too large"):
        parse_size_bytes("8589934592g")


def test_every_size_is_printed_as_it_is_read() -> None:
    assert [format_size(size) for size in (0, 1000, 1024, 3 << 20, 5 << 30)] == [
        "0",
        "1000",
        "1k",
        "3m",
        "5g",
    ]
    rng = random.Random(7)
    for _ in range(2000):
        size_bytes = rng.randint(0, 4096) << rng.choice((0, 10, 20, 30))
        assert parse_size_bytes(format_size(size_bytes)) == size_bytes
