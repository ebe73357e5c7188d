"""Traces as text: what processes have recorded becomes what a strict viewer takes."""

import json
from decimal import Decimal
from typing import Any

import pytest
from nginy.admin.loop.chrome import Recorded, render

from kit.chrome import Events, check_trace

MARKS = (
    ("b", 0, 3, "web", "10.0.0.1:5000"),
    ("b", 1_000_100, 7, "web", ""),
    ("n", 1_000_100, 7, "connecting", "10.0.0.9:80"),
    ("n", 1_000_300, 7, "connected", "10.0.0.9:80"),
    ("e", 1_000_500, 7, "--", "completed"),
    ("i", 1_000_501, 0, "gc", "generation 0"),
    ("e", 1_000_502, 99, "--", "it began before anybody looked"),
)
BOXES = [
    ("client read", 1_000_100, 1_000_300, 7, 5, "AGAIN", ""),
    ("upstream read", 1_000_300, 1_000_400, 7, 6, "EOF", ""),
    ("timer", 1_000_450, 1_000_600, 3, 0, "back to sleep", "_idle_timer_handler"),
    ("accept", 1_000_600, 1_000_650, 8, 2, "AGAIN", "accepting connections"),
]


def turn(number: int, at_ns: int, boxes: list[tuple[Any, ...]], **_: int) -> tuple[Any, ...]:
    steps = (at_ns, at_ns + 10, at_ns + 90, at_ns + 100, at_ns + 450, at_ns + 600, at_ns + 700)
    return (number, *steps, 2, -1, 3, 1, 4, 0, boxes)


def text_of(*turns: tuple[Any, ...], **more: Any) -> str:
    recorded = Recorded(42, more.pop("worker", ""), turns, [MARKS[1:], MARKS[:1]], 3_000_000)
    return "".join(render([recorded], 1_000_000, {"version": "nginy 1"}, **more))


def read(text: str) -> tuple[dict[str, Any], Events]:
    found = json.loads(text, parse_float=Decimal)
    return found, check_trace(found)


def test_turns_have_their_steps_and_handlers_inside() -> None:
    found, events = read(text_of(turn(1, 1_000_000, BOXES), turn(2, 2_000_000, [])))
    spans = [(e["name"], str(e["ts"]), str(e["dur"])) for e in events if e["ph"] == "X"]
    assert spans == [
        ("turn", "0.000", "0.700"),
        ("select", "0.010", "0.080"),
        ("read", "0.100", "0.200"),
        ("read", "0.300", "0.100"),
        ("timers", "0.450", "0.150"),
        ("timer", "0.450", "0.150"),
        ("posted", "0.600", "0.100"),
        ("accept", "0.600", "0.050"),
        ("turn", "1000.000", "0.700"),
        ("select", "1000.010", "0.080"),
    ]
    arguments = [e["args"] for e in events if e["ph"] == "X"]
    assert arguments[1] == {"ready": 2, "wait_ms": None}
    assert arguments[2] == {"outcome": "AGAIN", "session": 7, "bytes": 5, "side": "client"}
    assert arguments[5] == {"outcome": "back to sleep", "session": 3, "what": "idle"}
    assert arguments[7]["sessions"] == 2
    assert found["otherData"] == {"version": "nginy 1"}


def test_a_write_has_its_side_and_timers_are_counted() -> None:
    boxes = [
        ("write", 1_000_100, 1_000_200, 7, 5, "done", "connected to upstream"),
        ("write", 1_000_200, 1_000_300, 7, 5, "waits", "returning text"),
        ("write", 1_000_300, 1_000_400, 0, 5, "done", "checking"),
        ("timer", 1_000_450, 1_000_500, 7, 0, "done", "_idle_timer_handler"),
        ("admin", 1_000_500, 1_000_600, 0, 0, "done", "_timeout_handler"),
    ]
    _, events = read(text_of(turn(1, 1_000_000, boxes)))
    told = [e["args"] for e in events if e["ph"] == "X" and e["name"] in ("write", "timers")]
    assert [each.get("side") for each in told[:3]] == ["upstream", "client", None]
    assert told[3] == {"fired": 2, "late_ms": 3}


def test_sessions_begin_and_end_once_and_counters_are_told_when_they_change() -> None:
    _, events = read(text_of(turn(1, 1_000_000, BOXES), turn(2, 2_000_000, [])))
    of_7 = [(e["ph"], e["name"]) for e in events if e.get("id") == "42.7"]
    assert of_7 == [("b", "session"), ("n", "connecting"), ("n", "connected"), ("e", "session")]
    last = [e["args"] for e in events if e["ph"] == "e"]
    assert last == [{"code": "--", "reason": "completed"}, {"open": True}]
    begun = [e["args"] for e in events if e["ph"] == "b"]
    assert begun == [{"listener": "web", "client": "10.0.0.1:5000"}, {"listener": "web"}]
    assert [e["name"] for e in events if e["ph"] == "C"] == [
        "connections",
        "buffered_bytes",
        "posted",
    ]
    assert [e["args"]["text"] for e in events if e["ph"] == "i"] == ["generation 0"]


def test_a_trace_that_gets_too_long_is_cut_and_stays_whole() -> None:
    turns = [turn(i, 1_000_000 + i * 1000, []) for i in range(1, 100)]
    found, events = read(text_of(*turns, max_bytes=1_003_000))
    assert found["otherData"]["truncated"] is True
    assert 5 < len(events) < 50
    assert read(text_of(*turns))[0]["otherData"] == {"version": "nginy 1"}


def test_workers_have_names() -> None:
    _, events = read(text_of(worker="1"))
    assert [e["args"]["name"] for e in events if e["ph"] == "M"] == ["nginy worker 1", "loop"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('"ts":0.300', '"ts":0.250'), "times go back|ends after"),
        (('"ts":0.010,"dur":0.080', '"ts":0.010,"dur":0.800'), "ends after"),
        (('"ph":"e"', '"ph":"n"'), "do not end"),
        (('"ph":"b"', '"ph":"n"'), "has not begun"),
    ],
)
def test_the_checker_can_fail(change: tuple[str, str], complaint: str) -> None:
    text = text_of(turn(1, 1_000_000, BOXES))
    assert change[0] in text
    with pytest.raises(AssertionError, match=complaint):
        read(text.replace(*change))
