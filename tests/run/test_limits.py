"""Limits of the system that clients reach: a client beyond them waits, and no other one suffers.

Other faults of clients and backends are in `test_faults.py`.
"""

import contextlib
import pathlib
import resource
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from nginy.event.epoll import BATCH

from kit.ends import End
from kit.faults import Listening, Site, check, receive_all
from kit.program import wait_until

# In a network of its own, where two local ports are all there are.
TWO_PORTS = """
ip link set lo up && echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range && exec "$@"
"""
NETWORK = ("unshare", "-rn", "sh", "-c", TWO_PORTS, "sh")


@pytest.fixture
def backend() -> Iterator[Listening]:
    with contextlib.closing(Listening()) as made:
        yield made


# Descriptors.


@pytest.mark.slow
def test_with_any_number_of_descriptors_left_each_client_is_served_in_its_turn(
    site: Site, backend: Listening
) -> None:
    """With an odd number, a client could be accepted whose backend has no descriptor any more."""
    nginy = site.start([backend.name])
    for left in range(1, 8):
        nginy.allow_descriptors(left)
        clients = [site.connect() for _ in range(8)]
        for client in clients:
            with backend.accept() as upstream:
                upstream.sendall(b"answer")
            assert receive_all(client) == b"answer"
            client.close()
        nginy.wait_idle()
    assert {session["termination"] for session in nginy.sessions(7 * 8)} == {"--"}


def test_without_descriptors_sessions_go_on_and_accepting_resumes(
    site: Site, backend: Listening
) -> None:
    nginy = site.start([backend.name])
    client, upstream = site.exchange(backend)
    nginy.allow_descriptors(0)
    late = site.connect()
    (line,) = nginy.said("out of descriptors")
    assert line.endswith(
        f"out of descriptors (24: Too many open files), new clients of {site.address} wait"
    )
    assert " [crit] " in line
    check(client, upstream)
    nginy.limit(resource.RLIMIT_NOFILE, 1000)
    check(late, backend.accept())
    assert nginy.access_lines() == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_without_descriptors_signals_end_in_a_sentence_and_not_in_a_traceback(
    site: Site, backend: Listening, number: signal.Signals
) -> None:
    nginy = site.start([backend.name])
    client, upstream = site.exchange(backend)
    nginy.allow_descriptors(0)
    nginy.send_signal(number)
    if number == signal.SIGHUP:
        nginy.said("Too many open files")
    check(client, upstream)
    nginy.limit(resource.RLIMIT_NOFILE, 1000)
    nginy.send_signal(signal.SIGHUP)
    nginy.said("reload")
    check(client, upstream)
    assert not [line for line in nginy.errors if "bug in nginy" in line]


@pytest.mark.parametrize("method", ["select", "poll"])
def test_descriptors_beyond_what_the_event_method_takes_are_never_opened(
    site: Site, backend: Listening, method: str
) -> None:
    """select() takes 1,024; one descriptor beyond would end the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        nginy = site.start([backend.name], head=f"event_method: {method}")
        client, upstream = site.exchange(backend)
        crowd = [site.connect() for _ in range(530)]  # two descriptors each
        if method == "select":
            nginy.said("out of descriptors")
            nginy.said("16384 worker_connections exceed the limit of 1024 open files")
            # Some have ended, so clients that have waited are served.
            for _ in range(30):
                crowd.pop(0).close()
        wait_until(lambda: nginy.sockets() >= 2 * 490, "the crowd to be served")
        crowd[-1].sendall(b"x")
        check(client, upstream)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        nginy.stop()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Memory.


@pytest.mark.slow
@pytest.mark.parametrize(("splice", "room"), [("on", 512 << 10), ("off", 2 << 20)])
def test_without_memory_sessions_get_slower_and_none_is_cut(
    site: Site, backend: Listening, splice: str, room: int
) -> None:
    """Nobody reads, and there is room for a few of the rests."""
    nginy = site.start([backend.name], proxy_splice=splice)
    pages = int(pathlib.Path(f"/proc/{nginy.pid}/statm").read_text().split()[0])
    nginy.limit(resource.RLIMIT_AS, pages * resource.getpagesize() + room)
    clients = [site.connect(rcvbuf_bytes=4096) for _ in range(40)]
    # More than the kernel holds between the two.
    answer = bytes(10 << 20)
    ends = [End(backend.accept()) for _ in clients]
    for each in ends:
        each.write_bytes = 1 << 20
        each.send(answer)
        each.finish()
    while select.select([], [each.socket for each in ends if each.unsent], [], 0.2)[1]:
        for each in ends:
            each.step()
    for client, each in zip(clients, ends, strict=True):
        assert client.recv(1 << 16), nginy.errors
        each.close()
    assert nginy.access_lines() == []
    assert not [line for line in nginy.errors if " [crit] " in line]


# A pause.


@pytest.mark.slow
def test_a_pause_longer_than_the_idle_timeout_ends_no_busy_session(
    site: Site, backend: Listening
) -> None:
    """More backends have spoken while nginy was stopped than the kernel reports at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        nginy = site.start([backend.name], proxy_timeout="5s")
        ends = [(site.connect(), backend.accept()) for _ in range(BATCH + 50)]
        nginy.send_signal(signal.SIGSTOP)
        for _, upstream in ends:
            upstream.sendall(b"answer")
        select.select((), (), (), 5.6)
        nginy.send_signal(signal.SIGCONT)
        # All at once: one after the other would take longer than the timeout on a busy machine.
        for client, _ in ends:
            assert client.recv(100) == b"answer"
            client.sendall(b"request")
        for _, upstream in ends:
            assert upstream.recv(100) == b"request"
        assert nginy.access_lines() == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Local ports.


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.call(["unshare", "-rn", "true"]) != 0,
    reason="no network namespace for us",
)
def test_a_backend_without_a_free_port_towards_it_is_passed_over(site: Site) -> None:
    """Ports are per destination: three of four clients are for one backend, which gets two."""
    path = site.directory / "front"
    config = f"""
    upstreams:
      u: {{backends: [{{address: 127.0.0.1:81, weight: 3}}, 127.0.0.1:82]}}
    listeners:
      - {{listen: "unix:{path}", proxy_pass: u}}
      - {{listen: 127.0.0.1:81, return: one}}
      - {{listen: 127.0.0.1:82, return: two}}
    """
    nginy = site.run(config, prefix=NETWORK)
    answers = []
    with contextlib.ExitStack() as clients:
        for _ in range(5):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(15)
            client.connect(str(path))
            answers.append(client.recv(100))
    assert sorted(answers) == [b"", b"one", b"one", b"two", b"two"]
    (line,) = nginy.said(r"\[crit\] ")
    assert "connect() failed (99: Cannot assign requested address)" in line
