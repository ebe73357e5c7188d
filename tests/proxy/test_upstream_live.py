"""The connecting phase: which backend, what if it fails, and what if the client does not wait."""

import errno
import pathlib
import socket
from collections.abc import Collection
from typing import Any

import pytest
from nginy.backend.backend import Backend
from nginy.backend.waiting import QueueSettings
from nginy.balancer.round_robin import RoundRobin
from nginy.event.listener import SHORTAGE_PAUSE_MS
from nginy.proxy.tcp import TcpHandler
from nginy.text.address import Address, parse_address

from kit.clock import FakeClock
from kit.harness import Front, Harness
from kit.leaks import no_descriptor_left
from kit.servers import EchoBackend, FullPort, RefusingPort, Server, SilentBackend

REFUSED = r"connect\(\) failed \(111: Connection refused\) while connecting to upstream"
TIMED_OUT = r"connect\(\) timed out \(110: Connection timed out\) while connecting to upstream"


def refusing(harness: Harness, count: int = 1) -> list[str]:
    """Return the addresses of as many ports on which nobody listens."""
    return [harness.add(RefusingPort()).name for _ in range(count)]


def full(harness: Harness, count: int = 1) -> list[str]:
    """Return the addresses of as many backends that do not answer to a SYN."""
    return [harness.add(FullPort()).name for _ in range(count)]


def start_connecting(harness: Harness, **settings: Any) -> Front:
    """Return a proxy with one client that waits for a backend that does not answer."""
    proxy = harness.proxy(harness.pool(*full(harness)), **settings)
    client = proxy.connect()
    harness.turn_until(lambda: harness.loop.connections == 3)
    harness.settle()
    assert not client.is_over
    return proxy


# -- the next one --


def test_the_next_backend_is_tried_if_one_refuses(harness: Harness, expect_log: Any) -> None:
    backend = harness.add(EchoBackend())
    (dead,) = refusing(harness)
    proxy = harness.proxy(harness.pool(dead, backend.name))
    client = proxy.connect()
    client.send(b"hello")
    client.finish()
    with expect_log(rf"{REFUSED}, client: .*, listener: front, upstream: {dead}", count=1):
        ended = proxy.only()
    assert client.received == b"hello"
    assert ended.termination == "--"
    assert ended.upstreams == (dead, backend.name)
    assert harness.pools[0].retries == 1


@pytest.mark.parametrize("method", ["epoll", "poll"])
def test_each_backend_is_tried_once_and_then_the_session_fails(
    harness: Harness, expect_log: Any
) -> None:
    dead = refusing(harness, 3)
    proxy = harness.proxy(harness.pool(*dead))
    client = proxy.connect()
    with expect_log(REFUSED, count=3):
        ended = proxy.only()
    assert (ended.termination, ended.status) == ("SC", 502)
    assert ended.reason == "connect() failed (111: Connection refused)"
    assert ended.upstreams == tuple(dead)
    harness.turn_until(lambda: client.has_eof)
    assert [backend.failures for backend in harness.pools[0].backends] == [1, 1, 1]
    assert harness.pools[0].retries == 2


@pytest.mark.parametrize("method", ["epoll"])
def test_tries_limit_the_attempts(harness: Harness, expect_log: Any) -> None:
    proxy = harness.proxy(harness.pool(*refusing(harness, 3)), next_upstream_tries=2)
    proxy.connect()
    with expect_log(REFUSED, count=2):
        assert len(proxy.only().upstreams) == 2


@pytest.mark.parametrize("method", ["epoll"])
def test_next_upstream_can_be_off(harness: Harness, expect_log: Any) -> None:
    proxy = harness.proxy(harness.pool(*refusing(harness, 2)), next_upstream=False)
    proxy.connect()
    with expect_log(REFUSED, count=1):
        assert len(proxy.only().upstreams) == 1


@pytest.mark.parametrize("method", ["epoll"])
@pytest.mark.parametrize(("timeout_ms", "attempts"), [(5000, 1), (5001, 2), (None, 3)])
def test_no_further_attempt_after_the_timeout_of_the_first(
    harness: Harness, expect_log: Any, timeout_ms: int | None, attempts: int
) -> None:
    proxy = harness.proxy(
        harness.pool(*full(harness, 3)),
        connect_timeout_ms=5000,
        next_upstream_timeout_ms=timeout_ms,
    )
    proxy.connect()
    harness.turn_until(lambda: harness.loop.connections == 3)
    with expect_log(TIMED_OUT, count=attempts):
        for _ in range(attempts):
            harness.advance(5000)
    assert len(proxy.only().upstreams) == attempts


@pytest.mark.parametrize("method", ["epoll"])
def test_a_backend_that_failed_is_left_out_for_a_while_and_then_probed(
    harness: Harness, expect_log: Any
) -> None:
    backend = harness.add(SilentBackend())
    (dead,) = refusing(harness)
    proxy = harness.proxy(harness.pool(dead, backend.name, fail_timeout_s=10))
    with expect_log(REFUSED, count=1):
        for count in range(1, 4):
            proxy.connect()
            harness.turn_until(lambda: len(backend.ends) == count)  # noqa: B023 - called at once
    harness.advance(11_000)
    with expect_log(REFUSED, count=1):
        for count in range(4, 7):
            proxy.connect()
            harness.turn_until(lambda: len(backend.ends) == count)  # noqa: B023 - called at once


@pytest.mark.parametrize("method", ["epoll"])
def test_a_backend_that_was_probed_with_success_is_back(harness: Harness, expect_log: Any) -> None:
    backend = harness.add(SilentBackend())
    port = harness.add(RefusingPort())
    pool = harness.pool(port.name, backend.name, fail_timeout_s=10)
    proxy = harness.proxy(pool)
    with expect_log(REFUSED, count=1):
        proxy.connect()
        harness.turn_until(lambda: len(backend.ends) == 1)
    failed = pool.backends[0]
    assert failed.fails == 1
    port.socket.listen()
    harness.advance(11_000)
    for count in range(2, 5):
        proxy.connect()
        harness.turn_until(lambda: sum(b.conns for b in pool.backends) == count)  # noqa: B023
    harness.turn_until(lambda: failed.fails == 0)
    assert failed.conns


def test_backups_serve_when_all_others_are_out(harness: Harness, expect_log: Any) -> None:
    backup = harness.add(EchoBackend())
    dead = refusing(harness, 2)
    pool = harness.pool(*dead, backups=(backup.name,))
    proxy = harness.proxy(pool)
    for count in (2, 0):
        client = proxy.connect()
        client.send(b"hello")
        if count:
            with expect_log(REFUSED, count=count):
                harness.turn_until(lambda: client.received == b"hello")  # noqa: B023
        else:
            harness.turn_until(lambda: client.received == b"hello")  # noqa: B023 - called at once


@pytest.mark.parametrize("method", ["epoll"])
def test_backends_that_fail_in_turn_turn_no_client_away(harness: Harness, expect_log: Any) -> None:
    """Most of the time failures have all of them out, and all but one work."""
    here = [harness.add(EchoBackend()) for _ in range(3)]
    proxy = harness.proxy(harness.pool(*(backend.name for backend in here), fail_timeout_s=10))
    with expect_log(REFUSED):
        for round_number in range(9):
            backend = here[round_number % 3]
            sockaddr = backend.socket.getsockname()
            backend.close()
            harness.forget(backend)
            for _ in range(4):
                client = proxy.connect()
                client.send(b"hello")
                client.finish()
                count = len(proxy.ended) + 1
                harness.turn_until(lambda: len(proxy.ended) == count)  # noqa: B023 - called at once
                assert client.received == b"hello"
            here[round_number % 3] = harness.add(EchoBackend(sockaddr))
            harness.advance(300)
    assert proxy.terminations == ["--"] * 36


@pytest.mark.parametrize("method", ["epoll"])
def test_with_nobody_left_the_client_is_turned_away(harness: Harness, expect_log: Any) -> None:
    pool = harness.pool(*refusing(harness, 2), down=True)
    proxy = harness.proxy(pool)
    client = proxy.connect()
    with expect_log('no usable backend in upstream "backends": 2 of 2 down while', count=1):
        ended = proxy.only()
    assert (ended.termination, ended.status) == ("SC", 502)
    # nginx: $upstream_addr is then the name of the upstream
    assert ended.upstreams == ("backends",)
    harness.turn_until(lambda: client.has_eof)


@pytest.mark.parametrize("method", ["epoll"])
def test_the_last_usable_backend_that_fails_leaves_no_further_one(
    harness: Harness, expect_log: Any
) -> None:
    proxy = harness.proxy(harness.pool(*refusing(harness, 2)), next_upstream_tries=5)
    proxy.connect()
    with expect_log(REFUSED, count=2), expect_log("no usable backend is left", count=1):
        ended = proxy.only()
    assert ended.reason == "no usable backend is left: 2 of 2 tried"
    assert len(ended.upstreams) == 2
    assert harness.pools[0].retries == 1


@pytest.mark.parametrize("method", ["epoll"])
def test_a_single_backend_is_tried_again_by_the_next_client(
    harness: Harness, expect_log: Any
) -> None:
    """Failures are not held against the only one there is."""
    proxy = harness.proxy(harness.pool(*refusing(harness)))
    with expect_log(REFUSED, count=3):
        for count in range(1, 4):
            proxy.connect()
            harness.turn_until(lambda: len(proxy.ended) == count)  # noqa: B023 - called at once


def test_nobody_else_is_tried_once_a_connection_was_established(
    harness: Harness, expect_log: Any
) -> None:
    first, second = harness.add(Server()), harness.add(Server())
    proxy = harness.proxy(harness.pool(first.name, second.name))
    client = proxy.connect()
    client.send(b"request")
    harness.turn_until(lambda: first.ends and first.end.received)
    with expect_log("backend reset"):
        first.end.reset()
        assert proxy.only().termination == "SD"
    harness.settle()
    assert second.ends == []
    assert [backend.failures for backend in harness.pools[0].backends] == [0, 0]


# -- timeouts --


def test_connecting_ends_at_its_timeout_and_not_before(harness: Harness, expect_log: Any) -> None:
    proxy = start_connecting(harness, connect_timeout_ms=5000)
    harness.advance(4990)
    assert proxy.ended == []
    with expect_log(TIMED_OUT, count=1):
        harness.advance(20)
        ended = proxy.only()
    assert (ended.termination, ended.status) == ("sC", 502)


@pytest.mark.parametrize("method", ["epoll"])
def test_the_next_backend_is_tried_if_one_does_not_answer(
    harness: Harness, expect_log: Any
) -> None:
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(*full(harness), backend.name), connect_timeout_ms=5000)
    client = proxy.connect()
    client.send(b"hello")
    harness.turn_until(lambda: harness.loop.connections == 3)
    with expect_log(TIMED_OUT, count=1):
        harness.advance(5010)
        harness.turn_until(lambda: client.received == b"hello")
    assert proxy.ended == []


@pytest.mark.parametrize("method", ["epoll"])
def test_each_attempt_has_the_whole_connect_timeout(harness: Harness, expect_log: Any) -> None:
    proxy = harness.proxy(harness.pool(*full(harness, 2)), connect_timeout_ms=5000)
    proxy.connect()
    harness.turn_until(lambda: harness.loop.connections == 3)
    with expect_log(TIMED_OUT, count=1):
        harness.advance(5000)
    harness.advance(4990)
    assert proxy.ended == []
    with expect_log(TIMED_OUT, count=1):
        harness.advance(20)
    assert proxy.only().termination == "sC"


# -- the client meanwhile --


def test_a_client_that_resets_while_connecting_is_noticed(harness: Harness) -> None:
    proxy = harness.proxy(harness.pool(*full(harness)))
    client = proxy.connect()
    harness.turn_until(lambda: harness.loop.connections == 3)
    client.reset()
    ended = proxy.only()
    assert (ended.termination, ended.status) == ("CC", 400)
    # No failure of the backend's.
    assert [backend.failures for backend in harness.pools[0].backends] == [0]


def test_a_client_that_talks_or_ends_while_connecting_waits_like_any_other(
    harness: Harness, expect_log: Any
) -> None:
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(*full(harness), backend.name), connect_timeout_ms=5000)
    client = proxy.connect()
    client.send(b"hello")
    client.finish()
    harness.turn_until(lambda: harness.loop.connections == 3)
    harness.settle()
    assert not client.is_over
    with expect_log(TIMED_OUT):
        harness.advance(5010)
        assert proxy.only().termination == "--"
    assert client.received == b"hello"


def test_a_client_that_talks_while_connecting_does_not_keep_the_loop_awake(
    harness: Harness,
) -> None:
    proxy = harness.proxy(harness.pool(*full(harness)))
    client = proxy.connect()
    client.socket.send(b"hello")
    harness.turn_until(lambda: harness.loop.connections == 3)
    harness.settle()
    assert harness.loop.selector.select(0) == []


# -- limits of our own --


@pytest.mark.parametrize("method", ["epoll", "select"])
def test_with_worker_connections_used_up_only_new_sessions_suffer(
    method: str, clock: FakeClock, expect_log: Any
) -> None:
    with Harness(method, clock, max_connections=5) as harness:
        backend = harness.add(EchoBackend())
        proxy = harness.proxy(harness.pool(backend.name))
        old = [proxy.connect() for _ in range(2)]  # and the listener
        harness.turn_until(lambda: harness.loop.connections == 5)
        new = proxy.connect()
        with expect_log("worker_connections are used up", count=1):
            ended = proxy.only()
        assert (ended.termination, ended.status) == ("PC", 503)
        harness.turn_until(lambda: new.has_eof)
        for client in old:
            client.send(b"still here")
        harness.turn_until(lambda: all(client.received == b"still here" for client in old))
        old[0].finish()
        harness.turn_until(lambda: len(proxy.ended) == 2)
        again = proxy.connect()
        again.send(b"hello")
        harness.turn_until(lambda: again.received == b"hello")


@pytest.mark.parametrize("method", ["epoll", "select"])
@pytest.mark.parametrize("left", [0, 1, 2])
def test_without_descriptors_new_clients_wait_in_the_kernels_queue(
    harness: Harness, clock: FakeClock, expect_log: Any, left: int
) -> None:
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(backend.name))
    old = proxy.connect()
    harness.turn_until(lambda: backend.ends)
    backend.is_accepting = False  # its descriptors would come out of the same limit
    new = [proxy.connect() for _ in range(3)]
    for client in new:
        client.send(b"hello")
    with no_descriptor_left(but=left), expect_log("out of descriptors", count=1):
        for _ in range(5):
            clock.advance(SHORTAGE_PAUSE_MS)
            harness.turn()
        old.send(b"still here")
        harness.turn_until(lambda: old.received == b"still here")
        assert proxy.handler.sessions == 1 + (left + 1) // 2
    backend.is_accepting = True

    def all_are_served() -> bool:
        clock.advance(SHORTAGE_PAUSE_MS)
        return all(client.received == b"hello" for client in new)

    harness.turn_until(all_are_served)
    assert proxy.ended == []


@pytest.mark.parametrize("method", ["epoll"])
def test_a_client_in_line_keeps_its_backends_descriptor(
    harness: Harness, clock: FakeClock, expect_log: Any
) -> None:
    backend = harness.add(EchoBackend())
    pool = harness.pool(backend.name, max_conns=1)
    pool.set_queue(QueueSettings(8, timeout_ms=60_000))
    proxy = harness.proxy(pool)
    first = proxy.connect()
    harness.turn_until(lambda: backend.ends)
    backend.is_accepting = False
    waiting = [proxy.connect() for _ in range(2)]
    harness.turn_until(lambda: proxy.handler.sessions == 3)
    harness.listeners[0].pause()
    late = proxy.connect()
    with no_descriptor_left(), expect_log("out of descriptors", count=1):
        harness.listeners[0].resume()
        harness.turn()
        # Both are called at once, while the descriptors of the first client are still in use.
        pool.backends[0].max_conns = 3
        assert pool.queue is not None
        pool.queue.call_all()
        harness.turn_until(lambda: all(session.upstream for session in harness.sessions()))
        assert (len(harness.sessions()), proxy.ended) == (3, [])
    late.close()
    first.close()
    for client in waiting:
        client.close()


def test_without_a_port_towards_one_backend_another_is_tried(
    harness: Harness, expect_log: Any
) -> None:
    """The local port is taken; the second backend is of a family that is not bound to it."""
    backends = [harness.add(EchoBackend()), harness.add(EchoBackend(("::1", 0)))]
    pool = harness.pool(*(backend.name for backend in backends))
    taken = harness.add(RefusingPort())
    proxy = harness.proxy(pool, bind=parse_address(taken.name))
    with expect_log(rf"bind\(\) failed \({errno.EADDRINUSE}: Address already in use\)", count=1):
        client = proxy.connect()
        client.send(b"hello")
        harness.turn_until(lambda: client.received == b"hello")
    assert [b.failures for b in pool.backends] == [0, 0]
    assert [len(backend.ends) for backend in backends] == [0, 1]


def test_without_a_port_towards_any_backend_the_session_ends_for_want_of_it(
    harness: Harness, expect_log: Any
) -> None:
    pool = harness.pool(*(harness.add(EchoBackend()).name for _ in range(2)))
    proxy = harness.proxy(pool, bind=parse_address(harness.add(RefusingPort()).name))
    with expect_log(r"bind\(\) failed", count=2):
        proxy.connect()
        ended = proxy.only()
    assert (ended.termination, ended.status, len(ended.upstreams)) == ("RC", 500, 2)
    assert [b.failures for b in pool.backends] == [0, 0]


# -- how it connects --


@pytest.mark.parametrize("method", ["epoll", "poll"])
def test_a_unix_socket_that_is_not_there_is_a_failed_backend(
    harness: Harness, tmp_path: pathlib.Path, expect_log: Any
) -> None:
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(f"unix:{tmp_path}/none", backend.name))
    client = proxy.connect()
    client.send(b"hello")
    with expect_log(r"connect\(\) failed \(2: No such file or directory\)", count=1):
        harness.turn_until(lambda: client.received == b"hello")


@pytest.mark.parametrize("method", ["epoll"])
def test_connections_to_backends_come_from_the_address_that_is_set(harness: Harness) -> None:
    backend = harness.add(SilentBackend())
    pool = harness.pool(backend.name)
    proxy = harness.proxy(pool, bind=Address(socket.AF_INET, "127.0.0.2"))
    proxy.connect()
    harness.turn_until(lambda: backend.ends)
    assert backend.end.socket.getpeername()[0] == "127.0.0.2"


@pytest.mark.parametrize("method", ["epoll"])
def test_an_address_that_is_not_ours_is_no_fault_of_the_backend(
    harness: Harness, expect_log: Any
) -> None:
    pool = harness.pool(harness.add(SilentBackend()).name)
    proxy = harness.proxy(pool, bind=Address(socket.AF_INET, "192.0.2.1"))
    proxy.connect()
    with expect_log(rf"bind\(\) failed \({errno.EADDRNOTAVAIL}"):
        assert proxy.only().termination == "RC"
    assert pool.backends[0].failures == 0


@pytest.mark.parametrize("method", ["epoll"])
@pytest.mark.parametrize(("nodelay", "keepalive"), [(True, False), (False, True)])
def test_options_of_connections_to_backends(
    harness: Harness, nodelay: bool, keepalive: bool
) -> None:
    backend = harness.add(SilentBackend())
    pool = harness.pool(backend.name)
    proxy = harness.proxy(pool, tcp_nodelay=nodelay, socket_keepalive=keepalive)
    proxy.connect()
    harness.turn_until(lambda: backend.ends)
    (session,) = harness.sessions()
    assert session.upstream is not None
    sock = session.upstream.socket
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == nodelay
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == keepalive


@pytest.mark.parametrize("method", ["epoll"])
def test_the_key_of_a_hash_method_is_worked_out_for_each_client(harness: Harness) -> None:
    keys: list[bytes] = []

    class NotingRoundRobin(RoundRobin[Backend]):
        def pick(self, key: bytes, tried: Collection[Backend], now_s: int) -> Backend | None:
            keys.append(key)
            return super().pick(key, tried, now_s)

    backend = harness.add(SilentBackend())
    proxy = harness.proxy(harness.pool(backend.name, make_balancer=NotingRoundRobin))
    assert isinstance(proxy.handler, TcpHandler)
    proxy.handler.hash_key = lambda session: session.context.remote_port
    clients = [proxy.connect() for _ in range(2)]
    harness.turn_until(lambda: len(backend.ends) == 2)
    assert keys == [str(client.address[1]).encode() for client in clients]
