"""Datagram sockets by themselves; what is made of them is tested in tests/proxy."""

import errno
from _socket import SOCK_DGRAM, SOCK_NONBLOCK, socket

import pytest
from nginy.event.connection import AGAIN, ERROR
from nginy.event.datagram import (
    DatagramConnection,
    DatagramReceiver,
    SharedConnection,
)
from nginy.text.address import Address, parse_address

from kit.datagrams import UdpEnd
from kit.ends import SockAddr
from kit.harness import ANY_PORT, Harness
from kit.program import own_host
from kit.servers import RefusingPort


def connected(harness: Harness, peer: str) -> DatagramConnection:
    address: Address = parse_address(peer)
    sock = socket(address.family, SOCK_DGRAM | SOCK_NONBLOCK)
    sock.connect(address.sockaddr)
    return DatagramConnection(harness.loop, sock, address.sockaddr)


def test_a_run_arrives_as_the_datagrams_it_is_made_of(harness: Harness) -> None:
    end = harness.add(UdpEnd())
    c = connected(harness, end.name)
    datagrams = [b"%064d" % number for number in range(32)]
    assert c.send_run([memoryview(data) for data in datagrams])
    assert c.sent == 32 * 64
    harness.turn_until(lambda: end.received == datagrams)
    c.close()


def test_a_run_that_the_kernel_refuses_sends_nothing(harness: Harness) -> None:
    end = harness.add(UdpEnd())
    c = connected(harness, end.name)
    assert not c.send_run([memoryview(bytes(4000))] * 32)  # above 65,535 bytes
    assert c.errno == errno.EMSGSIZE
    harness.settle()
    assert (end.received, c.sent) == ([], 0)
    c.close()


def test_an_empty_datagram_is_received_as_a_count_of_zero(harness: Harness) -> None:
    end = harness.add(UdpEnd())
    c = connected(harness, end.name)
    assert c.send(b"") == 0
    harness.turn_until(lambda: end.received == [b""])
    end.send_to(b"", end.senders[0])
    outcome = AGAIN
    while outcome == AGAIN:
        outcome = c.recv(harness.loop.memory)
    assert outcome == 0
    assert not c.read.eof
    assert c.recv(harness.loop.memory) == AGAIN
    c.close()


def test_an_error_leaves_the_connection_usable(harness: Harness) -> None:
    port = harness.add(RefusingPort(own_host()))
    c = connected(harness, port.name)
    assert c.send(b"?") == 1
    harness.settle()
    assert c.recv(harness.loop.memory) == ERROR
    assert c.errno == errno.ECONNREFUSED
    assert c.send(b"?") == 1
    c.close()


@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1"])
def test_a_wildcard_receiver_tells_which_address_was_asked(harness: Harness, text: str) -> None:
    wildcard = parse_address(text)
    listener = harness.listen(Address(wildcard.family, wildcard.host), udp=True)
    heard: list[tuple[SockAddr, bytes]] = []

    def handler(
        receiver: DatagramReceiver, sockaddr: SockAddr, local: bytes, data: memoryview
    ) -> None:
        c = SharedConnection(receiver, sockaddr, local)
        heard.append((c.local_sockaddr, bytes(data)))

    listener.start_datagrams(harness.loop, handler)
    host = "::1" if ":" in wildcard.host else "127.0.0.3"
    target = Address(wildcard.family, host, listener.address.port).sockaddr
    client = harness.add(UdpEnd((host, 0)))
    client.send_to(b"x", target)
    harness.turn_until(lambda: heard)
    assert heard == [(target, b"x")]


def test_a_shared_connection_closes_nothing_but_itself(harness: Harness) -> None:
    listener = harness.listen(ANY_PORT, udp=True)
    receiver = listener.start_datagrams(harness.loop, lambda *_: None)
    end = harness.add(UdpEnd())
    first, second = (SharedConnection(receiver, end.sockaddr, b"") for _ in range(2))
    first.close()
    assert first.fd == -1
    assert second.send(b"still here") == 10
    harness.turn_until(lambda: end.received == [b"still here"])
    assert end.senders == [listener.address.sockaddr]
