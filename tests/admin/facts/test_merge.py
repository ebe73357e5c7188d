"""What several workers report, as one answer; and malformed reports."""

import json
import random
from typing import Any

import pytest
from nginy.admin.facts.merge import parse
from nginy.admin.facts.overview import OVERVIEW, merge
from nginy.admin.facts.shape import TEXT_MAX_CHARACTERS


def upstream(usable: int, **more: Any) -> dict[str, Any]:
    states = {"up": usable, "down": 2 - usable}
    why, since = (None, None) if usable else ("2 of 2 down", "today")
    row = {"name": "web", "usable": usable, "backends": 2, "states": states}
    return {**row, "sessions": 3, "queue": 1, "why_none": why, "since": since, **more}


def listener(address: str, sessions: int) -> dict[str, Any]:
    counts = {"sessions": sessions, "sessions_total": 10, "received": 100, "sent": 7}
    names = {"name": "front", "address": address, "protocol": "tcp", "to": "web"}
    return {**names, **counts, "retiring": False}


PROBLEM = {"severity": "warning", "text": "web: 10.0.0.1:80 down: refused", "since": "today"}


def report(usable: int, *listeners: dict[str, Any]) -> dict[str, Any]:
    return {
        "sessions": {"now": 4, "total": 10},
        "connections": {"now": 9, "limit": 1024},
        "bytes": {"received": 5, "sent": 7},
        "bytes_age_ms": 1000 + usable,
        "loop": {"busy_s": 0.5, "lags": [1, 2]},
        "listeners": list(listeners),
        "upstreams": [upstream(usable)],
        "problems": [PROBLEM],
    }


def cleaned(value: object) -> Any:
    return parse(json.dumps(value).encode(), OVERVIEW.shape)


def test_sums_are_added_up_and_the_worst_state_counts() -> None:
    reports = [
        report(2, listener("127.0.0.1:80", 1)),
        report(0, listener("127.0.0.1:80", 2), listener("127.0.0.1:81", 5)),
        report(1, listener("127.0.0.1:80", 3)),
    ]
    merged = merge([*map(cleaned, reports)])
    assert merged["sessions"] == {"now": 12, "total": 30}
    assert merged["bytes"] == {"received": 15, "sent": 21}
    assert merged["bytes_age_ms"] == 1002
    uncounted = {**report(1), "bytes_age_ms": None}
    assert merge([*reports, cleaned(uncounted)])["bytes_age_ms"] is None
    assert merged["loop"] == {"busy_s": 0.5, "lags": [3, 6]}
    assert merged["connections"] == {"now": 27, "limit": 3072}
    [web] = merged["upstreams"]
    assert (web["usable"], web["backends"], web["why_none"]) == (0, 2, "2 of 2 down")
    assert (web["states"], web["differs"]) == ({"up": 0, "down": 2}, True)
    assert (web["sessions"], web["queue"], web["since"]) == (3, 3, "today")
    first, second = merged["listeners"]
    assert (first["address"], first["sessions"], first["received"]) == ("127.0.0.1:80", 6, 300)
    assert (second["address"], second["sessions"]) == ("127.0.0.1:81", 5)
    assert merged["problems"] == [PROBLEM]


def test_workers_that_agree_do_not_differ_and_none_is_nothing() -> None:
    [web] = merge([cleaned(report(1)), cleaned(report(1))])["upstreams"]
    assert "differs" not in web
    assert merge([])["upstreams"] == []


def test_a_report_stays_as_it_is_when_it_is_cleaned() -> None:
    whole = report(1, listener("127.0.0.1:80", 1))
    assert cleaned(whole) == whole


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000])
def test_what_is_no_report_is_none(data: bytes) -> None:
    assert parse(data, OVERVIEW.shape) is None


def test_nothing_but_known_members_of_the_right_type_is_taken() -> None:
    found = cleaned(
        {
            "sessions": {"now": True, "total": -1, "more": 2},
            "connections": [1],
            "evil": "x",
            "listeners": {"a": 1},
            "upstreams": [{"name": "x" * 5000, "usable": 1e9, "states": {"up": "y"}}, 7],
            "problems": [{"text": ["no"], "severity": 1}],
        }
    )
    assert found["sessions"] == {"now": 0, "total": 0}
    assert found["connections"] == {"now": 0, "limit": 0}
    assert "evil" not in found
    assert found["listeners"] == []
    row, _ = found["upstreams"]
    assert len(row["name"]) == TEXT_MAX_CHARACTERS
    assert (row["usable"], row["states"]) == (0, {"up": 0})
    assert found["problems"] == [{"severity": "", "text": "", "since": None}]


@pytest.mark.slow
def test_mutated_reports_break_nothing() -> None:
    rng = random.Random(5)
    seed = json.dumps(report(1, listener("127.0.0.1:80", 1))).encode()
    for _ in range(5000):
        data = bytearray(seed)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.choice(b'{}[]",:0-9tfn x\\')
        found = parse(bytes(data), OVERVIEW.shape)
        if found is not None:
            merge([found, cleaned(report(2))])
