"""A reload loses nothing: the proof, with bin/nginy as a process and a crowd around it."""

import functools
import json
import os
import pathlib
import random
import signal
import socket
import time
from collections.abc import Iterator

import pytest
from nginy.config.load import load
from nginy.config.schema import Config
from nginy.process.server import Server
from nginy.process.single import SingleProcess

from kit.leaks import no_garbage
from kit.program import PATIENCE_S, Nginy, free_port, open_paths, own_host
from kit.traffic import Crowd

TCP_SESSIONS = 1000
UDP_SESSIONS = 1000
NEWCOMERS = 4
RELOADS = 100
BROKEN_FILES = 100
UDP_FEW = 20
SETTLED_AFTER = 20
"""Memory should not grow after this many reloads."""
GROWTH_BYTES = 3 << 20
"""Noise of the allocator; a leak of one object a session and reload would be ten times as much."""
MAX_TURN_MS = 50
BACKENDS_EACH = 10
LARGE_RELOADS = 10
"""How often the longest turn is measured anew as long as it is too long: a processor that is shared
needs up to twice its usual time, and nobody can say for how long."""

KEY = "$remote_addr:$remote_port"
METHODS: list[object] = [
    "round_robin",
    "least_conn",
    {"random": "two"},
    {"hash": KEY},
    {"hash": KEY, "consistent": True},
    {"maglev": KEY},
    {"rendezvous": KEY},
    {"least_time": "first_byte"},
]

OTHER_LOGS: list[dict[str, object]] = [
    {"path": "other.log", "format": "changing", "if": "$lot"},
    {"path": "by-$lot.log", "format": "changing"},
]


class Site:
    """Where nginy listens, which backends there are, and a configuration for each reload."""

    def __init__(self, crowd: Crowd) -> None:
        self.host = own_host()
        self.tcp_port = free_port(self.host)
        self.udp_port = free_port(self.host, socket.SOCK_DGRAM)
        self.extra_port = free_port(self.host)
        self.backends = {
            "tcp": [crowd.tcp_backend() for _ in range(4)],
            "udp": [crowd.udp_backend() for _ in range(4)],
        }

    def config(self, rng: random.Random, *, has_extra: bool | None = None) -> str:
        """Return some configuration that serves both ports; YAML takes JSON as it is."""
        if has_extra is None:
            has_extra = rng.random() < 0.5
        listeners: list[dict[str, object]] = [
            self._listener(rng, "tcp", self.tcp_port),
            self._listener(rng, "udp", self.udp_port),
        ]
        if has_extra:
            listeners.append(self._listener(rng, "tcp", self.extra_port))
        rng.shuffle(listeners)
        return "\n".join(
            f"{key}: {json.dumps(value)}"
            for key, value in {
                "worker_connections": rng.randrange(8000, 9000),
                "log_formats": {"changing": f"{rng.random()} $status $lot"},
                "variables": {
                    "to": {"map": "$protocol", "values": {"TCP": "tcp"}, "default": "udp"},
                    "lot": {"split": "$remote_port", "values": {"5%": f"{rng.random()}"}},
                },
                "upstreams": {name: self._upstream(rng, name) for name in self.backends},
                "listeners": listeners,
            }.items()
        )

    def _upstream(self, rng: random.Random, name: str) -> dict[str, object]:
        chosen = rng.sample(self.backends[name], rng.randrange(1, 5))
        return {
            "balance": rng.choice(METHODS),
            "max_session_time": rng.choice(["off", "10m"]),
            "backends": [{"address": each, "weight": rng.randrange(1, 4)} for each in chosen],
        }

    def _listener(self, rng: random.Random, protocol: str, port: int) -> dict[str, object]:
        return {
            "listen": f"{self.host}:{port}",
            "protocol": protocol,
            "name": f"{protocol}-{port}-{rng.randrange(3)}",
            "proxy_pass": rng.choice([protocol, "$to"]),
            "proxy_timeout": rng.choice(["5m", "6m"]),
            "error_log": rng.choice(
                ["auto", "off", "own.log", {"path": "own.log", "level": "warn"}]
            ),
            "access_log": [
                {"path": "access.log", "format": "json"},
                *rng.sample(OTHER_LOGS, rng.randrange(2)),
            ],
        }


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with Crowd() as made:
        yield made


def resident_bytes(pid: int) -> int:
    """How much memory a process has in use."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors_of(nginy: Nginy) -> int:
    """How many descriptors nginy has open, but for logs whose paths have variables: those stay."""
    return sum("/by-" not in path for path in open_paths(nginy.process.pid))


def said_so_far(nginy: Nginy, text: str) -> int:
    return sum(text in line for line in nginy.errors)


def reload_under(crowd: Crowd, nginy: Nginy, config: str) -> None:
    """Make nginy reload while the crowd goes on."""
    before = said_so_far(nginy, "configuration reloaded")
    nginy.write(config)
    nginy.send_signal(signal.SIGHUP)
    crowd.step_until(lambda: said_so_far(nginy, "configuration reloaded") > before)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_hundred_reloads_lose_no_session_no_byte_and_no_memory(
    crowd: Crowd, tmp_path: pathlib.Path
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    site = Site(crowd)
    with Nginy(tmp_path, site.config(rng)) as nginy:
        crowd.join(socket.SOCK_STREAM, (site.host, site.tcp_port), TCP_SESSIONS)
        crowd.join(socket.SOCK_DGRAM, (site.host, site.udp_port), UDP_SESSIONS)
        crowd.let_come_and_go((site.host, site.tcp_port), NEWCOMERS)
        settled_bytes = 0
        for count in range(RELOADS):
            reload_under(crowd, nginy, site.config(rng))
            if count == SETTLED_AFTER:
                settled_bytes = resident_bytes(nginy.process.pid)
        crowd.hear_from_all()
        assert resident_bytes(nginy.process.pid) < settled_bytes + GROWTH_BYTES
        assert len(crowd.talkers) == TCP_SESSIONS + UDP_SESSIONS
        assert crowd.newcomers_served > RELOADS
        assert said_so_far(nginy, "[error]") == 0
        ended = [line for line in nginy.access_lines() if '"protocol":"UDP"' in line]
        assert ended == []  # each UDP session is the one that it was at first
        crowd.leave()
        crowd.step_until(lambda: len(nginy.access_lines()) >= TCP_SESSIONS + crowd.newcomers_served)
        nginy.stop(signal.SIGTERM)
        ends = [json.loads(line) for line in nginy.access_lines()]
    # all that was left when the last client had gone are idle sessions of UDP
    assert {end["termination"] for end in ends if end["protocol"] == "TCP"} == {"--"}


@pytest.mark.slow
def test_descriptors_are_back_when_sessions_and_reloads_are_over(
    crowd: Crowd, tmp_path: pathlib.Path
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    site = Site(crowd)
    first = site.config(rng)
    with Nginy(tmp_path, first) as nginy:
        before = descriptors_of(nginy)
        for _ in range(3):
            crowd.join(socket.SOCK_STREAM, (site.host, site.tcp_port), 50)
            reload_under(crowd, nginy, site.config(rng))
            crowd.leave()
        reload_under(crowd, nginy, first)
        crowd.step_until(lambda: descriptors_of(nginy) == before)


def broken_files(site: Site, good: str, directory: pathlib.Path) -> Iterator[str]:
    """Yield texts that cannot be applied, each for another reason, again and again."""
    while True:
        yield "listeners: [\n"
        yield good.replace("worker_connections", "worker_conections")
        yield good.replace('"weight": ', '"weight": -', 1)
        yield good.replace('"proxy_pass": "', '"proxy_pass": "nobody-', 1)
        yield "listeners: []\n"
        yield "\x01"
        yield good.replace('"path": "access.log"', '"path": "not/there.log"', 1)
        yield f"error_log: {directory}/not/there.log\n{good}"
        taken = {"listen": f"{site.host}:{site.extra_port}", "return": "a"}
        yield good.replace("listeners: [", f"listeners: [{json.dumps(taken)}, ")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_hundred_broken_files_in_a_row_change_nothing(
    crowd: Crowd, tmp_path: pathlib.Path
) -> None:
    site = Site(crowd)
    good = site.config(random.Random(0), has_extra=False)
    with (
        Nginy(tmp_path, good) as nginy,
        socket.create_server((site.host, site.extra_port)),
    ):
        running = pathlib.Path(f"{nginy.pid_path}.conf").read_text()
        descriptors = descriptors_of(nginy)
        crowd.join(socket.SOCK_STREAM, (site.host, site.tcp_port), 20)
        crowd.join(socket.SOCK_DGRAM, (site.host, site.udp_port), UDP_FEW)
        crowd.let_come_and_go((site.host, site.tcp_port), NEWCOMERS)
        files = broken_files(site, good, tmp_path)
        for count in range(1, BROKEN_FILES + 1):
            lines = len(nginy.errors)
            nginy.write(next(files))
            nginy.send_signal(signal.SIGHUP)
            refused = functools.partial(said_so_far, nginy, "configuration not changed")
            crowd.step_until(lambda: refused() == count)  # noqa: B023 - called before the next one
            report = [line for line in nginy.errors[lines:] if "[notice]" not in line]
            assert len(report) == 2, report  # what is wrong, and that nothing was changed
        crowd.hear_from_all()
        crowd.leave()
        assert pathlib.Path(f"{nginy.pid_path}.conf").read_text() == running
        assert said_so_far(nginy, "configuration reloaded") == 0
        crowd.step_until(lambda: descriptors_of(nginy) == descriptors + UDP_FEW)


# A large configuration.


def large_config(count: int, first: int) -> str:
    backends = "".join(
        f"    - {{address: '10.0.{n >> 8}.{n & 255}:80', weight: 2}}\n"
        for n in range(first, first + count)
    )
    return (
        "error_log: {path: error.log, level: warn}\n"
        "listeners: {listen: 127.0.0.1:LISTEN, proxy_pass: web}\n"
        "upstreams:\n  web:\n    balance: {hash: $remote_addr, consistent: true}\n"
        f"    backends:\n{backends}"
    )


def longest_turn_ms(process: SingleProcess) -> float:
    """Reload, and return the processor time of the longest turn until all is done."""
    server = process.server
    before = server.config
    process.control.reload()
    turns_ms = []
    deadline_s = time.monotonic() + PATIENCE_S
    # The ring is built some turns after the list was changed: until no timer is left.
    while server.config is before or server.loop.timers.next_deadline_ms() is not None:
        assert time.monotonic() < deadline_s
        started_s = time.process_time()
        server.loop.turn(1)
        turns_ms.append((time.process_time() - started_s) * 1000)
    assert len(turns_ms) > 10
    return max(turns_ms)


WEB = "upstreams: {NAME: {backends: ['127.0.0.1:TARGET', 'localhost:TARGET']}}\n"
TO = "variables: {to: {map: $protocol, values: {TCP: NAME}, default: $other}, "
TO += "other: {map: $remote_port, values: {7: NAME}, default: NAME}}\n"
GONE = {
    "checks": "upstreams: {NAME: {backends: ['127.0.0.1:TARGET', 'localhost:TARGET'], "
    "health_check: {interval: 1h}, agent_check: {port: TARGET, interval: 1h}, queue: {size: 5}}}\n"
    "listeners: {listen: '127.0.0.1:PORT', proxy_pass: NAME}\n",
    "udp": f"{WEB}listeners: {{listen: '127.0.0.1:PORT', protocol: udp, proxy_pass: NAME}}\n",
    "variables": f"{WEB}{TO}listeners: {{listen: '127.0.0.1:PORT', proxy_pass: $to}}\n",
    "variables of UDP": f"{WEB}{TO}"
    "listeners: {listen: '127.0.0.1:PORT', protocol: udp, proxy_pass: $to}\n",
    "routes": f"{WEB}listeners: {{listen: '127.0.0.1:PORT', proxy_pass: NAME, "
    "routes: [{sni: a.example, proxy_pass: NAME}, {starts: SSH-, return: no}]}\n",
    "logs": f"{WEB}{TO}log_formats: {{x: $status $to $time_local}}\n"
    "listeners: {listen: '127.0.0.1:PORT', proxy_pass: NAME, error_log: NAME.log, "
    "access_log: [{path: a.log, format: x, if: $to}, {path: by-$to.log, format: x}]}\n",
    "phases": f"{WEB}listeners: {{listen: '127.0.0.1:PORT', proxy_pass: NAME, "
    "limit_conn: {key: $remote_addr, max: 10, zone: a}, access: [{allow: 127.0.0.1}], "
    "proxy_download_rate: 100k, proxy_bind: 127.0.0.1}\n",
    "return": "listeners: {listen: '127.0.0.1:PORT', return: NAME}\n",
}


@pytest.mark.parametrize("kind", GONE)
def test_what_a_reload_removes_leaves_nothing_for_the_cyclic_collector(
    tmp_path: pathlib.Path, kind: str
) -> None:
    path = tmp_path / "nginy.yml"
    target = free_port("127.0.0.1")

    def config(name: str) -> Config:
        text = GONE[kind].replace("NAME", name).replace("TARGET", str(target))
        kind_of_socket = socket.SOCK_DGRAM if "udp" in text else socket.SOCK_STREAM
        port = str(free_port("127.0.0.1", kind_of_socket))
        head = "error_log: {path: error.log, level: crit}\n"
        path.write_text(head + text.replace("PORT", port))
        return load(str(path), {})

    server = Server()
    try:
        server.apply(config("before"))
        (listener,) = server.services.listeners()
        with no_garbage():
            with socket.socket(type=listener.socket.type) as client:
                client.connect(listener.socket.getsockname())
                client.send(b"hello")
                for _ in range(10):
                    server.loop.turn(1)
            del listener
            server.apply(config("after"))
            for _ in range(10):
                server.loop.turn(1)
            server.services.let_go()
            server.loop.turn(0)
        assert len(server.services.listeners()) == 1
    finally:
        server.close()


def many_upstreams(count: int, attempt: int, port: int) -> str:
    """A thousandth of the backends in each; half of the upstreams are others each time, and each
    of the others has one other backend."""
    names = [f"u{n}" if n % 2 else f"v{attempt}x{n}" for n in range(count)]
    upstreams = [
        f"  {name}: {{backends: [{', '.join(backends_of(n, attempt))}]}}"
        for n, name in enumerate(names)
    ]
    own = (f"127.{8 + (n >> 8)}.{n & 255}.1:{port}" for n in range(count))
    listeners = (
        f"  - {{listen: '{address}', proxy_pass: {name}, proxy_timeout: {attempt + 1}s}}"
        for address, name in zip(own, names, strict=True)
    )
    lines = ["error_log: {path: error.log, level: warn}", "upstreams:", *upstreams, "listeners:"]
    return "\n".join([*lines, *listeners]) + "\n"


def backends_of(upstream: int, attempt: int) -> Iterator[str]:
    for n in range(BACKENDS_EACH - 1):
        yield f"10.{upstream >> 8}.{upstream & 255}.{n}:80"
    yield f"10.{upstream >> 8}.{upstream & 255}.99:{attempt + 1}"


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(90)
@pytest.mark.usefixtures("collector_as_in_run")
def test_no_turn_is_long_while_a_thousand_upstreams_change(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "nginy.yml"
    port = free_port("127.8.0.1")
    path.write_text(many_upstreams(1000, 0, port))
    process = SingleProcess(str(path), {})
    try:
        process.start(load(str(path), {}))
        longest_ms = []
        for attempt in range(1, LARGE_RELOADS + 1):
            path.write_text(many_upstreams(1000, attempt, port))
            longest_ms.append(longest_turn_ms(process))
            if longest_ms[-1] < MAX_TURN_MS:
                break
        assert longest_ms[-1] < MAX_TURN_MS, longest_ms
    finally:
        process.close()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(60)
@pytest.mark.usefixtures("collector_as_in_run")
def test_no_turn_is_long_while_a_thousand_backends_change(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "nginy.yml"
    port = str(free_port("127.0.0.1"))
    path.write_text(large_config(1000, 0).replace("LISTEN", port))
    process = SingleProcess(str(path), {})
    try:
        process.start(load(str(path), {}))
        longest_ms = []
        for attempt in range(1, LARGE_RELOADS + 1):
            path.write_text(large_config(1000, attempt * 500).replace("LISTEN", port))
            longest_ms.append(longest_turn_ms(process))
            if longest_ms[-1] < MAX_TURN_MS:
                break
        assert longest_ms[-1] < MAX_TURN_MS, longest_ms
    finally:
        process.close()
