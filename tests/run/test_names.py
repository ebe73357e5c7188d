"""Names and methods in real use: bin/nginy, dnsmasq as the name server, and real clients.

All backends are one listener of the same nginy: it answers on every address of 127.0.0.0/8, and
says on which.
"""

import collections
import contextlib
import pathlib
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from kit.others import is_open
from kit.program import PATIENCE_S, Nginy, free_port, needs, own_host, wait_until

NAME = "web.example"
KEYED = ("{maglev: $remote_addr}", "{rendezvous: $remote_addr}", "{hash: $remote_addr}")
RING = "{hash: $remote_addr, consistent: on}"
BOUNDED = "{hash: $remote_addr, consistent: on, bounded_load: 1.25}"
TIMES = tuple(f"{{least_time: {time}}}" for time in ("connect", "first_byte", "last_byte"))
FREE = ("round_robin", "least_conn", "random", "{random: two}", *TIMES)


class NameServer:
    """dnsmasq, which tells what is in a file."""

    def __init__(self, directory: pathlib.Path, host: str, *records: str) -> None:
        self.program = needs("dnsmasq", "dnsmasq-base")
        self.hosts = directory / "dnsmasq.hosts"
        self.host = host
        self.port = free_port(host)
        self.records = records
        self.process: subprocess.Popen[bytes] | None = None
        self.set()

    def set(self, *addresses: str) -> None:
        """Let the name have these addresses; none is "no such name"."""
        self.hosts.write_text("".join(f"{address} {NAME}\n" for address in addresses))
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                self.program,
                *("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"),
                *("--bind-interfaces", "--local-ttl=1", "--auth-ttl=1", "--cache-size=0"),
                *("--user=", "--pid-file=", "--log-facility=/dev/null", "--local=/example/"),
                f"--addn-hosts={self.hosts}",
                f"--listen-address={self.host}",
                f"--port={self.port}",
                *self.records,
            ]
        )
        wait_until(lambda: is_open((self.host, self.port)), "dnsmasq")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def name_server(tmp_path: pathlib.Path, host: str) -> Iterator[NameServer]:
    server = NameServer(tmp_path, host)
    yield server
    server.stop()


def ask(host: str, port: int, source: str = "") -> str:
    """Connect, and return what the server says until it ends the connection."""
    address = (source, 0) if source else None
    answer = b""
    sock = socket.create_connection((host, port), PATIENCE_S, address)
    with sock, contextlib.suppress(ConnectionResetError):
        while data := sock.recv(4096):
            answer += data
    return answer.decode()


def config(
    host: str, port: int, front: int, server: NameServer | None, upstream: str, more: str = ""
) -> str:
    nameservers = f"nameservers: '{host}:{server.port}', timeout: 1s" if server else "ipv6: off"
    return f"""
    error_log: {{level: info}}
    resolver: {{{nameservers}{more}}}
    upstreams: {{web: {upstream}}}
    listeners:
      - {{listen: "0.0.0.0:{port}", return: $server_addr, access_log: off}}
      - {{listen: "{host}:{front}", proxy_pass: web}}
    """


def resolving(port: int) -> str:
    return f"{{backends: {{address: '{NAME}:{port}', resolve: on}}}}"


def test_an_answer_that_changes_under_load_loses_no_client(
    tmp_path: pathlib.Path, host: str, name_server: NameServer
) -> None:
    port, front = free_port("0.0.0.0"), free_port(host)
    one, two = own_host(), own_host()
    name_server.set(one)
    name_server.start()
    text = config(host, port, front, name_server, resolving(port), ", hold: 1s")
    with Nginy(tmp_path, text) as nginy:
        said = [ask(host, front)]
        assert said == [one]
        name_server.set(two)
        while said[-1] != two:  # for the second that an answer holds
            said.append(ask(host, front))
        assert set(said) == {one, two}
        # The name server dies: what it said last goes on.
        name_server.stop()
        nginy.said(f"{NAME}:{port} cannot be resolved, keeping 1: .*refused")
        assert ask(host, front) == two
        # It comes back, and knows the name no more.
        name_server.set()
        name_server.start()
        nginy.said(f"{NAME}:{port} has no address: no such name; keeping 1 for 1s")
        nginy.said(f"{NAME}:{port} has no address any more: no such name")
        wait_until(lambda: ask(host, front) == "", "a client that is turned away")
        errors = nginy.stop()
    trouble = [line for line in errors if "while connecting to upstream" in line]
    assert all("no usable backend" in line for line in trouble), trouble


def test_a_name_comes_with_more_addresses_than_fit_into_a_datagram(
    tmp_path: pathlib.Path, host: str, name_server: NameServer
) -> None:
    port, front = free_port("0.0.0.0"), free_port(host)
    first, second, third, _ = own_host().split(".")
    many = {f"{first}.{second}.{int(third) ^ i // 200}.{i % 200 + 1}" for i in range(300)}
    name_server.start()
    text = config(host, port, front, name_server, resolving(port), ", valid: 1s")
    with Nginy(tmp_path, text) as nginy:
        nginy.said(f"{NAME}:{port} has no address: no such name")
        assert ask(host, front) == ""
        name_server.set(*many)
        nginy.said(f"{NAME}:{port} has 300 addresses: 300 new, 0 gone")
        wait_until(lambda: ask(host, front), "one of them")
        assert {ask(host, front) for _ in range(300)} == many
        nginy.stop()


def test_a_service_leads_to_its_targets_by_weight(tmp_path: pathlib.Path, host: str) -> None:
    port, other_port, front = free_port("0.0.0.0"), free_port(own_host()), free_port(host)
    one, two, three = own_host(), own_host(), own_host()
    records = [
        f"--srv-host=_http._tcp.{NAME},one.example,{port},1,10",
        f"--srv-host=_http._tcp.{NAME},two.example,{port},1,30",
        f"--srv-host=_http._tcp.{NAME},three.example,{other_port},2,10",
        f"--host-record=one.example,{one}",
        f"--host-record=two.example,{two}",
        f"--host-record=three.example,{three}",
    ]
    server = NameServer(tmp_path, host, *records)
    server.start()
    upstream = f"{{backends: {{address: {NAME}, service: http, resolve: on}}}}"
    try:
        with Nginy(tmp_path, config(host, port, front, server, upstream)) as nginy:
            said = collections.Counter(ask(host, front) for _ in range(40))
            assert said == {one: 10, two: 30}
            fields = nginy.sessions(40)[0]
            assert fields["upstream_addr"] in (f"{one}:{port}", f"{two}:{port}")
    finally:
        server.stop()


def test_nginy_starts_though_no_name_server_answers(
    tmp_path: pathlib.Path, host: str, name_server: NameServer
) -> None:
    port, front = free_port("0.0.0.0"), free_port(host)
    name_server.set(host)
    # Without `resolve` as well it is asked for until there is an answer.
    upstream = f"{{backends: '{NAME}:{port}'}}"
    with Nginy(tmp_path, config(host, port, front, name_server, upstream)) as nginy:
        nginy.said(f"{NAME}:{port} cannot be resolved, it has no address yet: .*refused")
        assert ask(host, front) == ""
        name_server.start()
        wait_until(lambda: ask(host, front) == host, "the address")


def test_a_name_in_proxy_pass_comes_from_the_hosts_file(tmp_path: pathlib.Path, host: str) -> None:
    if not re.search(
        r"^127\.0\.0\.1\s.*\blocalhost\b", pathlib.Path("/etc/hosts").read_text(), re.M
    ):
        pytest.skip("localhost is not in /etc/hosts")
    port, front = free_port("0.0.0.0"), free_port(host)
    text = config(host, port, front, None, "{backends: 127.0.0.1:1}")
    text = text.replace("proxy_pass: web", f"proxy_pass: 'localhost:{port}'")
    with Nginy(tmp_path, text) as nginy:
        assert ask(host, front) == "127.0.0.1"
        nginy.stop()


# The methods, from configuration to backend.


def clients(count: int) -> list[str]:
    """Return the addresses of this many clients."""
    return [f"127.77.{i // 200}.{i % 200 + 1}" for i in range(count)]


class Node:
    """A configuration with a listener for each of some methods, which choose from `backends`."""

    def __init__(self, methods: Sequence[str], backends: Sequence[str]) -> None:
        self.host = own_host()
        self.fronts = {method: free_port(self.host) for method in methods}
        addresses = ", ".join(f"'{backend}'" for backend in backends)
        upstreams = (
            f"  u{front}: {{balance: {method}, backends: [{addresses}]}}\n"
            for method, front in self.fronts.items()
        )
        listeners = (
            f"  - {{listen: '{self.host}:{front}', proxy_pass: u{front}}}\n"
            for front in self.fronts.values()
        )
        self.config = f"upstreams:\n{''.join(upstreams)}listeners:\n{''.join(listeners)}"

    def choices(self, method: str, count: int) -> list[str]:
        """Return the backend that each of `count` clients reaches, one after the other."""
        return [ask(self.host, self.fronts[method], client) for client in clients(count)]


BACKENDS = 4


@pytest.fixture(scope="module")
def backends() -> list[str]:
    port = free_port("0.0.0.0")
    return [f"{own_host()}:{port}" for _ in range(BACKENDS)]


@pytest.fixture(scope="module")
def node(backends: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that runs, and its backends with it."""
    made = Node([*FREE, *KEYED, RING, BOUNDED], backends)
    port = backends[0].rpartition(":")[2]
    answering = f"  - {{listen: '0.0.0.0:{port}', return: $server_addr, access_log: off}}\n"
    with Nginy(tmp_path_factory.mktemp("node"), made.config + answering) as nginy:
        yield made
        nginy.stop()


@pytest.fixture(scope="module")
def other_node(
    node: Node, backends: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A node with the same backends, in the opposite order."""
    made = Node(list(node.fronts), backends[::-1])
    with Nginy(tmp_path_factory.mktemp("node"), made.config) as nginy:
        yield made
        nginy.stop()


@pytest.mark.parametrize("method", [*FREE, *KEYED, RING, BOUNDED])
def test_every_method_leads_clients_to_all_backends(
    node: Node, backends: list[str], method: str
) -> None:
    said = collections.Counter(node.choices(method, 50 * BACKENDS))
    assert set(said) == {backend.partition(":")[0] for backend in backends}
    # A fair share is 50; of a ring's 160 points a backend its standard deviation is some 8 %, and
    # of 200 draws 6.1 clients. A backend whose first answers happened to be slow may get few by
    # `least_time`.
    fewest = 48 if method == "round_robin" else 0 if "least_time" in method else 15
    assert min(said.values()) > fewest, said


@pytest.mark.parametrize("method", [*KEYED[:2], RING])
def test_nodes_agree_whatever_the_order_of_their_lists(
    node: Node, other_node: Node, method: str
) -> None:
    assert node.choices(method, 60) == other_node.choices(method, 60)
