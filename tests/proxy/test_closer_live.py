"""Sessions whose backend has left: how long they stay with it, and where UDP clients go then.

tests/backend/checks tests the sessions of a backend that went down.
"""

from collections.abc import Callable, Iterator

import pytest
from nginy.backend.pool import BackendPool
from nginy.balancer.round_robin import RoundRobin
from nginy.proxy.closer import UNANSWERED_MS, SessionCloser

from kit.datagrams import UdpBackend, UdpClient, udp_proxy
from kit.ends import End
from kit.harness import Front, Harness
from kit.servers import EchoBackend

DRAIN_MS = 5000


@pytest.fixture(params=["epoll"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def closer(harness: Harness) -> Iterator[SessionCloser]:
    closer = SessionCloser(harness.loop)
    yield closer
    closer.close()


def leave(harness: Harness, pool: BackendPool, closer: SessionCloser) -> None:
    """Take the first backend of a pool out of its list."""
    leaving = pool.backends[0]
    leaving.left_at_ms = harness.clock.now_ms
    pool.rebuild(pool.backends[1:], RoundRobin)
    closer.drain([DRAIN_MS])
    harness.settle()


def served(harness: Harness, front: Front) -> End:
    client = front.connect()
    client.send(b"x")
    harness.turn_until(lambda: client.received == b"x")
    return client


def test_a_tcp_session_stays_for_the_drain_timeout_and_is_closed_then(
    harness: Harness, closer: SessionCloser
) -> None:
    pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
    front = harness.proxy(pool, drain_timeout_ms=DRAIN_MS)
    first, second = served(harness, front), served(harness, front)
    leave(harness, pool, closer)
    harness.advance(DRAIN_MS - 200)
    harness.settle()
    assert front.ended == []
    harness.advance(300)
    harness.turn_until(lambda: first.is_over)
    assert front.terminations == ["KD"]
    assert front.ended[0].reason == "proxy_drain_timeout is over, the backend has left"
    assert not second.is_over


def test_without_a_drain_timeout_a_session_goes_on(harness: Harness, closer: SessionCloser) -> None:
    pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
    front = harness.proxy(pool)
    served(harness, front)
    leave(harness, pool, closer)
    harness.advance(10 * DRAIN_MS)
    harness.settle()
    assert front.ended == []


def test_a_backend_that_returns_in_time_keeps_its_sessions(
    harness: Harness, closer: SessionCloser
) -> None:
    pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
    leaving = pool.backends[0]
    front = harness.proxy(pool, drain_timeout_ms=DRAIN_MS)
    served(harness, front)
    leave(harness, pool, closer)
    harness.advance(DRAIN_MS // 2)
    leaving.left_at_ms = None
    harness.advance(DRAIN_MS)
    harness.settle()
    assert front.ended == []


def test_sessions_of_a_listener_that_is_led_elsewhere_drain_too(
    harness: Harness, closer: SessionCloser
) -> None:
    one, two = (harness.pool(harness.add(EchoBackend()).name) for _ in range(2))
    front = harness.proxy(one, drain_timeout_ms=DRAIN_MS)
    first = served(harness, front)
    front.reload(two)
    closer.drain([DRAIN_MS])
    second = served(harness, front)
    harness.advance(DRAIN_MS + 100)
    harness.turn_until(lambda: first.is_over)
    assert (front.terminations, second.is_over) == (["KD"], False)


# UDP.


def let_go(harness: Harness) -> None:
    """Let time pass until clients without an answer are let go."""
    harness.advance(UNANSWERED_MS + 100)
    harness.settle()


def silent(_data: bytes) -> list[bytes]:
    return []


def udp_pool(
    harness: Harness, habit: Callable[[bytes], list[bytes]] | None
) -> tuple[list[UdpBackend], BackendPool]:
    made = [harness.add(UdpBackend() if habit is None else UdpBackend(habit)) for _ in range(2)]
    return made, harness.pool(*(backend.name for backend in made))


def sent(harness: Harness, client: UdpClient, data: bytes, backend: UdpBackend) -> None:
    """Send a datagram, which has to come to this backend."""
    client.send(data)
    harness.turn_until(lambda: data in backend.received)


def test_a_udp_sender_that_hears_nothing_leaves_a_second_later(
    harness: Harness, closer: SessionCloser
) -> None:
    (one, two), pool = udp_pool(harness, silent)
    front = udp_proxy(harness, pool, drain_timeout_ms=DRAIN_MS)
    client = front.client()
    sent(harness, client, b"before", one)
    leave(harness, pool, closer)
    sent(harness, client, b"soon after", one)
    let_go(harness)
    sent(harness, client, b"after", two)
    # The answer to what was sent before still comes through.
    one.send_to(b"late", one.senders[0])
    harness.turn_until(lambda: client.received == [b"late"])
    harness.advance(DRAIN_MS + 100)
    harness.turn_until(lambda: front.ended)
    assert [(e.termination, e.upstreams) for e in front.ended] == [("KD", (one.name,))]


def test_a_udp_client_that_gets_answers_stays_for_the_drain_timeout(
    harness: Harness, closer: SessionCloser
) -> None:
    (one, two), pool = udp_pool(harness, None)
    front = udp_proxy(harness, pool, drain_timeout_ms=DRAIN_MS)
    client = front.client()
    sent(harness, client, b"a", one)
    harness.turn_until(lambda: client.received == [b"a"])
    leave(harness, pool, closer)
    sent(harness, client, b"b", one)
    harness.advance(DRAIN_MS + 100)
    harness.turn_until(lambda: front.ended)
    sent(harness, client, b"c", two)
    assert front.terminations == ["KD"]


def test_a_udp_sender_whose_listener_is_led_elsewhere_follows(
    harness: Harness, closer: SessionCloser
) -> None:
    (one, _), pool = udp_pool(harness, silent)
    (other, _), other_pool = udp_pool(harness, silent)
    front = udp_proxy(harness, pool, drain_timeout_ms=DRAIN_MS)
    client = front.client()
    sent(harness, client, b"before", one)
    front.reload(other_pool)
    closer.drain([DRAIN_MS])
    let_go(harness)
    sent(harness, client, b"after", other)
