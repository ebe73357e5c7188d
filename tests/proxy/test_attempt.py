"""Attempts, and the pools that they give their backends back to."""

import random
from typing import Any

import pytest
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.pool import BackendPool
from nginy.backend.waiting import QueueSettings
from nginy.balancer.round_robin import RoundRobin
from nginy.proxy.attempt import Attempt, AttemptResult
from nginy.text.address import parse_address

from kit.datagrams import UdpBackend, udp_proxy
from kit.harness import Harness
from kit.servers import EchoBackend, Server

WORKED, FAILED, UNKNOWN = AttemptResult.WORKED, AttemptResult.FAILED, AttemptResult.UNKNOWN


@pytest.fixture
def method() -> str:
    """Which selector there is makes no difference to an attempt."""
    return "epoll"


def pool_of(*names: str, measured: str = "") -> BackendPool:
    backends = [Backend(BackendSettings(name, parse_address(name))) for name in names]
    pool = BackendPool("backends", backends, RoundRobin)
    pool.measured = measured
    return pool


def picked(pool: BackendPool, started_at_ms: int = 1000) -> Attempt:
    backend = pool.pick(b"", (), started_at_ms // 1000)
    assert backend is not None
    return Attempt(pool, backend, started_at_ms)


def test_without_a_backend_logs_name_the_upstream() -> None:
    attempt = Attempt(pool_of("127.0.0.1:1"), None, 5)
    assert attempt.address == "backends"
    attempt.end(UNKNOWN, 6, None)
    assert attempt.ended_at_ms is None


@pytest.mark.parametrize(("result", "failures"), [(WORKED, 0), (FAILED, 1), (UNKNOWN, 0)])
def test_an_end_gives_the_backend_back_and_tells_how_it_went(
    result: AttemptResult, failures: int
) -> None:
    pool = pool_of("127.0.0.1:1", "127.0.0.1:2")
    attempt = picked(pool)
    backend = attempt.backend
    assert backend is not None
    attempt.end(result, 2000, None)
    assert (attempt.backend, attempt.ended_at_ms) == (None, 2000)
    assert (backend.conns, backend.failures, backend.fails) == (0, failures, failures)


@pytest.mark.parametrize("result", AttemptResult)
def test_only_the_first_end_counts(result: AttemptResult) -> None:
    pool = pool_of("127.0.0.1:1", "127.0.0.1:2")
    attempt = picked(pool)
    attempt.end(UNKNOWN, 2000, None)
    attempt.end(result, 3000, None)
    assert attempt.ended_at_ms == 2000
    assert [(b.conns, b.failures) for b in pool.backends] == [(0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("result", "recovers"), [(WORKED, True), (FAILED, False), (UNKNOWN, False)]
)
def test_only_an_attempt_that_worked_ends_a_probation(
    result: AttemptResult, recovers: bool
) -> None:
    pool = pool_of("127.0.0.1:1", "127.0.0.1:2")
    for each in pool.backends:
        each.fails, each.accessed_s, each.checked_s = 1, 0, 100
    now_ms = 200_000
    attempt = picked(pool, now_ms)
    backend = attempt.backend
    assert backend is not None
    attempt.end(result, now_ms, None)
    assert (backend.fails == 0) is recovers


@pytest.mark.parametrize(
    ("measured", "result", "average_ms"),
    [
        ("", WORKED, 0),
        ("connect", WORKED, 10),
        ("first_byte", WORKED, 30),
        ("last_byte", WORKED, 100),
        ("connect", FAILED, 0),
        ("connect", UNKNOWN, 0),
    ],
)
def test_the_time_is_measured_of_what_worked(
    measured: str, result: AttemptResult, average_ms: int
) -> None:
    pool = pool_of("127.0.0.1:1", measured=measured)
    attempt = picked(pool)
    attempt.connected_at_ms, attempt.first_byte_at_ms = 1010, 1030
    attempt.end(result, 1100, None)
    assert pool.backends[0].average_ms == average_ms


@pytest.mark.parametrize("measured", ["connect", "first_byte", "last_byte"])
def test_an_attempt_that_never_connected_is_not_measured(measured: str) -> None:
    pool = pool_of("127.0.0.1:1", measured=measured)
    picked(pool).end(WORKED, 1100, None)
    assert pool.backends[0].average_ms == 0


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_between_picks_and_ends_are_paired(seed: int) -> None:
    rng = random.Random(seed)
    pools = [pool_of(f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}") for port in (10, 20)]
    open_attempts: list[Attempt] = []
    for step in range(300):
        if not open_attempts or rng.random() < 0.5:
            pool = rng.choice(pools)
            open_attempts.append(Attempt(pool, pool.pick(b"", (), step), step * 1000))
        else:
            attempt = open_attempts.pop(rng.randrange(len(open_attempts)))
            attempt.end(rng.choice(list(AttemptResult)), step * 1000, None)
        for pool in pools:
            held = [
                each for each in open_attempts if each.pool is pool and each.backend is not None
            ]
            assert sum(backend.conns for backend in pool.backends) == len(held)


# -- a reload gives the listener another upstream --


def test_a_tcp_session_gives_its_backend_back_to_the_pool_it_came_from(harness: Harness) -> None:
    full = harness.pool(harness.add(EchoBackend()).name, max_conns=1)
    full.set_queue(QueueSettings(size=10, timeout_ms=60_000))
    front, other_front = harness.proxy(full), harness.proxy(full)
    first = front.connect()
    harness.turn_until(lambda: full.backends[0].conns == 1)
    waiting = other_front.connect()
    waiting.send(b"hello")
    harness.turn_until(lambda: full.queue)
    other = harness.pool(harness.add(Server()).name)
    front.reload(other)
    first.finish()
    harness.turn_until(lambda: waiting.received == b"hello")


def test_a_udp_session_tells_the_pool_it_came_from(harness: Harness, expect_log: Any) -> None:
    pool = harness.pool(harness.add(UdpBackend(lambda _data: [])).name, "127.0.0.1:9")
    failed: list[Backend] = []

    class Watcher:
        def failed_often(self, backend: Backend, is_news: bool) -> None:
            failed.append(backend)

        def served_again(self, backend: Backend) -> None: ...

    pool.watcher = Watcher()
    front = udp_proxy(harness, pool, responses=1, timeout_ms=1000)
    front.client().send(b"question")
    harness.turn_until(lambda: pool.backends[0].conns == 1)
    front.reload(harness.pool("127.0.0.1:9", "127.0.0.1:10"))
    with expect_log("backend has left datagrams unanswered"):
        harness.advance(1500)
        harness.turn_until(lambda: front.ended)
    assert failed == [pool.backends[0]]
