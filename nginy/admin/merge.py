"""What several workers say of themselves, made into one answer.

Each worker reports what `overview.py::facts` returns, as JSON. Sums are added up; of states the
worst counts, so an upstream has as many usable backends as in the worker that has fewest. What a
worker says is text from a process with fewer rights: nothing of it is trusted, only known members
of the right type are taken, and all of them are cut.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

TEXT_MAX_CHARACTERS: Final = 500
NUMBER_MAX: Final = (1 << 63) - 1
ROWS_MAX: Final = 10_000
"""Of each list, over all workers."""

KEYS: Final = {"listeners": ("address", "protocol"), "upstreams": ("name",), "problems": ("text",)}
"""What tells rows apart."""
ADDED: Final = {
    "listeners": ("sessions", "sessions_total", "received", "sent"),
    "upstreams": ("sessions", "queue"),
    "problems": (),
}
TEXTS: Final = {
    "listeners": ("name", "address", "protocol", "to"),
    "upstreams": ("name", "why_none", "since"),
    "problems": ("severity", "text", "since"),
}

Facts = dict[str, Any]
"""Members by name, as in JSON."""


def parse(data: bytes) -> Facts | None:
    """Return what one worker has reported, cleaned; None if it is no report."""
    try:
        report = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(report, dict):
        return None
    facts: Facts = {
        name: {key: _number(report.get(name), key) for key in keys}
        for name, keys in (("sessions", ("now", "total")), ("connections", ("now", "limit")))
    }
    for name in KEYS:
        rows = report.get(name)
        found = rows[:ROWS_MAX] if isinstance(rows, list) else []
        facts[name] = [_row(name, row) for row in found if isinstance(row, dict)]
    return facts


def _row(name: str, row: Mapping[str, Any]) -> Facts:
    clean: Facts = {key: _text(row.get(key)) for key in TEXTS[name]}
    clean.update({key: _number(row, key) for key in ADDED[name]})
    if name == "listeners":
        clean["retiring"] = row.get("retiring") is True
    elif name == "upstreams":
        clean.update({key: _number(row, key) for key in ("usable", "backends")})
        states = row.get("states")
        words = list(states)[:16] if isinstance(states, dict) else []
        clean["states"] = {_text(word) or "": _number(states, word) for word in words}
    return clean


def _number(row: Any, key: str) -> int:
    value = row.get(key) if isinstance(row, dict) else 0
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 <= value <= NUMBER_MAX else 0


def _text(value: Any) -> str | None:
    return value[:TEXT_MAX_CHARACTERS] if isinstance(value, str) else None


def merge(reports: Iterable[Facts]) -> Facts:
    """Return the facts of all workers together."""
    merged: Facts = {
        "sessions": {"now": 0, "total": 0},
        "connections": {"now": 0, "limit": 0},
    }
    tables: dict[str, dict[tuple[Any, ...], Facts]] = {name: {} for name in KEYS}
    for report in reports:
        for name in ("sessions", "connections"):
            for key in merged[name]:
                merged[name][key] += report[name][key]
        for name, table in tables.items():
            for row in report[name]:
                _add(name, table, row)
    merged.update({name: list(table.values()) for name, table in tables.items()})
    return merged


def _add(name: str, table: dict[tuple[Any, ...], Facts], row: Facts) -> None:
    key = tuple(row[each] for each in KEYS[name])
    known = table.get(key)
    if known is None:
        if len(table) < ROWS_MAX:
            table[key] = dict(row)
        return
    if name == "upstreams" and row["states"] != known["states"]:
        known["differs"] = True
    if name == "upstreams" and row["usable"] < known["usable"]:
        known.update({each: row[each] for each in ("usable", "states", "why_none", "since")})
    for each in ADDED[name]:
        known[each] += row[each]
