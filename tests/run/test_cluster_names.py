"""Backends by SRV as Kubernetes and Consul give them: BIND with their zones, changed under load.

CoreDNS answers for a headless service with one record for each pod that is ready, all of one port,
by names of its own, TTL 5. Consul answers with the address in the target's name and a port for each
instance, TTL 0. Both take an instance out before it stops.

Sources: Kubernetes DNS-based service discovery 1.1.0 §2.4.2; Consul, "DNS: RFC 2782 lookup".
"""

import collections
import contextlib
import pathlib
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence

import pytest

from kit.others import is_open
from kit.program import PATIENCE_S, Nginy, free_port, needs, own_host, run_once, wait_until

pytestmark = pytest.mark.real

KUBERNETES = "web.shop.svc.cluster.local"
CONSUL = "service.consul"
Place = tuple[str, int]

CONF = """
options {{
    directory "{directory}"; listen-on port {port} {{ {host}; }}; listen-on-v6 {{ none; }};
    pid-file none; session-keyfile none; recursion no; dnssec-validation no;
}};
controls {{ }};
zone "cluster.local" {{ type primary; file "cluster"; }};
zone "consul" {{ type primary; file "consul"; }};
"""


class Bind:
    """BIND with two zones, which `set` changes while it runs."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.host = "127.0.0.1"  # it listens on addresses of interfaces alone
        self.port = free_port(self.host)
        self.serial = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.set_kubernetes()
        self.set_consul()

    def set_kubernetes(self, *pods: Place) -> None:
        lines = []
        for host, port in pods:
            target = f"{host.replace('.', '-')}.{KUBERNETES}."
            lines += [f"_http._tcp.{KUBERNETES}. SRV 0 10 {port} {target}", f"{target} A {host}"]
        self._write("cluster", "cluster.local", 5, lines)

    def set_consul(self, *instances: Place) -> None:
        lines = []
        for host, port in instances:
            target = f"{socket.inet_aton(host).hex()}.addr.dc1.consul."
            lines += [f"_api._tcp.{CONSUL}. SRV 1 1 {port} {target}", f"{target} A {host}"]
        self._write("consul", "consul", 0, list(dict.fromkeys(lines)))

    def _write(self, name: str, zone: str, ttl_s: int, lines: Sequence[str]) -> None:
        self.serial += 1
        head = [
            f"$TTL {ttl_s}",
            f"{zone}. SOA ns.{zone}. root.{zone}. {self.serial} 60 60 60 1",
            f"{zone}. NS ns.{zone}.",
            f"ns.{zone}. A {self.host}",
        ]
        new = self.directory / f"{name}.new"
        new.write_text("\n".join([*head, *lines, ""]))
        new.rename(self.directory / name)
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        conf = self.directory / "named.conf"
        values = {"directory": self.directory, "host": self.host, "port": self.port}
        conf.write_text(CONF.format(**values))
        command = [needs("named", "bind9"), "-g", "-c", str(conf)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(lambda: is_open((self.host, self.port)), "named")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def bind(tmp_path: pathlib.Path) -> Iterator[Bind]:
    server = Bind(tmp_path)
    yield server
    server.stop()


class Clients:
    """Threads that connect, read who answers, and begin anew, until `stop`."""

    def __init__(self, host: str, port: int, count: int = 4) -> None:
        self.place = (host, port)
        self.answers: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                with socket.create_connection(self.place, PATIENCE_S) as sock:
                    answer = sock.recv(99).decode()
            except OSError as error:
                self.failures.append(str(error))
                continue
            if answer:
                self.answers[answer] += 1
            else:
                self.failures.append("no answer")

    def wait_for(self, *places: Place) -> None:
        """Wait until these places answer, and no other does any more."""
        wanted = {f"{host}:{port}" for host, port in places}

        def settled() -> bool:
            before = self.answers.copy()
            wait_until(lambda: (self.answers - before).total() >= 60, "answers")
            return set(self.answers - before) == wanted

        wait_until(settled, f"answers of {wanted} alone")

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def config(bind: Bind, front: Place, backends: Sequence[Place], upstream: str) -> str:
    played = "".join(
        f"- {{listen: '{host}:{port}', return: '{host}:{port}', access_log: off}}\n"
        for host, port in backends
    )
    return f"""error_log: {{level: info}}
resolver: {{nameservers: '{bind.host}:{bind.port}', timeout: 1s, ipv6: off, hold: 1s}}
upstreams: {{web: {{backends: {upstream}}}}}
listeners:
- {{listen: '{front[0]}:{front[1]}', proxy_pass: web, access_log: off}}
{played}"""


@contextlib.contextmanager
def clients_of(front: Place) -> Iterator[Clients]:
    clients = Clients(*front)
    try:
        yield clients
    finally:
        clients.stop()


@pytest.mark.timeout(90)
def test_pods_of_a_headless_service_come_and_go_and_no_client_fails(
    tmp_path: pathlib.Path, bind: Bind
) -> None:
    host = own_host()
    front, port = (host, free_port(host)), free_port(host)
    one, two, three = ((own_host(), port) for _ in range(3))
    bind.set_kubernetes(one, two)
    bind.start()
    upstream = f"{{address: {KUBERNETES}, service: http, resolve: on}}"
    with Nginy(tmp_path, config(bind, front, (one, two, three), upstream)) as nginy:
        with clients_of(front) as clients:
            clients.wait_for(one, two)
            bind.set_kubernetes(one, two, three)  # scaled up
            clients.wait_for(one, two, three)
            bind.set_kubernetes(two, three)  # a pod is replaced
            clients.wait_for(two, three)
            bind.set_kubernetes(three)  # scaled down
            clients.wait_for(three)
        assert clients.failures == []
        nginy.stop()


@pytest.mark.timeout(90)
def test_instances_in_consul_move_to_other_ports_and_no_client_fails(
    tmp_path: pathlib.Path, bind: Bind
) -> None:
    host, machine = own_host(), own_host()
    front = (host, free_port(host))
    one, two, moved = ((machine, free_port(machine)) for _ in range(3))
    bind.set_consul(one, two)
    bind.start()
    upstream = f"{{address: {CONSUL}, service: api, resolve: on}}"
    with Nginy(tmp_path, config(bind, front, (one, two, moved), upstream)) as nginy:
        with clients_of(front) as clients:
            clients.wait_for(one, two)
            bind.set_consul(two, moved)  # an instance is scheduled anew
            clients.wait_for(two, moved)
            bind.set_consul(moved)
            clients.wait_for(moved)
        assert clients.failures == []
        nginy.stop()


@pytest.mark.timeout(90)
def test_a_service_without_a_pod_makes_nginy_unready_with_the_reason(
    tmp_path: pathlib.Path, bind: Bind
) -> None:
    host = own_host()
    front, pod = (host, free_port(host)), (own_host(), free_port(host))
    bind.set_kubernetes(pod)
    bind.start()
    upstream = f"{{address: {KUBERNETES}, service: http, resolve: on}}"
    with Nginy(tmp_path, config(bind, front, (pod,), upstream)) as nginy:
        nginy.said(f"{pod[1]}")

        def check() -> tuple[int, str]:
            status, said, _ = run_once("status", "--check", str(nginy.path))
            return status, said

        wait_until(lambda: check() == (0, "ready\n"), "nginy to be ready")
        bind.set_kubernetes()
        wait_until(lambda: check()[0] == 2, "nginy not to be ready")
        assert check() == (2, "web: 0 of 1 backends usable (1 of 1 unresolved)\n")
        bind.set_kubernetes(pod)
        wait_until(lambda: check() == (0, "ready\n"), "nginy to be ready again")
        nginy.stop()
