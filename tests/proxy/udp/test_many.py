"""Many UDP sessions at once: what one costs, and that it leaves nothing behind.

The numbers are printed (`pytest -s`); what is asserted leaves room for any machine.
"""

import gc
import os
import resource
import time
from collections.abc import Iterator

import pytest
from nginy.proxy.session import Reason

from kit.datagrams import UdpBackend, UdpClient, set_down, udp_proxy
from kit.harness import Harness, descriptor_count
from kit.leaks import alive

SESSIONS = 10_000
SPARE_DESCRIPTORS = 200
MAX_US = 500
MAX_BYTES = 6000


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Let the process have a descriptor for each session."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = SESSIONS + SPARE_DESCRIPTORS
    if hard not in (resource.RLIM_INFINITY,) and hard < needed:
        pytest.skip(f"needs {needed} descriptors, has {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.usefixtures("descriptors")
def test_ten_thousand_sessions_come_and_go_and_leave_nothing() -> None:
    with Harness(max_connections=2 * SESSIONS) as harness:
        backend = harness.add(UdpBackend())
        front = udp_proxy(harness, harness.pool(backend.name), timeout_ms=10_000)
        handler, loop = front.handler, harness.loop
        harness.turn()
        objects, before, resident = alive(), descriptor_count(), resident_bytes()
        spent_s = 0.0
        for number in range(SESSIONS):
            # Each from an address of its own: the ports of closed clients are given out again.
            host = f"127.1.{number >> 8}.{number & 255}"
            client = UdpClient(front.listener.address.sockaddr, (host, 0))
            client.send(b"%d" % number)
            started_s = time.process_time()
            loop.turn(0)
            spent_s += time.process_time() - started_s
            harness.turn_until(lambda: backend.step() or backend.received)
            started_s = time.process_time()
            loop.turn(0)
            spent_s += time.process_time() - started_s
            harness.turn_until(lambda: client.step() or client.received)  # noqa: B023 - called at once
            assert client.received == [b"%d" % number]
            backend.received.clear()
            backend.senders.clear()
            client.close()
        gc.collect()
        grown = resident_bytes() - resident
        assert handler.sessions == len(handler.table) == SESSIONS
        assert descriptor_count() == before + SESSIONS
        started_s = time.process_time()
        harness.advance(10_000)
        expiry_s = time.process_time() - started_s
        assert handler.sessions == len(handler.table) == 0
        assert handler.counters.terminations == {"--": SESSIONS}
        assert (descriptor_count(), alive() - objects) == (before, {})
    each_us = 1e6 * (spent_s + expiry_s) / SESSIONS
    print(f"{each_us:.1f} us to create, use and expire a session, {grown / SESSIONS:.0f} bytes")
    assert each_us < MAX_US
    assert grown / SESSIONS < MAX_BYTES


def test_cutting_a_backend_loses_only_what_is_in_flight_to_it(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = (harness.add(UdpBackend()) for _ in range(2))
    pool = harness.pool(one.name, two.name)
    front = udp_proxy(harness, pool)
    clients = [front.client() for _ in range(20)]
    for client in clients:
        client.send(b"before")
        harness.turn_until(lambda: client.received)  # noqa: B023 - called at once
    harness.forget(one)
    one.close()
    for client in clients:
        client.send(b"in flight")
    harness.turn_until(lambda: len(front.ended) == 10)
    for client in clients:
        client.send(b"after")
    harness.turn_until(lambda: all(client.received[-1] == b"after" for client in clients))
    lost = [client for client in clients if b"in flight" not in client.received]
    assert len(lost) == 10
    assert front.terminations == ["SD"] * 10
    assert {ended.upstreams for ended in front.ended} == {(pool.backends[0].name,)}
    assert len(front.handler.table) == len(clients)


def test_sessions_of_a_backend_that_is_down_end_as_their_clients_come(harness: Harness) -> None:
    made = [harness.add(UdpBackend()) for _ in range(2)]
    pool = harness.pool(*(b.name for b in made))
    front = udp_proxy(harness, pool)
    clients = [front.client() for _ in range(6)]
    for client in clients:
        client.send(b"1")
        harness.turn_until(lambda: client.received)  # noqa: B023 - called at once
    set_down(pool.backends[0])
    for client in clients:
        client.send(b"2")
        harness.turn_until(lambda: client.received == [b"1", b"2"])  # noqa: B023 - called at once
    assert front.terminations == [Reason.BACKEND_DOWN.code] * 3
    assert [b.conns for b in pool.backends] == [0, 6]
