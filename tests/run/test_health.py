"""Two redis behind bin/nginy: one is killed, stopped, or answers wrongly, and clients lose nothing.

How long it takes to find out is measured to the tick, on fake time, in
tests/backend/checks/test_monitor.py; here it is measured on a clock, with room for a busy machine.
"""

import contextlib
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from kit.program import PATIENCE_S, Nginy, free_port, needs, wait_until

INTERVAL_S = 0.1
JITTER_S = 0.025
TIMEOUT_S = 0.1
FAILS = 3
SLACK_S = 6.0
"""What a busy machine may add."""

CONFIG = """
upstreams:
  redis:
    backends: [{first}, {second}]
    health_check:
      interval: 100ms
      jitter: 25ms
      timeout: 100ms
      fails: 3
      passes: 2
      send: "PING\\r\\n"
      expect: "+PONG"
    {more}
listeners:
  - {{listen: "{front}", proxy_pass: redis}}
"""


class Redis:
    """A redis-server of this test's own."""

    def __init__(self, host: str, port: int, directory: pathlib.Path) -> None:
        self.address = (host, port)
        self.name = f"{host}:{port}"
        self.directory = directory
        self.start()

    def start(self) -> None:
        host, port = self.address
        options = ["--bind", host, "--port", str(port), "--dir", str(self.directory)]
        self.process = subprocess.Popen(
            [needs("redis-server", "redis-server"), *options, "--save", "", "--daemonize", "no"],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.is_up, "redis")

    def is_up(self) -> bool:
        try:
            return ask(self.address, b"PING").startswith(b"+PONG")
        except ConnectionRefusedError:
            return False

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def ask(address: tuple[str, int], command: bytes) -> bytes:
    """Send redis one command over a connection of its own, and return the answer."""
    with socket.create_connection(address, timeout=PATIENCE_S) as sock:
        sock.sendall(command + b"\r\n")
        return sock.recv(1000)


@pytest.fixture
def pair(host: str, tmp_path: pathlib.Path) -> Iterator[tuple[Redis, Redis]]:
    first = Redis(host, free_port(host), tmp_path)
    with contextlib.closing(first):
        second = Redis(host, free_port(host), tmp_path)
        with contextlib.closing(second):
            yield first, second


class Site:
    """nginy in front of two redis."""

    def __init__(self, nginy: Nginy, front: tuple[str, int], text: str) -> None:
        self.nginy = nginy
        self.front = front
        self.text = text

    def ask_often(self, count: int = 20) -> None:
        """Each of this many clients gets its answer."""
        for _ in range(count):
            assert ask(self.front, b"PING") == b"+PONG\r\n"

    def used(self) -> set[str]:
        """The backends of the sessions that begin now."""
        before = len(self.nginy.access_lines())
        self.ask_often(10)
        return {str(s["upstream_addr"]) for s in self.nginy.sessions(before + 10)[before:]}


@pytest.fixture
def site(pair: tuple[Redis, Redis], host: str, tmp_path: pathlib.Path) -> Iterator[Site]:
    front = (host, free_port(host))
    text = CONFIG.format(
        first=pair[0].name, second=pair[1].name, front=f"{host}:{front[1]}", more="on_down: keep"
    )
    with Nginy(tmp_path, text) as nginy:
        yield Site(nginy, front, text)
        nginy.stop()


def found_out_s(site: Site, redis: Redis, began_s: float) -> float:
    site.nginy.said(f"backend {redis.name} in upstream .*: up -> down: 3 checks in a row failed")
    return time.monotonic() - began_s


def assert_in_time(took_s: float) -> None:
    # The first of them may have been under way for nearly an interval.
    assert took_s > (FAILS - 2) * INTERVAL_S - 2 * JITTER_S
    assert took_s < FAILS * INTERVAL_S + 2 * JITTER_S + SLACK_S


def test_a_backend_that_is_killed_is_found_out_and_comes_back(
    site: Site, pair: tuple[Redis, Redis]
) -> None:
    assert site.used() == {pair[0].name, pair[1].name}
    began_s = time.monotonic()
    pair[1].close()
    assert_in_time(found_out_s(site, pair[1], began_s))
    assert site.used() == {pair[0].name}
    pair[1].start()
    site.nginy.said("down -> up: 2 checks in a row passed")
    assert site.used() == {pair[0].name, pair[1].name}


def test_a_backend_that_is_stopped_is_found_out_by_its_silence(
    site: Site, pair: tuple[Redis, Redis]
) -> None:
    began_s = time.monotonic()
    pair[0].process.send_signal(signal.SIGSTOP)
    try:
        took_s = found_out_s(site, pair[0], began_s)
        assert site.used() == {pair[1].name}
    finally:
        pair[0].process.send_signal(signal.SIGCONT)
    assert took_s < FAILS * INTERVAL_S + TIMEOUT_S + 2 * JITTER_S + SLACK_S
    (line,) = site.nginy.said("up -> down")
    assert "timed out while waiting for the answer" in line
    site.nginy.said("down -> up")


def test_a_backend_that_answers_wrongly_is_found_out(site: Site, pair: tuple[Redis, Redis]) -> None:
    began_s = time.monotonic()
    assert ask(pair[0].address, b"CONFIG SET requirepass secret") == b"+OK\r\n"
    assert_in_time(found_out_s(site, pair[0], began_s))
    assert "the answer is not as expected" in site.nginy.said("up -> down")[0]
    assert site.used() == {pair[1].name}


def test_a_reload_forgets_nothing(site: Site, pair: tuple[Redis, Redis]) -> None:
    pair[0].close()
    found_out_s(site, pair[0], time.monotonic())
    for count in (1, 2):
        site.nginy.write(site.text.replace("fails: 3", f"fails: {3 + count}"))
        site.nginy.send_signal(signal.SIGHUP)
        site.nginy.said("configuration reloaded", count)
        assert site.used() == {pair[1].name}
    site.nginy.write(site.text.replace("on_down: keep", "on_down: keep\n    fail_open: 0.9"))
    site.nginy.send_signal(signal.SIGHUP)
    site.nginy.said("configuration reloaded", 3)
    # Health is ignored from here on; clients are served by the next backend.
    assert {name for used in site.used() for name in used.split(", ")} == {
        pair[0].name,
        pair[1].name,
    }
    assert len([line for line in site.nginy.errors if "up -> down" in line]) == 1


def test_an_upstream_that_a_reload_adds_knows_at_once_what_others_found(
    site: Site, pair: tuple[Redis, Redis]
) -> None:
    pair[0].close()
    found_out_s(site, pair[0], time.monotonic())
    upstreams, listeners = site.text.split("listeners:")
    more = upstreams.replace("upstreams:", "").replace("redis:", "more:")
    site.nginy.write(f"{upstreams}{more}listeners:{listeners}")
    site.nginy.send_signal(signal.SIGHUP)
    site.nginy.said("configuration reloaded")
    (line,) = site.nginy.said(f'backend {pair[0].name} in upstream "more": up -> down')
    assert "3 checks in a row failed" in line


def test_redis_logs_no_trouble_and_keeps_no_connection(
    site: Site, pair: tuple[Redis, Redis]
) -> None:
    wait_until(lambda: b"total_connections_received:1\r" not in info(pair[0]), "checks")
    wait_until(lambda: int(value(info(pair[0]), b"total_connections_received")) > 8, "checks")
    # Ours, and at most one check's; redis may not have read yet that another one is over.
    wait_until(lambda: int(value(info(pair[0]), b"connected_clients")) <= 2, "the end of checks")


def info(redis: Redis) -> bytes:
    with socket.create_connection(redis.address, timeout=PATIENCE_S) as sock:
        sock.sendall(b"INFO\r\nQUIT\r\n")
        return b"".join(iter(lambda: sock.recv(65536), b""))


def value(text: bytes, name: bytes) -> bytes:
    return text.partition(name + b":")[2].partition(b"\r")[0]
