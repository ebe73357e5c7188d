"""Backends that are one server: it is asked once for all upstreams, and all hear the answer."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from nginy.backend.checks.checker import Checker, ProbeSettings, question_key
from nginy.backend.checks.monitor import PoolMonitor
from nginy.backend.checks.settings import MonitorSettings
from nginy.backend.health.schedule import CheckSettings
from nginy.backend.health.states import State
from nginy.backend.pool import BackendPool
from nginy.event.tls_client import ClientTls
from nginy.log.levels import NOTICE
from nginy.wire.agent import Mode
from nginy.wire.checks.http import HttpCheck
from nginy.wire.checks.steps import single
from nginy.wire.expect import parse_expect

from conftest import ExpectLog
from kit.harness import Harness
from kit.servers import Server, SilentBackend

INTERVAL_MS = 1000
CHECK = CheckSettings(INTERVAL_MS, INTERVAL_MS, 500, 0, 1, 1, True)
CHECKED = MonitorSettings(CHECK, ProbeSettings())


class Upstreams:
    """Pools and their monitors, which have one checker, as in a process."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.checker = Checker(harness.loop)
        self.monitors: list[PoolMonitor] = []

    def watch(self, *names: str, settings: MonitorSettings = CHECKED) -> BackendPool:
        pool = self.harness.pool(*names)
        monitor = PoolMonitor(pool, self.checker, random.Random(1), settings)
        self.monitors.append(monitor)
        return pool

    def pass_time(self, duration_ms: int) -> None:
        for _ in range(duration_ms // 100):
            self.harness.advance(100)
            self.harness.settle()

    def close(self) -> None:
        for monitor in self.monitors:
            monitor.close()
        self.checker.close()


@pytest.fixture
def method() -> str:
    return "epoll"


@pytest.fixture
def upstreams(harness: Harness) -> Iterator[Upstreams]:
    made = Upstreams(harness)
    yield made
    made.close()


class Polite(Server):
    """Accepts, and closes as soon as the other side has."""

    def step(self) -> bool:
        """Send FIN after FIN."""
        has_moved = super().step()
        for end in self.ends:
            if end.has_eof:
                end.finish()
        return has_moved


def totals(*pools: BackendPool) -> list[int]:
    return [backend.health.checks_total for pool in pools for backend in pool.backends]


def states(*pools: BackendPool) -> list[State]:
    return [backend.health.state for pool in pools for backend in pool.backends]


def test_a_server_in_three_upstreams_is_asked_once(harness: Harness, upstreams: Upstreams) -> None:
    server, other = harness.add(Polite()), harness.add(Polite())
    pools = [upstreams.watch(other.name, server.name) for _ in range(3)]
    upstreams.pass_time(5 * INTERVAL_MS - 100)
    assert len(server.ends) == 5
    assert totals(*pools) == [5] * 6


def test_all_of_them_hear_what_the_one_check_has_found(
    harness: Harness, upstreams: Upstreams, expect_log: ExpectLog
) -> None:
    server = harness.add(SilentBackend())
    expecting = MonitorSettings(CHECK, ProbeSettings(single(expect=parse_expect("x"))))
    pools = [upstreams.watch(server.name, settings=expecting) for _ in range(2)]
    with expect_log("up -> down: .*timed out", count=2):
        upstreams.pass_time(2 * INTERVAL_MS)
    assert states(*pools) == [State.DOWN, State.DOWN]


def test_who_comes_later_knows_what_was_found_and_asks_with_the_others(
    harness: Harness, upstreams: Upstreams, expect_log: ExpectLog
) -> None:
    server = harness.add(SilentBackend())
    expecting = MonitorSettings(CHECK, ProbeSettings(single(expect=parse_expect("x"))))
    first = upstreams.watch(server.name, settings=expecting)
    with expect_log("up -> down: .*timed out"):
        upstreams.pass_time(INTERVAL_MS + 600)
    with expect_log("up -> down: .*timed out"):
        second = upstreams.watch(server.name, settings=expecting)
    assert states(first, second) == [State.DOWN, State.DOWN]
    asked = len(server.ends)
    upstreams.pass_time(2 * INTERVAL_MS)
    assert len(server.ends) == asked + 2


def test_who_leaves_leaves_the_check_to_the_others(harness: Harness, upstreams: Upstreams) -> None:
    server = harness.add(SilentBackend())
    expecting = MonitorSettings(CHECK, ProbeSettings(single(expect=parse_expect("x"))))
    first, second = (upstreams.watch(server.name, settings=expecting) for _ in range(2))
    harness.settle()
    upstreams.pass_time(100)
    assert len(server.ends) == 1
    server.end.send(b"x")
    upstreams.monitors[0].close()
    harness.settle()
    assert totals(first, second) == [0, 1]
    upstreams.monitors[1].close()


def test_when_all_leave_the_check_is_given_up(harness: Harness, upstreams: Upstreams) -> None:
    server = harness.add(SilentBackend())
    expecting = MonitorSettings(CHECK, ProbeSettings(single(expect=parse_expect("x"))))
    for _ in range(2):
        upstreams.watch(server.name, settings=expecting)
    upstreams.pass_time(100)
    for monitor in upstreams.monitors:
        monitor.close()
    harness.settle()
    assert server.end.has_eof
    upstreams.pass_time(200)
    assert len(upstreams.checker.open) == 0


def test_a_backend_in_maintenance_is_left_out(
    harness: Harness, upstreams: Upstreams, expect_log: ExpectLog
) -> None:
    server = harness.add(Polite())
    first, second = (upstreams.watch(server.name) for _ in range(2))
    with expect_log("up -> maintenance", level=NOTICE):
        upstreams.monitors[0].set_mode(first.backends[0], Mode.MAINT, "an update")
    upstreams.pass_time(3 * INTERVAL_MS - 100)
    assert totals(first, second) == [0, 3]


def test_other_settings_after_a_reload_ask_apart(harness: Harness, upstreams: Upstreams) -> None:
    server = harness.add(Polite())
    first, second = (upstreams.watch(server.name) for _ in range(2))
    upstreams.pass_time(INTERVAL_MS - 100)
    assert len(server.ends) == 1
    other = MonitorSettings(replace(CHECK, timeout_ms=400), ProbeSettings())
    upstreams.monitors[1].apply(other)
    upstreams.pass_time(2 * INTERVAL_MS)
    assert len(server.ends) == 5
    assert totals(first, second) == [3, 3]
    upstreams.monitors[1].apply(CHECKED)
    upstreams.pass_time(2 * INTERVAL_MS)
    assert len(server.ends) == 7


def test_a_waiting_check_of_one_is_that_of_all(
    harness: Harness, upstreams: Upstreams, expect_log: ExpectLog
) -> None:
    silent, server = harness.add(SilentBackend()), harness.add(Polite())
    expecting = MonitorSettings(CHECK, ProbeSettings(single(expect=parse_expect("x"))))
    upstreams.checker.open.limit = 1
    upstreams.watch(silent.name, settings=expecting)
    with expect_log("up -> down"):
        upstreams.pass_time(100)
        pools = [upstreams.watch(server.name) for _ in range(2)]
        upstreams.pass_time(100)
        assert len(server.ends) == 0
        upstreams.pass_time(800)
    assert len(server.ends) == 1
    assert totals(*pools) == [1, 1]


HTTPS = ProbeSettings(HttpCheck(), tls=ClientTls())


@pytest.mark.parametrize(
    ("probe", "other", "is_shared"),
    [
        (ProbeSettings(), ProbeSettings(), True),
        (ProbeSettings(), ProbeSettings(port=99), False),
        (ProbeSettings(), ProbeSettings(HttpCheck()), False),
        (ProbeSettings(), ProbeSettings(proxy_protocol="v1"), False),
        (HTTPS, HTTPS, True),
        (HTTPS, replace(HTTPS, tls=ClientTls(verify=False)), False),
        (HTTPS, replace(HTTPS, name="a.test"), False),
    ],
)
def test_only_the_same_question_is_shared(
    harness: Harness, probe: ProbeSettings, other: ProbeSettings, is_shared: bool
) -> None:
    one, two = harness.pool("192.0.2.1:80"), harness.pool("192.0.2.1:80")
    keys = {
        question_key(probe, CHECK, one.backends[0]),
        question_key(other, CHECK, two.backends[0]),
    }
    assert len(keys) == (1 if is_shared else 2)


def test_a_check_with_a_port_of_its_own_is_shared_by_all_ports_of_a_host(harness: Harness) -> None:
    pool = harness.pool("192.0.2.1:80", "192.0.2.1:81")
    probe = ProbeSettings(port=99)
    keys = {question_key(probe, CHECK, backend) for backend in pool.backends}
    assert len(keys) == 1
    assert len({question_key(ProbeSettings(), CHECK, backend) for backend in pool.backends}) == 2
