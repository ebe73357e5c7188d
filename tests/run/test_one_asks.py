"""Several workers, one of which makes all checks: what backends, name servers and the log see."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from kit.program import PATIENCE_S, Nginy, free_port, needs, own_host, wait_until

WORKERS = 3
INTERVAL_MS = 100
CHECKS = 7


class Backend:
    """Listens where nobody else does, can go away and come back."""

    def __init__(self) -> None:
        host = own_host()
        self.address = host, free_port(host)
        self.socket: socket.socket | None = None
        self.start()

    def start(self) -> None:
        self.socket = socket.create_server(self.address)
        self.socket.settimeout(PATIENCE_S)

    def accept(self) -> None:
        assert self.socket is not None
        self.socket.accept()[0].close()

    def accept_those_that_wait(self) -> float:
        """Return a time before all that are accepted later."""
        assert self.socket is not None
        self.socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                began_s = time.monotonic()
                self.accept()
        self.socket.settimeout(PATIENCE_S)
        return began_s

    def stop(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.stop()


@pytest.fixture
def here() -> tuple[str, int]:
    host = own_host()
    return host, free_port(host)


def config(backend: Backend, here: tuple[str, int]) -> str:
    check = f"{{interval: {INTERVAL_MS}ms, timeout: 50ms, fails: 1, passes: 1}}"
    return (
        f"workers: {WORKERS}\n"
        f"upstreams: {{web: {{backends: '{backend.address[0]}:{backend.address[1]}',"
        f" health_check: {check}}}}}\n"
        f"listeners: {{listen: '{here[0]}:{here[1]}', proxy_pass: web}}\n"
    )


def refuses(target: tuple[str, int]) -> bool:
    """Whether a client is turned away before any backend is tried."""
    with socket.create_connection(target, timeout=PATIENCE_S) as client:
        try:
            return client.recv(1) == b""
        except ConnectionResetError:
            return True


def all_know(nginy: Nginy, target: tuple[str, int]) -> bool:
    """Whether clients are turned away again and again, but never because of a failed attempt."""
    before = len(nginy.errors)
    assert all(refuses(target) for _ in range(10 * WORKERS))
    return not any("client:" in line and "failed (111" in line for line in nginy.errors[before:])


def worker_that_said(line: str) -> int:
    found = re.search(r"\] ([0-9]+)#", line)
    assert found is not None
    return int(found[1])


@pytest.mark.slow
def test_a_backend_is_checked_once_an_interval_and_a_change_is_logged_once(
    tmp_path: pathlib.Path, backend: Backend, here: tuple[str, int]
) -> None:
    with Nginy(tmp_path, config(backend, here)) as nginy:
        # The first ones, after a start that took its time, do not count.
        began_s = backend.accept_those_that_wait()
        for _ in range(1 + CHECKS):
            backend.accept()
        # A check that is late comes closer to the next one; three workers would need a third.
        assert time.monotonic() - began_s > CHECKS / 2 * INTERVAL_MS / 1000
        backend.stop()
        (line,) = nginy.said("up -> down")
        leader = worker_that_said(line)
        wait_until(lambda: all_know(nginy, here), "every worker to know")
        backend.start()
        nginy.said("down -> up")
        assert len([line for line in nginy.errors if "up -> down" in line]) == 1
        os.kill(leader, signal.SIGKILL)
        nginy.said("exited on signal 9")
        # Another one goes on asking; some that are accepted here were asked by the first.
        for _ in range(CHECKS):
            backend.accept()
        backend.stop()
        first, second = nginy.said("up -> down", 2)
        assert worker_that_said(second) != worker_that_said(first)


def test_a_name_is_asked_for_once(
    tmp_path: pathlib.Path, backend: Backend, here: tuple[str, int]
) -> None:
    (host, port), log = here, tmp_path / "dnsmasq.log"
    server = subprocess.Popen(
        [
            needs("dnsmasq", "dnsmasq-base"),
            *("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"),
            *("--bind-interfaces", "--local-ttl=60", "--cache-size=0", "--user=", "--pid-file="),
            *("--log-queries", f"--log-facility={log}"),
            *(f"--address=/web.example/{backend.address[0]}", f"--listen-address={host}"),
            f"--port={port}",
        ]
    )
    try:
        wait_until(lambda: log.exists() and "started" in log.read_text(), "dnsmasq")
        front = free_port(host)
        text = (
            f"workers: {WORKERS}\n"
            f"resolver: {{nameservers: '{host}:{port}', ipv6: off}}\n"
            f"upstreams: {{web: {{backends: 'web.example:{backend.address[1]}'}}}}\n"
            f"listeners: {{listen: '{host}:{front}', proxy_pass: web}}\n"
        )
        with Nginy(tmp_path, text) as nginy:
            for _ in range(3 * WORKERS):
                with socket.create_connection((host, front), timeout=PATIENCE_S) as client:
                    backend.accept()
                    assert client.recv(1) == b""
            assert log.read_text().count("query[A] web.example") == 1
            assert len([line for line in nginy.errors if "has 1 address" in line]) == 1
    finally:
        server.kill()
        server.wait()
