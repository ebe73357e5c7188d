"""Sessions with a rate, through real sockets; the time is the test's."""

from typing import Any

import pytest
from nginy.proxy.pacing import PacedSession
from nginy.proxy.tcp import TcpHandler

from kit.clock import FakeClock
from kit.ends import End
from kit.harness import Front, Harness
from kit.leaks import no_garbage
from kit.servers import EchoBackend, Server

PLENTY = bytes(4 * 1024 * 1024)
STEP_MS = 10


def paced(harness: Harness, server: Server, **settings: Any) -> Front:
    front = harness.proxy(harness.pool(harness.add(server).name), **settings)
    assert isinstance(front.handler, TcpHandler)
    front.handler.session_class = PacedSession
    return front


def joined(harness: Harness, front: Front, server: Server) -> tuple[End, End]:
    client = front.connect()
    harness.turn_until(lambda: server.ends)
    harness.turn_until(lambda: harness.loop.connections == 3)
    return client, server.end


def pass_time(harness: Harness, clock: FakeClock, duration_ms: int) -> None:
    """Let time pass in small steps, everybody doing what there is to do."""
    for _ in range(duration_ms // STEP_MS):
        clock.advance(STEP_MS)
        for _ in range(4):
            harness.turn(0)


@pytest.mark.parametrize("direction", ["upload", "download"])
@pytest.mark.parametrize("rate", [100_000, 1_000_000])
def test_a_transfer_keeps_its_pace(
    harness: Harness, clock: FakeClock, direction: str, rate: int
) -> None:
    server = Server()
    front = paced(harness, server, **{f"{direction}_rate": rate})
    client, backend = joined(harness, front, server)
    src, dst = (client, backend) if direction == "upload" else (backend, client)
    src.send(PLENTY)
    pass_time(harness, clock, 2000)
    harness.settle(2)
    assert len(dst.received) == pytest.approx(rate * 2.05, rel=0.06)


def test_the_other_direction_is_as_fast_as_ever(harness: Harness) -> None:
    server = Server()
    front = paced(harness, server, download_rate=1024)
    client, backend = joined(harness, front, server)
    client.send(PLENTY)
    harness.turn_until(lambda: len(backend.received) == len(PLENTY))


def test_all_bytes_and_the_end_arrive(harness: Harness, clock: FakeClock) -> None:
    server = EchoBackend()
    front = paced(harness, server, upload_rate=1_000_000, download_rate=1_000_000)
    client = front.connect()
    data = bytes(range(256)) * 1200
    client.send(data)
    client.finish()
    harness.turn_until(lambda: server.ends)
    pass_time(harness, clock, 600)
    harness.turn_until(lambda: client.has_eof)
    assert client.received == data
    assert front.only().bytes_sent == len(data)


def test_a_message_below_the_rate_does_not_wait(harness: Harness) -> None:
    server = EchoBackend()
    front = paced(harness, server, upload_rate=100_000, download_rate=100_000)
    client = front.connect()
    for count in range(1, 4):
        client.send(b"hello")
        harness.turn_until(lambda count=count: len(client.received) == 5 * count)  # type: ignore[misc]


def test_a_session_that_waits_for_its_pace_wakes_nobody(harness: Harness) -> None:
    server = Server()
    front = paced(harness, server, upload_rate=100_000)
    client, _backend = joined(harness, front, server)
    client.send(PLENTY)
    harness.settle()
    for _ in range(20):
        ready = harness.loop.interest.wait(0)
        assert [c for c, _ in ready if c.read.active and c.read.ready] == []


def test_what_a_backend_sent_before_its_reset_arrives_at_its_pace(
    harness: Harness, clock: FakeClock, expect_log: Any
) -> None:
    server = Server()
    front = paced(harness, server, download_rate=100_000)
    client, backend = joined(harness, front, server)
    client.send(b"?")
    harness.turn_until(lambda: backend.received)
    backend.socket.send(bytes(40_000))
    backend.reset()
    with expect_log("backend reset the connection"):
        pass_time(harness, clock, 600)
        harness.turn_until(lambda: client.is_over)
    assert len(client.received) == 40_000
    assert client.was_reset
    assert front.only().termination == "SD"


def test_no_pause_outlives_a_session(harness: Harness, clock: FakeClock) -> None:
    server = Server()
    front = paced(harness, server, upload_rate=10_000, download_rate=10_000)
    client, backend = joined(harness, front, server)
    client.send(bytes(100_000))
    backend.send(bytes(100_000))
    harness.settle(2)
    with no_garbage():
        (session,) = harness.sessions() or (None,)
        if session is not None:
            session.kill()
        del session
        pass_time(harness, clock, 300)
    client.close()


def test_the_idle_timeout_rests_while_a_pace_makes_bytes_wait(
    harness: Harness, clock: FakeClock
) -> None:
    server = Server()
    front = paced(harness, server, upload_rate=1024, timeout_ms=2000)
    client, _backend = joined(harness, front, server)
    client.send(bytes(6000))
    pass_time(harness, clock, 5000)
    assert front.ended == []


def test_starved_of_memory_a_session_keeps_its_pace(harness: Harness, clock: FakeClock) -> None:
    server = Server()
    front = paced(harness, server, upload_rate=100_000)
    client, backend = joined(harness, front, server)
    budget = harness.loop.budget
    budget.hold(budget.limit_bytes, clock.now_ms)
    client.send(PLENTY)
    pass_time(harness, clock, 2000)
    budget.give_back(budget.limit_bytes)
    assert len(backend.received) == pytest.approx(205_000, rel=0.1)
