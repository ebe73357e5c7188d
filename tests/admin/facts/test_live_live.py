"""The walk over all sessions: each once, whatever the selector knows of it."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from nginy.admin.facts.live import SLICE, count_bytes, met, walk, walk_timers
from nginy.admin.pace import SLICE_US
from nginy.admin.subject import Subject
from nginy.event.timer import TICK_MS, Timer
from nginy.proxy.session import Session

from kit.admin import done
from kit.ends import End
from kit.harness import METHODS, Front, Harness
from kit.servers import EchoBackend


@pytest.fixture(params=METHODS)
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """A loop of each kind."""
    with Harness(request.param) as made:
        yield made


def greeted(harness: Harness, count: int) -> tuple[Front, list[End]]:
    """Return a proxy with some sessions, each of which has carried five bytes both ways."""
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(backend.name))
    clients = [proxy.connect() for _ in range(count)]
    for client in clients:
        client.send(b"hello")
    harness.turn_until(lambda: all(client.received == b"hello" for client in clients))
    return proxy, clients


def numbers(harness: Harness) -> list[int]:
    found: list[Session] = []
    done(walk(harness.loop, found.append))
    return sorted(session.number for session in found)


def test_each_session_comes_once_and_none_is_missing(harness: Harness) -> None:
    _, clients = greeted(harness, 5)
    assert numbers(harness) == [1, 2, 3, 4, 5]
    stuck = harness.sessions()[0]
    stuck.client.pause_read()  # type: ignore[attr-defined]
    assert numbers(harness) == [1, 2, 3, 4, 5]
    served = stuck.attempts[-1].backend
    assert served is not None
    subject = Subject(harness.loop)
    done(count_bytes(subject))
    for counters in (stuck.handler.counters, served.counters):
        assert (counters.received, counters.sent, counters.bytes_sent) == (25, 25, 0)
    stuck.client.resume_read()  # type: ignore[attr-defined]
    clients[0].reset()
    harness.turn_until(lambda: len(harness.sessions()) == 4)
    assert len(numbers(harness)) == 4
    harness.advance(1000)
    done(count_bytes(subject))
    assert (served.counters.received, served.counters.bytes_received) == (25, 5)


def test_bytes_are_not_counted_again_at_once_for_many_readers(harness: Harness) -> None:
    proxy, clients = greeted(harness, 50)
    subject, counters = Subject(harness.loop), proxy.handler.counters
    _, slices = done(count_bytes(subject))
    assert (counters.received, slices > 1) == (250, True)
    clients[0].send(b"more")
    harness.turn_until(lambda: clients[0].received == b"hellomore")
    assert done(count_bytes(subject)) == (None, 1)
    assert counters.received == 250
    harness.advance(20)
    done(count_bytes(subject))
    assert counters.received == 254


def test_a_reader_who_leaves_in_the_middle_takes_nothing_from_the_next_one(
    harness: Harness,
) -> None:
    proxy, _ = greeted(harness, 50)
    subject = Subject(harness.loop)
    walk_of_the_first = count_bytes(subject)
    next(walk_of_the_first)
    walk_of_the_first.close()
    assert proxy.handler.counters.received == 0
    done(count_bytes(subject))
    assert proxy.handler.counters.received == 250


def test_counts_never_fall_though_a_session_may_end_before_the_walk_reaches_it(
    harness: Harness,
) -> None:
    proxy, _ = greeted(harness, 1)
    counters = proxy.handler.counters
    counters.told_received, counters.told_sent = 100, 200
    done(count_bytes(Subject(harness.loop)))
    assert (counters.received, counters.sent) == (100, 200)


def test_two_sessions_of_one_number_both_count(harness: Harness) -> None:
    """They come from two workers of the process before."""
    proxy, _ = greeted(harness, 2)
    for session in harness.sessions():
        session.client.number = 7
    done(count_bytes(Subject(harness.loop)))
    assert proxy.handler.counters.received == 10
    assert numbers(harness) == [7, 7]


def made_up(end: object = None) -> Session:
    session = Session.__new__(Session)
    session.end = end  # type: ignore[assignment]
    return session


def test_a_walk_meets_nobody_twice_and_nobody_who_has_ended() -> None:
    first, ended, waiting = made_up(), made_up("ended"), made_up()
    connections = [
        SimpleNamespace(fd=fd, data=data)
        for fd, data in ((5, first), (6, first), (7, ended), (-1, made_up()), (8, None))
    ]
    owners = [first, waiting, waiting, ended, *[None] * SLICE_US, waiting]
    loop = SimpleNamespace(
        interest=SimpleNamespace(connections=lambda: connections, is_edge_triggered=False),
        timers=SimpleNamespace(running=lambda: [(0, SimpleNamespace(data=one)) for one in owners]),
    )
    found = list(met(loop))  # type: ignore[arg-type]
    assert found[:2] == [[first], [waiting]]
    assert not any(found[2:])


def test_many_are_looked_at_in_slices() -> None:
    closed = SimpleNamespace(fd=-1, data=None)
    interest = SimpleNamespace(
        connections=lambda: [closed] * (2 * SLICE + 1), is_edge_triggered=True
    )
    loop = SimpleNamespace(interest=interest)
    _, slices = done(walk(loop, lambda _: None))  # type: ignore[arg-type]
    assert slices == 4


def test_timers_are_looked_at_in_slices_where_the_selector_forgets_connections() -> None:
    with Harness("poll") as harness:
        loop, seen = harness.loop, []
        timers = [Timer(lambda _: None, SimpleNamespace()) for _ in range(1000)]
        for number, timer in enumerate(timers):
            loop.timers.start(timer, loop.clock.now_ms + number % 400 * TICK_MS)
        _, slices = done(walk(loop, lambda _: None))
        assert slices > 3
        work = walk_timers(loop, lambda _, timer: seen.append(timer))
        next(work)
        assert len(seen) <= SLICE_US
        for timer in timers:
            loop.timers.cancel(timer)
        list(work)
        assert set(seen) < set(timers), "those that ended meanwhile are missing"
