import logging
import selectors
import socket
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from nginy.event.connection import Connection
from nginy.event.epoll import BATCH
from nginy.event.event import Event
from nginy.event.loop import SUSPENDED_MS, Loop
from nginy.event.selector import LevelInterest
from nginy.event.timer import Timer

from kit.clock import FakeClock
from kit.harness import make_loop

OpenPair = Callable[[], tuple[Connection, socket.socket]]


class Owner:
    """Owns a connection, or just a timer; counts how often it was ended because of a bug."""

    def __init__(self, c: Connection | None = None) -> None:
        self.aborted = 0
        self._c = c

    def __repr__(self) -> str:
        return "<Owner 7>"

    def abort(self) -> None:
        self.aborted += 1
        if self._c is not None:
            self._c.close()


class RecordingSelector(selectors.BaseSelector):
    """Reports nothing, at once, and remembers how long it might have slept."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.timeouts.append(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise NotImplementedError

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise NotImplementedError

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


def bug(_item: Event | Timer) -> None:
    raise ZeroDivisionError("a bug")


# -- the six steps --


def test_a_turn_runs_what_is_ready_then_timers_then_what_was_posted(
    loop: Loop, open_pair: OpenPair, clock: FakeClock
) -> None:
    ready, peer = open_pair()
    posted, _ = open_pair()
    steps: list[str] = []
    posted.read.handler = lambda _event: steps.append("posted")
    posted.read.active = True
    loop.post(posted.read)
    loop.timers.start(Timer(lambda _timer: steps.append("timer"), Owner()), clock.now_ms)
    ready.read.handler = lambda _event: steps.append("ready")
    ready.resume_read()
    peer.send(b"x")
    loop.turn(0)
    assert steps == ["ready", "timer", "posted"]


def test_what_is_posted_in_step_4_or_5_runs_in_the_same_turn(
    loop: Loop, open_pair: OpenPair, clock: FakeClock
) -> None:
    c, peer = open_pair()
    one, _ = open_pair()
    two, _ = open_pair()
    steps: list[str] = []
    one.read.active = two.read.active = True
    one.read.handler = lambda _event: steps.append("posted by ready")
    two.read.handler = lambda _event: steps.append("posted by timer")
    c.read.handler = lambda _event: loop.post(one.read)
    loop.timers.start(Timer(lambda _timer: loop.post(two.read), Owner()), clock.now_ms)
    c.resume_read()
    peer.send(b"x")
    loop.turn(0)
    assert steps == ["posted by ready", "posted by timer"]


@pytest.mark.parametrize("method", ["poll"])
def test_the_clock_is_read_once_a_turn(loop: Loop, clock: FakeClock) -> None:
    loop.turn(0)
    loop.turn(0)
    assert clock.updates == 2


@pytest.mark.parametrize("method", ["epoll"])
def test_two_that_post_themselves_for_ever_take_turns(loop: Loop, open_pair: OpenPair) -> None:
    """nginx runs its posted events until there are none, so one could starve the other."""
    called: list[Event] = []

    def again(event: Event) -> None:
        called.append(event)
        loop.post(event)

    events = [open_pair()[0].read for _ in range(2)]
    for event in events:
        event.handler = again
        event.active = True
        loop.post(event)
    for turns in range(1, 4):
        loop.turn()  # returns, and does not sleep
        assert called == events * turns


@pytest.mark.parametrize("method", ["epoll"])
def test_a_call_asked_for_in_step_4_or_5_comes_in_the_same_turn(
    loop: Loop, open_pair: OpenPair, clock: FakeClock
) -> None:
    c, peer = open_pair()
    steps: list[str] = []
    c.read.handler = lambda _event: loop.soon(lambda: steps.append("by ready"), Owner())
    timer = Timer(lambda _timer: loop.soon(lambda: steps.append("by timer"), Owner()), Owner())
    loop.timers.start(timer, clock.now_ms)
    c.resume_read()
    peer.send(b"x")
    loop.turn(0)
    assert steps == ["by ready", "by timer"]


@pytest.mark.parametrize("method", ["epoll"])
def test_a_call_asked_for_in_step_6_comes_in_the_next_turn_without_sleep(
    loop: Loop, open_pair: OpenPair
) -> None:
    steps: list[str] = []

    def again() -> None:
        steps.append("call")
        loop.soon(again, Owner())

    c, _ = open_pair()
    c.read.active = True
    c.read.handler = lambda _event: loop.soon(again, Owner())
    loop.post(c.read)
    for turns in range(3):
        loop.turn()  # returns, and does not sleep
        assert steps == ["call"] * turns


@pytest.mark.parametrize("method", ["epoll"])
def test_a_call_asked_for_twice_comes_once(loop: Loop) -> None:
    class Worker(Owner):
        calls = 0

        def work(self) -> None:
            self.calls += 1

    one, two = Worker(), Worker()
    for worker in (one, two, one):
        loop.soon(worker.work, worker)
    loop.turn()
    loop.turn(0)
    assert (one.calls, two.calls) == (1, 1)


@pytest.mark.parametrize("method", ["epoll"])
def test_a_bug_in_a_call_ends_its_owner_alone(loop: Loop, expect_log: Any) -> None:
    owners = [Owner(), Owner(), Owner()]
    steps: list[str] = []
    loop.soon(lambda: steps.append("before"), owners[0])
    loop.soon(lambda: steps.append(str(1 / 0)), owners[1])
    loop.soon(lambda: steps.append("after"), owners[2])
    with expect_log("bug in nginy, the session is closed: <Owner 7>", count=1):
        loop.turn()
    assert steps == ["before", "after"]
    assert [owner.aborted for owner in owners] == [0, 1, 0]


@pytest.mark.parametrize("method", ["epoll"])
def test_an_event_posted_twice_runs_once(loop: Loop, open_pair: OpenPair) -> None:
    c, _ = open_pair()
    called: list[Event] = []
    c.read.handler = called.append
    c.read.active = True
    loop.post(c.read)
    loop.post(c.read)
    loop.turn(0)
    assert called == [c.read]


@pytest.mark.parametrize("method", ["epoll"])
@pytest.mark.parametrize("end", [Connection.close, Connection.pause_read])
def test_a_posted_event_does_not_run_once_its_connection_is_closed_or_paused(
    loop: Loop, open_pair: OpenPair, end: Callable[[Connection], None]
) -> None:
    first, _ = open_pair()
    second, _ = open_pair()
    called: list[Event] = []
    first.write.handler = lambda _event: end(second)
    second.read.handler = called.append
    first.write.active = second.read.active = True
    loop.post(first.write)
    loop.post(second.read)
    loop.turn(0)
    loop.turn(0)
    assert called == []


# -- how long it sleeps --


@pytest.fixture
def recorder(clock: FakeClock) -> tuple[Loop, RecordingSelector]:
    loop = make_loop("poll", clock)
    loop.close()
    recorder = RecordingSelector()
    loop.interest = LevelInterest(recorder)
    return loop, recorder


def test_an_idle_loop_sleeps_until_something_happens(
    recorder: tuple[Loop, RecordingSelector],
) -> None:
    loop, selector = recorder
    loop.turn()
    loop.turn(250)
    assert selector.timeouts == [None, 0.25]


def test_a_loop_with_a_timer_sleeps_until_it_is_due(
    recorder: tuple[Loop, RecordingSelector], clock: FakeClock
) -> None:
    loop, selector = recorder
    loop.timers.start(Timer(lambda _timer: None, Owner()), clock.now_ms + 60_000)
    loop.turn()
    loop.turn(250)
    clock.advance(59_900)
    loop.turn(250)
    clock.advance(10_000)
    loop.turn()  # late: the timer fires in this turn, after one more look
    loop.turn()
    assert selector.timeouts == [60.0, 0.25, 0.1, 0, 0, None]


# -- after a pause --


class FirstLooksAway:
    """Interest whose first `wait` of a turn returns nothing, as epoll_wait() does when its
    timeout is over at the end of a pause."""

    def __init__(self, loop: Loop) -> None:
        self._interest = loop.interest
        self._has_looked_away = False

    def wait(self, timeout: float | None) -> list[tuple[Connection, int]]:
        self._has_looked_away = not self._has_looked_away
        if self._has_looked_away:
            return []
        return self._interest.wait(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._interest, name)


@pytest.mark.parametrize("late_ms", [0, 60_000])
def test_what_came_during_a_pause_is_served_before_timers_run(
    loop: Loop, open_pair: OpenPair, clock: FakeClock, late_ms: int
) -> None:
    c, peer = open_pair()
    steps: list[str] = []

    def read(event: Event) -> None:
        if c.recv(loop.memory) > 0:
            steps.append("read")

    c.read.handler = read
    c.resume_read()
    loop.timers.start(Timer(lambda _timer: steps.append("timer"), Owner()), clock.now_ms + 1000)
    loop.turn(0)
    interest = loop.interest
    loop.interest = FirstLooksAway(loop)
    peer.send(b"x")
    clock.advance(1010 + late_ms)
    loop.turn()
    assert steps == ["read", "timer"]
    loop.interest = interest


@pytest.mark.parametrize("method", ["epoll"])
def test_more_than_a_batch_that_came_during_a_pause_is_served_before_timers_run(
    loop: Loop, clock: FakeClock
) -> None:
    steps: list[str] = []
    pairs = [socket.socketpair() for _ in range(BATCH + 10)]
    connections = []

    def read(event: Event) -> None:
        event.data.recv(loop.memory)
        steps.append("read")

    for ours, theirs in pairs:
        ours.setblocking(False)
        connections.append(Connection(loop, ours, ""))
        connections[-1].read.handler = read
        connections[-1].resume_read()
        theirs.send(b"x")
    loop.timers.start(Timer(lambda _timer: steps.append("timer"), Owner()), clock.now_ms + 10)
    clock.advance(20)
    loop.turn()
    assert steps == ["read"] * len(pairs) + ["timer"]
    for c, (_, theirs) in zip(connections, pairs, strict=True):
        c.close()
        theirs.close()


@pytest.mark.parametrize("method", ["epoll"])
def test_who_stopped_at_a_quota_before_a_pause_goes_on_before_timers_run(
    loop: Loop, open_pair: OpenPair, clock: FakeClock
) -> None:
    c, _ = open_pair()
    steps: list[str] = []
    c.read.handler = lambda _event: steps.append("posted")
    c.read.active = True
    loop.post(c.read)
    loop.timers.start(Timer(lambda _timer: steps.append("timer"), Owner()), clock.now_ms + 10)
    clock.advance(60_000)
    loop.turn()
    assert steps == ["posted", "timer"]


class StoppedClock(FakeClock):
    """A clock on which a pause may be taken out, as on the real one."""

    def skip(self, pause_ms: int) -> None:
        self.now_ms -= pause_ms


@pytest.mark.parametrize("method", ["epoll"])
@pytest.mark.parametrize(
    ("late_ms", "fired"), [(SUSPENDED_MS, [10, 100]), (SUSPENDED_MS + 10, [10])]
)
def test_no_time_passes_while_the_process_is_stopped(
    method: str, late_ms: int, fired: list[int]
) -> None:
    """A timer with 100 ms left before a pause has 90 left after it, when the other timer is due."""
    clock = StoppedClock()
    loop = make_loop(method, clock)
    happened: list[int] = []
    for delay_ms in (10, 100):
        timer = Timer(lambda _timer, delay_ms=delay_ms: happened.append(delay_ms), Owner())  # type: ignore[misc]
        loop.timers.start(timer, clock.now_ms + delay_ms)
    clock.advance(10 + late_ms)
    loop.turn(0)
    assert happened == fired
    clock.advance(90)
    loop.turn(0)
    assert happened == [10, 100]
    loop.close()


# -- bugs --


@pytest.mark.parametrize("method", ["epoll", "select"])
def test_a_bug_in_a_handler_is_logged_once_and_ends_one_owner(
    loop: Loop, open_pair: OpenPair, expect_log: Any
) -> None:
    broken, broken_peer = open_pair()
    healthy, healthy_peer = open_pair()
    owner = broken.data = Owner(broken)
    broken.read.handler = bug
    called: list[Event] = []
    healthy.read.handler = called.append
    for c, peer in ((broken, broken_peer), (healthy, healthy_peer)):
        c.resume_read()
        peer.send(b"x")
    with expect_log("bug in nginy, the session is closed: <Connection", count=1) as records:
        loop.turn(0)
        loop.turn(0)
    (record,) = records
    assert record.levelno == logging.CRITICAL
    assert record.exc_info[0] is ZeroDivisionError
    assert owner.aborted == 1
    assert healthy.fd >= 0
    assert healthy.read in called


@pytest.mark.parametrize("method", ["epoll"])
def test_a_bug_closes_a_connection_without_an_owner(
    loop: Loop, open_pair: OpenPair, expect_log: Any
) -> None:
    c, peer = open_pair()
    c.read.handler = bug
    c.resume_read()
    peer.send(b"x")
    with expect_log("bug in nginy", count=1):
        loop.turn(0)
    assert c.fd == -1
    with pytest.raises(ConnectionResetError):
        peer.recv(1)


@pytest.mark.parametrize("method", ["epoll"])
def test_a_bug_after_the_handler_has_closed_its_connection_ends_nobody_else(
    loop: Loop, open_pair: OpenPair, expect_log: Any
) -> None:
    c, peer = open_pair()
    owner = c.data = Owner()

    def close_and_fail(event: Event) -> None:
        c.close()
        bug(event)

    c.read.handler = close_and_fail
    c.resume_read()
    peer.send(b"x")
    with expect_log("bug in nginy", count=1):
        loop.turn(0)
    assert owner.aborted == 0


@pytest.mark.parametrize("method", ["epoll"])
def test_a_bug_in_a_timer_or_a_posted_event_ends_its_owner(
    loop: Loop, open_pair: OpenPair, clock: FakeClock, expect_log: Any
) -> None:
    c, _ = open_pair()
    posts = c.data = Owner()
    c.read.handler = bug
    c.read.active = True
    loop.post(c.read)
    waits = Owner()
    loop.timers.start(Timer(bug, waits), clock.now_ms)
    with expect_log("bug in nginy", count=2) as records:
        loop.turn(0)
    assert (waits.aborted, posts.aborted) == (1, 1)
    assert records[0].getMessage() == "bug in nginy, the session is closed: <Owner 7>"


def test_interrupting_the_process_is_not_a_bug(open_pair: OpenPair, loop: Loop) -> None:
    def interrupt(_event: Event) -> None:
        raise KeyboardInterrupt

    c, _ = open_pair()
    c.write.handler = interrupt
    c.resume_write()
    with pytest.raises(KeyboardInterrupt):
        loop.turn(0)


# -- without memory --


def no_memory(_item: Event | Timer) -> None:
    raise MemoryError


@pytest.mark.parametrize("method", ["epoll"])
def test_want_of_memory_is_no_bug_but_ends_that_one_session(
    loop: Loop, open_pair: OpenPair, clock: FakeClock, expect_log: Any
) -> None:
    owners = []
    for _ in range(2):
        c, peer = open_pair()
        c.read.handler = no_memory
        c.resume_read()
        owners.append(Owner(c))
        c.data = owners[-1]
        peer.send(b"x")
    with expect_log("^out of memory, sessions slow down$", count=1) as records:
        loop.turn(0)
    assert records[0].exc_info is None
    assert [owner.aborted for owner in owners] == [1, 1]
    assert loop.budget.is_spent


class Forgetful:
    """Interest that has no memory for what it was about to report, once."""

    def __init__(self, loop: Loop) -> None:
        self._interest = loop.interest
        self.has_forgotten = False

    def wait(self, timeout: float | None) -> list[tuple[Connection, int]]:
        ready = self._interest.wait(timeout)
        if ready and not self.has_forgotten:
            self.has_forgotten = True
            raise MemoryError
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._interest, name)


def test_what_the_selector_had_no_memory_to_report_is_reported_again(
    loop: Loop, open_pair: OpenPair, expect_log: Any
) -> None:
    c, peer = open_pair()

    def read(event: Event) -> None:
        assert c.recv(loop.memory) == 1
        loop.running = False

    c.read.handler = read
    c.resume_read()
    peer.send(b"x")
    interest = loop.interest
    loop.interest = forgetful = Forgetful(loop)
    with expect_log("out of memory", count=1):
        loop.run()
    assert forgetful.has_forgotten
    loop.interest = interest


# -- running --


@pytest.mark.parametrize("method", ["epoll", "poll"])
def test_it_turns_until_a_handler_says_that_it_is_enough(loop: Loop, clock: FakeClock) -> None:
    def stop(_timer: Timer) -> None:
        loop.running = False

    loop.timers.start(Timer(stop, Owner()), clock.now_ms)
    loop.run()
    assert clock.updates == 1


def test_a_method_that_the_system_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="kqueue"):
        Loop("kqueue")


def test_the_real_clock_is_the_default() -> None:
    loop = Loop()
    before_ms = loop.clock.now_ms
    loop.turn(10)
    assert loop.clock.now_ms > before_ms
    loop.close()
