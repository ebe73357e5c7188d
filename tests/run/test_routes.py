"""Routes in real use: one port for several protocols, ranges of ports, and reloads.

Real ssh, curl and openssl ask; a program that is not installed skips its test. The comparison with
nginx asks both for the same clients.
"""

import contextlib
import pathlib
import re
import signal
import socket
from collections.abc import Iterator

import pytest

from kit.faults import Listening, Site, receive_all
from kit.names import NameServer
from kit.others import load_stream, output_of, running_nginx, serving
from kit.program import PATIENCE_S, Nginy, free_port, needs, own_host, run_once, wait_until
from kit.tls import make_certificate

Address = tuple[str, int]


@pytest.fixture
def addresses() -> list[Address]:
    host = own_host()
    return [(host, free_port(host)) for _ in range(4)]


def text_of(address: Address) -> str:
    return "{}:{}".format(*address)


# One port, as with sslh.


class SshServer:
    """A sshd that lets in every owner of its key, with everything it needs in one directory."""

    def __init__(self, directory: pathlib.Path, address: Address) -> None:
        self.directory, self.address = directory, address
        keygen = needs("ssh-keygen", "openssh-client")
        self.sshd = needs("sshd", "openssh-server")
        for name in ("host", "user"):
            output_of(keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
        (directory / "sshd_config").write_text(
            f"ListenAddress {text_of(address)}\nHostKey {directory}/host\nPidFile none\n"
            f"AuthorizedKeysFile {directory}/user.pub\nStrictModes no\nUsePAM no\n"
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)  # privilege separation wants it
        argv = (self.sshd, "-D", "-e", "-f", str(self.directory / "sshd_config"))
        with serving(argv, self.address, self.directory) as where:
            yield where

    def ask(self, address: Address, command: str) -> str:
        host, port = address
        options = ("BatchMode=yes", "StrictHostKeyChecking=no", "LogLevel=ERROR")
        return output_of(
            *(needs("ssh", "openssh-client"), "-F", "none", "-i", str(self.directory / "user")),
            *(part for option in options for part in ("-o", option)),
            *("-o", f"UserKnownHostsFile={self.directory}/known"),
            *("-p", str(port), host, command),
        )


NGINX = """
daemon off; master_process off; error_log stderr; pid nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t;
    uwsgi_temp_path t; scgi_temp_path t;
    ssl_certificate {certificate}; ssl_certificate_key {certificate};
    server {{ listen {http}; return 200 "plain $scheme"; }}
    server {{ listen {https} ssl http2; server_name a.test; return 200 "a $scheme"; }}
    server {{ listen {https} ssl; server_name b.test; return 200 "b $scheme"; }}
}}
"""


@pytest.fixture
def web(addresses: list[Address], tmp_path: pathlib.Path) -> Iterator[tuple[Address, Address]]:
    """nginx with HTTP and with HTTPS for a.test and b.test."""
    http, https, *_ = addresses
    certificate = make_certificate(tmp_path, "a.test", names="subjectAltName=DNS:a.test,DNS:b.test")
    config = NGINX.format(certificate=certificate, http=text_of(http), https=text_of(https))
    with running_nginx(config, https, tmp_path):
        yield http, https


@pytest.mark.parametrize("event_method", ["auto", "poll"])
def test_one_port_serves_ssh_https_and_http(
    site: Site,
    addresses: list[Address],
    tmp_path: pathlib.Path,
    web: tuple[Address, Address],
    event_method: str,
) -> None:
    http, https = map(text_of, web)
    (tmp_path / "ssh").mkdir()
    sshd = SshServer(tmp_path / "ssh", addresses[2])
    with sshd.running() as ssh:
        nginy = site.run(f"""
            event_method: {event_method}
            listeners:
            - listen: {site.address}
              preread: {{timeout: 1s}}
              routes:
              - {{sni: b.test, proxy_pass: "{https}"}}
              - {{is_tls: on, proxy_pass: "{https}"}}
              - {{starts: "~(GET|HEAD|POST) ", proxy_pass: "{http}"}}
              - {{starts: SSH-, proxy_pass: "{ssh}"}}
              proxy_pass: "{ssh}"
            """)
        curl = needs("curl", "curl")
        url = f"//{site.host}:{site.port}/"
        assert output_of(curl, "-sS", f"http:{url}") == "plain http"
        for name in ("a.test", "b.test"):
            told = output_of(
                *(curl, "-sSk", "--resolve", f"{name}:{site.port}:{site.host}"),
                f"https://{name}:{site.port}/",
            )
            assert told == f"{name[0]} https"
        shaken = output_of(
            *(needs("openssl", "openssl"), "s_client", "-connect", site.address),
            *("-servername", "a.test", "-alpn", "h2"),
        )
        assert "ALPN protocol: h2" in shaken
        # ssh speaks first; a client that waits for the server's banner gets it as well.
        assert sshd.ask((site.host, site.port), "echo said over ssh") == "said over ssh\n"
        with socket.create_connection((site.host, site.port)) as sock:
            sock.settimeout(PATIENCE_S)
            assert sock.recv(100).startswith(b"SSH-2.0-OpenSSH")
    nginy.wait_idle()
    upstreams = [session["upstream_addr"] for session in nginy.sessions(6)]
    assert upstreams == [http, https, https, https, ssh, ssh]


# The same clients as nginx.


SPLIT = """
{load}
daemon off; master_process off; error_log stderr; pid nginx.pid;
events {{ worker_connections 64; }}
stream {{
    split_clients $remote_addr $group {{ 33.3% one; 0.5% two; 12% three; * none; }}
    split_clients $remote_addr $all {{ 50% low; 50% high; }}
    server {{ listen {front}; return "$group $all"; }}
}}
"""


def test_shares_are_of_the_clients_that_nginx_gives_them(
    site: Site, addresses: list[Address], tmp_path: pathlib.Path
) -> None:
    front, low, high, _ = addresses
    clients = [f"127.9.{n >> 6}.{n & 63}" for n in range(1, 200)]
    routes = "".join(
        f"  - {{share: {share}, return: {name}}}\n"
        for share, name in (("33.3%", "one"), ("0.5%", "two"), ("12%", "three"))
    )
    site.run(
        f"listeners:\n- listen: {text_of(low)}\n  return: none\n  routes:\n{routes}"
        f"- listen: {text_of(high)}\n  routes:\n"
        "  - {share: 50%, return: low}\n  - {share: 50%, return: high}\n"
    )

    def answer(address: Address, client: str) -> str:
        with socket.create_connection(address, source_address=(client, 0)) as sock:
            return receive_all(sock).decode()

    with running_nginx(SPLIT.format(load=load_stream(), front=text_of(front)), front, tmp_path):
        expected = {client: answer(front, client) for client in clients}
    found = {client: f"{answer(low, client)} {answer(high, client)}" for client in clients}
    assert found == expected
    assert len(set(expected.values())) >= 5


# Ranges of ports.


def free_range(host: str, count: int) -> int:
    """Return the first of this many ports of `host` in a row that nobody uses."""
    while True:
        first = free_port(host)
        if first + 2 * count > 65535:
            continue
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + 2 * count):
                sock = stack.enter_context(socket.socket())
                sock.bind((host, port))
            return first


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_range_of_ports_leads_to_the_same_ports_of_a_backend(
    tmp_path: pathlib.Path, protocol: str
) -> None:
    host, behind = own_host(), own_host()
    first = free_range(host, 50)
    last = first + 49
    config = f"""
        log_formats: {{f: "$server_port $upstream_addr"}}
        access_log: {{path: {tmp_path}/access.log, format: f}}
        upstreams:
          same: {{backends: "{behind}:+0"}}
          more: {{backends: "{behind}:+50"}}
        listeners:
        - listen: {host}:{first}-{last}
          protocol: {protocol}
          routes:
          - {{port: {first + 10}-{first + 12}, proxy_pass: more}}
          proxy_pass: same
        - {{listen: {behind}:{first}-{last + 50}, protocol: {protocol}, return: "$server_port"}}
        """
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    udp = " udp" if protocol == "udp" else ""
    with Nginy(tmp_path, config) as nginy:
        nginy.said(f"listening on {host}:{first}-{last}{udp}", 1)
        for port, expected in ((first, first), (first + 11, first + 61), (last, last)):
            with socket.socket(type=kind) as sock:
                sock.settimeout(PATIENCE_S)
                sock.connect((host, port))
                sock.send(b"x")
                assert sock.recv(100) == b"%d" % expected
        config = config.replace(f"{first}-{last}\n", f"{first}-{last - 1}\n")
        nginy.write(config)
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded", 1)
        nginy.said(f"no longer listening on {host}:{last}{udp}", 1)
        status, out, _ = run_once("-T", str(nginy.path))
        assert status == 0
        assert f"  - {host}:{first}-{last - 1}\n" in out
        assert len(out.splitlines()) < 250
        nginy.stop()
        assert sum("listening on" in line for line in nginy.errors) <= 6
    lines = (tmp_path / "access.log").read_text().splitlines()
    seen = {line for line in lines if len(line.split()) == 2 and line.split()[1] != "-"}
    assert f"{first + 11} {behind}:{first + 61}" in seen


def test_a_port_that_nobody_answers_is_named_with_its_backend(tmp_path: pathlib.Path) -> None:
    host, behind = own_host(), own_host()
    port = free_port(host)
    config = f"listeners: {{listen: {host}:{port}, proxy_pass: '{behind}:+0'}}"
    with Nginy(tmp_path, config) as nginy:
        with socket.create_connection((host, port)) as sock:
            assert receive_all(sock) == b""
        session = nginy.session()
        assert (session["status"], session["upstream_addr"]) == ("502", f"{behind}:{port}")


# Reloads.


def reload(nginy: Nginy, config: str) -> list[str]:
    before = len(nginy.errors)
    count = sum("configuration reloaded" in line for line in nginy.errors)
    nginy.write(config)
    nginy.send_signal(signal.SIGHUP)
    nginy.said("configuration reloaded", count + 1)
    return nginy.errors[before:]


def routed(site: Site, routes: str, more: str = "", upstreams: str = "") -> str:
    return f"{upstreams}\nlisteners:\n- listen: {site.address}\n  {more}\n  routes: [{routes}]\n"


def test_sessions_keep_their_route_and_new_clients_take_the_new(site: Site) -> None:
    with contextlib.closing(Listening()) as one, contextlib.closing(Listening()) as two:
        nginy = site.run(routed(site, f"{{starts: a, proxy_pass: {one.name}}}", "return: none"))
        old = socket.create_connection((site.host, site.port))
        old.settimeout(PATIENCE_S)
        old.sendall(b"a1")
        first = one.accept()
        assert first.recv(9) == b"a1"
        waiting = socket.create_connection((site.host, site.port))
        waiting.settimeout(PATIENCE_S)
        changes = reload(
            nginy, routed(site, f"{{starts: a, proxy_pass: {two.name}}}", "return: nobody")
        )
        assert any("route + {starts: a, proxy_pass:" in line for line in changes)
        assert any("route - {starts: a, proxy_pass:" in line for line in changes)
        old.sendall(b"a2")
        assert first.recv(9) == b"a2"
        with socket.create_connection((site.host, site.port)) as new:
            new.sendall(b"a3")
            assert two.accept().recv(9) == b"a3"
        first.sendall(b"still here")
        assert old.recv(99) == b"still here"
        old.close()
        waiting.close()


def test_an_upstream_of_a_route_alone_is_used_and_checked(site: Site) -> None:
    with contextlib.closing(Listening()) as dead, contextlib.closing(Listening()) as alive:
        dead.close()
        upstreams = (
            f"upstreams: {{only: {{backends: [{dead.name}, {alive.name}],"
            " health_check: {interval: 1s, fails: 1}}}"
        )
        nginy = site.run(routed(site, "{starts: a, proxy_pass: only}", "return: x", upstreams))
        nginy.said(f"{dead.name}.*down")
        assert not [line for line in nginy.errors if "no listener leads" in line]
        status, _, errors = run_once("-t", str(nginy.path))
        assert (status, [line for line in errors if "[warn]" in line]) == (0, [])
        assert any(dead.name in line and "down" in line for line in nginy.errors)


def test_routes_wait_until_the_names_of_a_new_upstream_are_known(site: Site) -> None:
    server = NameServer()
    with contextlib.closing(server), contextlib.closing(Listening()) as one:
        head = f"resolver: {{nameservers: '{server.address}', timeout: 9s}}"
        nginy = site.run(head + routed(site, f"{{starts: a, proxy_pass: {one.name}}}", "return: x"))
        host, _, port = one.name.partition(":")
        new = f"upstreams: {{new: {{backends: 'web.test:{port}'}}}}"
        said = reload(
            nginy, head + routed(site, "{starts: a, proxy_pass: new}", "return: y", f"\n{new}")
        )
        assert any("until the names of" in line for line in said)
        with socket.create_connection((site.host, site.port)) as sock:
            sock.sendall(b"a1")
            assert one.accept().recv(9) == b"a1"
        server.set("web.test", host)
        wait_until(lambda: server.step() or is_new(site), "the new routes")


def is_new(site: Site) -> bool:
    with socket.create_connection((site.host, site.port)) as sock:
        sock.sendall(b"b")
        return receive_all(sock) == b"y"


def test_a_listener_gains_and_loses_routes_without_losing_a_session(site: Site) -> None:
    with contextlib.closing(Listening()) as one:
        plain = f"listeners: {{listen: {site.address}, proxy_pass: {one.name}}}"
        nginy = site.run(f"worker_shutdown_timeout: 1s\n{plain}")
        clients = []
        for config in (routed(site, "{starts: a, return: x}", f"proxy_pass: {one.name}"), plain):
            client = socket.create_connection((site.host, site.port))
            client.settimeout(PATIENCE_S)
            client.sendall(b"hello")
            backend = one.accept()
            assert backend.recv(9) == b"hello"
            clients.append((client, backend))
            reload(nginy, f"worker_shutdown_timeout: 1s\n{config}")
        for client, backend in clients:
            backend.sendall(b"answer")
            assert client.recv(9) == b"answer"
            client.close()


def test_explain_says_which_route_and_why(site: Site, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "explained.yml"
    path.write_text(routed(site, "{sni: a.test, return: a}, {is_tls: on, deny: on}", "return: x"))
    status, out, _ = run_once("explain", str(path), site.address, "10.1.2.3", "sni=b.test")
    assert status == 0
    lines = re.findall("^route .*", out, re.MULTILINE)
    assert lines == [
        'route 1   no: sni a.test, but name "b.test"',
        f"route 2   taken: is_tls on, at {path}:5:38",
    ]
    status, _, errors = run_once("explain", str(path), site.address, "10.1.2.3", "snl=b.test")
    assert status == 1
    assert '(did you mean "sni"?)' in errors[0]
