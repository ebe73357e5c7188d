"""Sessions: filters, pages, the largest, and their end by an operator."""

from collections.abc import Iterator
from typing import Any

import pytest
from nginy.admin.facts.sessions import (
    KILL,
    SESSION,
    SESSIONS,
    Filter,
    Killer,
    parse_filter,
    split_id,
)
from nginy.admin.subject import Subject
from nginy.event.timer import TICK_MS, Timer
from nginy.proxy.access import Table, parse_network

from kit.admin import done
from kit.datagrams import UdpBackend, udp_proxy
from kit.harness import METHODS, Front, Harness
from kit.servers import EchoBackend

PID = 42


def ignore(_timer: Timer) -> None:
    """Be the handler of a timer that does not matter."""


@pytest.fixture(params=METHODS)
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """A loop of each kind."""
    with Harness(request.param) as made:
        yield made


class Talking:
    """A proxy with clients that have each said something: the first one byte, the next two."""

    def __init__(self, harness: Harness, count: int = 4) -> None:
        self.harness = harness
        self.backend = harness.add(EchoBackend())
        self.proxy: Front = harness.proxy(harness.pool(self.backend.name))
        self.subject = Subject(harness.loop, pid=PID)
        self.clients = [self.proxy.connect() for _ in range(count)]
        for size, client in enumerate(self.clients, 1):
            client.send(b"x" * size)
        harness.turn_until(
            lambda: [len(c.received) for c in self.clients] == list(range(1, count + 1))
        )

    def ask(self, **wanted: object) -> dict[str, Any]:
        facts: dict[str, Any] = done(SESSIONS.collect(self.subject, wanted))[0]
        return facts

    def ids(self, **wanted: object) -> list[str]:
        return [each["id"] for each in self.ask(**wanted)["sessions"]]


def test_a_row_says_who_where_and_how_much(harness: Harness) -> None:
    talking = Talking(harness)
    harness.advance(2000)
    row = talking.ask()["sessions"][1]
    assert (row["id"], row["protocol"], row["state"]) == (f"{PID}.2", "tcp", "established")
    assert (row["received"], row["sent"], row["attempts"], row["unsent"]) == (2, 2, 1, 0)
    assert (row["backend"], row["age_s"] >= 2, row["idle_s"] >= 2) == (
        talking.backend.name,
        True,
        True,
    )
    assert SESSION(row) == row
    whole = talking.ask(ids=[f"{PID}.3"], is_whole=True)
    assert [each["address"] for each in whole["attempts"]] == [talking.backend.name]
    assert (whole["attempts"][0]["received"], whole["attempts"][0]["errno"]) == (3, 0)
    [timer] = whole["timers"]
    assert timer["what"] == "idle timer"
    assert 0 < timer["due_in_s"] <= 600


def test_a_timer_of_a_session_that_is_cancelled_while_others_are_looked_at_is_left_out(
    harness: Harness,
) -> None:
    talking = Talking(harness, 1)
    [session] = harness.sessions()
    loop = harness.loop
    timers = [Timer(ignore, session) for _ in range(1000)]
    for number, timer in enumerate(timers, 1):
        loop.timers.start(timer, loop.clock.now_ms + TICK_MS * number)
    wanted = {"ids": [f"{PID}.1"], "is_whole": True}
    _, slices = done(SESSIONS.collect(talking.subject, wanted))
    work = SESSIONS.collect(talking.subject, wanted)
    for _ in range(slices - 1):
        next(work)
    for timer in timers:
        loop.timers.cancel(timer)
        del timer.handler  # as phases do, so that no cycle is left
    assert [each["what"] for each in done(work)[0]["timers"]] == ["idle timer"]


def test_filters_choose(harness: Harness) -> None:
    talking = Talking(harness)
    everyone = [f"{PID}.{i}" for i in range(1, 5)]
    name = talking.proxy.handler.name
    ours: tuple[dict[str, object], ...] = (
        {"listener": name},
        {"upstream": "backends"},
        {"backend": talking.backend.name},
        {"client": "127.0.0.0/8"},
        {"protocol": "tcp"},
        {"state": "established"},
    )
    for wanted in ours:
        assert talking.ids(**wanted) == everyone, wanted
    others: tuple[dict[str, object], ...] = (
        {"listener": "other"},
        {"upstream": "other"},
        {"backend": "10.0.0.1:1"},
        {"client": "10.0.0.0/8"},
        {"protocol": "udp"},
        {"state": "queued"},
        {"ids": ["7.1"]},
    )
    for wanted in others:
        assert talking.ids(**wanted) == [], wanted
    assert talking.ids(min_bytes=6) == everyone[2:]
    assert talking.ids(min_age_ms=60_000) == []
    harness.advance(60_000)
    talking.clients[0].send(b"y")
    harness.turn_until(lambda: len(talking.clients[0].received) == 2)
    assert talking.ids(min_idle_ms=50_000) == everyone[1:]


def test_pages_are_in_the_order_of_ids_and_the_largest_come_first(harness: Harness) -> None:
    talking = Talking(harness)
    assert talking.ids(limit=2) == [f"{PID}.1", f"{PID}.2"]
    assert talking.ids(limit=2, after=[PID, 2]) == [f"{PID}.3", f"{PID}.4"]
    assert talking.ids(after=[PID + 1, 0]) == []
    assert talking.ids(after=[PID - 1, 99]) == [f"{PID}.{i}" for i in range(1, 5)]
    assert talking.ids(limit=2, by="bytes") == [f"{PID}.4", f"{PID}.3"]
    assert talking.ids(limit=2, by="age") == [f"{PID}.1", f"{PID}.2"]
    assert talking.ask(limit=1)["matched"] == 4


@pytest.mark.parametrize("limit", [2, 4])
def test_sessions_with_one_number_are_all_shown(harness: Harness, limit: int) -> None:
    """They come from two workers of the process before."""
    talking = Talking(harness)
    for session in harness.sessions():
        session.client.number = 7
        session.client.start_time_ms = 0
    assert talking.ids(limit=limit) == talking.ids(limit=limit, by="age") == [f"{PID}.7"] * limit
    assert sorted(each["received"] for each in talking.ask()["sessions"]) == [1, 2, 3, 4]


def test_of_sessions_with_one_number_only_those_end_that_fit_the_filter(harness: Harness) -> None:
    talking = Talking(harness)
    for session in harness.sessions():
        session.client.number = 7
    wanted = {"ids": [f"{PID}.7"], "min_bytes": 6, "per_second": 100}
    facts, _ = done(KILL.collect(talking.subject, wanted))
    assert facts == {"killed": 2, "total": 2}
    assert sorted(each["received"] for each in talking.ask()["sessions"]) == [1, 2]


def test_half_closed_sessions_have_a_state_of_their_own(harness: Harness) -> None:
    talking = Talking(harness, 1)
    talking.backend.ends[0].finish()
    harness.turn_until(lambda: talking.clients[0].has_eof)
    assert talking.ask()["sessions"][0]["state"] == "backend_closed"


def test_sessions_of_udp_are_among_them(harness: Harness) -> None:
    backend = harness.add(UdpBackend())
    proxy = udp_proxy(harness, harness.pool(backend.name))
    client = proxy.client()
    client.send(b"hello")
    harness.turn_until(lambda: client.received)
    subject = Subject(harness.loop, pid=PID)
    [row] = done(SESSIONS.collect(subject, {}))[0]["sessions"]
    assert (row["protocol"], row["state"]) == ("udp", "established")


def test_reports_of_workers_are_put_in_order() -> None:
    nothing: dict[str, object] = {"attempts": [], "timers": []}
    reports = [
        {"sessions": [{"id": "9.1"}, {"id": "9.12"}], "matched": 2, **nothing},
        {
            "sessions": [{"id": "10.2"}, {"id": "broken"}],
            "matched": 5,
            "attempts": [],
            "timers": [],
        },
    ]
    merged = SESSIONS.merge(reports)
    assert [each["id"] for each in merged["sessions"]] == ["broken", "9.1", "9.12", "10.2"]
    assert merged["matched"] == 7


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "x.1", "1.x", "-1.2", "1.2.3", "²1.1"])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="is no id of a session"):
        split_id(text)


def test_ids_of_other_processes_mean_nobody_here() -> None:
    assert parse_filter({"ids": ["7.1", "42.2"]}, PID).ids == frozenset({2})
    assert Filter(client=Table([(parse_network("10.0.0.0/8"), 0)])).ids is None


def test_sessions_end_at_a_pace(harness: Harness) -> None:
    talking = Talking(harness)
    wanted = {"ids": [f"{PID}.{i}" for i in (1, 2, 3)], "per_second": 1}
    facts, _ = done(KILL.collect(talking.subject, wanted))
    assert facts == {"killed": 1, "total": 3}
    assert talking.ids() == [f"{PID}.{i}" for i in (2, 3, 4)]
    harness.advance(1100)
    assert talking.ids() == [f"{PID}.{i}" for i in (3, 4)]
    harness.advance(1100)
    harness.advance(1100)
    assert talking.ids() == [f"{PID}.4"]
    assert talking.proxy.terminations == ["KD"] * 3
    assert harness.loop.timers.next_deadline_ms() is not None


def test_a_bug_in_one_end_leaves_the_others_alone(harness: Harness) -> None:
    talking = Talking(harness, 2)
    killer = Killer(harness.loop, list(harness.sessions()), 1, reset=True)
    killer.abort()
    assert killer.work() == 0
    assert len(talking.ids()) == 2
