"""Durations and sizes: "1m30s" and "16k" to integers and back.

The texts are nginx's (ngx_parse_time, ngx_parse_size in core/ngx_parse.c), but stricter: a duration
always has a unit, so that 10 cannot be mistaken for seconds or milliseconds. `off` is a word of the
configuration (config/types.py).

Inside nginy every duration is an int of milliseconds and every size an int of bytes; their names
end in `_ms` and `_bytes`. These functions are the only way in and out.
"""

import re
from typing import Final

from nginy.errors import InvalidValueError

MS_PER_UNIT: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
BYTES_PER_UNIT: Final = {"g": 1 << 30, "m": 1 << 20, "k": 1 << 10}

# Ten years. More is a typing error, and every deadline stays far inside 64 bits.
DURATION_MAX_MS: Final = 3650 * MS_PER_UNIT["d"]
# What nginx's off_t holds, and more than any machine has.
SIZE_MAX_BYTES: Final = (1 << 63) - 1

_DURATION = re.compile(
    r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,15})ms)?", re.ASCII
)

# Units as other programs write them.
_LONG_UNITS: Final = {
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
}
_LONG_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([a-z]+)", re.ASCII | re.IGNORECASE)
_LONG_SIZE = re.compile(
    r"(\d{1,18})\s*(?:bytes?|b|([kmg])i?(?:b|bytes?)?)", re.ASCII | re.IGNORECASE
)
_SIZE = re.compile(r"(\d{1,18})([kmg]?)", re.ASCII | re.IGNORECASE)


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds of a duration such as 500ms, 10s, 1m30s, 2h or 7d.

    Units run from the largest to the smallest, each at most once. Raise InvalidValueError for
    anything else, for a number without a unit, and for durations of zero: nginx fires those at
    once, while people write them to mean "never".
    """
    if text.isascii() and text.isdigit():
        if not text.strip("0"):
            raise InvalidValueError("would be over at once", "off")
        raise InvalidValueError("has no unit", f"{text}s")
    match = _DURATION.fullmatch(text) if text else None
    if match is None:
        raise InvalidValueError("is not a duration", _meant_duration(text))
    parts = zip(match.groups(), MS_PER_UNIT.values(), strict=True)
    duration_ms = sum(int(number) * unit for number, unit in parts if number)
    if duration_ms == 0:
        raise InvalidValueError("would be over at once", "off")
    if duration_ms > DURATION_MAX_MS:
        raise InvalidValueError("is more than ten years", "off")
    return duration_ms


def _meant_duration(text: str) -> str | None:
    """Return the duration that "10sec", "1h 30m" or "1.5s" probably means."""
    duration_ms, units = 0, []
    for number, word in _LONG_DURATION.findall(text):
        unit = _LONG_UNITS.get(word.lower())
        if unit is None:
            return None
        units.append(unit)
        duration_ms += round(float(number) * MS_PER_UNIT[unit])
    is_more = _LONG_DURATION.sub("", text).strip(" ,")
    if not units or is_more or len(set(units)) < len(units):
        return None
    return format_duration(duration_ms) if duration_ms else "off"


def format_duration(duration_ms: int) -> str:
    """Return the shortest text that parse_duration_ms() turns back into `duration_ms`."""
    parts = []
    for unit, size in MS_PER_UNIT.items():
        number, duration_ms = divmod(duration_ms, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0ms"


def parse_size_bytes(text: str) -> int:
    """Return the bytes of a size such as 512, 16k, 1m or 2g; capitals are fine, as in nginx."""
    match = _SIZE.fullmatch(text)
    if match is None:
        meant = _LONG_SIZE.fullmatch(text)
        hint = f"{meant[1]}{(meant[2] or '').lower()}" if meant else None
        raise InvalidValueError("is not a size", hint)
    number, unit = match.groups()
    size_bytes = int(number) * BYTES_PER_UNIT.get(unit.lower(), 1)
    if size_bytes > SIZE_MAX_BYTES:
        raise InvalidValueError("is too large")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """Return the shortest text that parse_size_bytes() turns back into `size_bytes`."""
    for unit, size in BYTES_PER_UNIT.items():
        if size_bytes and size_bytes % size == 0:
            return f"{size_bytes // size}{unit}"
    return str(size_bytes)
