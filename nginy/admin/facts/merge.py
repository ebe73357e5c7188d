"""What several workers say of themselves, made into one answer.

Each worker reports what a `Source` collects, as JSON. Counts add up; of several states, the worst
one counts. What a worker says is text from a process with fewer rights: see `shape.py`.

Pure: reports go in, one report comes out.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nginy.admin.answer import Facts
from nginy.admin.facts.shape import ROWS_MAX, Shape

Merge = Callable[[Sequence[Facts]], Facts]
"""Merges the facts of all workers."""


def parse(data: bytes, shape: Shape) -> Facts | None:
    """Return what one worker has reported, cleaned; None if it is no report."""
    try:
        report = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(report, dict):
        return None
    facts: Facts = shape(report)
    return facts


def merge_rows(
    reports: Iterable[Sequence[Facts]],
    key: Sequence[str],
    added: Sequence[str] = (),
    join: Callable[[Facts, Facts], None] | None = None,
) -> list[Facts]:
    """Return the rows of all reports, with rows of the same `key` merged into one.

    The members in `added` add up; `join` merges the rest of a known row and another one. The
    reports stay as they are, since several answers may be made of them.
    """
    found: dict[tuple[Any, ...], Facts] = {}
    for rows in reports:
        for row in rows:
            identity = tuple(row[each] for each in key)
            known = found.get(identity)
            if known is None:
                if len(found) < ROWS_MAX:
                    found[identity] = _copied(row)
                continue
            if join is not None:
                join(known, row)
            for name in added:
                known[name] += row[name]
    return list(found.values())


def _copied(row: Facts) -> Facts:
    """Return a row that may be changed, with the objects and lists in it."""
    return {
        name: value.copy() if isinstance(value, dict | list) else value
        for name, value in row.items()
    }


def add_members(known: Facts, other: Facts) -> None:
    """Add numbers by name, in place."""
    for name, value in other.items():
        known[name] = known.get(name, 0) + value


def join_times(known: Facts, other: Facts) -> None:
    """Keep the earliest first time and the latest last time for each name, in place."""
    for name, times in other.items():
        before: Facts = known.get(name) or times
        firsts = [each["first"] for each in (before, times) if each["first"] is not None]
        last = max(before["last"], times["last"])
        known[name] = {"first": min(firsts, default=None), "last": last}


def forget_firsts(known: Facts) -> None:
    """Forget the first times, as counts begin anew, in place."""
    for name, times in known.items():
        known[name] = {**times, "first": None}


def sum_members(reports: Sequence[Facts], name: str) -> Facts:
    """Return an object of numbers, each the sum over all reports."""
    total: Facts = {}
    for report in reports:
        add_members(total, report[name])
    return total
