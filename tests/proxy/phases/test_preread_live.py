"""Preread on real sockets: first bytes in pieces, wrong, late, none; and nothing is taken."""

import pathlib
import random
import socket
import ssl
from collections import Counter

import pytest
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.pool import BackendPool
from nginy.balancer.round_robin import RoundRobin
from nginy.proxy.access import ALL, Access, Rule
from nginy.proxy.phases.real_address import RealAddress
from nginy.proxy.routing.conditions import IsTls, Protocols, ServerName, StartsWith, When
from nginy.proxy.texts import Variables
from nginy.text.address import Address, parse_address
from nginy.wire.client_hello import parse
from nginy.wire.errors import WireError
from nginy.wire.proxy_protocol import build_v2
from nginy.wire.proxy_protocol import parse as parse_header
from nginy.wire.proxy_tlv import Type, value_of
from nginy.wire.starts import parse_starts

from kit.ends import End
from kit.harness import ANY_PORT, Ended, Harness
from kit.leaks import no_garbage
from kit.routes import Ways, routed
from kit.servers import EchoBackend, Server

EVERYBODY = Access([(Rule(True, "all", is_for_unix=True), ALL)])
TEXT = "$ssl_preread_server_name $ssl_preread_alpn_protocols $ssl_preread_protocol"


def hello_of_python(name: str | None = "www.example.com", alpn: tuple[str, ...] = ("h2",)) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = hello_of_python()


class Scene:
    """A listener that tells www.example.com, SSH, and everybody else apart."""

    def __init__(self, harness: Harness, address: Address | None = None, **more: object) -> None:
        self.harness = harness
        self.tls = harness.add(EchoBackend())
        self.other = harness.add(EchoBackend())
        pool = harness.pool(self.tls.name)
        pool.name = "tls"
        other = harness.pool(self.other.name)
        other.name = "other"
        ways: Ways = [
            ([ServerName(["www.example.com"])], pool),
            ([StartsWith(parse_starts("SSH-"))], "a shell\n"),
        ]
        self.front = routed(harness, ways, other, address=address or ANY_PORT, **more)

    def echoed(self, client: End, data: bytes) -> None:
        self.harness.turn_until(lambda: len(client.received) >= len(data))
        assert client.received == data

    def only(self, client: End) -> Ended:
        client.finish()
        return self.front.only()


def test_a_hello_decides_and_the_backend_gets_all_of_it(harness: Harness) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    client.send(HELLO)
    scene.echoed(client, HELLO)
    client.send(b"more")
    scene.echoed(client, HELLO + b"more")
    ended = scene.only(client)
    assert ended.upstreams == (scene.tls.name,)
    assert (ended.bytes_received, ended.bytes_sent) == (len(HELLO) + 4, len(HELLO) + 4)


@pytest.mark.parametrize("step", [1, 7, 300])
def test_a_hello_may_come_in_any_pieces(harness: Harness, step: int) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    for place in range(0, len(HELLO), step):
        client.socket.send(HELLO[place : place + step])
        harness.turn(0)
    scene.echoed(client, HELLO)
    assert scene.only(client).upstreams == (scene.tls.name,)


def test_bytes_that_are_no_hello_decide_as_soon_as_they_can(harness: Harness) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    client.send(b"SS")
    harness.settle()
    assert harness.sessions()[0].client.action == "prereading client data"
    client.send(b"H")
    harness.settle()
    assert client.received == b""
    client.send(b"-2.0-x\r\n")
    scene.echoed(client, b"a shell\n")
    other = scene.front.connect()
    other.send(b"SX")
    scene.echoed(other, b"SX")


def test_a_client_that_waits_for_the_server_is_let_through_in_time(harness: Harness) -> None:
    scene = Scene(harness, timeout_ms=3000)
    client = scene.front.connect()
    harness.settle()
    harness.advance(2900)
    assert not scene.other.ends
    harness.advance(200)
    harness.turn_until(lambda: scene.other.ends)
    scene.other.end.send(b"220 hello\r\n")
    scene.echoed(client, b"220 hello\r\n")
    client.send(b"EHLO x\r\n")
    harness.turn_until(lambda: b"EHLO x\r\n" in scene.other.end.received)
    assert scene.only(client).termination == "--"


def test_bytes_that_decide_nothing_are_judged_as_they_are_in_time(harness: Harness) -> None:
    scene = Scene(harness, timeout_ms=3000)
    client = scene.front.connect()
    client.send(b"SSH")
    harness.settle()
    harness.advance(3100)
    scene.echoed(client, b"SSH")
    assert scene.only(client).upstreams == (scene.other.name,)


@pytest.mark.parametrize("size", [1, 5, 100, len(HELLO) - 1])
def test_a_hello_that_is_late_ends_the_session(harness: Harness, size: int) -> None:
    scene = Scene(harness, timeout_ms=3000)
    client = scene.front.connect()
    client.send(HELLO[:size])
    harness.settle()
    harness.advance(3100)
    ended = scene.front.only()
    assert (ended.status, ended.termination, ended.upstreams) == (400, "cR", ())
    assert ended.reason == "the ClientHello was not complete in time"
    harness.turn_until(lambda: client.is_over)
    assert not scene.tls.ends
    assert not scene.other.ends


def test_a_hello_that_does_not_fit_ends_the_session(harness: Harness) -> None:
    scene = Scene(harness, size_bytes=100)
    client = scene.front.connect()
    client.send(HELLO)
    ended = scene.front.only()
    assert (ended.status, ended.termination, ended.upstreams) == (400, "CR", ())
    assert ended.reason == "the ClientHello does not fit into preread: size (100)"


def test_what_is_no_hello_may_fill_the_buffer(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    ways: Ways = [([StartsWith(parse_starts("~x+y"))], "never\n")]
    front = routed(harness, ways, harness.pool(backend.name), size_bytes=100)
    client = front.connect()
    client.send(b"x" * 99)
    harness.settle()
    assert client.received == b""
    client.send(b"xx")
    harness.turn_until(lambda: client.received == b"x" * 101)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x16\x03\x01\x00\x01\x02", "bad ClientHello: the first handshake message is no"),
        (HELLO[:9] + b"\xff" * 60 + HELLO[69:], "bad ClientHello: a length in the ClientHello"),
    ],
)
def test_after_a_bad_hello_not_one_byte_is_forwarded(
    harness: Harness, data: bytes, reason: str
) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    client.send(data)
    ended = scene.front.only()
    assert (ended.status, ended.termination, ended.upstreams) == (400, "CR", ())
    assert ended.reason.startswith(reason)
    harness.turn_until(lambda: client.is_over)
    assert (client.received, scene.tls.ends, scene.other.ends) == (b"", [], [])


def test_a_client_that_closes_inside_its_hello_ends_with_cr(harness: Harness) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    client.send(HELLO[:50])
    ended = scene.only(client)
    assert (ended.status, ended.termination) == (400, "CR")
    assert ended.reason == "client closed the connection inside its ClientHello"


def test_a_client_that_closes_later_inside_its_hello_ends_with_cr(harness: Harness) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    client.socket.send(HELLO[:50])
    harness.settle()
    assert scene.only(client).termination == "CR"


def test_a_client_that_closes_without_a_byte_is_passed_on(harness: Harness) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    ended = scene.only(client)
    assert (ended.termination, ended.upstreams) == ("--", (scene.other.name,))


def test_what_was_sent_before_a_close_is_judged_and_passed_on(harness: Harness) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    client.send(b"SSH")
    client.finish()
    scene.echoed(client, b"SSH")
    assert scene.front.only().upstreams == (scene.other.name,)


@pytest.mark.parametrize("sent", [b"", HELLO[:50]])
def test_a_client_that_resets_meanwhile_ends_with_cr(harness: Harness, sent: bytes) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    if sent:
        client.socket.send(sent)
    harness.settle()
    client.reset()
    ended = scene.front.only()
    assert (ended.status, ended.termination) == (400, "CR")


def test_waiting_for_more_does_not_spin(harness: Harness) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    client.socket.send(HELLO[:50])
    harness.settle()
    assert [harness.loop.interest.wait(0) for _ in range(20)] == [[]] * 20
    client.socket.send(HELLO[50:])
    scene.echoed(client, HELLO)
    harness.settle()
    assert [harness.loop.interest.wait(0) for _ in range(20)] == [[]] * 20


def test_one_byte_is_heard_again_after_the_choice(harness: Harness) -> None:
    scene = Scene(harness)
    client = scene.front.connect()
    client.socket.send(HELLO[:-1])
    harness.settle()
    client.socket.send(HELLO[-1:])
    scene.echoed(client, HELLO)
    client.send(b"x")
    scene.echoed(client, HELLO + b"x")


@pytest.mark.parametrize("ends_early", [False, True])
def test_unix_sockets_are_looked_at_as_well(
    harness: Harness, tmp_path: pathlib.Path, ends_early: bool
) -> None:
    scene = Scene(harness, Address(socket.AF_UNIX, path=str(tmp_path / "s")))
    client = scene.front.connect()
    client.socket.send(HELLO[:50])
    harness.settle()
    assert not harness.loop.interest.wait(0)
    harness.advance(100)
    if ends_early:
        client.reset()
        harness.advance(40_000)
        # Only edges tell of an end behind bytes that are left in the kernel.
        expected = "CR" if harness.loop.interest.is_edge_triggered else "cR"
        assert scene.front.only().termination == expected
        return
    client.socket.send(HELLO[50:])
    harness.settle()
    harness.advance(100)
    scene.echoed(client, HELLO)


def test_what_follows_a_proxy_header_is_looked_at(harness: Harness) -> None:
    phase = RealAddress(EVERYBODY, False, 3000)
    scene = Scene(harness, phases=(phase,))
    scene.front.log(f"$remote_addr {TEXT}")
    header = build_v2(("192.0.2.7", 4711), ("198.51.100.2", 443))
    client = scene.front.connect()
    client.send(header + HELLO)
    scene.echoed(client, HELLO)
    assert scene.only(client).upstreams == (scene.tls.name,)
    assert scene.front.lines == ["192.0.2.7 www.example.com h2 TLSv1.3"]


@pytest.mark.parametrize("cut", [5, 40, 60, 200])
def test_a_header_and_a_hello_may_be_cut_anywhere(harness: Harness, cut: int) -> None:
    phase = RealAddress(EVERYBODY, False, 3000)
    scene = Scene(harness, phases=(phase,))
    data = build_v2(("192.0.2.7", 4711), ("198.51.100.2", 443)) + HELLO
    client = scene.front.connect()
    client.socket.send(data[:cut])
    harness.settle()
    client.socket.send(data[cut:])
    scene.echoed(client, HELLO)


def test_a_header_without_a_byte_behind_it_waits_for_the_server(harness: Harness) -> None:
    phase = RealAddress(EVERYBODY, False, 3000)
    scene = Scene(harness, phases=(phase,), timeout_ms=1000)
    client = scene.front.connect()
    client.send(build_v2(None, None))
    harness.settle()
    harness.advance(1100)
    harness.turn_until(lambda: scene.other.ends)


def test_routes_may_ask_for_what_the_hello_says_by_variables(harness: Harness) -> None:
    backend = harness.add(Server())
    name = "$ssl_preread_protocol"
    condition = When(name[1:], frozenset({"TLSv1.3"}), (), is_late=True)
    texts = {name: Variables(harness.clock).compile(name)}
    front = routed(harness, [([condition], harness.pool(backend.name))], "old\n", texts=texts)
    front.connect().send(HELLO)
    harness.turn_until(lambda: backend.ends)
    client = front.connect()
    client.send(b"GET /")
    harness.turn_until(lambda: client.received == b"old\n")


def test_nobody_looks_where_no_route_needs_it(harness: Harness) -> None:
    backend = harness.add(Server())
    ways: Ways = [([], harness.pool(backend.name)), ([IsTls(True)], None)]
    front = routed(harness, ways)
    front.log(TEXT)
    client = front.connect()
    harness.turn_until(lambda: backend.ends)
    client.send(HELLO)
    harness.turn_until(lambda: backend.end.received == HELLO)
    client.finish()
    backend.end.finish()
    front.only()
    assert front.lines == ["  "]


def test_nothing_is_left_behind(harness: Harness) -> None:
    scene = Scene(harness, timeout_ms=1000)
    with no_garbage():
        for data in (HELLO, HELLO[:50], b"SSH-", b"", b"\x16\x03\x01\0\0"):
            client = scene.front.connect()
            if data:
                client.socket.send(data)
            harness.settle()
            harness.advance(1100)
            harness.settle()
            client.close()
            harness.forget(client)
            harness.turn_until(lambda: not harness.sessions())


def test_mutated_hellos_raise_nothing_and_reach_nobody_when_wrong(harness: Harness) -> None:
    seed = 8446
    print("seed", seed)
    rng = random.Random(seed)
    backend = harness.add(EchoBackend())
    pool = harness.pool(backend.name)
    front = routed(harness, [([IsTls(True)], pool), ([Protocols(["x"])], None)], pool)
    outcomes: Counter[str] = Counter()
    for _ in range(150):
        data = bytearray(HELLO)
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(90)
            data[place] = rng.randrange(256)
        try:
            expected = "more" if parse(bytes(data)) is None else "forwarded"
        except WireError:
            expected = "CR"
        outcomes[expected] += 1
        client = front.connect()
        client.send(bytes(data))
        before = len(backend.ends)
        client.finish()
        harness.turn_until(lambda: client.is_over)  # noqa: B023
        is_forwarded = expected == "forwarded"
        assert client.received == (data if is_forwarded else b"")
        assert (len(backend.ends) > before) is is_forwarded
        client.close()
        harness.forget(client)
    assert min(outcomes[each] for each in ("CR", "forwarded")) > 10
    assert {ended.termination for ended in front.ended} <= {"--", "CR"}


def test_a_route_that_denies_and_one_that_is_missing(harness: Harness) -> None:
    front = routed(harness, [([IsTls(True)], None)])
    front.connect().send(HELLO)
    denied = front.only()
    assert (denied.status, denied.termination) == (403, "PR")
    assert denied.reason == "denied by route 1"
    front.ended.clear()
    front.connect().send(b"x")
    missing = front.only()
    assert (missing.status, missing.termination, missing.reason) == (403, "PR", "no route matches")


def test_a_backend_is_told_the_name_that_a_client_passed_through_has_asked_for(
    harness: Harness,
) -> None:
    server = harness.add(Server())
    settings = BackendSettings(server.name, parse_address(server.name), proxy_protocol="v2")
    pool = harness.add_pool(BackendPool("tls", [Backend(settings)], RoundRobin))
    front = routed(harness, [([ServerName(["www.example.com"])], pool)], pool)
    announced = []
    for hello in (HELLO, hello_of_python(None)):
        front.connect().send(hello)
        harness.turn_until(lambda: len(server.ends) > len(announced) and server.ends[-1].received)
        header = parse_header(bytes(server.ends[-1].received))
        assert header is not None
        announced.append(value_of(header.tlvs, Type.AUTHORITY))
    assert announced == [b"www.example.com", None]
