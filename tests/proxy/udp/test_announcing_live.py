"""PROXY headers that backends get with each datagram, through real sockets."""

import socket
from typing import Any

import pytest
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.pool import BackendPool
from nginy.balancer.round_robin import RoundRobin
from nginy.proxy.udp.announcing import LARGEST_V4, LARGEST_V6
from nginy.text.address import Address, parse_address
from nginy.wire.proxy_protocol import Header, build_v2, parse
from nginy.wire.proxy_tlv import Type, value_of

from kit.datagrams import UdpBackend, UdpFront, read_headers, udp_proxy
from kit.harness import Harness
from kit.leaks import no_garbage
from kit.program import own_host
from kit.servers import RefusingPort

CLIENT = ("192.0.2.7", 4711)
SERVER = ("198.51.100.2", 53)


def announced(data: bytes) -> tuple[Header, bytes]:
    """A datagram that a backend has received: its header, and the payload."""
    header = parse(data)
    assert header is not None
    return header, data[header.size_bytes :]


def unwrapped(data: bytes) -> list[bytes]:
    return [announced(data)[1]]


def sending(harness: Harness, **settings: Any) -> tuple[UdpFront, UdpBackend]:
    backend = harness.add(UdpBackend(unwrapped))
    front = udp_proxy(harness, harness.pool(backend.name), proxy_protocol="v2", **settings)
    return front, backend


def test_every_datagram_has_the_header_and_the_answer_none(harness: Harness) -> None:
    front, backend = sending(harness)
    client = front.client()
    for data in (b"one", b"", b"three"):
        client.send(data)
    harness.turn_until(lambda: len(client.received) == 3)
    assert client.received == [b"one", b"", b"three"]
    headers = [announced(data)[0] for data in backend.received]
    assert headers[0] == headers[1] == headers[2]
    assert headers[0].protocol == "UDP"
    assert (headers[0].source, headers[0].destination) == (
        client.sockaddr,
        front.listener.address.sockaddr,
    )
    assert value_of(headers[0].tlvs, Type.CRC32C)


def test_what_is_counted_for_the_client_is_without_headers(harness: Harness) -> None:
    front, _ = sending(harness, responses=1)
    client = front.client()
    client.send(b"hello")
    harness.turn_until(lambda: client.received)
    ended = front.only()
    assert (ended.bytes_received, ended.bytes_sent) == (5, 5)


def test_sessions_have_ids_of_their_own(harness: Harness) -> None:
    front, backend = sending(harness)
    clients = [front.client(), front.client()]
    for client in clients:
        client.send(b"?")
    harness.turn_until(lambda: all(client.received for client in clients))
    ids = {value_of(announced(data)[0].tlvs, Type.UNIQUE_ID) for data in backend.received}
    assert len(ids) == 2
    assert None not in ids


@pytest.mark.parametrize(
    ("listener", "backend", "is_sent"),
    [("off", "v2", True), ("v2", "off", False), ("v2", "auto", True), ("off", "auto", False)],
)
def test_a_backends_own_key_wins(
    harness: Harness, listener: str, backend: str, is_sent: bool
) -> None:
    server = harness.add(UdpBackend())
    settings = BackendSettings(server.name, parse_address(server.name), proxy_protocol=backend)
    pool = harness.add_pool(BackendPool("backends", [Backend(settings)], RoundRobin))
    client = udp_proxy(harness, pool, proxy_protocol=listener).client()
    client.send(b"hello")
    harness.turn_until(lambda: server.received)
    if is_sent:
        assert announced(server.received[0])[1] == b"hello"
    else:
        assert server.received == [b"hello"]


@pytest.mark.parametrize("versions", [("v2", "off"), ("off", "v2")])
def test_the_next_backend_gets_a_first_datagram_as_it_expects(
    harness: Harness, expect_log: Any, versions: tuple[str, str]
) -> None:
    dead = harness.add(RefusingPort(own_host()))
    server = harness.add(UdpBackend())
    backends = [
        Backend(BackendSettings(each, parse_address(each), proxy_protocol=version))
        for each, version in zip((dead.name, server.name), versions, strict=True)
    ]
    pool = harness.add_pool(BackendPool("backends", backends, RoundRobin))
    front = udp_proxy(harness, pool)
    client = front.client()
    with expect_log("failed"):
        client.send(b"hello")
        harness.turn_until(lambda: server.received)
    data = server.received[0]
    assert (announced(data)[1] if versions[1] == "v2" else data) == b"hello"
    (session,) = front.handler.table.values()
    assert session.client.received == 5


@pytest.mark.parametrize("pass_tlvs", [False, True])
def test_an_announced_client_is_announced_again(harness: Harness, pass_tlvs: bool) -> None:
    front, backend = sending(harness, pass_tlvs=pass_tlvs)
    read_headers(front)
    proxy = front.client()
    tlvs = ((int(Type.AUTHORITY), b"example.com"), (0xE1, b"tag"))
    proxy.send(build_v2(CLIENT, SERVER, is_udp=True, tlvs=tlvs) + b"hello")
    harness.turn_until(lambda: proxy.received == [b"hello"])
    header, _ = announced(backend.received[0])
    assert (header.source, header.destination) == (CLIENT, SERVER)
    assert (value_of(header.tlvs, 0xE1) == b"tag") == pass_tlvs


def test_a_client_of_ipv6_is_announced_as_one(harness: Harness) -> None:
    backend = harness.add(UdpBackend(unwrapped))
    front = udp_proxy(
        harness,
        harness.pool(backend.name),
        Address(socket.AF_INET6, "::1"),
        proxy_protocol="v2",
    )
    client = front.client()
    client.send(b"?")
    harness.turn_until(lambda: client.received)
    assert announced(backend.received[0])[0].source == client.sockaddr[:2]


@pytest.mark.parametrize(("host", "largest"), [("127.0.0.1", LARGEST_V4), ("::1", LARGEST_V6)])
def test_a_datagram_without_room_for_its_header_is_dropped_and_the_log_says_by_how_much(
    harness: Harness, expect_log: Any, host: str, largest: int
) -> None:
    backend = harness.add(UdpBackend(unwrapped, (host, 0)))
    front = udp_proxy(
        harness,
        harness.pool(backend.name),
        Address(socket.AF_INET6, "::1"),
        proxy_protocol="v2",
    )
    client = front.client()
    client.send(b"?")
    harness.turn_until(lambda: backend.received)
    room = largest - announced(backend.received[0])[0].size_bytes
    size = min(room + 20, LARGEST_V6)
    with expect_log(rf"a datagram of {size} bytes is {size - room} too long with its PROXY header"):
        client.send(bytes(size))
        harness.turn_until(lambda: front.handler.drops["truncated"] == 1)
    client.send(bytes(room))
    harness.turn_until(lambda: len(backend.received) == 2)
    assert announced(backend.received[1])[1] == bytes(room)


@pytest.mark.parametrize("size", [64, 1300, 1390])
def test_a_flood_arrives_whole_and_in_order(harness: Harness, size: int) -> None:
    front, backend = sending(harness)
    client = front.client()
    sent = [(b"%d:" % number).ljust(size, b".") for number in range(60)]
    for data in sent:
        client.send(data)
    harness.turn_until(lambda: len(client.received) == 60)
    assert client.received == sent
    assert [announced(data)[1] for data in backend.received] == sent
    (session,) = front.handler.table.values()
    assert (session.requests, session.client.received) == (60, 60 * size)


def test_without_the_key_a_session_is_an_ordinary_one(harness: Harness) -> None:
    backend = harness.add(UdpBackend())
    front = udp_proxy(harness, harness.pool(backend.name))
    client = front.client()
    client.send(b"?")
    harness.turn_until(lambda: client.received)
    (session,) = front.handler.table.values()
    assert type(session).__name__ == "UdpSession"


def test_announcing_sessions_leave_no_garbage(harness: Harness) -> None:
    front, _ = sending(harness, responses=1)
    client = front.client()
    with no_garbage():
        client.send(b"?")
        front.only()
