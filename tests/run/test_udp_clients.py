"""UDP as users meet it: bin/nginy between clients and servers that were written by others.

A program that is not installed skips its test. Everything listens on an address of 127.0.0.0/8
that is drawn for the run, so that the ports found free there stay free.
"""

import contextlib
import json
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import nginy
import pytest

CHECKOUT = pathlib.Path(nginy.__file__).parent.parent
PATIENCE_S = 10
LOGGED = ("protocol", "status", "termination", "requests", "responses", "upstream_addr")
QUERIES = "".join(f"host{i}.example A\n" for i in range(100))


@pytest.fixture
def host() -> str:
    """An address of this machine that nobody else is likely to use."""
    number = random.SystemRandom().randrange(1 << 16, 1 << 24)
    return socket.inet_ntoa((127 << 24 | number & ~1 | 2).to_bytes(4, "big"))


def free_port(host: str, kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    with socket.socket(type=kind) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def needs(program: str) -> str:
    path = shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


@contextlib.contextmanager
def running(*argv: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(argv, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as p:
        try:
            yield p
        finally:
            with contextlib.suppress(ProcessLookupError):
                p.kill()


class Nginy:
    """A running bin/nginy; `stop` ends it, and returns its access log, a dict a session."""

    def __init__(self, directory: pathlib.Path, config: str, listeners: int) -> None:
        self.log = directory / "access.log"
        path = directory / "nginy.yml"
        log_format = " ".join(f"{name}=${name}" for name in LOGGED)
        path.write_text(
            f"log_formats: {{run: '{log_format}'}}\n"
            f"access_log: {{path: {self.log}, format: run}}\n{config}"
        )
        self.process = subprocess.Popen(
            [sys.executable, str(CHECKOUT / "bin" / "nginy"), str(path)],
            text=True,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        said = [self.process.stderr.readline() for _ in range(listeners)]
        assert all("listening on" in line for line in said), said

    def stop(self) -> list[dict[str, str]]:
        self.process.send_signal(signal.SIGTERM)
        _, self.errors = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, self.errors
        lines = self.log.read_text().splitlines()
        return [dict(field.split("=") for field in line.split()) for line in lines]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Callable[[str, int], Nginy]]:
    """Start bin/nginy with a configuration, and wait for so many listeners."""
    started: list[Nginy] = []

    def start_one(config: str, listeners: int = 1) -> Nginy:
        started.append(Nginy(tmp_path, config, listeners))
        return started[-1]

    yield start_one
    for one in started:
        one.close()


@contextlib.contextmanager
def name_server(host: str, answer: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A dnsmasq that gives the same answer to each question, once it does."""
    port = free_port(host)
    with running(
        *(needs("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"),
        *("--no-hosts", "--bind-interfaces", f"--listen-address={host}", f"--port={port}"),
        *(f"--address=/#/{answer}", "--pid-file=", "--user=", "--cache-size=0"),
    ) as process:
        deadline_s = time.monotonic() + PATIENCE_S
        while dig(host, port, tries=5) != answer:
            assert time.monotonic() < deadline_s
        yield process, port


def dig(host: str, port: int, *options: str, tries: int = 1) -> str:
    argv = [needs("dig"), "+short", "+time=1", f"+tries={tries}", *options]
    argv += ["-p", str(port), f"@{host}", "name.example"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    return done.stdout.strip()


def config_of(host: str, port: int, backends: list[int], *settings: str) -> str:
    return "\n".join(
        (
            "upstreams:",
            f"  u: {{backends: [{', '.join(f'{host}:{backend}' for backend in backends)}]}}",
            "listeners:",
            f"  - listen: {host}:{port}",
            "    protocol: udp",
            "    proxy_pass: u",
            *(f"    {setting}" for setting in settings),
        )
    )


@pytest.mark.slow
def test_dig_gets_its_answers_from_one_server_after_the_other(
    host: str, start: Callable[..., Nginy]
) -> None:
    with name_server(host, "192.0.2.1") as (_, one), name_server(host, "192.0.2.2") as (_, two):
        port = free_port(host)
        nginy = start(config_of(host, port, [one, two], "proxy_responses: 1"))
        answers = [dig(host, port) for _ in range(4)]
    assert answers == ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"]
    sessions = nginy.stop()
    assert [s["upstream_addr"] for s in sessions] == [f"{host}:{one}", f"{host}:{two}"] * 2
    assert {(s["protocol"], s["status"], s["requests"], s["responses"]) for s in sessions} == {
        ("UDP", "200", "1", "1")
    }


def dnsperf(host: str, port: int, queries: pathlib.Path, *options: str) -> Iterator[dict[str, int]]:
    """Start dnsperf; the second step waits for its end, and returns its counts."""
    queries.write_text(QUERIES)
    argv = [needs("dnsperf"), "-s", host, "-p", str(port), "-d", str(queries), *options]
    with subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
        yield {}
        said, _ = p.communicate(timeout=2 * PATIENCE_S)
    assert p.returncode == 0, said
    yield {
        name: int(count)
        for name, count in re.findall(r"Queries (sent|completed|lost):\s+(\d+)", said)
    }


@pytest.mark.slow
def test_dnsperf_loses_no_query(
    host: str, start: Callable[..., Nginy], tmp_path: pathlib.Path
) -> None:
    with name_server(host, "192.0.2.1") as (_, one), name_server(host, "192.0.2.2") as (_, two):
        port = free_port(host)
        nginy = start(config_of(host, port, [one, two], "proxy_responses: 1"))
        run = dnsperf(host, port, tmp_path / "queries", "-n", "5", "-c", "20", "-q", "20")
        next(run)
        counts = next(run)
    assert counts == {"sent": 500, "completed": 500, "lost": 0}
    sessions = nginy.stop()
    assert sum(int(s["requests"]) for s in sessions) == 500
    assert {s["termination"] for s in sessions} == {"--"}


@pytest.mark.slow
def test_a_backend_that_is_cut_costs_only_the_queries_in_flight_to_it(
    host: str, start: Callable[..., Nginy], tmp_path: pathlib.Path
) -> None:
    with (
        name_server(host, "192.0.2.1") as (victim, one),
        name_server(host, "192.0.2.2") as (_, two),
    ):
        port = free_port(host)
        nginy = start(config_of(host, port, [one, two]))
        run = dnsperf(
            *(host, port, tmp_path / "queries"),
            *("-l", "2", "-c", "10", "-q", "10", "-Q", "1000", "-t", "1"),
        )
        next(run)
        wait_for_traffic(host, one)
        victim.kill()
        counts = next(run)
    sessions = nginy.stop()
    failed = [s for s in sessions if s["termination"] == "SD"]
    print(counts, len(failed))
    # Each of the 10 clients had at most one query in flight, and half of them spoke to the victim.
    assert 0 < len(failed) <= 10
    assert counts["lost"] <= 10
    assert counts["sent"] == counts["completed"] + counts["lost"]
    assert {s["upstream_addr"] for s in failed} == {f"{host}:{one}"}


def wait_for_traffic(host: str, port: int) -> None:
    """Wait until somebody has connected a UDP socket to a server: the load has begun."""
    packed = socket.inet_aton(host)[::-1].hex().upper()
    peer = f"{packed}:{port:04X}"
    deadline_s = time.monotonic() + PATIENCE_S
    while not any(
        line.split()[2] == peer for line in pathlib.Path("/proc/net/udp").read_text().splitlines()
    ):
        assert time.monotonic() < deadline_s


@pytest.mark.slow
def test_logger_is_balanced_line_by_line(host: str, start: Callable[..., Nginy]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        for sink in (one, two):
            sink.bind((host, 0))
            sink.settimeout(PATIENCE_S)
        ports = [sink.getsockname()[1] for sink in (one, two)]
        port = free_port(host)
        nginy = start(config_of(host, port, ports, "proxy_requests: 1", "proxy_responses: 0"))
        lines = "".join(f"line {i}\n" for i in range(10))
        argv = [needs("logger"), "--server", host, "--port", str(port), "--udp"]
        subprocess.run(argv, input=lines, text=True, check=True, timeout=PATIENCE_S)
        heard = [
            [sink.recv(65535).decode().rstrip("\0\n") for _ in range(5)] for sink in (one, two)
        ]
    assert [line.split()[-1] for line in heard[0]] == ["0", "2", "4", "6", "8"]
    assert [line.split()[-1] for line in heard[1]] == ["1", "3", "5", "7", "9"]
    assert len(nginy.stop()) == 10


@pytest.mark.slow
def test_iperf3_loses_and_reorders_nothing(host: str, start: Callable[..., Nginy]) -> None:
    iperf3 = needs("iperf3")
    port, server_port = (free_port(host, socket.SOCK_STREAM) for _ in range(2))
    tcp = f"  - {{listen: '{host}:{port}', proxy_pass: '{host}:{server_port}'}}"
    config = f"{config_of(host, port, [server_port])}\n{tcp}"
    with running(iperf3, "-s", "-1", "-B", host, "-p", str(server_port)):
        wait_for_listener(host, server_port)
        nginy = start(config, listeners=2)
        argv = [iperf3, "-c", host, "-p", str(port), "-u", "-b", "20M", "-t", "1", "-J"]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S
        )
    result = json.loads(done.stdout)
    assert "error" not in result, result
    print(result["end"]["sum"])
    assert result["end"]["sum"]["packets"] > 20
    assert result["end"]["sum"]["lost_packets"] == 0
    (session,) = [s for s in nginy.stop() if s["protocol"] == "UDP"]
    assert int(session["requests"]) >= result["end"]["sum"]["packets"]


def wait_for_listener(host: str, port: int) -> None:
    """Wait for a TCP listener without connecting, which this one would take for its client."""
    packed = socket.inet_aton(host)[::-1].hex().upper()
    deadline_s = time.monotonic() + PATIENCE_S
    while f"{packed}:{port:04X} 00000000:0000 0A" not in pathlib.Path("/proc/net/tcp").read_text():
        assert time.monotonic() < deadline_s
