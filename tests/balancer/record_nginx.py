"""Record which backends a real nginx picks, for `test_as_nginx` to replay.

Run by hand, not by pytest: `python tests/balancer/record_nginx.py [CASE ...]`. Needs nginx with its
stream module. Writes one file for each case below `recorded/`; the cases are in `CASES`.

How a pick is seen: the backends are listening sockets of this process, and nginx's access log names
all backends that a session was sent to, in order. A backend that is dead is a socket that is bound
but does not listen, so its port cannot be taken by anyone else. Keys are the client addresses of a
PROXY protocol header; the client port in it is the number of the session.

Sessions are opened one after the other, each in the middle of a second, as nginx's clock for
failures counts whole seconds.
"""

import contextlib
import json
import pathlib
import random
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

HERE = pathlib.Path(__file__).parent
TIMEOUT_S = 5

CONFIGURATION = """\
{load}daemon off; master_process off; error_log {directory}/error.log; pid {directory}/nginx.pid;
events {{}}
stream {{
    log_format attempts '$proxy_protocol_port $status $upstream_addr';
    map $proxy_protocol_addr $key {{ 0.0.0.0 ""; default $proxy_protocol_addr; }}
    upstream nobody {{ {method} {servers} }}
    server {{
        listen unix:{directory}/nginx.sock proxy_protocol;
        proxy_pass nobody;
        access_log {directory}/access.log attempts;
    }}
}}
"""

Server = dict[str, Any]
"""A server line: name, and where they differ from nginx's defaults weight, max_fails, fail_timeout,
max_conns, down, backup; `dead` if it refuses connections at first."""

Step = tuple[Any, ...]
"""("session", key) or ("open", key) and ("close", index among the open sessions), ("second",) for a
wait until the next second, ("kill", server) and ("revive", server)."""


class Backends:
    """The servers of a case: one bound socket each."""

    def __init__(self, servers: list[Server], directory: str) -> None:
        self.servers = servers
        self.sockets = [self.bound(index, directory) for index in range(len(servers))]
        for server, sock in zip(servers, self.sockets, strict=True):
            if not server.get("dead"):
                sock.listen()

    def bound(self, index: int, directory: str) -> socket.socket:
        server = self.servers[index]
        if server["name"].lower().startswith("unix:"):
            path = f"{directory}/{index}.sock"
            server["name"] = server["address"] = server["name"] + path
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
        else:
            with socket.socket() as finder:
                finder.bind(("127.0.0.1", 0))
                port = finder.getsockname()[1]
            # Only a port that was asked for stays with its socket while that does not listen.
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            server["address"] = f"127.0.0.1:{port}"
            server["name"] = f"{server['name'].split(':')[0]}:{port}"
        return sock

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


class Recorder:
    """One nginx in front of the backends of one case, and the sessions through it."""

    def __init__(self, directory: str, backends: Backends) -> None:
        self.directory = directory
        self.backends = backends
        self.began_s = int(time.time())
        self.sessions: list[tuple[socket.socket, socket.socket]] = []
        self.events: list[list[Any]] = []
        self.opened: list[list[Any]] = []

    def run(self, steps: list[Step]) -> list[list[Any]]:
        for name, *arguments in steps:
            getattr(self, name)(*arguments)
        while self.sessions:
            self.close(0)
        for number, attempts in self.logged():
            self.opened[number - 1] += attempts
        return self.events

    def session(self, key: str) -> None:
        """Open a session and close it again, if it was served."""
        self.open(key)
        self.events[-1][0] = "session"
        if self.sessions:
            self.end(0)

    def open(self, key: str) -> None:
        """Open a session and wait until nginx has chosen, for better or worse."""
        self.wait_for_mid_second()
        second = int(time.time())
        event = ["open", key, second - self.began_s]
        self.events.append(event)
        self.opened.append(event)
        client = socket.socket(socket.AF_UNIX)
        client.connect(f"{self.directory}/nginx.sock")
        client.sendall(f"PROXY TCP4 {key} 127.0.0.1 {len(self.opened)} 80\r\n".encode())
        watched = [client, *filter(is_listening, self.backends.sockets)]
        [ready], _, _ = select.select(watched, [], [], TIMEOUT_S)
        if ready is client:
            client.close()
        else:
            self.sessions.append((client, ready.accept()[0]))
        if int(time.time()) != second:
            raise SystemExit("too slow: a second began while nginx was choosing")

    def close(self, index: int) -> None:
        """Close a session; the list is shorter than planned if one was not served."""
        if index < len(self.sessions):
            self.end(index)
            self.events.append(["close", index])

    def end(self, index: int) -> None:
        """Close from the backend's side; nginx's last act is to show it to the client."""
        client, server = self.sessions.pop(index)
        server.close()
        client.settimeout(TIMEOUT_S)
        while client.recv(1024):
            pass
        client.close()

    def second(self) -> None:
        """Let a second begin."""
        began_s = int(time.time())
        while int(time.time()) == began_s:
            select.select([], [], [], 0.05)

    def kill(self, index: int) -> None:
        """Refuse connections from now on."""
        self.backends.sockets[index].shutdown(socket.SHUT_RDWR)

    def revive(self, index: int) -> None:
        self.backends.sockets[index].listen()

    def wait_for_mid_second(self) -> None:
        while not 0.1 < time.time() % 1 < 0.9:
            select.select([], [], [], 0.02)

    def logged(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield a session's number, from 1, the servers it was sent to, and whether one served it.

        nginx names the upstream itself where no server was left: that is None here.
        """
        indices = {server["address"]: i for i, server in enumerate(self.backends.servers)}
        for line in pathlib.Path(self.directory, "access.log").read_text().splitlines():
            number, status, addresses = line.split(" ", 2)
            picks = [indices.get(address) for address in addresses.split(", ")]
            yield int(number), [picks, status == "200"]


def is_listening(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def server_line(server: Server) -> str:
    line = f"server {server['name']}"
    for option in ("weight", "max_fails", "fail_timeout", "max_conns"):
        if option in server:
            line += f" {option}={server[option]}"
    return line + "".join(f" {flag}" for flag in ("down", "backup") if server.get(flag)) + ";"


@contextlib.contextmanager
def running_nginx(directory: str, method: str, servers: list[Server]) -> Iterator[None]:
    module = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    configuration = CONFIGURATION.format(
        load=f"load_module {module};\n" if module.exists() else "",
        directory=directory,
        method=method,
        servers=" ".join(map(server_line, servers)),
    )
    path = pathlib.Path(directory, "nginx.conf")
    path.write_text(configuration)
    path.parent.chmod(0o755)
    process = subprocess.Popen(
        ["nginx", "-c", str(path), "-e", f"{directory}/error.log", "-p", directory]
    )
    try:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not pathlib.Path(directory, "nginx.sock").exists():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit(pathlib.Path(directory, "error.log").read_text())
            select.select([], [], [], 0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def record(name: str) -> None:
    method, servers, steps = CASES[name]
    servers = [dict(server) for server in servers]
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    with tempfile.TemporaryDirectory(prefix="record") as directory:
        backends = Backends(servers, directory)
        dead = [i for i, server in enumerate(servers) if server.pop("dead", False)]
        with running_nginx(directory, method, servers):
            events = Recorder(directory, backends).run(steps)
        backends.close()
    for server in servers:
        del server["address"]
    lines = ",\n".join(json.dumps(event, separators=(",", ":")) for event in events)
    head = {"nginx": version.strip(), "method": method, "servers": servers, "dead": dead}
    text = json.dumps(head, indent=1)[:-2] + f',\n "events": [\n{lines}\n]}}\n'
    (HERE / "recorded" / f"{name}.json").write_text(text)
    sys.stdout.write(f"{name}: {len(events)} events\n")


def tcp(count: int, **options: Any) -> list[Server]:
    return [{"name": "127.0.0.1", **options} for _ in range(count)]


def weighted(*weights: int, **options: Any) -> list[Server]:
    return [{"name": "127.0.0.1", "weight": weight, **options} for weight in weights]


def in_turn(count: int, seed: int = 1) -> list[Step]:
    """`count` sessions with random keys, one after the other."""
    rng = random.Random(seed)
    return [
        ("session", ".".join(str(rng.randrange(1, 255)) for _ in range(4))) for _ in range(count)
    ]


def overlapping(count: int, seed: int = 1, most: int = 12) -> list[Step]:
    """`count` sessions of which up to `most` are open at a time, ended in random order."""
    rng = random.Random(seed)
    steps: list[Step] = []
    held = 0
    for _, key in in_turn(count, seed):
        while held and (held == most or rng.random() < 0.45):
            steps.append(("close", rng.randrange(held)))
            held -= 1
        steps.append(("open", key))
        held += 1
    return steps


def without_key(count: int) -> list[Step]:
    return [("session", "0.0.0.0")] * count


HASH = "hash $key;"
RING = "hash $key consistent;"
DEAD = {"dead": True}
UNIX = {"name": "unix:"}
RECOVERY: list[Step] = [
    *in_turn(10),
    ("kill", 0),
    *in_turn(10),
    *([("second",), *in_turn(5)] * 4),
    ("revive", 0),
    *([("second",), *in_turn(12)] * 4),
    ("kill", 0),
    *([("second",), *in_turn(8)] * 2),
]
FLAPPING: list[Step] = [("kill", 0), *in_turn(4), ("revive", 0), *in_turn(6)] * 8

CASES: dict[str, tuple[str, list[Server], list[Step]]] = {
    "round_robin_5_1_1": ("", weighted(5, 1, 1), in_turn(100)),
    "round_robin_equal": ("", tcp(3), in_turn(100)),
    "round_robin_weights": ("", weighted(10, 1, 7, 4, 2), in_turn(200)),
    "round_robin_down": ("", [*weighted(3, 2), *tcp(1, down=True), *weighted(4)], in_turn(100)),
    "round_robin_dead": ("", [*weighted(3, **DEAD), *weighted(2, 1)], in_turn(100)),
    "round_robin_max_fails": (
        "",
        [*weighted(9, max_fails=4, **DEAD), *weighted(7, max_fails=0, **DEAD), *weighted(5)],
        in_turn(100),
    ),
    "round_robin_recovery": (
        "",
        [*weighted(5, max_fails=2, fail_timeout=1), *weighted(3, 1)],
        RECOVERY,
    ),
    "round_robin_flapping": ("", [*weighted(4, max_fails=3), *weighted(3, 1)], FLAPPING),
    "round_robin_backup": (
        "",
        [*weighted(2, 1, **DEAD), *weighted(2, 1, backup=True)],
        in_turn(100),
    ),
    "round_robin_all_dead": ("", [*tcp(2, **DEAD), *tcp(1, backup=True, **DEAD)], in_turn(20)),
    "round_robin_single_dead": ("", tcp(1, **DEAD), in_turn(20)),
    "round_robin_single_dead_with_backup": (
        "",
        [*tcp(1, **DEAD), *tcp(1, backup=True)],
        in_turn(20),
    ),
    "round_robin_single_full": ("", tcp(1, max_conns=2), overlapping(60, most=4)),
    "round_robin_max_conns": (
        "",
        [*weighted(5, max_conns=2), *weighted(1, 2, max_conns=3)],
        overlapping(200),
    ),
    "least_conn": ("least_conn;", tcp(4), overlapping(200)),
    "least_conn_weights": ("least_conn;", weighted(5, 1, 3, 2), overlapping(300)),
    "least_conn_ties": ("least_conn;", weighted(5, 1, 1), in_turn(100)),
    "least_conn_dead": (
        "least_conn;",
        [*weighted(4, 2), *tcp(1, down=True), *weighted(3, **DEAD), *tcp(1, max_conns=1)],
        overlapping(200),
    ),
    "least_conn_backup": (
        "least_conn;",
        [*tcp(2, max_conns=2), *weighted(2, 1, backup=True)],
        overlapping(150),
    ),
    "hash": (HASH, tcp(3), in_turn(300)),
    "hash_weights": (HASH, weighted(5, 1, 3, 10), in_turn(300)),
    "hash_down": (HASH, [*weighted(5), *weighted(9, down=True), *weighted(3)], in_turn(300)),
    "hash_mostly_down": (HASH, [*weighted(1, 2), *weighted(60, down=True)], in_turn(200)),
    "hash_dead": (HASH, [*weighted(3, 2), *weighted(2, **DEAD), *tcp(2)], in_turn(200)),
    "hash_dead_forgiven": (
        HASH,
        [*weighted(3, 40), *weighted(2, 30, max_fails=0, **DEAD)],
        in_turn(200),
    ),
    "hash_mostly_dead": (
        HASH,
        [*weighted(1, 1), *weighted(12, 11, 10, 9, max_fails=0, **DEAD)],
        in_turn(100),
    ),
    "hash_recovery": (HASH, [*weighted(5, max_fails=2, fail_timeout=1), *weighted(3, 1)], RECOVERY),
    "hash_max_conns": (HASH, weighted(2, 1, 1, max_conns=3), overlapping(200)),
    "hash_empty_key": (HASH, weighted(3, 1), [*without_key(20), *in_turn(20), *without_key(20)]),
    "hash_single": (HASH, tcp(1), in_turn(10)),
    "ring": (RING, tcp(5), in_turn(300)),
    "ring_weights": (RING, weighted(5, 1, 3, 10), in_turn(300)),
    "ring_names": (
        RING,
        [UNIX, {"name": "UNIX:"}, {"name": "localhost"}, *tcp(2)],
        in_turn(300),
    ),
    "ring_down": (RING, [*weighted(5), *weighted(9, down=True), *weighted(3)], in_turn(300)),
    "ring_mostly_down": (RING, [*weighted(1, 2), *weighted(60, down=True)], in_turn(200)),
    "ring_dead": (RING, [*weighted(3, 2), *weighted(2, **DEAD), *tcp(2)], in_turn(200)),
    "ring_dead_forgiven": (
        RING,
        [*weighted(3, 40), *weighted(2, 30, max_fails=0, **DEAD)],
        in_turn(200),
    ),
    "ring_mostly_dead": (
        RING,
        [*weighted(1, 1), *weighted(12, 11, 10, 9, max_fails=0, **DEAD)],
        in_turn(100),
    ),
    "ring_recovery": (RING, [*weighted(5, max_fails=2, fail_timeout=1), *weighted(3, 1)], RECOVERY),
    "ring_max_conns": (RING, weighted(2, 1, 1, max_conns=3), overlapping(200)),
    "ring_empty_key": (RING, weighted(3, 1), [*without_key(20), *in_turn(20), *without_key(20)]),
    "ring_single": (RING, tcp(1), in_turn(10)),
}


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        record(case)
