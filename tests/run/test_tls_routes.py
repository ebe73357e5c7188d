"""TLS terminated and passed through on one port, as routes say."""

import contextlib
import json
import pathlib
import signal
import socket
import ssl
from collections.abc import Iterator

import pytest
from nginy.commands.explain import explain
from nginy.config.checking.surprises import surprises

from kit.configs import loaded, refusals
from kit.faults import Listening, Site, check
from kit.tls import make_certificate, trusting


@pytest.fixture
def backends() -> Iterator[list[Listening]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(Listening())) for _ in range(3)]


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Files with a key and a certificate, by the name they are for."""
    directory = tmp_path_factory.mktemp("tls")
    names = ("mine.test", "theirs.test", "other.test")
    return {name: make_certificate(directory, name, days=30) for name in names}


def keys(pem: pathlib.Path) -> dict[str, str]:
    return {"certificate": str(pem), "key": str(pem)}


def config_of(site: Site, **listener: object) -> str:
    return f"listeners: {json.dumps({'listen': site.address, **listener})}\n"


def shake_hands(sock: socket.socket, pem: pathlib.Path, name: str) -> ssl.SSLSocket:
    return trusting(pem).wrap_socket(sock, server_hostname=name)


def hello_for(name: str) -> bytes:
    """Return what a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def receive(sock: socket.socket, count: int) -> bytes:
    """Return this many bytes."""
    received = b""
    while len(received) < count:
        received += sock.recv(count - len(received))
    return received


def test_on_a_listener_with_tls_some_are_passed_through(
    site: Site, backends: list[Listening], pems: dict[str, pathlib.Path]
) -> None:
    plain, secure, shell = backends
    routes = [
        {"sni": "theirs.test", "passthrough": True, "proxy_pass": secure.name},
        {"sni": "other.test", "tls": keys(pems["other.test"]), "proxy_pass": plain.name},
        {"starts": "SSH-", "proxy_pass": shell.name},
    ]
    config = config_of(site, tls=keys(pems["mine.test"]), routes=routes, proxy_pass=plain.name)
    nginy = site.run(config)
    for name in ("mine.test", "other.test"):
        with shake_hands(site.connect(), pems[name], name) as client:
            check(client, plain.accept())
    # nginy sends the hello on as it came, so the handshake is the backend's.
    sock = site.connect()
    hello = hello_for("theirs.test")
    sock.sendall(hello)
    assert receive(secure.accept(), len(hello)) == hello
    sock.close()
    with site.connect() as sock:
        sock.sendall(b"SSH-2.0-x\r\n")
        assert shell.accept().recv(100) == b"SSH-2.0-x\r\n"
    nginy.stop()


def test_on_a_listener_without_tls_some_are_terminated(
    site: Site, backends: list[Listening], pems: dict[str, pathlib.Path]
) -> None:
    plain, secure, _ = backends
    routes = [{"sni": "mine.test", "tls": keys(pems["mine.test"]), "proxy_pass": plain.name}]
    proxies = {"from": "127.0.0.0/8", "timeout": "5s"}
    config = config_of(
        site,
        routes=routes,
        proxy_pass=secure.name,
        accept_proxy_protocol=proxies,
        proxy_protocol="v1",
    )
    nginy = site.run(config)
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n"
    # Behind a PROXY header, in the same segment or not, the hello is the first of the stream.
    sock = site.connect()
    sock.sendall(header)
    with shake_hands(sock, pems["mine.test"], "mine.test") as client:
        upstream = plain.accept()
        client.sendall(b"request")
        expected = header + b"request"
        assert receive(upstream, len(expected)) == expected
    sock = site.connect()
    hello = hello_for("theirs.test")
    sock.sendall(header + hello)
    assert receive(secure.accept(), len(header + hello)) == header + hello
    sock.close()
    nginy.send_signal(signal.SIGHUP)
    nginy.said("configuration reloaded")
    nginy.stop()


@pytest.mark.parametrize(
    ("listener", "route", "problem"),
    [
        ("", "passthrough: on", "passthrough: the listener has no tls, so all its clients are"),
        ("TLS", "passthrough: on, TLS", "tls: passthrough at "),
        ("TLS", "is_tls: off, TLS", "tls: is_tls at "),
        ("", "tls: {alpn: h2}", 'tls: expected "certificates", or "certificate" and "key"'),
        ("protocol: udp", "TLS", "tls: is for tcp listeners, this one is udp"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: pathlib.Path,
    pems: dict[str, pathlib.Path],
    listener: str,
    route: str,
    problem: str,
) -> None:
    tls = "tls: " + json.dumps(keys(pems["mine.test"]))
    parts = filter(None, ["listen: 127.0.0.1:80", "proxy_pass: 192.0.2.1:1", listener])
    route = f"{{{route}, proxy_pass: 192.0.2.1:1}}"
    text = f"listeners: {{{', '.join(parts)}, routes: {route}}}".replace("TLS", tls)
    assert any(problem in each for each in refusals(tmp_path, text))


def test_names_without_a_certificate_are_warned_of_and_explain_says_who_is_terminated(
    tmp_path: pathlib.Path, pems: dict[str, pathlib.Path]
) -> None:
    tls = json.dumps(keys(pems["mine.test"]))
    text = f"""
    listeners:
      listen: 127.0.0.1:80
      tls: {tls}
      proxy_pass: 192.0.2.1:1
      routes:
        - {{sni: [mine.test, missing.test], proxy_pass: 192.0.2.1:2}}
        - {{sni: theirs.test, passthrough: on, proxy_pass: 192.0.2.1:2}}
    """
    config = loaded(tmp_path, text)
    (warning,) = surprises(config)
    assert 'no certificate is for "missing.test", so its clients get another one' in warning
    for name, said in (("mine", "terminated, at"), ("theirs", "passed through")):
        told = explain(config, "127.0.0.1:80", "10.1.2.3", (f"sni={name}.test",))
        assert f"tls       {said}" in told


def test_a_client_that_waits_for_its_route_keeps_the_tls_that_a_reload_removes(
    site: Site, backends: list[Listening]
) -> None:
    one = backends[0]
    routes = [{"starts": "ab", "proxy_pass": one.name}]
    nginy = site.run(config_of(site, proxy_tls={"verify": False}, routes=routes, **{"return": "x"}))
    waiting = site.connect()
    waiting.sendall(b"a")
    later = site.connect()  # nginy accepts in the order of arrival
    later.sendall(b"z")
    assert later.recv(9) == b"x"
    nginy.write(config_of(site, routes=routes, **{"return": "x"}))
    nginy.send_signal(signal.SIGHUP)
    nginy.said("configuration reloaded", 1)
    waiting.sendall(b"b")
    assert one.accept().recv(1) == b"\x16"  # a handshake record
