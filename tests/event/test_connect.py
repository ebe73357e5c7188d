"""Beginning a connection: what comes back, and what does not leak when a call fails."""

import errno
import pathlib
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from nginy.event.connect import (
    ConnectFailure,
    connect_datagram,
    connect_errno,
    connect_stream,
    failure_text,
)
from nginy.event.connection import Connection
from nginy.event.event import Event
from nginy.text.address import Address, TransparentAddress, parse_address

from kit.harness import Harness, descriptor_count
from kit.leaks import no_descriptor_left
from kit.program import own_host

NOBODY = Address(socket.AF_INET, "127.0.0.1", 9)
FOREIGN = Address(socket.AF_INET, "192.0.2.1")
"""No address of this machine (RFC 5737)."""


@contextmanager
def listening(backlog: int = 5) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        yield server


def address_of(server: socket.socket) -> Address:
    host, port = server.getsockname()
    return parse_address(f"{host}:{port}")


def outcome_of(harness: Harness, c: Connection) -> int:
    """Turn until connecting has ended; return how."""
    codes: list[int] = []

    def write_handler(event: Event) -> None:
        codes.append(connect_errno(event))
        c.close()

    c.write.handler = write_handler
    c.resume_write()
    harness.turn_until(lambda: codes)
    return codes[0]


def failure_of(outcome: Connection | ConnectFailure) -> ConnectFailure:
    assert isinstance(outcome, ConnectFailure)
    return outcome


def connection_of(outcome: Connection | ConnectFailure) -> Connection:
    assert isinstance(outcome, Connection)
    return outcome


def test_a_stream_connects(harness: Harness) -> None:
    with listening() as server:
        c = connection_of(connect_stream(harness.loop, address_of(server)))
        assert not c.read.active
        assert not c.write.active
        assert outcome_of(harness, c) == 0


def test_a_refused_stream_says_so_in_the_end(harness: Harness) -> None:
    with listening() as server:
        address = address_of(server)
    c = connection_of(connect_stream(harness.loop, address))
    assert outcome_of(harness, c) == errno.ECONNREFUSED


def test_bind_chooses_the_local_address_of_its_family(harness: Harness) -> None:
    bind = Address(socket.AF_INET, "127.0.0.7")
    with listening() as server:
        c = connection_of(connect_stream(harness.loop, address_of(server), bind, keepalive=True))
        assert c.local_sockaddr[0] == "127.0.0.7"
        assert c.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        c.close()
    datagrams = connection_of(connect_datagram(harness.loop, NOBODY, bind))
    assert datagrams.local_sockaddr[0] == "127.0.0.7"
    datagrams.close()
    v6 = Address(socket.AF_INET6, "::1", 9)
    other = connection_of(connect_datagram(harness.loop, v6, bind))
    assert other.local_sockaddr[0] == "::1"
    other.close()


@pytest.mark.parametrize("connect", [connect_stream, connect_datagram])
def test_an_address_that_is_not_ours_is_our_failure(harness: Harness, connect: object) -> None:
    before = descriptor_count()
    failure = failure_of(connect(harness.loop, NOBODY, FOREIGN))  # type: ignore[operator]
    assert (failure.call, failure.errno) == ("bind", errno.EADDRNOTAVAIL)
    assert failure.is_ours
    assert (descriptor_count(), harness.loop.connections) == (before, 0)


@pytest.mark.parametrize("connect", [connect_stream, connect_datagram])
@pytest.mark.parametrize(
    "bind",
    [
        TransparentAddress(socket.AF_INET, "192.0.2.7"),
        TransparentAddress(socket.AF_INET6, "2001:db8::7"),
    ],
)
def test_an_address_of_others_may_be_used_by_those_who_have_the_right(
    harness: Harness, connect: Any, bind: TransparentAddress
) -> None:
    address = NOBODY if bind.family == socket.AF_INET else Address(socket.AF_INET6, "::1", 9)
    outcome = connect(harness.loop, address, bind)
    if isinstance(outcome, ConnectFailure) and outcome.call == "setsockopt":
        assert outcome.errno == errno.EPERM
        assert outcome.is_ours
    elif isinstance(outcome, ConnectFailure):  # without a route for that family
        assert outcome.call == "connect"
    else:
        assert outcome.local_sockaddr[0] == bind.host
        outcome.close()


@pytest.mark.parametrize("connect", [connect_stream, connect_datagram])
def test_a_lack_of_descriptors_is_our_failure(harness: Harness, connect: object) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        failure = failure_of(connect(harness.loop, NOBODY))  # type: ignore[operator]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert failure == ConnectFailure("socket", errno.EMFILE, is_ours=True)


def test_a_unix_socket_that_is_not_there_is_the_peers_failure(
    harness: Harness, tmp_path: pathlib.Path
) -> None:
    before = descriptor_count()
    failure = failure_of(connect_stream(harness.loop, parse_address(f"unix:{tmp_path}/none")))
    assert failure == ConnectFailure("connect", errno.ENOENT, is_ours=False)
    assert failure.text == "connect() failed (2: No such file or directory)"
    assert descriptor_count() == before


def test_a_unix_socket_whose_queue_is_full_is_the_peers_failure(
    harness: Harness, tmp_path: pathlib.Path
) -> None:
    address = parse_address(f"unix:{tmp_path}/s")
    opened: list[Connection] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/s")
        server.listen(0)
        outcome = connect_stream(harness.loop, address)
        while isinstance(outcome, Connection):
            opened.append(outcome)
            outcome = connect_stream(harness.loop, address)
    for c in opened:
        c.close()
    assert outcome == ConnectFailure("connect", errno.EAGAIN, is_ours=False)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.ECONNREFUSED, "connect() failed (111: Connection refused)"),
        (errno.ETIMEDOUT, "connect() timed out (110: Connection timed out)"),
    ],
)
def test_a_failure_reads_as_in_nginx(code: int, text: str) -> None:
    assert failure_text("connect", code) == text
    assert ConnectFailure("connect", code, is_ours=False).text == text


@pytest.mark.parametrize("connect", [connect_stream, connect_datagram])
def test_a_port_that_is_taken_may_be_free_for_another_destination(
    harness: Harness, connect: Callable[..., Connection | ConnectFailure]
) -> None:
    kind = socket.SOCK_STREAM if connect is connect_stream else socket.SOCK_DGRAM
    with socket.socket(type=kind) as taken:
        taken.bind((own_host(), 0))
        bind = address_of(taken)
        failure = failure_of(connect(harness.loop, NOBODY, bind))
    assert (failure.call, failure.errno) == ("bind", errno.EADDRINUSE)
    assert (failure.is_ours, failure.lacks_port) == (True, True)


def test_a_unix_socket_whose_queue_is_full_lacks_no_port(harness: Harness, tmp_path: Any) -> None:
    """EAGAIN of connect(), which means for UDP that ports are used up."""
    address = parse_address(f"unix:{tmp_path}/x")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(address.path)
        server.listen(0)
        first.connect(address.path)
        failure = failure_of(connect_stream(harness.loop, address))
    assert (failure.errno, failure.is_ours, failure.lacks_port) == (errno.EAGAIN, False, False)


def test_a_session_may_have_the_descriptor_that_is_held_back(harness: Harness) -> None:
    reserve = harness.loop.reserve
    reserve.refill()
    with listening() as server:
        address = address_of(server)
        with no_descriptor_left():
            assert failure_of(connect_stream(harness.loop, address)).errno == errno.EMFILE
            c = connection_of(connect_stream(harness.loop, address, reserve=reserve))
            assert reserve.is_short
            assert failure_of(connect_stream(harness.loop, address, reserve=reserve)).is_ours
            c.close()
            assert reserve.refill()
