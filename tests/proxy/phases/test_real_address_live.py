"""PROXY headers from real sockets: in pieces, followed by data, wrong, late, from strangers."""

import pathlib
import random
from typing import Any

import pytest
from nginy.event.loop import Loop
from nginy.proxy.access import ALL, Access, Rule, parse_network
from nginy.proxy.handler import ProxyHandler
from nginy.proxy.limits import Counts
from nginy.proxy.phases.limiting import LimitConn
from nginy.proxy.phases.phase import AccessPhase
from nginy.proxy.phases.real_address import RealAddress
from nginy.proxy.session import Session
from nginy.text.address import parse_address
from nginy.wire.proxy_protocol import build_v1, build_v2
from nginy.wire.proxy_tlv import SslFlag, SslInfo, SslType, Type, build_ssl

from kit.clock import FakeClock
from kit.ends import End
from kit.harness import Ended, Front, Harness
from kit.leaks import no_descriptor_left, no_garbage
from kit.servers import EchoBackend

CLIENT = ("192.0.2.7", 4711)
SERVER = ("198.51.100.2", 443)
V1 = build_v1(CLIENT, SERVER)
V2 = build_v2(CLIENT, SERVER, tlvs=((0xE0, b"tag"), (int(Type.AUTHORITY), b"example.com")))
HEADERS = pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
EVERYBODY = Access([(Rule(True, "all", is_for_unix=True), ALL)])
NOBODY_HERE = Access([(Rule(True, "192.0.2.0/24"), (parse_network("192.0.2.0/24"),))])


def behind_proxy(
    harness: Harness, senders: Access = EVERYBODY, *, accepts_others: bool = False
) -> Front:
    """A listener in front of an echo that reads headers."""
    backend = harness.add(EchoBackend())
    front = harness.proxy(harness.pool(backend.name))
    front.handler.phases = (RealAddress(senders, accepts_others, 3000),)
    return front


def echoed(harness: Harness, client: End, data: bytes) -> None:
    harness.turn_until(lambda: len(client.received) >= len(data))
    assert client.received == data


def only(front: Front, client: End) -> Ended:
    client.finish()
    return front.only()


@HEADERS
def test_a_header_and_the_first_bytes_may_come_together(harness: Harness, header: bytes) -> None:
    front = behind_proxy(harness)
    client = front.connect()
    client.socket.send(header + b"hello")
    echoed(harness, client, b"hello")
    client.send(b" again")
    echoed(harness, client, b"hello again")
    assert only(front, client).bytes_received == 11


def test_a_client_whose_header_is_on_its_way_keeps_its_backends_descriptor(
    harness: Harness,
) -> None:
    backend = harness.add(EchoBackend())
    front = harness.proxy(harness.pool(backend.name))
    front.handler.phases = (RealAddress(EVERYBODY, False, 3000),)
    backend.is_accepting = False  # its descriptors would come out of the same limit
    clients = [front.connect() for _ in range(3)]
    harness.turn_until(lambda: front.handler.sessions == 3)
    with no_descriptor_left():
        for client in clients:
            client.socket.send(V1)
        harness.turn_until(lambda: all(session.upstream for session in harness.sessions()))
    assert (front.handler.sessions, front.ended) == (3, [])


@HEADERS
def test_a_header_may_come_in_any_number_of_pieces(harness: Harness, header: bytes) -> None:
    front = behind_proxy(harness)
    client = front.connect()
    data = header + b"hello"
    for place in range(len(data)):
        client.socket.send(data[place : place + 1])
        harness.turn(0)
    echoed(harness, client, b"hello")


@HEADERS
def test_a_header_may_be_cut_anywhere(harness: Harness, header: bytes) -> None:
    front = behind_proxy(harness)
    rng = random.Random(15)
    for place in rng.sample(range(1, len(header) + 5), 12):
        client = front.connect()
        data = header + b"hello"
        client.socket.send(data[:place])
        harness.settle(2)
        client.socket.send(data[place:])
        echoed(harness, client, b"hello")


def test_waiting_for_a_header_does_not_spin(harness: Harness) -> None:
    front = behind_proxy(harness)
    client = front.connect()
    client.socket.send(V2[:20])
    harness.settle()
    calls = 0
    read = Loop.turn
    for _ in range(20):
        before = harness.loop.interest.wait(0)
        calls += len([each for each in before if each[0].data is not None])
    assert read is Loop.turn
    assert calls == 0


@HEADERS
def test_the_announced_client_is_the_client(harness: Harness, header: bytes) -> None:
    front = behind_proxy(harness)
    front.log(
        "$remote_addr $remote_port $proxy_protocol_addr $proxy_protocol_port"
        " $proxy_protocol_server_addr $proxy_protocol_server_port $realip_remote_addr"
        " [$proxy_protocol_tlv_0xE0] [$proxy_protocol_tlv_0xe1] [$proxy_protocol_tlv_authority]"
    )
    client = front.connect()
    client.send(header)
    only(front, client)
    tlvs = "[tag] [] [example.com]" if header is V2 else "[] [] []"
    addresses = "192.0.2.7 4711 192.0.2.7 4711 198.51.100.2 443 127.0.0.1"
    assert front.lines == [f"{addresses} {tlvs}"]


def test_variables_tell_what_the_proxy_says_of_tls(harness: Harness) -> None:
    front = behind_proxy(harness)
    front.log(
        "$proxy_protocol_tlv_ssl_version $proxy_protocol_tlv_ssl_cn $proxy_protocol_tlv_ssl_verify"
        " [$proxy_protocol_tlv_ssl_cipher] $proxy_protocol_tlv_unique_id"
    )
    ssl = SslInfo(
        SslFlag.SSL | SslFlag.CERT_CONN,
        0,
        ((int(SslType.VERSION), b"TLSv1.3"), (int(SslType.CN), b"me")),
    )
    client = front.connect()
    tlvs = ((int(Type.SSL), build_ssl(ssl)), (int(Type.UNIQUE_ID), b"\xff1"))
    client.send(build_v2(CLIENT, SERVER, tlvs=tlvs))
    only(front, client)
    assert front.lines == ["TLSv1.3 me 0 [] \\xff1"]


@pytest.mark.parametrize("header", [build_v1(None, None), build_v2(None, None)])
def test_a_proxys_own_connection_keeps_its_address(harness: Harness, header: bytes) -> None:
    front = behind_proxy(harness)
    front.log("$remote_addr [$proxy_protocol_addr]")
    client = front.connect()
    client.send(header + b"hello")
    echoed(harness, client, b"hello")
    only(front, client)
    assert front.lines == ["127.0.0.1 []"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "it begins with neither PROXY nor the signature of version 2"),
        (b"PROXY TCP4 1.2.3.4\r\n", "the line has 3 words instead of 6"),
        (V2[:-1] + b"!hello", "the checksum is wrong"),
        (b"PROXY UNKNOWN " + b"x" * 200, "no line end within 107 bytes"),
    ],
)
def test_after_a_bad_header_not_one_byte_is_forwarded(
    harness: Harness, data: bytes, why: str
) -> None:
    backend = harness.add(EchoBackend())
    front = harness.proxy(harness.pool(backend.name))
    front.handler.phases = (RealAddress(EVERYBODY, False, 3000),)
    client = front.connect()
    client.send(data)
    ended = front.only()
    assert (ended.status, ended.termination, ended.upstreams) == (400, "CR", ())
    assert ended.reason == f"bad PROXY header: {why}"
    harness.turn_until(lambda: client.is_over)
    assert (client.received, backend.ends) == (b"", [])


def test_a_client_that_closes_within_its_header_ends_with_cr(harness: Harness) -> None:
    front = behind_proxy(harness)
    client = front.connect()
    client.send(V2[:20])
    ended = only(front, client)
    assert (ended.status, ended.termination) == (400, "CR")
    assert ended.reason == "client closed the connection before its PROXY header was complete"


def test_a_client_that_resets_within_its_header_ends_with_cr(harness: Harness) -> None:
    front = behind_proxy(harness)
    client = front.connect()
    client.socket.send(V2[:20])
    harness.settle()
    client.reset()
    assert front.only().termination == "CR"


@pytest.mark.parametrize("sent", [b"", V2[:20]])
def test_a_late_header_ends_the_session(harness: Harness, clock: FakeClock, sent: bytes) -> None:
    front = behind_proxy(harness)
    client = front.connect()
    client.send(sent)
    harness.settle()
    harness.advance(2900)
    assert front.ended == []
    harness.advance(200)
    ended = front.only()
    assert (ended.status, ended.termination) == (400, "cR")
    assert ended.reason == "the PROXY header did not come in time"
    assert clock.now_ms


def test_once_the_header_is_there_its_timeout_means_nothing(harness: Harness) -> None:
    front = behind_proxy(harness)
    client = front.connect()
    client.send(V1[:9])
    harness.settle()
    client.send(V1[9:] + b"hello")
    echoed(harness, client, b"hello")
    harness.advance(10_000)
    client.send(b"!")
    echoed(harness, client, b"hello!")


def test_a_stranger_is_refused_by_name(harness: Harness) -> None:
    front = behind_proxy(harness, NOBODY_HERE)
    client = front.connect()
    client.send(V1)
    ended = front.only()
    assert (ended.status, ended.termination) == (403, "PR")
    assert ended.reason.startswith("127.0.0.1:")
    assert ended.reason.endswith(" may not send a PROXY header (accept_proxy_protocol: from)")


def test_a_stranger_may_be_served_as_a_client_without_a_header(harness: Harness) -> None:
    front = behind_proxy(harness, NOBODY_HERE, accepts_others=True)
    client = front.connect()
    client.send(V1)
    echoed(harness, client, V1)


def test_access_rules_are_about_the_announced_client(harness: Harness) -> None:
    front = behind_proxy(harness)
    rules = Access([(Rule(False, "192.0.2.0/24"), (parse_network("192.0.2.0/24"),))])
    front.handler.phases = (*front.handler.phases, AccessPhase(rules))
    client = front.connect()
    client.send(V1)
    assert front.only().reason == 'denied by the access rule "deny 192.0.2.0/24"'
    other = front.connect()
    other.send(build_v1(("203.0.113.1", 1), SERVER) + b"hello")
    echoed(harness, other, b"hello")


def test_hash_keys_and_the_error_log_are_about_the_announced_client(
    harness: Harness, expect_log: Any
) -> None:
    front = behind_proxy(harness)
    handler = front.handler
    assert isinstance(handler, ProxyHandler)
    keys: list[str] = []

    def key_of(session: Session) -> str:
        keys.append(str(session.client.sockaddr[0]))
        return keys[-1]

    handler.hash_key = key_of
    handler.pool.backends[0].down = True
    with expect_log("no usable backend .* client: 192.0.2.7:4711, listener: front"):
        client = front.connect()
        client.send(V1)
        front.only()
    assert keys == ["192.0.2.7"]


def test_limits_are_about_the_announced_client(harness: Harness, expect_log: Any) -> None:
    front = behind_proxy(harness)
    counts = Counts()
    limit = LimitConn(lambda s: str(s.client.sockaddr[0]), counts, 1, "z", False)
    front.handler.phases = (*front.handler.phases, limit)
    for source in (CLIENT, ("192.0.2.8", 1)):
        client = front.connect()
        client.send(build_v1(source, SERVER) + b"hello")
        echoed(harness, client, b"hello")
    assert [counts.count(key) for key in (b"192.0.2.7", b"192.0.2.8")] == [1, 1]
    with expect_log("over limit_conn"):
        front.connect().send(V1)
        assert front.only().termination == "PC"


def test_a_header_that_speaks_of_udp_announces_its_client_as_well(harness: Harness) -> None:
    front = behind_proxy(harness)
    front.log("$remote_addr")
    client = front.connect()
    client.send(build_v2(CLIENT, SERVER, is_udp=True))
    only(front, client)
    assert front.lines == ["192.0.2.7"]


def test_a_built_in_answer_knows_the_announced_client(
    harness: Harness, tmp_path: pathlib.Path
) -> None:
    front = harness.reply(b"hello", parse_address(f"unix:{tmp_path}/front"))
    front.log("$remote_addr $realip_remote_addr")
    front.handler.phases = (RealAddress(EVERYBODY, False, 3000),)
    client = front.connect()
    for place in range(len(V2)):
        client.socket.send(V2[place : place + 1])
        harness.turn(0)
    harness.turn_until(lambda: client.has_eof)
    assert client.received == b"hello"
    only(front, client)
    assert front.lines == ["192.0.2.7 unix:"]


def test_sessions_that_waited_leave_no_garbage(harness: Harness) -> None:
    front = behind_proxy(harness)
    with no_garbage():
        for data in (V1, b"GET /", V1[:9]):
            client = front.connect()
            client.socket.send(data[:4])
            harness.settle(2)
            client.send(data[4:])
            harness.settle(2)
            client.finish()
        harness.turn_until(lambda: len(front.ended) == 3)
        front.connect()
        harness.settle(2)
        harness.advance(4000)
        harness.turn_until(lambda: len(front.ended) == 4)
