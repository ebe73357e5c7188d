"""UDP sessions with a rate, through real sockets; the time is the test's."""

from typing import Any

import pytest
from nginy.proxy.udp.pacing import PacedUdpSession
from nginy.wire.proxy_protocol import parse

from kit.clock import FakeClock
from kit.datagrams import UdpBackend, UdpFront, udp_proxy
from kit.harness import Harness
from kit.leaks import no_garbage

STEP_MS = 10
SIZE = 500


def silent(_data: bytes) -> list[bytes]:
    return []


def paced(harness: Harness, backend: UdpBackend, **settings: Any) -> UdpFront:
    front = udp_proxy(harness, harness.pool(harness.add(backend).name), **settings)
    front.handler.session_class = PacedUdpSession
    return front


def pass_time(harness: Harness, clock: FakeClock, duration_ms: int, act: Any = None) -> None:
    """Let time pass in small steps, everybody doing what there is to do."""
    for _ in range(duration_ms // STEP_MS):
        clock.advance(STEP_MS)
        if act is not None:
            act()
        for _ in range(20):
            harness.turn(0)


def test_what_a_client_sends_too_fast_is_dropped_and_counted(
    harness: Harness, clock: FakeClock
) -> None:
    backend = UdpBackend(silent)
    front = paced(harness, backend, upload_rate=50_000)
    client = front.client()
    sent = 0

    def flood() -> None:
        nonlocal sent
        for _ in range(4):
            client.send(bytes(SIZE))
            sent += 1

    pass_time(harness, clock, 2000, flood)
    passed = len(backend.received)
    assert passed * SIZE == pytest.approx(50_000 * 2.1, rel=0.05)
    assert front.handler.drops["limit"] == sent - passed
    assert {len(data) for data in backend.received} == {SIZE}


def test_what_a_backend_sends_too_fast_waits(harness: Harness, clock: FakeClock) -> None:
    backend = UdpBackend(lambda _data: [b"%d" % number + bytes(SIZE) for number in range(80)])
    front = paced(harness, backend, download_rate=20_000)
    client = front.client()
    client.send(b"?")
    harness.turn_until(lambda: client.received)
    pass_time(harness, clock, 1000)
    so_far = sum(map(len, client.received))
    assert so_far == pytest.approx(20_000 * 1.1, rel=0.06)
    pass_time(harness, clock, 1500)
    assert client.received == backend.answers(b"")
    assert not any(front.handler.drops.values())


def test_waiting_answers_wake_nobody(harness: Harness) -> None:
    backend = UdpBackend(lambda _data: [bytes(SIZE)] * 80)
    front = paced(harness, backend, download_rate=2000)
    client = front.client()
    client.send(b"?")
    harness.turn_until(lambda: client.received)
    harness.settle()
    for _ in range(20):
        assert list(harness.loop.interest.wait(0)) == []


def test_a_datagram_above_the_burst_is_not_split(harness: Harness, clock: FakeClock) -> None:
    backend = UdpBackend()
    front = paced(harness, backend, upload_rate=1024, download_rate=1024)
    client = front.client()
    client.send(bytes(20_000))
    harness.turn_until(lambda: client.received == [bytes(20_000)])
    client.send(b"?")
    harness.turn_until(lambda: front.handler.drops["limit"] == 1)
    pass_time(harness, clock, 20_000)
    client.send(b"!")
    harness.turn_until(lambda: client.received[1:] == [b"!"])


def test_the_idle_timeout_rests_while_answers_wait(harness: Harness, clock: FakeClock) -> None:
    backend = UdpBackend(lambda _data: [bytes(20_000), b"end"])
    front = paced(harness, backend, download_rate=1024, timeout_ms=5000)
    client = front.client()
    client.send(b"?")
    harness.turn_until(lambda: client.received)
    pass_time(harness, clock, 15_000)
    assert front.ended == []
    pass_time(harness, clock, 6000)
    assert client.received[1:] == [b"end"]
    pass_time(harness, clock, 6000)
    assert front.only().termination == "--"


def test_headers_are_sent_at_a_pace_as_well(harness: Harness) -> None:
    backend = UdpBackend(silent)
    front = paced(harness, backend, upload_rate=10_000, proxy_protocol="v2")
    client = front.client()
    client.send(b"hello")
    harness.turn_until(lambda: backend.received)
    header = parse(backend.received[0])
    assert header is not None
    assert header.source == client.sockaddr
    assert backend.received[0].endswith(b"hello")


def test_no_pause_outlives_a_session(harness: Harness, clock: FakeClock) -> None:
    backend = UdpBackend(lambda _data: [bytes(SIZE)] * 80)
    front = paced(harness, backend, download_rate=2000)
    client = front.client()
    with no_garbage():
        client.send(b"?")
        harness.turn_until(lambda: client.received)
        harness.settle()
        for session in tuple(front.handler.table.values()):
            session.kill()
        del session
        pass_time(harness, clock, 500)
