"""A pool under watch: which backends may serve, by checks, agents, failures, operators; fake time.

The backends are real sockets, the time is the test's. Interval 1000 ms, three fails, two passes.
"""

import dataclasses
import itertools
import random
import socket
from collections.abc import Callable, Iterator

import pytest
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.checks.checker import Checker, ProbeSettings
from nginy.backend.checks.monitor import PoolMonitor
from nginy.backend.checks.news import BackendEvent
from nginy.backend.checks.settings import MonitorSettings, OnDown
from nginy.backend.health.eject import EjectSettings
from nginy.backend.health.schedule import CheckSettings
from nginy.backend.health.states import State
from nginy.backend.override import Override
from nginy.backend.pool import BackendPool, MakeBalancer
from nginy.balancer.hashing import Hash
from nginy.balancer.pick_random import PickRandom
from nginy.balancer.round_robin import RoundRobin
from nginy.log.levels import NOTICE
from nginy.proxy.closer import SLICE, SessionCloser
from nginy.text.address import parse_address
from nginy.text.units import format_duration
from nginy.wire.agent import AgentAnswer, Mode, OperatingWord
from nginy.wire.checks.steps import single
from nginy.wire.expect import parse_expect

from conftest import ExpectLog
from kit.clock import FakeClock
from kit.datagrams import UdpBackend
from kit.ends import End
from kit.harness import Harness
from kit.leaks import no_garbage
from kit.servers import EchoBackend, RefusingPort, Server

INTERVAL_MS = 1000
JITTER_MS = 200
STEP_MS = 50
"""How finely time passes, so how exactly it is measured."""
CHECK_TURNS = 50
"""Turns, of a millisecond at most, for which a check may go without its answer; a few will do."""
CHECK = CheckSettings(
    interval_ms=INTERVAL_MS,
    interval_down_ms=INTERVAL_MS,
    timeout_ms=500,
    jitter_ms=JITTER_MS,
    fails=3,
    passes=2,
    is_initially_up=True,
)
EXPECT_PLUS = ProbeSettings(single(expect=parse_expect("+")))
CHECKED = MonitorSettings(CHECK, ProbeSettings())
EJECTED = MonitorSettings(eject=EjectSettings(base_ms=30_000, max_ms=60_000, max_percent=50))


class Watched:
    """A pool and its monitor on the harness's loop."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.checker = Checker(harness.loop)
        self.closer = SessionCloser(harness.loop)
        self.monitor: PoolMonitor | None = None

    def watch(self, pool: BackendPool, settings: MonitorSettings = CHECKED) -> PoolMonitor:
        self.monitor = PoolMonitor(
            pool, self.checker, random.Random(1), settings, self.closer.end_sessions
        )
        return self.monitor

    def pass_time(self, duration_ms: int, until: Callable[[], object] | None = None) -> int:
        """Let time pass in small steps, with a few turns in each; return how much has passed."""
        assert isinstance(self.harness.clock, FakeClock)
        passed = 0
        while passed < duration_ms and not (until is not None and until()):
            self.harness.clock.advance(STEP_MS)
            passed += STEP_MS
            self._let_checks_end()
        return passed

    def _let_checks_end(self) -> None:
        """Fire the timers that are due, and wait for the checks that they start."""
        before = set(self.checker.open)
        self.harness.turn(0)
        for _ in range(CHECK_TURNS):
            if set(self.checker.open) <= before:
                break
            self.harness.turn()
        self.harness.turn(0)

    def close(self) -> None:
        if self.monitor is not None:
            self.monitor.close()
        self.closer.close()
        self.checker.close()


@pytest.fixture
def method() -> str:
    """One way to wait will do here."""
    return "epoll"


@pytest.fixture
def watched(harness: Harness) -> Iterator[Watched]:
    made = Watched(harness)
    yield made
    made.close()


def states(pool: BackendPool) -> list[State]:
    return [backend.health.state for backend in pool.backends]


class TestChecks:
    def test_a_dead_backend_is_found_out_after_fails_times_interval_within_one_jitter(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        good, bad = harness.add(EchoBackend()), harness.add(EchoBackend())
        name = bad.name
        pool = harness.pool(good.name, name)
        watched.watch(pool)
        watched.pass_time(5 * INTERVAL_MS)
        assert states(pool) == [State.UP, State.UP]
        bad.close()
        harness.forget(bad)
        dead = harness.add(Refusing(name))
        with expect_log("up -> down: 3 checks in a row failed: connect.. failed", count=1):
            found_ms = watched.pass_time(10_000, lambda: pool.backends[1].down)
        # The first check that fails is up to one interval away.
        assert 2 * INTERVAL_MS - JITTER_MS <= found_ms <= 3 * INTERVAL_MS + JITTER_MS + STEP_MS
        assert not pool.backends[0].down
        dead.close()
        harness.forget(dead)
        harness.add(EchoBackend(("127.0.0.1", dead.port)))
        back_ms = watched.pass_time(10_000, lambda: not pool.backends[1].down)
        assert INTERVAL_MS - JITTER_MS <= back_ms <= 2 * INTERVAL_MS + JITTER_MS + STEP_MS

    def test_first_checks_are_spread_over_one_interval(
        self, harness: Harness, watched: Watched
    ) -> None:
        servers = [harness.add(EchoBackend()) for _ in range(4)]
        watched.watch(
            harness.pool(*(server.name for server in servers)),
            dataclasses.replace(CHECKED, check=dataclasses.replace(CHECK, jitter_ms=0)),
        )
        seen = []
        watched.pass_time(STEP_MS)
        for _ in range(4):
            seen.append([len(server.ends) for server in servers])
            watched.pass_time(INTERVAL_MS // 4)
        assert seen == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]

    def test_a_flapping_backend_stays_as_long_as_it_never_fails_often_enough(
        self, harness: Harness, watched: Watched
    ) -> None:
        backend = harness.add(Moody("--+"))
        pool = harness.pool(backend.name)
        watched.watch(pool, MonitorSettings(CHECK, EXPECT_PLUS))
        watched.pass_time(20 * INTERVAL_MS)
        health = pool.backends[0].health
        assert (health.checks_total, health.checks_failed_total) == (20, 14)
        assert (health.state, health.unhealthy_total) == (State.UP, 0)

    def test_a_flapping_backend_that_is_out_stays_out(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        backend = harness.add(Moody("---" + "+-" * 20))
        pool = harness.pool(backend.name)
        with expect_log("up -> down", count=1):
            watched.watch(pool, MonitorSettings(CHECK, EXPECT_PLUS))
            watched.pass_time(20 * INTERVAL_MS)
        health = pool.backends[0].health
        assert (health.state, health.unhealthy_total) == (State.DOWN, 1)

    def test_a_backend_that_is_initially_down_serves_after_its_first_pass(
        self, harness: Harness, watched: Watched
    ) -> None:
        pool = harness.pool(harness.add(EchoBackend()).name)
        check = dataclasses.replace(CHECK, is_initially_up=False)
        watched.watch(pool, dataclasses.replace(CHECKED, check=check))
        assert (states(pool), pool.backends[0].down) == ([State.CHECKING], True)
        watched.pass_time(INTERVAL_MS, lambda: not pool.backends[0].down)
        assert states(pool) == [State.UP]

    def test_a_check_that_is_ours_to_blame_takes_nobody_out(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(harness.add(EchoBackend()).name)
        probe = ProbeSettings(transport="exec", command=("/bin/sleep", "600"))
        for _ in range(32):
            watched.checker.start(
                probe, pool.backends[0].address, harness.clock.now_ms + 60_000, lambda _: None
            )
        program = ProbeSettings(transport="exec", command=("/bin/true",))
        with expect_log("was not checked: 32 programs are already running", count=1, level=40):
            watched.watch(pool, MonitorSettings(CHECK, program))
            watched.pass_time(6 * INTERVAL_MS)
        assert states(pool) == [State.UP]
        assert pool.backends[0].health.checks_total == 0

    def test_maintenance_is_not_checked_and_checks_come_back_after_it(
        self, harness: Harness, watched: Watched
    ) -> None:
        server = harness.add(EchoBackend())
        pool = harness.pool(server.name)
        monitor = watched.watch(pool)
        watched.pass_time(INTERVAL_MS)
        monitor.set_mode(pool.backends[0], Mode.MAINT, "by hand")
        seen = len(server.ends)
        watched.pass_time(5 * INTERVAL_MS)
        assert (len(server.ends), pool.backends[0].down) == (seen, True)
        monitor.set_mode(pool.backends[0], Mode.READY, "by hand")
        assert states(pool) == [State.CHECKING]
        watched.pass_time(INTERVAL_MS, lambda: not pool.backends[0].down)
        assert states(pool) == [State.UP]

    def test_a_reload_keeps_the_results_so_far(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(harness.add(RefusingPort()).name)
        monitor = watched.watch(pool)
        watched.pass_time(10_000, lambda: pool.backends[0].health.fails_in_row == 2)
        monitor.apply(dataclasses.replace(CHECKED, fail_open=0.0))
        with expect_log("up -> down", count=1):
            watched.pass_time(INTERVAL_MS + JITTER_MS + STEP_MS, lambda: pool.backends[0].down)
        monitor.apply(MonitorSettings())
        assert (states(pool), pool.backends[0].down) == ([State.UP], False)

    def test_a_reload_that_changes_nothing_leaves_each_plan_alone(
        self, harness: Harness, watched: Watched
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
        monitor = watched.watch(pool)
        planned = [backend.health.schedule.next_at_ms for backend in pool.backends]
        changed = pool.backends[1]
        changed.apply(dataclasses.replace(changed.settings, max_conns=7))
        monitor.apply(dataclasses.replace(CHECKED))
        assert [b.health.schedule.next_at_ms for b in pool.backends] == planned
        assert [b.max_conns for b in pool.backends] == [0, 7]
        monitor.apply(dataclasses.replace(CHECKED, fail_open=0.5))
        assert [b.health.schedule.next_at_ms for b in pool.backends] == planned
        pool.replace(pool.backends[:1])
        monitor.sync()
        pool.replace([pool.backends[0], changed])
        monitor.sync()
        assert not changed.down

    def test_down_in_the_configuration_and_back(self, harness: Harness, watched: Watched) -> None:
        pool = harness.pool(harness.add(EchoBackend()).name)
        monitor = watched.watch(pool)
        (backend,) = pool.backends
        settings = backend.settings
        backend.apply(dataclasses.replace(settings, down=True))
        monitor.apply(CHECKED)
        assert (states(pool), backend.down) == ([State.MAINTENANCE], True)
        backend.apply(settings)
        monitor.apply(MonitorSettings())
        assert (states(pool), backend.down) == ([State.UP], False)

    def test_who_leaves_the_pool_is_checked_no_more(
        self, harness: Harness, watched: Watched
    ) -> None:
        stays, leaves = harness.add(EchoBackend()), harness.add(EchoBackend())
        pool = harness.pool(stays.name, leaves.name)
        monitor = watched.watch(pool)
        watched.pass_time(2 * INTERVAL_MS)
        pool.replace(pool.backends[:1])
        monitor.sync()
        seen = len(leaves.ends)
        health, checks = pool.backends[0].health, pool.backends[0].health.checks_total
        watched.pass_time(3 * INTERVAL_MS)
        assert len(leaves.ends) == seen
        assert pool.backends[0].health is health
        assert health.checks_total >= checks + 2

    def test_a_backend_that_returns_has_the_health_that_it_left_with(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        moody = harness.add(Moody("---+"))
        pool = harness.pool(harness.add(Moody("+")).name, moody.name)
        check = dataclasses.replace(CHECK, passes=1)
        monitor = watched.watch(pool, MonitorSettings(check, EXPECT_PLUS))
        stays, leaves = pool.backends
        with expect_log("up -> down", count=1):
            watched.pass_time(10_000, lambda: leaves.down)
        pool.replace([stays])
        pool.left = (leaves,)
        monitor.sync()
        health = leaves.health
        watched.pass_time(5 * INTERVAL_MS)
        pool.replace([stays, leaves])
        pool.left = ()
        monitor.sync()
        assert leaves.health is health
        assert (leaves.down, health.state) == (True, State.DOWN)
        # It is checked at once, as the last check is long ago.
        watched.pass_time(2 * STEP_MS, lambda: not leaves.down)
        assert not leaves.down

    def test_a_check_that_ran_when_a_backend_left_is_not_held_against_it(
        self, harness: Harness, watched: Watched
    ) -> None:
        silent = harness.add(EchoBackend())
        pool = harness.pool(harness.add(Moody("+")).name, silent.name)
        check = dataclasses.replace(CHECK, fails=1)
        monitor = watched.watch(pool, MonitorSettings(check, EXPECT_PLUS))
        stays, leaves = pool.backends
        watched.pass_time(INTERVAL_MS, lambda: leaves.health.deadline_at_ms is not None)
        pool.replace([stays])
        pool.left = (leaves,)
        monitor.sync()
        watched.pass_time(INTERVAL_MS)
        pool.replace([stays, leaves])
        monitor.sync()
        watched.pass_time(2 * STEP_MS)
        assert leaves.health.state is State.UP
        assert leaves.health.checks_failed_total == 0

    def test_an_upstream_that_returns_has_its_health_too(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        bad = harness.add(Moody("-"))
        pool = harness.pool(harness.add(Moody("+")).name, bad.name)
        settings = MonitorSettings(CHECK, EXPECT_PLUS)
        monitor = watched.watch(pool, settings)
        with expect_log("up -> down", count=1):
            watched.pass_time(10_000, lambda: pool.backends[1].down)
        monitor.rest()
        checks = len(bad.ends)
        watched.pass_time(3 * INTERVAL_MS)
        assert len(bad.ends) == checks
        monitor.apply(settings)
        watched.pass_time(2 * INTERVAL_MS)
        assert len(bad.ends) > checks
        assert states(pool) == [State.UP, State.DOWN]

    def test_who_leaves_the_pool_leaves_nothing_for_the_cyclic_collector(
        self, harness: Harness, watched: Watched
    ) -> None:
        pool = harness.pool(harness.add(EchoBackend()).name, harness.add(EchoBackend()).name)
        monitor = watched.watch(pool)
        watched.pass_time(2 * INTERVAL_MS)
        with no_garbage():
            pool.rebuild(pool.backends[:1], RoundRobin)
            monitor.sync()


class Refusing(RefusingPort):
    """Refuses on a port that has just been closed."""

    def __init__(self, name: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = int(name.rpartition(":")[2])
        self.socket.bind(("127.0.0.1", self.port))


class Moody(Server):
    """Greets each connection with the next of its moods, around and around."""

    def __init__(self, moods: str) -> None:
        super().__init__()
        self.moods = itertools.cycle(moods)

    def end_class(self, sock: socket.socket) -> End:  # type: ignore[override]
        end = End(sock)
        end.is_finishing_last = True
        end.send(next(self.moods).encode())
        return end


class TestFailOpen:
    def test_with_all_backends_down_health_is_ignored(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(RefusingPort()).name for _ in range(3)))
        settings = dataclasses.replace(CHECKED, fail_open=0.5)
        with (
            expect_log("health is ignored .fail_open.", count=1),
            expect_log(r"up -> down", count=3),
        ):
            watched.watch(pool, settings)
            watched.pass_time(5 * INTERVAL_MS)
        assert pool.is_fail_open
        assert states(pool) == [State.DOWN] * 3
        assert not any(backend.down for backend in pool.backends)
        assert pool.pick(b"", (), 0) is not None
        pool.release(next(b for b in pool.backends if b.conns))

    def test_at_the_threshold_health_counts_and_does_again_after_a_recovery(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(4)))
        settings = dataclasses.replace(CHECKED, fail_open=0.5, check=None, probe=None)
        settings = dataclasses.replace(settings, eject=EjectSettings(1000, 1000, 100))
        monitor = watched.watch(pool, settings)
        now_s = harness.clock.now_ms // 1000
        with expect_log("up -> ejected", count=3), expect_log("health is ignored", count=1):
            for count, backend in enumerate(pool.backends[:3], 1):
                pool.failed(backend, now_s)
                assert pool.is_fail_open is (count == 3)
        assert [backend.down for backend in pool.backends] == [False] * 4
        watched.pass_time(1000)
        assert not pool.is_fail_open
        assert monitor.pool is pool

    def test_what_is_deliberate_stays_out(self, harness: Harness, watched: Watched) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
        monitor = watched.watch(pool, dataclasses.replace(CHECKED, fail_open=1.0))
        for backend in pool.backends:
            monitor.set_mode(backend, Mode.DRAIN, "by hand")
        assert all(backend.down for backend in pool.backends)
        assert not pool.is_fail_open


class TestEjection:
    def test_it_grows_with_each_repeat_and_counts_from_zero(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)), max_fails=2)
        watched.watch(pool, EJECTED)
        backend = pool.backends[0]
        for duration_ms in (30_000, 60_000, 60_000):
            text = f"ejected for {format_duration(duration_ms)}: 2 failed sessions"
            with expect_log(text, count=1):
                for _ in range(2):
                    pool.failed(backend, harness.clock.now_ms // 1000)
            assert (backend.down, backend.fails) == (True, 0)
            harness.advance(duration_ms - 1)
            assert backend.down
            harness.advance(11)
            assert not backend.down

    def test_never_more_than_max_percent_are_out(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(3)))
        watched.watch(pool, EJECTED)
        with expect_log("up -> ejected", count=1):
            for backend in pool.backends:
                pool.failed(backend, harness.clock.now_ms // 1000)
        assert [backend.down for backend in pool.backends] == [True, False, False]
        assert [backend.fails for backend in pool.backends] == [0, 0, 0]

    def test_without_eject_nginx_rules_alone_hold(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
        watched.watch(pool, MonitorSettings())
        with expect_log("out for 10s after 1 failure .max_fails.$", count=1):
            pool.failed(pool.backends[0], harness.clock.now_ms // 1000)
        assert (pool.backends[0].fails, pool.backends[0].down) == (1, False)

    def test_one_that_serves_for_want_of_others_is_back(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
        watched.watch(pool, dataclasses.replace(EJECTED, eject=EjectSettings(1000, 9000, 100)))
        now_s = harness.clock.now_ms // 1000
        with expect_log("up -> ejected", count=2):
            for backend in pool.backends:
                pool.failed(backend, now_s)
        assert pool.tries == 2
        backend = pool.backends[0]
        assert pool.pick(b"", (), now_s + 1) is backend
        with expect_log("ejected -> up: it served a client", count=1, level=NOTICE):
            pool.succeeded(backend)
        assert [b.down for b in pool.backends] == [False, True]
        pool.release(backend)

    def test_it_ends_when_a_check_brings_the_backend_up(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        moody = harness.add(Moody("+---++++"))
        pool = harness.pool(moody.name, harness.add(Moody("+")).name)
        settings = MonitorSettings(CHECK, EXPECT_PLUS)
        watched.watch(pool, dataclasses.replace(EJECTED, check=CHECK, probe=settings.probe))
        backend = pool.backends[0]
        watched.pass_time(INTERVAL_MS // 2)
        with expect_log("up -> ejected", count=1):
            pool.failed(backend, harness.clock.now_ms // 1000)
        with expect_log("ejected -> down", count=1):
            watched.pass_time(10_000, lambda: backend.health.state is State.DOWN)
        with expect_log("down -> up", count=1, level=NOTICE):
            watched.pass_time(10_000, lambda: not backend.down)
        assert backend.health.ejection_ends_at_ms is None


class TestPassiveFailures:
    def test_being_out_and_back_is_logged_once_each(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)), max_fails=2)
        watched.watch(pool, MonitorSettings())
        backend, now_s = pool.backends[0], harness.clock.now_ms // 1000
        where = f"backend {backend.name} in upstream .backends."
        text = f"{where}: out for 10s after 2 failures .max_fails.$"
        with expect_log(text, count=1):
            for _ in range(4):
                pool.failed(backend, now_s)
        other = pool.backends[1]
        assert pool.pick(b"", (other,), now_s + 11) is backend
        with expect_log(f"backend {backend.name} in upstream .backends.: back$", level=NOTICE):
            pool.succeeded(backend)
        with expect_log("back", count=0, level=NOTICE):
            pool.succeeded(backend)
        pool.release(backend)

    def test_the_log_says_that_the_last_one_is_tried_all_the_same(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
        watched.watch(pool, MonitorSettings())
        with expect_log("out for 10s") as records:
            for backend in pool.backends:
                pool.failed(backend, harness.clock.now_ms // 1000)
        assert ["still tried" in record.getMessage() for record in records] == [False, True]

    def test_a_backend_that_a_check_brings_up_is_usable_at_once(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        moody = harness.add(Moody("---+"))
        pool = harness.pool(moody.name, harness.add(Moody("+")).name)
        check = dataclasses.replace(CHECK, passes=1)
        watched.watch(pool, MonitorSettings(check, EXPECT_PLUS))
        backend = pool.backends[0]
        with expect_log("up -> down", count=1):
            watched.pass_time(10_000, lambda: backend.down)
        with expect_log("out for 10s", count=1):
            pool.failed(backend, harness.clock.now_ms // 1000)
        watched.pass_time(10_000, lambda: not backend.down)
        assert backend.fails == 0
        picked = [pool.pick(b"", (), harness.clock.now_ms // 1000) for _ in range(2)]
        assert backend in picked
        for each in pool.backends:
            pool.release(each)

    def test_the_first_check_that_passes_does_not_say_that_a_backend_is_back_while_it_is_down(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(Moody(answers)).name for answers in ("---+", "+")))
        watched.watch(pool, MonitorSettings(CHECK, EXPECT_PLUS))
        backend = pool.backends[0]
        with expect_log("up -> down", count=1):
            watched.pass_time(10_000, lambda: backend.down)
        with expect_log("out for 10s", count=1):
            pool.failed(backend, harness.clock.now_ms // 1000)
        with expect_log(": back$", count=0, level=NOTICE):
            watched.pass_time(10_000, lambda: not backend.down)
        assert backend.fails == 0

    def test_a_check_that_passes_later_outweighs_failures(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
        watched.watch(pool, CHECKED)
        watched.pass_time(INTERVAL_MS)
        backend = pool.backends[0]
        with expect_log("out for 10s", count=1):
            pool.failed(backend, harness.clock.now_ms // 1000)
        with expect_log(f"{backend.name} in upstream .backends.: back$", count=1, level=NOTICE):
            watched.pass_time(2 * INTERVAL_MS)
        assert backend.fails == 0

    def test_a_check_that_passes_in_silence_outweighs_nothing(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        made = [harness.add(UdpBackend(lambda _data: [])) for _ in range(2)]
        pool = harness.pool(*(backend.name for backend in made))
        watched.watch(pool, MonitorSettings(CHECK, ProbeSettings(transport="udp")))
        backend = pool.backends[0]
        watched.pass_time(INTERVAL_MS)
        with expect_log("out for 10s", count=1):
            pool.failed(backend, harness.clock.now_ms // 1000)
        watched.pass_time(4 * INTERVAL_MS)
        assert backend.health.passes_in_row == 2
        assert (backend.health.is_passing, backend.fails) == (False, 1)

    def test_fail_open_ignores_them_too(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(4)))
        watched.watch(pool, MonitorSettings(fail_open=0.5))
        now_s = harness.clock.now_ms // 1000
        first, second, third, fourth = pool.backends
        with (
            expect_log("out for 10s", count=3),
            expect_log("1 of 4 .* ignored .fail_open", count=1),
        ):
            for each in (first, second, third):
                pool.failed(each, now_s)
        picked = {pool.pick(b"", (), now_s) for _ in range(4)}
        assert picked == set(pool.backends)
        pool.failed(fourth, now_s)  # which takes no backend out now, so the log does not say so
        harness.clock.advance(11_000)  # type: ignore[attr-defined]
        for each in pool.backends:
            pool.release(each)
        with expect_log("4 of 4 .* heeded again$", count=1, level=NOTICE):
            assert pool.pick(b"", set(pool.backends) - {first}, now_s + 11) is first
            pool.succeeded(first)
        assert [b.max_fails for b in pool.backends] == [1] * 4
        pool.release(first)


class TestWeights:
    def slow_pool(self, harness: Harness, make: MakeBalancer = RoundRobin) -> BackendPool:
        settings = [
            BackendSettings(name, parse_address(name), weight=2, slow_start_ms=9000)
            for name in (harness.add(EchoBackend()).name, harness.add(EchoBackend()).name)
        ]
        return harness.add_pool(BackendPool("slow", [Backend(s) for s in settings], make))

    def test_slow_start_grows_from_a_tenth_to_the_whole_after_a_recovery(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = self.slow_pool(harness)
        watched.watch(pool, EJECTED)
        assert [b.weight for b in pool.backends] == [200, 200]
        with expect_log("up -> ejected", count=1):
            pool.failed(pool.backends[0], harness.clock.now_ms // 1000)
        harness.advance(30_010)
        backend = pool.backends[0]
        assert (backend.weight, backend.down) == (20, False)
        seen = []
        for _ in range(9):
            watched.pass_time(1000)
            seen.append(backend.weight)
        assert all(abs(w - (20 + 20 * i)) <= 4 for i, w in enumerate(seen, 1)), seen
        watched.pass_time(200)
        assert (backend.weight, backend.effective_weight) == (200, 200)
        assert harness.loop.timers.next_deadline_ms() is None

    def test_its_share_of_sessions_follows(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = self.slow_pool(harness)
        watched.watch(pool, EJECTED)
        with expect_log("up -> ejected", count=1):
            pool.failed(pool.backends[0], harness.clock.now_ms // 1000)
        harness.advance(30_010)
        picked = []
        for _ in range(1100):
            backend = pool.pick(b"", (), harness.clock.now_ms // 1000)
            assert backend is not None
            pool.release(backend)
            picked.append(backend)
        # 20 of 220
        assert 90 <= picked.count(pool.backends[0]) <= 110

    def test_random_sees_the_new_weight(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        rng = random.Random(7)
        pool = self.slow_pool(harness, lambda peers: PickRandom(peers, rng))
        watched.watch(pool, EJECTED)
        with expect_log("up -> ejected", count=1):
            pool.failed(pool.backends[0], harness.clock.now_ms // 1000)
        harness.advance(30_010)
        count = 0
        for _ in range(2200):
            backend = pool.pick(b"", (), harness.clock.now_ms // 1000)
            assert backend is not None
            pool.release(backend)
            count += backend is pool.backends[0]
        assert 130 <= count <= 270  # 200 expected, five standard deviations of 13.5

    def test_hash_methods_keep_their_weights(self, harness: Harness, watched: Watched) -> None:
        pool = self.slow_pool(harness, Hash)
        watched.watch(pool, dataclasses.replace(EJECTED, has_weights=False))
        assert [b.weight for b in pool.backends] == [2, 2]

    def test_removing_slow_start_restores_the_configured_weight(
        self, harness: Harness, watched: Watched
    ) -> None:
        pool = self.slow_pool(harness)
        monitor = watched.watch(pool, EJECTED)
        for backend in pool.backends:
            backend.apply(dataclasses.replace(backend.settings, slow_start_ms=None))
        monitor.apply(EJECTED)
        assert [(b.weight, b.effective_weight) for b in pool.backends] == [(2, 2), (2, 2)]


class TestOnDown:
    @pytest.mark.parametrize("on_down", OnDown)
    def test_sessions_of_a_backend_that_went_down(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog, on_down: OnDown
    ) -> None:
        good, bad = harness.add(EchoBackend()), harness.add(EchoBackend())
        pool = harness.pool(good.name, bad.name)
        front = harness.proxy(pool)
        clients = [front.connect() for _ in range(4)]
        for client in clients:
            client.send(b"hello")
        harness.turn_until(lambda: all(c.received == b"hello" for c in clients))
        monitor = watched.watch(pool, MonitorSettings(on_down=on_down))
        backend = pool.backends[1]
        answer = AgentAnswer(condition=OperatingWord.DOWN, reason="no disk")
        with expect_log("up -> down: agent says down .no disk.", count=1):
            change = backend.health.hear_agent(answer, harness.clock.now_ms)
            monitor.follow_up(backend, change)
        harness.settle()
        lost = [client for client in clients if client.is_over]
        if on_down is OnDown.KEEP:
            assert lost == []
            return
        assert len(lost) == 2
        assert front.terminations == ["DD", "DD"]
        assert all(client.was_reset is (on_down is OnDown.RESET) for client in lost)

    @pytest.mark.slow
    def test_a_slice_a_turn_finds_them_all(self, harness: Harness) -> None:
        pool = harness.pool(harness.add(EchoBackend()).name)
        front = harness.proxy(pool)
        count = SLICE // 2 + 10
        clients: list[End] = [front.connect() for _ in range(count)]
        harness.turn_until(lambda: pool.backends[0].conns == count)
        harness.settle()
        closer = SessionCloser(harness.loop)
        closer.end_sessions(pool.backends[0], False)
        harness.advance(0)
        assert 0 < len(front.ended) < count
        harness.turn_until(lambda: len(front.ended) == count)
        assert set(front.terminations) == {"DD"}
        harness.turn_until(lambda: all(client.has_eof for client in clients))


class TestOverrides:
    def overriding(self, backend: Backend, **values: object) -> dict:
        return {(backend.name, backend.addr_text): Override(**values)}  # type: ignore[arg-type]

    def test_what_an_operator_sets_holds_and_goes_back(
        self, harness: Harness, watched: Watched
    ) -> None:
        pool = harness.pool(harness.add(EchoBackend()).name)
        [backend] = pool.backends
        monitor = watched.watch(pool, MonitorSettings())
        told: list[BackendEvent] = []
        monitor.news.listener = told.append
        wanted = self.overriding(backend, mode=Mode.DRAIN, weight=5, max_conns=7, reason="deploy")
        assert monitor.override(wanted) is True
        assert monitor.override(wanted) is False
        assert (states(pool), backend.down) == ([State.DRAINING], True)
        assert (backend.weight, backend.max_conns, backend.health.reason) == (5, 7, "deploy")
        assert [(each.kind, each.after, each.cause) for each in told] == [
            ("state", "draining", "operator")
        ]
        assert monitor.override({}) is True
        assert (states(pool), backend.weight, backend.max_conns) == ([State.UP], 1, 0)
        assert backend.override is None

    def test_ready_does_not_undo_a_failed_check(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(harness.add(RefusingPort()).name)
        [backend] = pool.backends
        monitor = watched.watch(pool)
        with expect_log("up -> down", count=1):
            watched.pass_time(4 * INTERVAL_MS, lambda: backend.down)
        monitor.override(self.overriding(backend, mode=Mode.READY))
        assert states(pool) == [State.DOWN]

    def test_a_name_stands_for_its_addresses_and_for_those_to_come(
        self, harness: Harness, watched: Watched
    ) -> None:
        pool = harness.pool(harness.add(EchoBackend()).name)
        [backend] = pool.backends
        monitor = watched.watch(pool, MonitorSettings())
        monitor.override({(backend.name, ""): Override(mode=Mode.MAINT, reason="by hand")})
        assert states(pool) == [State.MAINTENANCE]
        later = Backend(backend.settings)
        pool.rebuild([backend, later], RoundRobin)
        monitor.sync()
        assert later.health.state is State.MAINTENANCE

    def test_ready_forgives_failures(
        self, harness: Harness, watched: Watched, expect_log: ExpectLog
    ) -> None:
        pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
        backend = pool.backends[0]
        monitor = watched.watch(pool, MonitorSettings())
        with expect_log("out for 10s", count=1):
            pool.failed(backend, harness.clock.now_ms // 1000)
        monitor.override(self.overriding(backend, mode=Mode.READY))
        assert not backend.fails
