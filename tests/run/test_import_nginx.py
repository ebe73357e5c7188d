"""An nginx.conf runs in nginx, and its import runs in nginy: clients get the same from both.

One nginx and one nginy serve all cases, each on an address of its own, in front of the same
backends.
"""

import contextlib
import pathlib
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
from nginy.commands.importing import nginx
from nginy.commands.importing.model import Texts
from nginy.commands.importing.tidy import tidy
from nginy.commands.importing.writer import render

from kit.answering import Answering, said, whole
from kit.others import load_stream, running_nginx
from kit.program import PATIENCE_S, Nginy, free_port, needs, own_host
from kit.site import FOE, FRIEND, STRANGER, Site, announced, counted, sources
from kit.tls import make_certificate, trusting
from kit.tls import serving as showing

pytestmark = pytest.mark.real

CONFIG = """
{module}
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 512; }}
stream {{
    proxy_connect_timeout 2s;
    preread_timeout 5s;

    # turns: smooth weights, one that is down, one that waits
    upstream weighted {{
        server {a} weight=5;
        server {b};
        server {c};
        server 127.0.0.1:1 down;
        server {spare} backup;
    }}
    server {{ listen {host}:{turns}; proxy_pass weighted; }}
    server {{ listen {host}:{half}; proxy_pass {a}; proxy_half_close on; }}
    server {{ listen {host}:{whole}; proxy_pass {a}; }}

    # the same clients, the same backends
    upstream ring {{ hash $remote_addr consistent; server {a}; server {b}; server {c}; }}
    upstream plain {{ hash "$remote_addr/x"; server {a} weight=2; server {b}; server {c}; }}
    server {{ listen {host}:{ring}; proxy_pass ring; }}
    server {{ listen {host}:{plain}; proxy_pass plain; }}

    # a backend that refuses
    upstream retried {{ server {dead}; server {a}; }}
    server {{ listen {host}:{retried}; proxy_pass retried; }}
    upstream unlucky {{ server {dead} max_fails=0; server {b}; }}
    server {{ listen {host}:{unlucky}; proxy_pass unlucky; proxy_next_upstream off; }}

    # who may come, and how many
    server {{
        listen {host}:{guarded};
        deny {foe};
        allow 127.0.0.0/9;
        deny all;
        proxy_pass {a};
    }}
    limit_conn_zone $binary_remote_addr zone=clients:1m;
    server {{ listen {host}:{counted}; limit_conn clients 2; proxy_pass {a}; }}

    # where they go
    map $ssl_preread_server_name $name {{
        hostnames;
        shop.example      {a};
        *.shop.example    {b};
        .store.example    {b};
        *.api.example     {b};
        v2.api.example    {c};
        www.*             {c};
        ~^x[0-9]+\\.       {c};
        default           {spare};
    }}
    server {{ listen {host}:{names}; ssl_preread on; proxy_pass $name; }}
    map $ssl_preread_protocol $kind {{ "" {a}; TLSv1.3 {b}; default {c}; }}
    server {{ listen {host}:{kinds}; ssl_preread on; proxy_pass $kind; }}
    split_clients "${{remote_addr}}AAA" $group {{ 30% {a}; 20% {b}; * {c}; }}
    server {{ listen {host}:{shares}; proxy_pass $group; }}
    geo $zone {{
        default        {a};
        127.0.0.0/16   {b};
        127.0.0.8      {c};
        127.0.0.0/28   {spare};
    }}
    server {{ listen {host}:{zones}; proxy_pass $zone; }}
    server {{ listen {host}:{same}; proxy_pass {back}:$server_port; }}

    # who the client is
    server {{ listen {host}:{announcing}; proxy_protocol on; proxy_pass {header}; }}
    server {{
        listen {host}:{announced} proxy_protocol;
        set_real_ip_from 127.0.0.0/8;
        deny 198.51.100.0/24;
        allow all;
        proxy_protocol on;
        proxy_pass {header};
    }}

    # TLS on both sides
    server {{
        listen {host}:{secure} ssl;
        ssl_certificate {pem};
        ssl_certificate_key {pem};
        proxy_ssl on;
        proxy_pass {tls};
    }}

    # answers, datagrams, idleness
    server {{ listen {host}:{answer}; return "$remote_addr \\"$server_port\\"\\n"; }}
    server {{ listen {host}:{answer} udp; return "$protocol $remote_addr\\n"; }}
    server {{ listen {host}:{datagrams} udp; proxy_pass {echo}; proxy_responses 1; }}
    server {{ listen {host}:{idle}; proxy_timeout 300ms; proxy_pass {a}; }}
}}
"""
CASE_PORTS = (
    *("turns", "half", "whole", "ring", "plain", "retried", "unlucky", "guarded", "counted"),
    *("names", "kinds", "shares", "zones", "announcing", "announced", "secure", "answer"),
    *("datagrams", "idle"),
)
SOURCES = [f"127.0.{n // 7}.{n + 1}" for n in range(40)]


class DatagramEcho(Answering):
    """Sends each datagram back."""

    def __init__(self, host: str) -> None:
        self.udp = socket.socket(type=socket.SOCK_DGRAM)
        self.udp.bind((host, 0))
        super().__init__("echo", host)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, client = self.udp.recvfrom(65536)
                if not data:
                    return
                self.udp.sendto(data.upper(), client)

    def close(self) -> None:
        self.udp.sendto(b"", self.udp.getsockname())
        super().close()
        self.udp.close()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site]]:
    """nginx with a configuration, and nginy with what was imported from it."""
    needs("nginx", "nginx")
    directory = tmp_path_factory.mktemp("import")
    pem = make_certificate(directory, "secure.example")
    with contextlib.ExitStack() as stack:
        back = own_host()

        def answering(name: str, **how: object) -> str:
            server = Answering(name, back, **how)  # type: ignore[arg-type]
            stack.callback(server.close)
            return f"{back}:{server.port}"

        backends = {name: answering(name) for name in ("a", "b", "c", "spare")}
        backends["header"] = answering("header", reads_header=True)
        backends["tls"] = answering("tls", context=showing(pem))
        backends["dead"] = f"{back}:{free_port(back)}"
        echo = DatagramEcho(back)
        stack.callback(echo.close)
        backends["echo"] = "{}:{}".format(*echo.udp.getsockname())
        backends["back"] = back
        found = []
        for name in ("nginx", "nginy"):
            (directory / name).mkdir()
            site, text = _config(backends, pem, directory / name)
            if name == "nginx":
                first = site.host, site.ports["idle"]
                stack.enter_context(running_nginx(text, first, directory / name))
            else:
                result = nginx.read("/n.conf", Texts({"/n.conf": text}))
                assert [each for each in result.entries if not each.is_exact] == [
                    each for each in result.entries if "proxy_protocol;" in f"{each.directive};"
                    and each.directive.startswith("listen")
                ]  # fmt: skip
                result.document.top.values.pop("pid")
                result.document.top.values.pop("error_log")
                stack.enter_context(Nginy(directory / name, render(tidy(result.document))))
            found.append(site)
        yield found[0], found[1]


def _config(
    backends: dict[str, str], pem: pathlib.Path, directory: pathlib.Path
) -> tuple[Site, str]:
    """Return a site at an address of its own, and its configuration."""
    host = own_host()
    ports = {name: free_port(host) for name in CASE_PORTS}
    ports["same"] = int(backends["a"].rpartition(":")[2])
    module = load_stream()
    text = CONFIG.format(
        module=module, directory=directory, host=host, pem=pem, foe=FOE, **ports, **backends
    )
    return Site(host, ports, pem), text


def turns(site: Site) -> object:
    return [site.backend("turns") for _ in range(14)]


def half_closes(site: Site) -> object:
    data = bytes(range(256)) * 4000
    with site.client("half") as sock:
        said(sock)
        received = whole(sock, data)
    with site.client("whole") as sock:
        got = [said(sock)]
        sock.sendall(b"hello")
        got.append(sock.recv(5).decode())
        sock.shutdown(socket.SHUT_WR)
        got.append(sock.recv(99).decode())
    return len(received), received[: len(data)] == data, received[len(data) :], got


def hashes(site: Site) -> object:
    return [[site.backend(name, source) for source in SOURCES] for name in ("ring", "plain")]


def refusals(site: Site) -> object:
    return [site.backend("retried") for _ in range(4)], [site.backend("unlucky") for _ in range(4)]


def names(site: Site) -> object:
    asked = (
        *("shop.example", "a.shop.example", "SHOP.example", "v1.api.example", "v2.api.example"),
        *("api.example", "www.else.example", "x7.example", "xx.example", ""),
        *("store.example", "a.store.example"),
    )
    return [site.named("names", name) for name in asked], [
        site.backend("names", first=b"GET / HTTP/1.0\r\n\r\n"),
        site.backend("kinds", first=b"SSH-2.0-x\r\n"),
        site.named("kinds", "a.example"),
    ]


def shares(site: Site) -> object:
    return [site.backend("shares", source) for source in SOURCES]


def zones(site: Site) -> object:
    return [site.backend("zones", source) for source in (FRIEND, FOE, "127.0.3.1", STRANGER)]


def same_port(site: Site) -> object:
    return site.backend("same")


def encrypted(site: Site) -> object:
    with site.client("secure") as plain:
        context = trusting(site.pem)
        with context.wrap_socket(plain, server_hostname="secure.example") as sock:
            name = said(sock)
            sock.sendall(b"hello")
            got = name, sock.recv(5)
    with contextlib.suppress(ConnectionError, ssl.SSLError), site.client("secure") as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return got, plain.recv(99)[:0]
    return got, b""


def answers(site: Site) -> object:
    with site.client("answer", FRIEND) as sock:
        text = sock.makefile().read().replace(str(site.ports["answer"]), "PORT")
    got = [text]
    for name in ("answer", "datagrams"):
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.settimeout(PATIENCE_S)
            udp.bind((FRIEND, 0))
            udp.sendto(b"hello", (site.host, site.ports[name]))
            got.append(udp.recv(99).decode())
    return got


def idle(site: Site) -> object:
    """A client that says nothing is let go; nginx says goodbye, nginy resets."""
    with site.client("idle") as sock:
        name = said(sock)
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(4096):
                pass
        return name, "and an end"


CASES: dict[Callable[[Site], object], object] = {
    turns: list("aabacaa" * 2),
    half_closes: (
        1024000 + len("\n1024000 bytes\n"), True, b"\n1024000 bytes\n", ["a", "hello", ""],
    ),
    hashes: None,
    refusals: (list("aaaa"), ["", "b", "", "b"]),
    sources: ["a", "", ""],
    counted: ["a", "a", "", "a"],
    names: (
        ["a", "b", "a", "b", "c", "spare", "c", "c", "spare", "spare", "b", "b"],
        ["spare", "a", "b"],
    ),
    shares: None,
    zones: ["c", "spare", "b", "a"],
    same_port: "a",
    announced: (True, ["header 192.0.2.7:4711", "", ""]),
    encrypted: (("tls", b"hello"), b""),
    answers: [f'{FRIEND} "PORT"\n', f"UDP {FRIEND}\n", "HELLO"],
    idle: ("a", "and an end"),
}  # fmt: skip
"""What clients get, None where nginx alone knows."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_clients_get_the_same_from_both(
    case: Callable[[Site], object], sites: tuple[Site, Site]
) -> None:
    original, ours = sites
    found = case(original)
    if CASES[case] is not None:
        assert found == CASES[case]
    else:
        assert {"a", "b", "c"} <= set(str(found).replace("'", " ").split())
    assert case(ours) == found
