"""PROXY headers that backends get, through real sockets: whole, first, and with the first bytes."""

import pathlib
from typing import Any

import pytest
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.pool import BackendPool
from nginy.balancer.round_robin import RoundRobin
from nginy.proxy.access import ALL, Access, Rule
from nginy.proxy.phases.real_address import RealAddress
from nginy.text.address import parse_address
from nginy.wire.proxy_protocol import Header, build_v2, parse
from nginy.wire.proxy_tlv import Type, value_of

from kit.ends import End
from kit.harness import ANY_PORT_V6, Front, Harness
from kit.servers import RefusingPort, Server, SilentBackend

CLIENT = ("192.0.2.7", 4711)
SERVER = ("198.51.100.2", 443)
EVERYBODY = Access([(Rule(True, "all", is_for_unix=True), ALL)])
VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])


def announced(end: End) -> tuple[Header, bytes]:
    """What an end has received: a header, and what follows it."""
    header = parse(bytes(end.received))
    assert header is not None
    return header, bytes(end.received[header.size_bytes :])


def sending(harness: Harness, version: str, **settings: Any) -> tuple[Front, Server]:
    server = harness.add(Server())
    pool = harness.pool(server.name)
    return harness.proxy(pool, proxy_protocol=version, **settings), server


@VERSIONS
def test_a_backend_is_told_the_client_and_the_address_it_asked(
    harness: Harness, version: str
) -> None:
    front, server = sending(harness, version)
    client = front.connect()
    client.send(b"hello")
    harness.turn_until(lambda: server.ends and server.end.received.endswith(b"hello"))
    header, rest = announced(server.end)
    assert header.version == int(version[1])
    assert (header.source, header.destination) == (
        client.address,
        front.listener.address.sockaddr,
    )
    assert rest == b"hello"


@VERSIONS
def test_the_header_comes_in_one_piece_with_the_first_bytes(harness: Harness, version: str) -> None:
    front, server = sending(harness, version)
    client = front.connect()
    client.socket.send(b"hello")
    harness.turn_until(lambda: harness.loop.connections == 3)
    (session,) = harness.sessions()
    assert session.upstream is not None
    harness.turn_until(lambda: session.upstream and session.upstream.sent)
    server.step()
    assert announced(server.end)[1] == b"hello"
    assert session.upstream.sent == len(server.end.received)


@VERSIONS
def test_a_backend_that_speaks_first_gets_the_header_before_it_does(
    harness: Harness, version: str
) -> None:
    front, server = sending(harness, version)
    client = front.connect()
    harness.turn_until(lambda: server.ends and server.end.received)
    assert announced(server.end)[1] == b""
    server.end.send(b"220 ready")
    harness.turn_until(lambda: client.received == b"220 ready")
    client.send(b"EHLO")
    harness.turn_until(lambda: announced(server.end)[1] == b"EHLO")


@VERSIONS
def test_a_client_that_ends_at_once_is_announced_all_the_same(
    harness: Harness, version: str
) -> None:
    front, server = sending(harness, version)
    client = front.connect()
    client.socket.send(b"hello")
    client.finish()
    client.step()
    harness.turn_until(lambda: server.ends and server.end.has_eof)
    assert announced(server.end)[1] == b"hello"
    server.end.finish()
    assert front.only().bytes_received == 5


def test_more_than_a_buffer_goes_on_behind_the_header(harness: Harness) -> None:
    front, server = sending(harness, "v2", buffer_size=1024)
    data = bytes(range(256)) * 2000
    client = front.connect()
    client.send(data)
    harness.turn_until(lambda: server.ends and len(server.end.received) > len(data))
    assert announced(server.end)[1] == data


def test_the_next_backend_gets_the_header_that_a_refusing_one_did_not(
    harness: Harness, expect_log: Any
) -> None:
    dead = harness.add(RefusingPort()).name
    server = harness.add(Server())
    front = harness.proxy(harness.pool(dead, server.name), proxy_protocol="v1")
    with expect_log(r"connect\(\) failed"):
        client = front.connect()
        client.send(b"hello")
        harness.turn_until(lambda: server.ends and server.end.received)
    assert announced(server.end)[1] == b"hello"


@pytest.mark.parametrize(
    ("listener", "backend", "version"),
    [("v1", "v2", 2), ("v2", "v1", 1), ("off", "v2", 2), ("v1", "off", 0), ("v1", "auto", 1)],
)
def test_a_backends_own_key_wins(
    harness: Harness, listener: str, backend: str, version: int
) -> None:
    server = harness.add(Server())
    settings = BackendSettings(server.name, parse_address(server.name), proxy_protocol=backend)
    pool = harness.add_pool(BackendPool("backends", [Backend(settings)], RoundRobin))
    client = harness.proxy(pool, proxy_protocol=listener).connect()
    client.send(b"hello")
    harness.turn_until(lambda: server.ends and server.end.received.endswith(b"hello"))
    if version:
        assert announced(server.end)[0].version == version
    else:
        assert server.end.received == b"hello"


def test_v2_has_a_checksum_and_an_id_of_the_session(harness: Harness) -> None:
    front, server = sending(harness, "v2")
    front.connect()
    front.connect()
    harness.turn_until(lambda: len(server.ends) == 2 and all(e.received for e in server.ends))
    headers = [announced(end)[0] for end in server.ends]
    assert all(value_of(header.tlvs, Type.CRC32C) for header in headers)
    ids = {value_of(header.tlvs, Type.UNIQUE_ID) for header in headers}
    assert len(ids) == 2
    assert None not in ids


@pytest.mark.parametrize("pass_tlvs", [False, True])
def test_an_announced_client_is_announced_again(harness: Harness, pass_tlvs: bool) -> None:
    front, server = sending(harness, "v2", pass_tlvs=pass_tlvs)
    front.handler.phases = (RealAddress(EVERYBODY, False, 3000),)
    client = front.connect()
    received = ((int(Type.AUTHORITY), b"example.com"), (int(Type.UNIQUE_ID), b"outer"))
    client.send(build_v2(CLIENT, SERVER, tlvs=received) + b"hello")
    harness.turn_until(lambda: server.ends and server.end.received.endswith(b"hello"))
    header, rest = announced(server.end)
    assert (header.source, header.destination, rest) == (CLIENT, SERVER, b"hello")
    assert (value_of(header.tlvs, Type.AUTHORITY) == b"example.com") == pass_tlvs
    assert (value_of(header.tlvs, Type.UNIQUE_ID) == b"outer") == pass_tlvs


def test_tlvs_that_have_no_room_stay_behind(harness: Harness) -> None:
    front, server = sending(harness, "v2", pass_tlvs=True)
    front.handler.phases = (RealAddress(EVERYBODY, False, 3000),)
    client = front.connect()
    client.send(build_v2(CLIENT, SERVER, tlvs=((0xE0, b"x" * 4050),)))
    harness.turn_until(lambda: server.ends and server.end.received)
    header, _ = announced(server.end)
    assert header.source == CLIENT
    assert value_of(header.tlvs, 0xE0) is None


def test_an_ipv6_client_is_announced_as_one(harness: Harness) -> None:
    server = harness.add(Server())
    front = harness.proxy(harness.pool(server.name), ANY_PORT_V6, proxy_protocol="v1")
    client = front.connect()
    harness.turn_until(lambda: server.ends and server.end.received)
    header, _ = announced(server.end)
    assert header.source == ("::1", client.address[1])


def test_a_client_of_a_unix_socket_has_no_address_to_tell(
    harness: Harness, tmp_path: pathlib.Path
) -> None:
    server = harness.add(Server())
    address = parse_address(f"unix:{tmp_path}/front")
    front = harness.proxy(harness.pool(server.name), address, proxy_protocol="v1")
    front.connect()
    harness.turn_until(lambda: server.ends and server.end.received)
    assert server.end.received == b"PROXY UNKNOWN\r\n"


def test_without_the_key_nothing_is_added(harness: Harness) -> None:
    server = harness.add(SilentBackend())
    client = harness.proxy(harness.pool(server.name)).connect()
    client.send(b"hello")
    harness.turn_until(lambda: server.ends and server.end.received)
    assert server.end.received == b"hello"
