"""Faults of clients and backends, through bin/nginy: what each side sees, and which line remains.

In each test one session goes wrong in one way; the test reads the line of its end, since an
operator has only the termination code and the reason to go by. The same rules are tested turn
by turn in tests/proxy; here are the process, its logs and its limits.
"""

import contextlib
import resource
import select
import signal
import socket
from collections.abc import Iterator

import pytest

from kit.ends import End
from kit.faults import (
    HoldingProcess,
    Listening,
    Site,
    check,
    receive_all,
    reset,
    resident_bytes,
    was_reset,
)
from kit.program import Fields, wait_until
from kit.servers import FullPort, RefusingPort

SOON = "700ms"
"""A timeout that a test waits for, and within which it speaks even on a busy machine."""


@pytest.fixture
def backend() -> Iterator[Listening]:
    with contextlib.closing(Listening()) as made:
        yield made


@pytest.fixture
def refusing() -> Iterator[RefusingPort]:
    with contextlib.closing(RefusingPort()) as made:
        yield made


@pytest.fixture
def deaf() -> Iterator[FullPort]:
    """A backend that never answers to a connect."""
    with contextlib.closing(FullPort()) as made:
        yield made


@pytest.fixture
def holder() -> Iterator[HoldingProcess]:
    with contextlib.closing(HoldingProcess()) as made:
        yield made


def end(session: Fields) -> tuple[int, object, object]:
    return int(session["status"]), session["termination"], session["reason"]


# Backends.


def test_a_refusing_backend_is_passed_over(
    site: Site, refusing: RefusingPort, backend: Listening
) -> None:
    nginy = site.start([refusing.name, backend.name])
    client, upstream = site.exchange(backend)
    (line,) = nginy.said("refused")
    assert line.partition(" [error] ")[2].partition(": ")[2] == (
        "*1 connect() failed (111: Connection refused) while connecting to upstream, "
        f"client: 127.0.0.1:{client.getsockname()[1]}, listener: {site.address}, "
        f"upstream: {refusing.name}, bytes from/to client:0/0"
    )
    client.close()
    upstream.close()
    session = nginy.session()
    assert end(session) == (200, "--", "completed")
    assert session["upstream_addr"] == f"{refusing.name}, {backend.name}"
    assert (session["bytes_received"], session["bytes_sent"]) == (7, 6)


def test_when_all_refuse_the_client_hears_the_end_at_once(
    site: Site, refusing: RefusingPort
) -> None:
    nginy = site.start([refusing.name])
    assert site.connect().recv(1) == b""
    assert end(nginy.session()) == (502, "SC", "connect() failed (111: Connection refused)")


def test_when_all_have_failed_the_next_client_is_not_refused(
    site: Site, refusing: RefusingPort
) -> None:
    with contextlib.closing(RefusingPort()) as other:
        nginy = site.start([refusing.name, other.name])
        assert site.connect().recv(1) == b""
        other.socket.listen()
        with site.connect() as client:
            other.socket.accept()[0].close()
            assert client.recv(1) == b""
        first, second = nginy.sessions(2)
        assert first["upstream_addr"] == f"{refusing.name}, {other.name}"
        assert end(second) == (200, "--", "completed")
        assert second["upstream_addr"] == f"{refusing.name}, {other.name}"
        out = nginy.said("max_fails")
        assert [line.partition(" in upstream ")[2] for line in out] == [
            '"u": out for 10s after 1 failure (max_fails)',
            '"u": out for 10s after 1 failure (max_fails); still tried while no other is usable',
        ]


def test_when_nobody_may_be_asked_the_log_says_why(site: Site, refusing: RefusingPort) -> None:
    nginy = site.start([{"address": refusing.name, "down": "on"}])
    assert site.connect().recv(1) == b""
    session = nginy.session()
    assert end(session) == (502, "SC", 'no usable backend in upstream "u": 1 of 1 down')
    assert session["upstream_addr"] == "u"
    (line,) = nginy.said("no usable")
    assert '*1 no usable backend in upstream "u": 1 of 1 down while connecting' in line


def test_a_backend_that_never_answers_costs_the_connect_timeout(site: Site, deaf: FullPort) -> None:
    nginy = site.start([deaf.name], proxy_connect_timeout=SOON)
    assert site.connect().recv(1) == b""
    assert end(nginy.session()) == (502, "sC", "connect() timed out (110: Connection timed out)")


def test_a_backend_that_closes_at_once_ends_a_session_well(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name])
    with site.connect() as client:
        backend.accept().close()
        assert client.recv(1) == b""
    assert end(nginy.session()) == (200, "--", "completed")


def test_a_reset_in_mid_stream_reaches_the_client_as_a_reset(
    site: Site, backend: Listening
) -> None:
    nginy = site.start([backend.name])
    client, upstream = site.exchange(backend)
    reset(upstream)
    assert was_reset(client)
    assert end(nginy.session()) == (502, "SD", "backend reset the connection")
    (line,) = nginy.said("backend reset")
    assert " [error] " in line
    assert "bytes from/to client:7/6, bytes from/to upstream:6/7" in line


def test_a_stopped_backend_ends_by_the_idle_timeout_and_can_come_back(
    site: Site, holder: HoldingProcess
) -> None:
    nginy = site.start([holder.name], proxy_timeout=SOON)
    holder.process.send_signal(signal.SIGSTOP)
    client = site.connect()
    client.sendall(b"are you there?")
    with pytest.raises(ConnectionResetError):  # an EOF would be an empty answer
        client.recv(1)
    assert end(nginy.session()) == (200, "sD", "idle timeout, backend was silent")


def test_a_killed_backend_that_has_lost_bytes_is_a_reset(
    site: Site, holder: HoldingProcess
) -> None:
    nginy = site.start([holder.name])
    client = site.connect()
    assert client.recv(100) == b"hello"
    client.sendall(b"unread")
    assert client.recv(100) == b"seen"
    holder.process.kill()  # and its kernel resets, since bytes are lost
    assert was_reset(client)
    assert end(nginy.session()) == (502, "SD", "backend reset the connection")


# Clients.


def test_a_silent_client_ends_by_the_idle_timeout(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name], proxy_timeout=SOON)
    assert site.connect().recv(1) == b""
    assert receive_all(backend.accept()) == b""
    assert end(nginy.session()) == (200, "cD", "idle timeout, client was silent")


def test_a_client_that_half_closes_first_gets_its_whole_answer(
    site: Site, backend: Listening
) -> None:
    nginy = site.start([backend.name])
    client = site.connect()
    client.sendall(b"all of the question")
    client.shutdown(socket.SHUT_WR)
    with backend.accept() as upstream:
        assert receive_all(upstream) == b"all of the question"
        upstream.sendall(b"the answer")
    assert receive_all(client) == b"the answer"
    assert end(nginy.session()) == (200, "--", "completed")


def test_a_client_that_resets_while_connecting_is_noticed(site: Site, deaf: FullPort) -> None:
    nginy = site.start([deaf.name], head="error_log: {path: stderr, level: info}")
    before = nginy.sockets()
    client = site.connect()
    wait_until(lambda: nginy.sockets() == before + 2)
    reset(client)
    assert end(nginy.session()) == (400, "CC", "client went away while connecting to upstream")
    (line,) = nginy.said("went away")
    assert " [info] " in line


def test_a_client_that_resets_in_mid_stream_resets_the_backend(
    site: Site, backend: Listening
) -> None:
    nginy = site.start([backend.name])
    client, upstream = site.exchange(backend)
    reset(client)
    assert was_reset(upstream)
    assert end(nginy.session()) == (200, "CD", "client reset the connection")


def test_a_client_of_a_byte_now_and_then_is_not_idle(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name], proxy_timeout="1500ms")
    client, upstream = site.exchange(backend)
    for _ in range(8):
        # Together longer than the timeout; nothing ends the session meanwhile.
        assert select.select([client, upstream], [], [], 0.2) == ([], [], [])
        client.sendall(b".")
        assert upstream.recv(100) == b"."
    check(client, upstream)
    assert nginy.access_lines() == []


def test_a_slow_reader_holds_the_backend_up_and_not_memory(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name])
    slow = site.connect(rcvbuf_bytes=4096)
    fast = End(backend.accept())
    before = resident_bytes(nginy.pid)
    total = 64 << 20
    fast.send(bytes(total))
    while select.select([], [fast.socket], [], 0.25)[1]:
        fast.step()
    # What nginy and four buffers of the kernel hold; the rest has to wait.
    assert len(fast.unsent) > total // 2
    assert resident_bytes(nginy.pid) - before < 4 << 20
    assert [slow.recv(1) for _ in range(3)] == [b"\0"] * 3
    fast.close()


# Ends that nginy brings about.


def test_a_session_may_last_so_long_and_no_longer(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name], upstream={"max_session_time": SOON})
    client, _ = site.exchange(backend)
    assert client.recv(1) == b""
    assert end(nginy.session()) == (200, "LD", "max_session_time reached")


def test_of_those_who_wait_in_line_each_end_has_its_code(site: Site, backend: Listening) -> None:
    queue = {"size": 2, "timeout": "2s"}
    nginy = site.start([{"address": backend.name, "max_conns": 1}], upstream={"queue": queue})
    site.exchange(backend)
    before = nginy.sockets()
    leaving, _waiting = site.connect(), site.connect()
    # For each of them a descriptor is held back for its backend.
    wait_until(lambda: nginy.sockets() == before + 4)
    assert site.connect().recv(1) == b""
    assert end(nginy.sessions(1)[0]) == (503, "PC", "too many clients are waiting for a backend")
    reset(leaving)
    gone = nginy.sessions(2)[1]
    assert end(gone) == (400, "CQ", "client went away while waiting for a backend")
    assert end(nginy.sessions(3)[2]) == (502, "sQ", "no backend was free in time")


def test_term_during_traffic_ends_each_session_with_a_line(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name])
    ends = [site.exchange(backend) for _ in range(5)]
    with contextlib.suppress(BlockingIOError):
        ends[0][1].setblocking(False)
        while True:  # and one of them is in the middle of a transfer
            ends[0][1].send(bytes(1 << 20))
    errors = nginy.stop()
    sessions = nginy.sessions(5)
    assert {end(session) for session in sessions} == {(200, "KD", "closed because nginy stopped")}
    assert errors[-1].endswith("exit")


def test_connections_beyond_worker_connections_are_refused_and_others_go_on(
    site: Site, backend: Listening
) -> None:
    # The listener and the signals count as well, as in nginx.
    nginy = site.start([backend.name], head="worker_connections: 4")
    client, upstream = site.exchange(backend)
    assert site.connect().recv(1) == b""
    assert end(nginy.session()) == (503, "PC", "worker_connections are used up")
    check(client, upstream)
    client.close()
    upstream.close()
    nginy.sessions(2)
    site.exchange(backend)


@pytest.mark.slow
def test_ten_thousand_connections_dropped_at_once_leave_nothing(
    site: Site, backend: Listening
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, (hard - 200) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    pairs: list[tuple[socket.socket, socket.socket]] = []
    try:
        nginy = site.start([backend.name], head="worker_connections: 65536")
        site.exchange(backend)
        before = nginy.descriptors()
        pairs += [(site.connect(), backend.accept()) for _ in range(count)]
        assert nginy.descriptors() == before + 2 * count
        for client, _upstream in pairs:
            reset(client)
        sessions = nginy.sessions(count)
        assert {end(session) for session in sessions} == {
            (200, "CD", "client reset the connection")
        }
        assert nginy.descriptors() == before
        site.exchange(backend)
    finally:
        for _client, upstream in pairs:
            upstream.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
