"""Where sessions connect from, if that depends on the client; through real sockets."""

import socket
from typing import Any

import pytest
from nginy.errors import InvalidValueError
from nginy.proxy.handler import ProxyHandler
from nginy.proxy.local_end import LocalEnd, parse_local_end, transparent
from nginy.proxy.texts import Variables
from nginy.text.address import Address, TransparentAddress

from kit.datagrams import UdpBackend, udp_proxy
from kit.ends import End
from kit.harness import ANY_PORT, ANY_PORT_V6, Front, Harness
from kit.servers import Server


def bound(front: Front, text: str) -> None:
    handler = front.handler
    assert isinstance(handler, ProxyHandler)
    handler.bind_of = LocalEnd(Variables(handler.loop.clock).compile(text))


def client_of(harness: Harness, front: Front, host: str) -> End:
    sock = socket.socket()
    sock.bind((host, 0))
    sock.connect(front.listener.address.sockaddr)
    return harness.add(End(sock))


def seen(server: Server) -> list[str]:
    return [end.socket.getpeername()[0] for end in server.ends]


def test_a_session_connects_from_its_clients_address(harness: Harness) -> None:
    server = harness.add(Server())
    front = harness.proxy(harness.pool(server.name))
    bound(front, "$remote_addr")
    for host in ("127.0.0.77", "127.0.0.78"):
        client_of(harness, front, host)
    harness.turn_until(lambda: len(server.ends) == 2)
    assert sorted(seen(server)) == ["127.0.0.77", "127.0.0.78"]


def test_a_udp_session_does_so_too(harness: Harness) -> None:
    server = harness.add(UdpBackend())
    front = udp_proxy(harness, harness.pool(server.name))
    bound(front, "$remote_addr")
    client = front.client("127.0.0.77")
    client.send(b"?")
    harness.turn_until(lambda: client.received)
    assert server.senders[0][0] == "127.0.0.77"


def test_an_empty_text_leaves_it_to_the_system(harness: Harness) -> None:
    server = harness.add(Server())
    front = harness.proxy(harness.pool(server.name))
    bound(front, "$proxy_protocol_addr")
    client_of(harness, front, "127.0.0.77")
    harness.turn_until(lambda: server.ends)
    assert seen(server) == ["127.0.0.1"]


def test_a_text_that_is_no_address_does_so_too_and_the_log_says_so(
    harness: Harness, expect_log: Any
) -> None:
    server = harness.add(Server())
    front = harness.proxy(harness.pool(server.name))
    bound(front, "x$remote_addr")
    text = 'proxy_bind: "x127.0.0.77" is a host name, .*, the system chooses an address'
    with expect_log(text, count=1):
        for _ in range(2):
            client_of(harness, front, "127.0.0.77")
        harness.turn_until(lambda: len(server.ends) == 2)
    assert seen(server) == ["127.0.0.1"] * 2


def test_an_address_of_the_other_family_is_left_out(harness: Harness) -> None:
    server = harness.add(Server())
    front = harness.proxy(harness.pool(server.name), ANY_PORT_V6)
    bound(front, "$remote_addr")
    front.connect()
    harness.turn_until(lambda: server.ends)
    assert seen(server) == [ANY_PORT.host]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", Address(socket.AF_INET, "192.0.2.1")),
        ("192.0.2.1:80", Address(socket.AF_INET, "192.0.2.1", 80)),
        ("[192.0.2.1]:80", Address(socket.AF_INET, "192.0.2.1", 80)),
        ("[192.0.2.1]", Address(socket.AF_INET, "192.0.2.1")),
        ("2001:db8::1", Address(socket.AF_INET6, "2001:db8::1")),
        ("[2001:db8::1]:80", Address(socket.AF_INET6, "2001:db8::1", 80)),
    ],
)
def test_brackets_are_for_both_families(text: str, address: Address) -> None:
    assert parse_local_end(text) == address
    assert isinstance(transparent(address), TransparentAddress)


@pytest.mark.parametrize("text", ["unix:", "x", "[", "192.0.2.1:99999", "[]:80"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_local_end(text)
