"""Binding: addresses that include each other, addresses that are not there, and what went wrong."""

import errno
import os
import socket
from collections.abc import Callable, Iterator

import pytest
from nginy.event.bind import ListenError, ListenOptions, Neighbors, bind_listener
from nginy.text.address import Address, parse_address

from kit.leaks import no_descriptor_left
from kit.program import free_port

Bind = Callable[..., socket.socket]

PAIRS = [("0.0.0.0", "127.0.0.1"), ("::", "::1")]


@pytest.fixture
def bind() -> Iterator[Bind]:
    """Binds, and closes in the end."""
    opened: list[socket.socket] = []

    def make(options: ListenOptions, neighbors: list[socket.socket] | None = None) -> socket.socket:
        bound = bind_listener(options, neighbors or [])
        opened.append(socket.socket(fileno=bound.detach()))
        return opened[-1]

    yield make
    for sock in opened:
        sock.close()


def options(
    host: str, port: int = 0, *, udp: bool = False, freebind: bool = False
) -> ListenOptions:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return ListenOptions(Address(family, host, port), udp=udp, freebind=freebind)


def free_everywhere(udp: bool = False) -> int:
    """Return a port that no address has in use: the kernel looks at the one address alone."""
    return free_port("0.0.0.0", socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)


def served_by(socks: list[socket.socket], host: str, udp: bool) -> list[bool]:
    """Which of two listening sockets a client of `host` reaches."""
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    with socket.socket(socks[0].family, kind) as client:
        client.connect((host, socks[0].getsockname()[1]))
        if udp:
            client.send(b"x")
        found = []
        for sock in socks:
            try:
                if udp:
                    sock.recv(10)
                else:
                    sock.accept()[0].close()
                found.append(True)
            except BlockingIOError:
                found.append(False)
        return found


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize(("wildcard", "specific"), PAIRS)
@pytest.mark.parametrize("is_wildcard_first", [True, False])
def test_a_specific_address_beside_a_wildcard_is_served_first(
    bind: Bind, udp: bool, wildcard: str, specific: str, is_wildcard_first: bool
) -> None:
    hosts = [wildcard, specific] if is_wildcard_first else [specific, wildcard]
    port = free_everywhere(udp)
    first = bind(options(hosts[0], port, udp=udp))
    neighbors = Neighbors()
    neighbors.add(options(hosts[0], port, udp=udp), first)
    other = options(hosts[1], port, udp=udp)
    second = bind(other, neighbors.of(other))
    pair = [first, second] if is_wildcard_first else [second, first]
    assert served_by(pair, specific, udp) == [False, True]
    for sock in pair:
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


@pytest.mark.parametrize("udp", [False, True])
def test_another_process_cannot_bind_beside_them(bind: Bind, udp: bool) -> None:
    port = free_everywhere(udp)
    wildcard = bind(options("0.0.0.0", port, udp=udp))
    bind(options("127.0.0.1", port, udp=udp), [wildcard])
    for host in ("0.0.0.0", "127.0.0.1", "127.0.0.2"):
        with pytest.raises(ListenError) as raised:
            bind(options(host, port, udp=udp))
        assert raised.value.errno == errno.EADDRINUSE


def test_without_a_free_descriptor_the_address_is_named() -> None:
    with no_descriptor_left(), pytest.raises(ListenError) as raised:
        bind_listener(options("127.0.0.1", 80))
    assert str(raised.value) == "bind() to 127.0.0.1:80 failed (24: Too many open files)"


def test_a_port_of_somebody_else_is_found_with_neighbors(bind: Bind) -> None:
    port = free_everywhere()
    ours = bind(options("127.0.0.2", port))
    bind(options("127.0.0.1", port))
    with pytest.raises(ListenError):
        bind(options("0.0.0.0", port), [ours])
    assert not ours.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_neighbors_are_wildcards_of_an_address_and_addresses_of_a_wildcard(bind: Bind) -> None:
    sock = bind(options("127.0.0.1"))
    neighbors = Neighbors()
    neighbors.add(options("127.0.0.1", 80), sock)
    neighbors.add(ListenOptions(parse_address("unix:/run/x")), sock)
    assert neighbors.of(options("0.0.0.0", 80)) == [sock]
    assert neighbors.of(options("127.0.0.2", 80)) == []
    assert neighbors.of(options("0.0.0.0", 81)) == []
    assert neighbors.of(options("0.0.0.0", 80, udp=True)) == []
    assert neighbors.of(options("::", 80)) == []


@pytest.mark.parametrize(
    ("udp", "host"), [(False, "192.0.2.1"), (True, "192.0.2.1"), (False, "2001:db8::1")]
)
def test_freebind_binds_an_address_that_is_not_there(bind: Bind, udp: bool, host: str) -> None:
    assert bind(options(host, udp=udp, freebind=True)).getsockname()[0] == host
    with pytest.raises(ListenError) as raised:
        bind(options(host, udp=udp))
    assert raised.value.errno == errno.EADDRNOTAVAIL
    assert str(raised.value).endswith(
        "; this machine does not have the address; freebind: on binds it anyway"
    )


def test_a_port_without_the_right_to_it_says_what_helps() -> None:
    error = OSError(errno.EACCES, os.strerror(errno.EACCES))
    assert str(ListenError(options("127.0.0.1", 80), error)) == (
        "bind() to 127.0.0.1:80 failed (13: Permission denied); ports below 1024 need root,"
        " CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=),"
        " or a lower net.ipv4.ip_unprivileged_port_start"
    )
    assert str(ListenError(options("127.0.0.1", 8080), error)).endswith("Permission denied)")
