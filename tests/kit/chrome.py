"""A checker of traces in Chrome's format, as strict as the strictest viewer."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

Events = list[dict[str, Any]]

MEMBERS = {
    "M": {"args"},
    "X": {"args", "ts", "dur"},
    "b": {"args", "ts", "cat", "id"},
    "n": {"args", "ts", "cat", "id"},
    "e": {"args", "ts", "cat", "id"},
    "C": {"args", "ts"},
    "i": {"args", "ts", "s"},
}


def check_trace(found: dict[str, Any]) -> Events:
    """Fail if anything is out of order; return the events.

    Read the text with `parse_float=Decimal`, so that nothing is rounded.
    """
    assert found["displayTimeUnit"] in ("ms", "ns")
    events: Events = found["traceEvents"]
    last: dict[int, Decimal] = defaultdict(Decimal)
    inside: dict[int, list[Decimal]] = defaultdict(list)
    going: dict[str, str] = {}
    named = {each["pid"] for each in events if each["ph"] == "M"}
    for event in events:
        kind, pid = event["ph"], event["pid"]
        assert {"name", "pid", "tid", *MEMBERS[kind]} <= set(event), event
        assert pid in named
        if kind == "M":
            continue
        at = Decimal(event["ts"])
        assert at >= last[pid], f"times go back at {event}"
        last[pid] = at
        if kind == "X":
            ends, end = inside[pid], at + Decimal(event["dur"])
            while ends and ends[-1] <= at:
                ends.pop()
            assert Decimal(event["dur"]) >= 0
            assert not ends or end <= ends[-1], f"it ends after what it is in: {event}"
            ends.append(end)
        elif kind == "b":
            assert event["id"] not in going, f"it has begun already: {event}"
            going[event["id"]] = event["name"]
        elif kind in ("n", "e"):
            assert event["id"] in going, f"it has not begun: {event}"
        if kind == "e":
            assert going.pop(event["id"]) == event["name"]
        if kind == "C":
            assert all(isinstance(value, int) for value in event["args"].values())
    assert not going, f"these do not end: {going}"
    return events
