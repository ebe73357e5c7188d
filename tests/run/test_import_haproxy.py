"""A haproxy.cfg runs in HAProxy, and its import runs in nginy: clients get the same from both.

One HAProxy and one nginy serve all cases, each on an address of its own, in front of the same
backends.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import pytest
from nginy.commands.importing import haproxy
from nginy.commands.importing.model import Texts
from nginy.commands.importing.tidy import tidy
from nginy.commands.importing.writer import render

from kit.answering import Answering, said, whole
from kit.others import serving
from kit.program import PATIENCE_S, Nginy, free_port, needs, own_host, wait_until
from kit.site import FOE, FRIEND, STRANGER, Site, announced, counted, sources
from kit.tls import make_certificate, trusting
from kit.tls import serving as showing

pytestmark = pytest.mark.real

CONFIG = """
global
    maxconn 500
defaults
    mode tcp
    timeout connect 2s
    timeout client 10s
    timeout server 10s
    timeout queue 1s

# Turns, bytes and half-closes; one that is switched off, and one that refuses.
frontend turns
    bind {host}:{turns}
    default_backend three
backend three
    server a {a}
    server b {b}
    server off 127.0.0.1:1 disabled
    server c {c}

frontend retried
    bind {host}:{retried}
    default_backend redispatching
backend redispatching
    option redispatch
    server dead {dead}
    server a {a}
    server b {b}

frontend unlucky
    bind {host}:{unlucky}
    default_backend unretried
backend unretried
    retries 0
    server dead {dead}
    server a {a}

# Which clients may connect.
frontend guarded
    bind {host}:{guarded}
    acl friends src 127.0.0.0/9
    acl foe src {foe}
    tcp-request connection reject if foe
    tcp-request connection accept if friends
    tcp-request connection reject
    default_backend one

# Where they go, by name, by port and by address.
frontend names
    bind {host}:{names}
    tcp-request inspect-delay 5s
    acl is_tls req.ssl_hello_type 1
    acl shop req.ssl_sni -i shop.example www.shop.example
    acl api req.ssl_sni -m end .api.example
    tcp-request content reject if shop {{ src {foe} }}
    tcp-request content accept if is_tls
    tcp-request content reject
    use_backend two if shop
    use_backend other if api !shop
    use_backend other if {{ req.ssl_sni -m reg ^x[0-9]+\\. }} or {{ req.ssl_alpn h2 }}
    default_backend one

frontend ports
    bind {host}:{port_low}-{port_high}
    use_backend two if {{ dst_port {port_high} }}
    use_backend other unless {{ src 127.0.0.0/9 }}
    default_backend one

# Limits.
frontend full
    bind {host}:{full}
    default_backend narrow
backend narrow
    server a {a} maxconn 1

frontend counted
    bind {host}:{counted}
    stick-table type ip size 1k expire 1m store conn_cur
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ src_conn_cur gt 2 }}
    default_backend one

# Who the client is.
frontend announcing
    bind {host}:{announcing}
    default_backend told
backend told
    server v2 {header} send-proxy-v2

frontend announced
    bind {host}:{announced} accept-proxy
    acl known src 192.0.2.0/24
    use_backend told_v1 if known
    default_backend one
backend told_v1
    server v1 {header} send-proxy

# Health.
listen checked
    bind {host}:{checked}
    option tcp-check
    tcp-check connect
    tcp-check expect string good
    tcp-check send PING\\r\\n
    tcp-check expect rstring ^\\+PON[G]
    default-server inter 100ms fastinter 50ms fall 1 check
    server good {good}
    server bad {bad}
    server spare {a} backup

listen saved
    bind {host}:{saved}
    default-server inter 100ms fall 1
    server dead {dead} check
    server spare {b} check backup

# TLS on both sides.
frontend secure
    bind {host}:{secure} ssl crt {pem}
    default_backend encrypted
backend encrypted
    server tls {tls} ssl verify none

# Idle clients.
frontend idle
    bind {host}:{idle}
    timeout client 300ms
    default_backend one

backend one
    server a {a}
backend two
    server b {b}
backend other
    server c {c}
"""
FRONTS = (
    *("turns", "retried", "unlucky", "guarded", "names", "full", "counted", "announcing"),
    *("announced", "checked", "saved", "secure", "idle"),
)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site]]:
    """HAProxy with a configuration, and nginy with what was imported from it."""
    program = needs("haproxy", "haproxy")
    directory = tmp_path_factory.mktemp("import")
    pem = make_certificate(directory, "secure.example")
    with contextlib.ExitStack() as stack:
        back = own_host()

        def answering(name: str, **how: object) -> str:
            server = Answering(name, back, **how)  # type: ignore[arg-type]
            stack.callback(server.close)
            return f"{back}:{server.port}"

        backends = {name: answering(name) for name in "abc"}
        backends["header"] = answering("header", reads_header=True)
        backends["tls"] = answering("tls", context=showing(pem))
        backends["good"] = answering("good", answer=b"+PONG\r\n")
        backends["bad"] = answering("bad", answer=b"-ERR\r\n")
        backends["dead"] = f"{back}:{free_port(back)}"
        found = []
        for name in ("haproxy", "nginy"):
            (directory / name).mkdir()
            site, text = _config(backends, pem)
            if name == "haproxy":
                (directory / name / "haproxy.cfg").write_text(text)
                argv = (program, "-db", "-f", "haproxy.cfg")
                first = site.host, site.ports["idle"]
                stack.enter_context(serving(argv, first, directory / name))
            else:
                result = haproxy.read("/h.cfg", Texts({"/h.cfg": text}))
                stack.enter_context(Nginy(directory / name, render(tidy(result.document))))
            found.append(site)
        yield found[0], found[1]


def _config(backends: dict[str, str], pem: pathlib.Path) -> tuple[Site, str]:
    """Return a site at an address of its own, and its configuration."""
    host = own_host()
    ports = {name: free_port(host) for name in FRONTS}
    low = next(p for p in (free_port(host) for _ in range(100)) if p < 60000)
    ports["port_low"], ports["port_high"] = low, low + 1
    text = CONFIG.format(host=host, pem=pem, foe=FOE, **ports, **backends)
    return Site(host, ports, pem), text


def turns(site: Site) -> object:
    return [site.backend("turns") for _ in range(7)]


def half_closes(site: Site) -> object:
    data = bytes(range(256)) * 4000
    with site.client("turns") as sock:
        said(sock)
        received = whole(sock, data)
    return len(received), received[: len(data)] == data, received[len(data) :]


def refusals(site: Site) -> object:
    return sorted(site.backend("retried") for _ in range(6)), [
        site.backend("unlucky") for _ in range(4)
    ]


def names(site: Site) -> object:
    asked = ("shop.example", "WWW.shop.example", "v1.api.example", "x7.example", "else.example")
    by_name = [site.named("names", name) for name in asked]
    return (
        by_name,
        site.named("names", "shop.example", FOE),
        site.named("names", "a.example", alpn="h2"),
        (site.backend("names", first=b"GET / HTTP/1.0\r\n\r\n")),
    )


def ports(site: Site) -> object:
    return [
        site.backend(name, source)
        for name in ("port_low", "port_high")
        for source in (FRIEND, STRANGER)
    ]


def queued(site: Site) -> object:
    """One client has the place, the next one waits for it, and one waits in vain."""
    with site.client("full") as first:
        got = [said(first)]
        with site.client("full") as second:
            second.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                got.append(f"early {second.recv(9)!r}")
            second.settimeout(PATIENCE_S)
            first.close()
            got.append(said(second))
            got.append(site.backend("full"))
    return got


def checks(site: Site) -> object:
    """The backend that answers wrongly gets nobody; where none is left, the spare one serves."""

    def is_settled() -> bool:
        return {site.backend("checked") for _ in range(6)} == {"good"} and (
            site.backend("saved") == "b"
        )

    wait_until(is_settled, "checks to have found out")
    return [site.backend("checked") for _ in range(4)], site.backend("saved")


def encrypted(site: Site) -> object:
    with site.client("secure") as plain:
        context = trusting(site.pem)
        with context.wrap_socket(plain, server_hostname="secure.example") as sock:
            name = said(sock)
            sock.sendall(b"hello")
            return name, sock.recv(5)


def idle(site: Site) -> object:
    """A client that says nothing is let go; HAProxy lets the backend say goodbye, nginy resets."""
    with site.client("idle") as sock:
        name = said(sock)
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(4096):
                pass
        return name, "and an end"


CASES: dict[Callable[[Site], object], object] = {
    turns: list("abcabca"),
    half_closes: (1024000 + len("\n1024000 bytes\n"), True, b"\n1024000 bytes\n"),
    refusals: (list("aaabbb"), ["", "a", "", "a"]),
    sources: ["a", "", ""],
    names: (["b", "b", "c", "c", "a"], "", "c", ""),
    ports: ["a", "c", "b", "b"],
    queued: ["a", "a", ""],
    counted: ["a", "a", "", "a"],
    announced: (True, ["header 192.0.2.7:4711", "a", ""]),
    checks: (["good"] * 4, "b"),
    encrypted: ("tls", b"hello"),
    idle: ("a", "and an end"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_clients_get_the_same_from_both(
    case: Callable[[Site], object], sites: tuple[Site, Site]
) -> None:
    original, ours = sites
    assert case(original) == CASES[case]
    assert case(ours) == CASES[case]
