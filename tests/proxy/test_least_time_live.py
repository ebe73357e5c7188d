"""least_time: which times of which sessions count, seen through real connections."""

import pytest
from nginy.balancer.least import LeastTime

from kit.datagrams import UdpBackend, udp_proxy
from kit.harness import Front, Harness
from kit.servers import EchoBackend, Server, SilentBackend


@pytest.fixture(params=["epoll"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def front_of(harness: Harness, measured: str, *backends: Server) -> Front:
    pool = harness.pool(
        *(backend.name for backend in backends),
        make_balancer=lambda peers: LeastTime(peers, lambda backend: backend.average_ms),
    )
    pool.choose_by(measured)
    return harness.proxy(pool)


def exchange(harness: Harness, front: Front, before_ms: int = 0, after_ms: int = 0) -> str:
    """Be one client: answered `before_ms` after connecting, gone `after_ms` later."""
    count = len(front.ended)
    client = front.connect()
    harness.settle()
    harness.clock.now_ms += before_ms
    client.send(b"hello")
    harness.turn_until(lambda: client.received == b"hello")
    harness.clock.now_ms += after_ms
    client.finish()
    harness.turn_until(lambda: len(front.ended) > count)
    (upstream,) = front.ended[-1].upstreams
    return upstream


@pytest.mark.parametrize(
    ("measured", "expected_ms"), [("connect", 0), ("first_byte", 200), ("last_byte", 500)]
)
def test_the_time_that_is_configured_is_measured(
    harness: Harness, measured: str, expected_ms: int
) -> None:
    backend = harness.add(EchoBackend())
    front = front_of(harness, measured, backend)
    exchange(harness, front, before_ms=200, after_ms=300)
    (measured_backend,) = harness.pools[0].backends
    assert measured_backend.average_ms == expected_ms


@pytest.mark.parametrize("measured", ["first_byte", "last_byte"])
def test_the_faster_backend_gets_the_sessions(harness: Harness, measured: str) -> None:
    one, two = harness.add(EchoBackend()), harness.add(EchoBackend())
    front = front_of(harness, measured, one, two)
    assert exchange(harness, front, before_ms=800) == one.name
    assert [exchange(harness, front, before_ms=100) for _ in range(5)] == [two.name] * 5


def test_a_pool_that_measures_nothing_keeps_no_times(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    front = harness.proxy(harness.pool(backend.name))
    exchange(harness, front, before_ms=100)
    assert harness.pools[0].backends[0].average_ms == 0


def test_no_answer_is_no_time_to_the_first_byte(harness: Harness) -> None:
    backend = harness.add(SilentBackend())
    front = front_of(harness, "first_byte", backend)
    client = front.connect()
    harness.turn_until(lambda: backend.ends)
    harness.clock.now_ms += 700
    client.reset()
    front.only()
    assert harness.pools[0].backends[0].average_ms == 0


def test_another_time_is_measured_from_zero(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    front = front_of(harness, "last_byte", backend)
    exchange(harness, front, after_ms=400)
    pool = harness.pools[0]
    pool.choose_by("last_byte")
    assert pool.backends[0].average_ms == 400
    pool.choose_by("connect")
    assert pool.backends[0].average_ms == 0


def test_datagrams_are_measured_until_the_session_is_complete(harness: Harness) -> None:
    backend = harness.add(UdpBackend())
    pool = harness.pool(
        backend.name,
        make_balancer=lambda peers: LeastTime(peers, lambda backend: backend.average_ms),
    )
    pool.choose_by("first_byte")
    front = udp_proxy(harness, pool, responses=1)
    client = front.client()
    client.send(b"hello")
    harness.clock.now_ms += 0
    harness.turn_until(lambda: front.handler.sessions)
    harness.clock.now_ms += 300
    harness.turn_until(lambda: front.ended)
    assert pool.backends[0].average_ms == 300
