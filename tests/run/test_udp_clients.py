"""UDP in real use: bin/nginy between clients and servers that others have written.

A program that is not installed skips its test, naming Debian's package. Everything listens on an
address of 127.0.0.0/8 that is drawn for the run, so that the ports found free there stay free.
"""

import contextlib
import json
import pathlib
import re
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from kit.program import PATIENCE_S, Fields, Nginy, free_port, needs, wait_until

QUERIES = "".join(f"host{i}.example A\n" for i in range(100))


@contextlib.contextmanager
def running(*argv: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(argv, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as p:
        try:
            yield p
        finally:
            with contextlib.suppress(ProcessLookupError):
                p.kill()


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Callable[[str], Nginy]]:
    """Start bin/nginy with a configuration."""
    with contextlib.ExitStack() as stack:
        yield lambda config: stack.enter_context(Nginy(tmp_path, config))


def sessions_of(nginy: Nginy) -> list[Fields]:
    """Stop nginy, and return all the sessions that it had."""
    nginy.stop()
    return [json.loads(line) for line in nginy.access_lines()]


@contextlib.contextmanager
def name_server(host: str, answer: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A dnsmasq that gives the same answer to each question, once it does."""
    dnsmasq = needs("dnsmasq", "dnsmasq-base")
    port = udp_port(host)
    with running(
        *(dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"),
        *("--bind-interfaces", f"--listen-address={host}", f"--port={port}", "--cache-size=0"),
        *(f"--address=/#/{answer}", "--pid-file=", "--user="),
    ) as process:
        wait_until(lambda: dig(host, port, tries=5) == answer, "dnsmasq")
        yield process, port


def dig(host: str, port: int, *options: str, tries: int = 1) -> str:
    argv = [needs("dig", "bind9-dnsutils"), "+short", "+time=3", f"+tries={tries}", *options]
    argv += ["-p", str(port), f"@{host}", "name.example"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    return done.stdout.strip()


def udp_port(host: str) -> int:
    return free_port(host, socket.SOCK_DGRAM)


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
    host: str, start: Callable[[str], Nginy]
) -> None:
    with name_server(host, "192.0.2.1") as (_, one), name_server(host, "192.0.2.2") as (_, two):
        port = udp_port(host)
        nginy = start(config_of(host, port, [one, two], "proxy_responses: 1"))
        answers = [dig(host, port) for _ in range(4)]
    assert answers == ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"]
    sessions = sessions_of(nginy)
    assert [s["upstream_addr"] for s in sessions] == [f"{host}:{one}", f"{host}:{two}"] * 2
    assert {(s["protocol"], s["status"], s["requests"], s["responses"]) for s in sessions} == {
        ("UDP", "200", 1, 1)
    }


def dnsperf(host: str, port: int, queries: pathlib.Path, *options: str) -> Iterator[dict[str, int]]:
    """Start dnsperf; the second step waits for its end, and returns its counts."""
    queries.write_text(QUERIES)
    argv = [needs("dnsperf", "dnsperf"), "-s", host, "-p", str(port), "-d", str(queries), *options]
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
    host: str, start: Callable[[str], Nginy], tmp_path: pathlib.Path
) -> None:
    with name_server(host, "192.0.2.1") as (_, one), name_server(host, "192.0.2.2") as (_, two):
        port = udp_port(host)
        nginy = start(config_of(host, port, [one, two], "proxy_responses: 1"))
        run = dnsperf(host, port, tmp_path / "queries", "-n", "5", "-c", "20", "-q", "20")
        next(run)
        counts = next(run)
    assert counts == {"sent": 500, "completed": 500, "lost": 0}
    sessions = sessions_of(nginy)
    assert sum(int(s["requests"]) for s in sessions) == 500
    assert {s["termination"] for s in sessions} == {"--"}


@pytest.mark.slow
def test_a_backend_that_is_cut_costs_only_the_queries_in_flight_to_it(
    host: str, start: Callable[[str], Nginy], tmp_path: pathlib.Path
) -> None:
    with (
        name_server(host, "192.0.2.1") as (victim, one),
        name_server(host, "192.0.2.2") as (_, two),
    ):
        port = udp_port(host)
        nginy = start(config_of(host, port, [one, two]))
        run = dnsperf(
            *(host, port, tmp_path / "queries"),
            *("-l", "2", "-c", "10", "-q", "10", "-Q", "1000", "-t", "3"),
        )
        next(run)
        wait_for_traffic(host, one)
        victim.kill()
        counts = next(run)
    sessions = sessions_of(nginy)
    failed = [s for s in sessions if s["termination"] == "SD"]
    # One whose first query was refused has gone on to the other server, and has not failed.
    cut = [s for s in sessions if str(s["upstream_addr"]).startswith(f"{host}:{one}, ")]
    print(counts, len(failed), len(cut))
    # Each of the 10 clients had at most one query in flight, and half of them spoke to the victim.
    assert 0 < len(failed) + len(cut) <= 10
    assert counts["lost"] <= 10
    assert counts["sent"] == counts["completed"] + counts["lost"]
    assert {s["upstream_addr"] for s in failed} <= {f"{host}:{one}"}


def wait_for_traffic(host: str, port: int) -> None:
    """Wait until somebody has connected a UDP socket to a server: the load has begun."""
    packed = socket.inet_aton(host)[::-1].hex().upper()
    peer = f"{packed}:{port:04X}"
    table = pathlib.Path("/proc/net/udp")
    wait_until(lambda: any(line.split()[2] == peer for line in table.read_text().splitlines()))


@pytest.mark.slow
def test_logger_is_balanced_line_by_line(host: str, start: Callable[[str], Nginy]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        for sink in (one, two):
            sink.bind((host, 0))
            sink.settimeout(PATIENCE_S)
        ports = [sink.getsockname()[1] for sink in (one, two)]
        port = udp_port(host)
        nginy = start(config_of(host, port, ports, "proxy_requests: 1", "proxy_responses: 0"))
        lines = "".join(f"line {i}\n" for i in range(10))
        argv = [needs("logger", "bsdutils"), "--server", host, "--port", str(port), "--udp"]
        subprocess.run(argv, input=lines, text=True, check=True, timeout=PATIENCE_S)
        heard = [
            [sink.recv(65535).decode().rstrip("\0\n") for _ in range(5)] for sink in (one, two)
        ]
    assert [line.split()[-1] for line in heard[0]] == ["0", "2", "4", "6", "8"]
    assert [line.split()[-1] for line in heard[1]] == ["1", "3", "5", "7", "9"]
    assert len(sessions_of(nginy)) == 10


@pytest.mark.slow
def test_iperf3_loses_and_reorders_nothing(host: str, start: Callable[[str], Nginy]) -> None:
    iperf3 = needs("iperf3", "iperf3")
    port, server_port = (free_port(host) for _ in range(2))
    tcp = f"  - {{listen: '{host}:{port}', proxy_pass: '{host}:{server_port}'}}"
    config = f"{config_of(host, port, [server_port])}\n{tcp}"
    with running(iperf3, "-s", "-1", "-B", host, "-p", str(server_port)):
        wait_for_listener(host, server_port)
        nginy = start(config)
        # Few enough that the kernel's buffers hold what comes while a busy machine runs others.
        argv = [iperf3, "-c", host, "-p", str(port), "-u", "-J"]
        argv += ["-l", "1200", "-b", "5M", "-k", "300"]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S
        )
    result = json.loads(done.stdout)
    assert "error" not in result, result
    (stream,) = result["end"]["streams"]
    counts = stream["udp"]
    print(counts)
    assert counts["packets"] >= 300
    assert (counts["lost_packets"], counts["out_of_order"]) == (0, 0)
    (session,) = [s for s in sessions_of(nginy) if s["protocol"] == "UDP"]
    assert session["requests"] >= counts["packets"]


def wait_for_listener(host: str, port: int) -> None:
    """Wait for a TCP listener without connecting, which this one would take for its client."""
    packed = socket.inet_aton(host)[::-1].hex().upper()
    listener = f"{packed}:{port:04X} 00000000:0000 0A"
    wait_until(lambda: listener in pathlib.Path("/proc/net/tcp").read_text(), listener)
