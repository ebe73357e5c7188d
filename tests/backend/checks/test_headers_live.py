"""Checks of backends that expect a PROXY header: they announce nobody."""

import pytest
from nginy.backend.checks.checker import Checker, ProbeSettings
from nginy.backend.checks.dialog import PASSED, Result
from nginy.event.tls_client import ClientTls
from nginy.text.address import parse_address
from nginy.wire.checks.http import HttpCheck
from nginy.wire.checks.steps import single
from nginy.wire.expect import parse_expect
from nginy.wire.proxy_protocol import ANNOUNCES_NOBODY

from kit.datagrams import UdpBackend
from kit.harness import Harness
from kit.servers import Server


def check(
    harness: Harness, server: Server | UdpBackend, own: str = "auto", /, **probe: object
) -> list[Result]:
    """Begin a check of a server, whose own key is `own`; return where its result will be."""
    results: list[Result] = []
    checker = Checker(harness.loop)
    settings = ProbeSettings(**probe)  # type: ignore[arg-type]
    deadline_ms = harness.clock.now_ms + 1000
    checker.start(settings, parse_address(server.name), deadline_ms, results.append, own)
    return results


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_check_begins_with_the_header_of_nobody(harness: Harness, version: str) -> None:
    server = harness.add(Server())
    results = check(
        harness,
        server,
        question=single(b"PING", parse_expect("PONG")),
        proxy_protocol=version,
    )
    expected = ANNOUNCES_NOBODY[version] + b"PING"
    harness.turn_until(lambda: server.ends and server.end.received == expected)
    server.end.send(b"PONG")
    harness.turn_until(lambda: results)
    assert results == [PASSED]
    server.end.finish()
    harness.settle()


def test_a_check_by_http_does_so_too(harness: Harness) -> None:
    server = harness.add(Server())
    results = check(harness, server, question=HttpCheck(), proxy_protocol="v1")
    begin = b"PROXY UNKNOWN\r\nGET / HTTP/1."
    harness.turn_until(lambda: server.ends and server.end.received.startswith(begin))
    server.end.send(b"HTTP/1.0 200 OK\r\n\r\n")
    harness.turn_until(lambda: results)
    assert results == [PASSED]
    server.end.finish()
    harness.settle()


def test_the_header_comes_before_the_handshake(harness: Harness) -> None:
    server = harness.add(Server())
    check(harness, server, tls=ClientTls(verify=False), proxy_protocol="v2")
    header = ANNOUNCES_NOBODY["v2"]
    handshake = b"\x16\x03"
    harness.turn_until(lambda: server.ends and server.end.received.startswith(header + handshake))
    server.end.finish()
    harness.settle()


@pytest.mark.parametrize(
    ("own", "header"),
    [("auto", ANNOUNCES_NOBODY["v1"]), ("v2", ANNOUNCES_NOBODY["v2"]), ("off", b"")],
)
def test_a_backends_own_key_wins(harness: Harness, own: str, header: bytes) -> None:
    server = harness.add(Server())
    check(harness, server, own, question=single(b"PING"), proxy_protocol="v1")
    harness.turn_until(lambda: server.ends and server.end.has_eof)
    assert server.end.received == header + b"PING"
    server.end.finish()
    harness.settle()


def test_a_check_on_a_port_of_its_own_asks_another_server(harness: Harness) -> None:
    server = harness.add(Server())
    port = parse_address(server.name).port
    check(harness, server, "v2", port=port, question=single(b"PING"))
    harness.turn_until(lambda: server.ends and server.end.has_eof)
    assert server.end.received == b"PING"
    server.end.finish()
    harness.settle()


@pytest.mark.parametrize(
    ("own", "listener", "header"),
    [
        ("auto", "v2", ANNOUNCES_NOBODY["v2"]),
        ("v2", "off", ANNOUNCES_NOBODY["v2"]),
        ("off", "v2", b""),
        ("auto", "v1", b""),
    ],
)
def test_each_datagram_of_a_check_announces_nobody(
    harness: Harness, own: str, listener: str, header: bytes
) -> None:
    server = harness.add(UdpBackend(lambda _data: [b"PONG"]))
    question = single(b"PING", parse_expect("PONG"))
    probe = {"question": question, "transport": "udp", "proxy_protocol": listener}
    results = check(harness, server, own, **probe)
    harness.turn_until(lambda: results)
    assert results == [PASSED]
    assert server.received == [header + b"PING"]
