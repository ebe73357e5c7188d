"""The turns of a loop are recorded while somebody looks, or wants a trace, and no turn longer."""

import types
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pytest
from nginy.admin.loop.recording import KEPT_MS, LEASE_MS, Follower, Recording
from nginy.event.loop import Loop
from nginy.event.recorder import now
from nginy.event.timer import TICK_MS
from nginy.event.trace import Trace
from nginy.event.traced import TracedLoop, end_recording
from nginy.proxy.session import Reason

from kit.clock import FakeClock


class Place:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.loop = Loop(clock=self.clock)
        self.recording = Recording(self.loop)

    def later(self, duration_ms: int) -> None:
        self.clock.advance(duration_ms + TICK_MS)
        self.loop.turn(0)

    def is_recording(self) -> bool:
        return type(self.loop) is TracedLoop


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    end_recording(made.loop)
    made.loop.close()


def test_looking_is_a_lease_and_an_idle_loop_has_no_timer(place: Place) -> None:
    assert not place.is_recording()
    assert place.loop.timers.next_deadline_ms() is None
    place.recording.watch()
    place.later(LEASE_MS - 1000)
    recorder = place.recording.watch()
    place.later(LEASE_MS - 1000)
    assert place.is_recording()
    assert place.recording.watch() is recorder
    place.later(LEASE_MS)
    assert not place.is_recording()
    assert place.loop.timers.next_deadline_ms() is None


def test_a_trace_has_its_length_and_is_kept_for_a_minute(place: Place) -> None:
    place.recording.begin_trace(1, 5000, 1000, is_anonymous=False)
    place.loop.turn(0)
    assert place.recording.is_tracing
    place.later(5000)
    trace = place.recording.trace
    assert trace is not None
    assert trace.ended_ns is not None
    assert len(trace.turns) == 1
    assert not place.is_recording()
    place.later(KEPT_MS)
    assert place.recording.trace is None
    assert place.loop.timers.next_deadline_ms() is None


def test_a_trace_outlives_the_lease_and_the_lease_a_trace(place: Place) -> None:
    place.recording.watch()
    place.recording.begin_trace(1, LEASE_MS + 5000, 1000, is_anonymous=False)
    place.later(LEASE_MS)
    assert place.is_recording()
    place.recording.watch()
    place.later(5000)
    assert not place.recording.is_tracing
    assert place.is_recording()
    place.later(5000)
    assert not place.is_recording()


def test_after_a_bug_the_loop_goes_on_without_a_recording(place: Place) -> None:
    place.recording.watch()
    place.recording.abort()
    assert type(place.loop) is Loop
    assert place.recording.watch() is place.recording.recorder


def end_of(addr: str) -> Any:
    read = types.SimpleNamespace(eof=False)
    return types.SimpleNamespace(addr_text=addr, read=read)


def session(number: int) -> Any:
    handler = types.SimpleNamespace(name="front", protocol="TCP")
    client = end_of("10.0.0.1:5000")
    made = types.SimpleNamespace(number=number, handler=handler, client=client, upstream=None)
    made.attempts, made.end, made.reason = (), None, ""
    return made


def test_a_session_is_followed_from_its_begin_to_its_end() -> None:
    trace = Trace(100)
    trace.begun[7] = 10
    follower, s = Follower(trace, is_anonymous=False), session(7)
    attempt = types.SimpleNamespace(address="b:80", connected_at_ms=None, first_byte_at_ms=None)
    s.attempts = (attempt,)
    follower.look(s, 20)
    attempt.connected_at_ms, s.upstream = 1, end_of("b:80")
    follower.look(s, 30)
    follower.look(s, 35)
    attempt.first_byte_at_ms = 2
    s.upstream.read.eof = True
    follower.look(s, 40)
    s.end, s.reason = Reason.COMPLETED, "completed"
    follower.look(s, 50)
    assert trace.marks == [
        ("b", 10, 7, "front", "10.0.0.1:5000"),
        ("n", 10, 7, "connecting", "b:80"),
        ("n", 30, 7, "connected", "b:80"),
        ("n", 40, 7, "first byte", "b:80"),
        ("n", 40, 7, "half-close", "b:80"),
        ("e", 50, 7, "--", "completed"),
    ]


def test_sessions_that_no_handler_was_seen_for_are_told_of_at_the_end() -> None:
    trace = Trace(100)
    trace.begun.update({7: 10, 8: 11})
    list(Follower(trace, is_anonymous=True).finish([session(7), session(3)], now()))
    assert [mark[:3] for mark in trace.marks] == [("b", 10, 7), ("b", 11, 8), ("e", 11, 8)]
    assert trace.marks[0][4] == "", "no address of a client"


def test_a_trace_with_many_sessions_is_finished_in_slices_and_by_two_at_once() -> None:
    trace = Trace(10_000)
    trace.begun.update(dict.fromkeys(range(1, 1001), 10))
    follower = Follower(trace, is_anonymous=False)
    works = [follower.finish([session(n) for n in range(1, 501)], 20) for _ in range(2)]
    both = list(zip_longest(*works))
    assert len(both) > 5
    numbers = [mark[2] for mark in trace.marks if mark[0] == "b"]
    assert sorted(numbers) == list(range(1, 1001))


def test_a_full_trace_follows_nobody() -> None:
    trace = Trace(2)
    follower = Follower(trace, is_anonymous=False)
    for number in range(1, 101):
        follower.look(session(number), 10)
    assert [mark[2] for mark in trace.marks] == [1, 2]
    assert trace.is_truncated
    assert len(follower.seen) < 5
