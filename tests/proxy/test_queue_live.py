"""Clients that wait for a full backend, and sessions that may not last for ever."""

from typing import Any

from nginy.backend.pool import BackendPool
from nginy.backend.waiting import QueueSettings

from kit.ends import End
from kit.harness import Front, Harness
from kit.servers import EchoBackend


def full_pool(harness: Harness, size: int = 2, max_conns: int = 1) -> BackendPool:
    """Return a pool of one backend that takes `max_conns` sessions, with a queue of `size`."""
    backend = harness.add(EchoBackend())
    pool = harness.pool(backend.name, max_conns=max_conns)
    pool.set_queue(QueueSettings(size, timeout_ms=1000))
    return pool


def served(harness: Harness, proxy: Front) -> End:
    """Return a client that has a backend."""
    client = proxy.connect()
    client.send(b"first")
    harness.turn_until(lambda: client.received == b"first")
    return client


def waiting(harness: Harness, proxy: Front, pool: BackendPool) -> End:
    """Return a client that has joined the queue."""
    assert pool.queue is not None
    length = len(pool.queue)
    client = proxy.connect()
    harness.turn_until(lambda: pool.queue is not None and len(pool.queue) == length + 1)
    return client


def test_a_client_waits_until_a_session_ends(harness: Harness) -> None:
    pool = full_pool(harness)
    proxy = harness.proxy(pool)
    first = served(harness, proxy)
    second = waiting(harness, proxy, pool)
    second.send(b"second")
    harness.settle()
    assert second.received == b""
    first.finish()
    harness.turn_until(lambda: second.received == b"second")
    second.finish()
    harness.turn_until(lambda: len(proxy.ended) == 2)
    assert proxy.terminations == ["--", "--"]


def test_clients_are_served_in_the_order_of_their_coming(harness: Harness) -> None:
    pool = full_pool(harness, size=3)
    proxy = harness.proxy(pool)
    clients = [served(harness, proxy)]
    clients += [waiting(harness, proxy, pool) for _ in range(3)]
    for index in (1, 2, 3):
        clients[index].send(b"x")
        clients[index - 1].finish()
        harness.turn_until(lambda index=index: clients[index].received == b"x")  # type: ignore[misc]
        assert not any(client.received for client in clients[index + 1 :])


def test_a_client_waits_no_longer_than_the_timeout(harness: Harness, expect_log: Any) -> None:
    pool = full_pool(harness)
    proxy = harness.proxy(pool)
    served(harness, proxy)
    late = waiting(harness, proxy, pool)
    harness.advance(990)
    assert not late.is_over
    with expect_log("no backend was free in time while waiting for a backend", count=1):
        harness.advance(30)
        harness.turn_until(lambda: proxy.ended)
    assert (proxy.ended[0].termination, proxy.ended[0].status) == ("sQ", 502)
    assert proxy.ended[0].upstreams == ("backends",)


def test_too_many_are_turned_away(harness: Harness, expect_log: Any) -> None:
    pool = full_pool(harness, size=1)
    proxy = harness.proxy(pool)
    served(harness, proxy)
    waiting(harness, proxy, pool)
    with expect_log("too many clients are waiting for a backend", count=1):
        proxy.connect()
        harness.turn_until(lambda: proxy.ended)
    assert (proxy.ended[0].termination, proxy.ended[0].status) == ("PC", 503)
    assert proxy.ended[0].upstreams == ("backends",)


def test_a_client_that_leaves_the_line_makes_room(harness: Harness) -> None:
    pool = full_pool(harness)
    proxy = harness.proxy(pool)
    first = served(harness, proxy)
    leaver = waiting(harness, proxy, pool)
    stayer = waiting(harness, proxy, pool)
    leaver.reset()
    harness.turn_until(lambda: proxy.ended)
    assert proxy.terminations == ["CQ"]
    stayer.send(b"x")
    first.finish()
    harness.turn_until(lambda: stayer.received == b"x")


def test_those_who_wait_when_the_queue_is_removed_are_served(
    harness: Harness, expect_log: Any
) -> None:
    pool = full_pool(harness, size=3)
    proxy = harness.proxy(pool)
    first = served(harness, proxy)
    clients = [waiting(harness, proxy, pool) for _ in range(2)]
    pool.set_queue(None)
    harness.settle()
    with expect_log(r"no usable backend in upstream .*: 1 of 1 at max_conns", count=1):
        proxy.connect()
        harness.turn_until(lambda: proxy.ended)
    assert proxy.terminations == ["SC"]
    for ended, client in ((first, clients[0]), (clients[0], clients[1])):
        client.send(b"x")
        ended.finish()
        harness.turn_until(lambda client=client: client.received == b"x")  # type: ignore[misc]


def test_those_who_wait_when_the_queue_is_removed_wait_no_longer_than_before(
    harness: Harness, expect_log: Any
) -> None:
    pool = full_pool(harness)
    proxy = harness.proxy(pool)
    served(harness, proxy)
    late = waiting(harness, proxy, pool)
    harness.advance(600)
    pool.set_queue(None)
    harness.advance(390)
    assert not late.is_over
    with expect_log("no backend was free in time while waiting for a backend", count=1):
        harness.advance(30)
        harness.turn_until(lambda: proxy.ended)


def test_a_queue_that_returns_takes_newcomers_again(harness: Harness) -> None:
    pool = full_pool(harness)
    proxy = harness.proxy(pool)
    first = served(harness, proxy)
    pool.set_queue(None)
    pool.set_queue(QueueSettings(1, timeout_ms=1000))
    client = waiting(harness, proxy, pool)
    client.send(b"x")
    first.finish()
    harness.turn_until(lambda: client.received == b"x")


def test_a_session_ends_at_its_time_or_up_to_a_tenth_earlier(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    pool = harness.pool(backend.name)
    pool.max_session_time_ms = 1000
    proxy = harness.proxy(pool)
    client = served(harness, proxy)
    harness.advance(880)
    assert not client.is_over
    harness.advance(140)
    assert proxy.terminations == ["LD"]


def test_a_client_that_ends_between_its_call_and_its_choice_takes_no_backend(
    harness: Harness,
) -> None:
    pool = full_pool(harness)
    proxy = harness.proxy(pool)
    first = served(harness, proxy)
    waiting(harness, proxy, pool)
    called = next(session for session in harness.sessions() if not session.client.received)
    assert pool.queue is not None
    pool.queue.call_next()
    called.kill()
    harness.settle()
    assert pool.backends[0].conns == 1
    first.finish()
    harness.turn_until(lambda: len(proxy.ended) == 2)
    assert proxy.terminations == ["KD", "--"]


# Reloads.


def test_a_client_that_waits_is_served_where_its_listener_leads_now(harness: Harness) -> None:
    pool = full_pool(harness)
    proxy = harness.proxy(pool)
    served(harness, proxy)
    late = waiting(harness, proxy, pool)
    late.send(b"late")
    other = harness.pool(harness.add(EchoBackend()).name)
    proxy.reload(other)
    harness.turn_until(lambda: late.received == b"late")
    assert other.backends[0].conns == 1


def test_a_client_waits_on_in_the_line_of_the_pool_that_its_listener_leads_to_now(
    harness: Harness,
) -> None:
    pool, other = full_pool(harness), full_pool(harness)
    proxy, other_proxy = harness.proxy(pool), harness.proxy(other)
    served(harness, proxy)
    busy = served(harness, other_proxy)
    late = waiting(harness, proxy, pool)
    late.send(b"late")
    proxy.reload(other)
    harness.turn_until(lambda: other.queue is not None and len(other.queue) == 1)
    busy.finish()
    harness.turn_until(lambda: late.received == b"late")


def test_a_client_of_a_pool_without_new_clients_is_served_when_its_turn_comes(
    harness: Harness,
) -> None:
    # The upstream and its listener are gone: nobody takes the backends from the pool.
    pool = full_pool(harness)
    proxy = harness.proxy(pool)
    first = served(harness, proxy)
    late = waiting(harness, proxy, pool)
    late.send(b"late")
    proxy.listener.close()
    pool.backends[0].left_at_ms = harness.clock.now_ms
    first.finish()
    harness.turn_until(lambda: late.received == b"late")


def test_those_who_are_called_in_vain_keep_their_order(harness: Harness) -> None:
    pool = full_pool(harness, size=3)
    proxy = harness.proxy(pool)
    before = served(harness, proxy)
    clients = [waiting(harness, proxy, pool) for _ in range(3)]
    for i, client in enumerate(clients):
        client.send(b"%d" % i)
    assert pool.queue is not None
    pool.queue.call_all()
    harness.settle()
    assert len(pool.queue) == 3
    for i, client in enumerate(clients):
        before.finish()
        harness.turn_until(lambda client=client, i=i: client.received == b"%d" % i)  # type: ignore[misc]
        before = client
