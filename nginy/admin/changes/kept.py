"""Kept: the book of changes as the text of a file, so that it survives a restart.

Each change keeps both values, the file's at that time and the operator's. So after a restart, as
after a reload, a file with another value wins. Leases keep the time of day at which they end.

Pure: `process/state_file.py` reads and writes the file, and knows how to read the keys of a backend
that was added.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from nginy.admin.answer import dumps
from nginy.admin.changes.book import BOUNDS, KEYS, PRESENCE, WORDS, Book, Change
from nginy.backend.backend import BackendSettings

VERSION: Final = 1
TIME_MAX_MS: Final = 10**15
"""In the year 33658; a time far beyond it has no text."""
LISTED: Final = {"added": "absent", "removed": "present"}
"""The values of the key `backend`, each with what the file says."""

ReadKeys = Callable[[Mapping[str, object]], BackendSettings]
"""Reads the keys of an added backend; raises ValueError."""


def lines_of(book: Book, now_ms: int, wall_ms: int) -> Iterator[str]:
    """Yield the lines of the file, one for each change; `wall_ms` is the time at `now_ms`."""
    yield f'{{"version":{VERSION},"changes":['
    separator = ""
    for change in book:
        until_ms = change.until_at_ms
        members = {
            "place": list(change.place),
            "key": change.key,
            "value": change.value,
            "file_value": change.file_value,
            "by": change.by,
            "reason": change.reason,
            "at_ms": change.at_ms,
            "until_ms": None if until_ms is None else wall_ms + until_ms - now_ms,
            "keys": dict(change.keys),
        }
        yield f"{separator}{dumps(members)}"
        separator = ","
    yield "]}"


def parse_kept(data: bytes, now_ms: int, wall_ms: int, read_keys: ReadKeys) -> list[Change]:
    """Return the changes in a file; raises ValueError if it is not whole, or not ours."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("is not whole") from None
    rows = found.get("changes") if isinstance(found, dict) else None
    if rows is None or found.get("version") != VERSION:
        raise ValueError(f"is not nginy's, or of another version than {VERSION}")
    changes = []
    for number, members in enumerate(rows if isinstance(rows, list) else (), 1):
        try:
            changes.append(_change(members, now_ms - wall_ms, read_keys))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"has something else for change {number} ({error})") from None
    return changes


def _change(members: Mapping[str, Any], shift_ms: int, read_keys: ReadKeys) -> Change:
    """Return one change; raises ValueError, TypeError or KeyError."""
    upstream, name, address = (_text(each) for each in members["place"])
    key, value, until_ms = members["key"], members["value"], members["until_ms"]
    settings = None
    if key == PRESENCE:
        if members["file_value"] != LISTED[value]:
            raise ValueError("file_value")
        settings = read_keys(members["keys"]) if value == "added" else None
        if settings is not None and settings.name != name:
            raise ValueError("address")
    elif key not in KEYS:
        raise ValueError("key")
    else:
        _check_value(key, value)
        _check_value(key, members["file_value"])
    return Change(
        0,
        (upstream, name, address),
        key,
        value,
        members["file_value"],
        _text(members["by"]),
        _text(members["reason"]),
        _time(members["at_ms"]),
        None if until_ms is None else _time(until_ms) + shift_ms,
        dict(members["keys"]),
        settings,
    )


def _check_value(key: str, value: object) -> None:
    if key == "state":
        if value not in tuple(WORDS):
            raise ValueError(key)
        return
    least, greatest = BOUNDS[key]
    if not least <= _number(value) <= greatest:
        raise ValueError(key)


def _time(value: object) -> int:
    time_ms = _number(value)
    if not 0 <= time_ms <= TIME_MAX_MS:
        raise ValueError("a time")
    return time_ms


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a number")
    return value
