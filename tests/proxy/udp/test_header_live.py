"""PROXY headers of datagrams, from real sockets: announced clients, strangers, bad headers."""

import logging
import random
from typing import Any

import pytest
from nginy.proxy.access import Access, Rule, parse_network
from nginy.proxy.phases.limiting import LimitConn, Zones
from nginy.proxy.phases.phase import AccessPhase
from nginy.proxy.session import Session
from nginy.proxy.udp.header import HeaderReader
from nginy.text.address import Address, parse_address
from nginy.wire.proxy_protocol import build_v1, build_v2
from nginy.wire.proxy_tlv import Type

from kit.datagrams import EVERYBODY, UdpBackend, UdpFront, read_headers, udp_proxy
from kit.harness import Harness
from kit.leaks import no_garbage

CLIENT = ("192.0.2.7", 4711)
OTHER = ("192.0.2.8", 4711)
SERVER = ("198.51.100.2", 53)
NOBODY_HERE = Access([(Rule(True, "192.0.2.0/24"), (parse_network("192.0.2.0/24"),))])
STRANGER = "the sender may not send a PROXY header"


def header(source: tuple[str, int] = CLIENT, **more: Any) -> bytes:
    return build_v2(source, SERVER, is_udp=True, **more)


def behind_proxy(
    harness: Harness, senders: Access = EVERYBODY, *, address: Any = None, **options: Any
) -> tuple[UdpFront, UdpBackend]:
    """A listener that reads headers, in front of an echo."""
    backend = harness.add(UdpBackend())
    where = {} if address is None else {"address": address}
    front = udp_proxy(harness, harness.pool(backend.name), **where)
    read_headers(front, senders, **options)
    return front, backend


def dropped(front: UdpFront) -> dict[str, int]:
    return {reason: count for reason, count in front.handler.drops.items() if count}


def test_a_backend_gets_the_payload_and_the_proxy_the_answer(harness: Harness) -> None:
    front, backend = behind_proxy(harness)
    proxy = front.client()
    proxy.send(header() + b"hello")
    harness.turn_until(lambda: proxy.received == [b"hello"])
    assert backend.received == [b"hello"]


def test_every_datagram_has_its_header(harness: Harness) -> None:
    front, backend = behind_proxy(harness)
    proxy = front.client()
    for number in range(50):
        proxy.send(header() + b"%d" % number)
    harness.turn_until(lambda: len(proxy.received) == 50)
    assert backend.received == [b"%d" % number for number in range(50)]
    assert front.handler.sessions == 1


def test_an_empty_datagram_behind_a_header_is_one(harness: Harness) -> None:
    front, backend = behind_proxy(harness)
    proxy = front.client()
    proxy.send(header())
    harness.turn_until(lambda: proxy.received == [b""])
    assert backend.received == [b""]


def test_the_session_belongs_to_the_announced_client(harness: Harness) -> None:
    front, backend = behind_proxy(harness)
    proxy = front.client()
    for source in (CLIENT, OTHER, CLIENT):
        proxy.send(header(source) + b"?")
    harness.turn_until(lambda: len(proxy.received) == 3)
    assert front.handler.sessions == 2
    assert len(set(backend.senders)) == 2


def test_a_client_that_asked_two_addresses_has_two_sessions(harness: Harness) -> None:
    front, _ = behind_proxy(harness)
    proxy = front.client()
    for port in (53, 5353):
        proxy.send(build_v2(CLIENT, ("198.51.100.2", port), is_udp=True) + b"?")
    harness.turn_until(lambda: len(proxy.received) == 2)
    assert front.handler.sessions == 2


def test_answers_go_to_whom_the_newest_datagram_came_from(harness: Harness) -> None:
    front, backend = behind_proxy(harness)
    first, second = front.client(), front.client()
    first.send(header() + b"1")
    harness.turn_until(lambda: first.received == [b"1"])
    second.send(header() + b"2")
    harness.turn_until(lambda: second.received == [b"2"])
    assert (front.handler.sessions, len(set(backend.senders))) == (1, 1)


def test_the_announced_client_is_the_client(harness: Harness) -> None:
    front, _ = behind_proxy(harness)
    front.log(
        "$remote_addr $remote_port $proxy_protocol_addr $proxy_protocol_server_addr"
        " $proxy_protocol_server_port $realip_remote_addr [$proxy_protocol_tlv_0xE0] $protocol"
    )
    proxy = front.client()
    proxy.send(header(tlvs=((0xE0, b"tag"),)) + b"?")
    harness.turn_until(lambda: proxy.received)
    (session,) = front.handler.table.values()
    session.kill()
    assert front.lines == [
        "192.0.2.7 4711 192.0.2.7 198.51.100.2 53 127.0.0.1 [tag] UDP",
    ]


def test_a_stream_that_a_proxy_brings_in_datagrams_is_a_client_as_well(harness: Harness) -> None:
    front, _ = behind_proxy(harness)
    proxy = front.client()
    proxy.send(build_v2(CLIENT, SERVER) + b"?")
    harness.turn_until(lambda: proxy.received)
    (session,) = front.handler.table.values()
    assert session.client.sockaddr == CLIENT


def test_a_proxys_own_datagram_is_its_own(harness: Harness) -> None:
    front, backend = behind_proxy(harness)
    proxy = front.client()
    proxy.send(build_v2(None, None) + b"?")
    harness.turn_until(lambda: proxy.received == [b"?"])
    (session,) = front.handler.table.values()
    assert session.client.sockaddr == proxy.sockaddr
    assert backend.received == [b"?"]


def test_rules_and_limits_are_about_the_announced_client(harness: Harness, expect_log: Any) -> None:
    front, backend = behind_proxy(harness)

    def address(session: Session) -> str:
        return str(session.client.sockaddr[0])

    zones = Zones()
    rules = Access([(Rule(False, "192.0.2.8"), (parse_network("192.0.2.8"),))])
    front.handler.phases = (
        LimitConn(address, zones.counts("z", 9), 1, "z", False),
        AccessPhase(rules),
    )
    proxy = front.client()
    proxy.send(header(OTHER) + b"?")
    harness.turn_until(lambda: dropped(front) == {"access": 1})
    proxy.send(header() + b"?")
    harness.turn_until(lambda: proxy.received)
    with expect_log("over limit_conn"):
        proxy.send(header(("192.0.2.7", 1)) + b"?")
        harness.turn_until(lambda: dropped(front) == {"access": 1, "limit": 1})
    assert backend.received == [b"?"]
    assert zones.counts("z", 9).count(b"192.0.2.7") == 1


LARGE = header(tlvs=((0xE0, bytes(1000)),))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"hello", "the datagram does not begin with the signature of version 2"),
        (b"", "the datagram does not begin with the signature of version 2"),
        (header()[:-1], "it is cut off"),
        (header()[:13], "it is cut off"),
        (build_v1(CLIENT, SERVER) + b"hello", "version 1 is for streams"),
        (header()[:-1] + b"!hello", "the checksum is wrong"),
        (LARGE + b"?", f"a header of {len(LARGE)} bytes, 1024 are allowed in a datagram"),
    ],
)
def test_a_datagram_without_a_good_header_is_dropped_and_counted(
    harness: Harness, caplog: pytest.LogCaptureFixture, data: bytes, why: str
) -> None:
    caplog.set_level(logging.INFO)
    front, backend = behind_proxy(harness)
    proxy = front.client()
    proxy.send(data)
    harness.turn_until(lambda: dropped(front) == {"invalid": 1})
    harness.settle()
    assert (front.handler.sessions, backend.received) == (0, [])
    assert any(f"bad PROXY header: {why}" in line for line in caplog.messages)


def test_no_mutation_of_a_header_ends_in_anything_but_a_drop_or_a_whole_payload(
    harness: Harness,
) -> None:
    front, backend = behind_proxy(harness)
    proxy = front.client()
    rng = random.Random(15)
    good = header(tlvs=((int(Type.AUTHORITY), b"example.com"),))
    for _ in range(500):
        data = bytearray(good + b"hello")
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(good))] = rng.randrange(256)
        proxy.send(bytes(data[: rng.randrange(len(data) + 1)]))
        harness.turn(0)
    harness.settle()
    proxy.send(good + b"hello")
    harness.turn_until(lambda: b"hello" in backend.received)
    counts = dropped(front)
    assert set(counts) == {"invalid"}
    assert counts["invalid"] > 400
    assert all(b"QUIT" not in each for each in backend.received)


def test_a_stranger_is_dropped_and_counted(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    front, backend = behind_proxy(harness, NOBODY_HERE)
    proxy = front.client()
    proxy.send(header() + b"?")
    harness.turn_until(lambda: dropped(front) == {"access": 1})
    assert (front.handler.sessions, backend.received) == (0, [])
    (line,) = [each for each in caplog.messages if STRANGER in each]
    assert "(accept_proxy_protocol: from), client: 127.0.0.1:" in line


def test_a_stranger_may_be_served_as_a_client_without_a_header(harness: Harness) -> None:
    front, backend = behind_proxy(harness, NOBODY_HERE, accepts_others=True)
    proxy = front.client()
    proxy.send(header() + b"?")
    harness.turn_until(lambda: proxy.received)
    assert backend.received == [header() + b"?"]


def test_on_a_wildcard_the_answer_leaves_from_the_address_that_the_proxy_asked(
    harness: Harness,
) -> None:
    front, _ = behind_proxy(harness, address=parse_address_any())
    port = front.listener.address.port
    first = front.client_of(("127.0.0.7", port))
    second = front.client_of(("127.0.0.8", port))
    for proxy in (first, second):
        proxy.send(header() + b"?")
        harness.turn_until(lambda proxy=proxy: proxy.received)  # type: ignore[misc]
        assert proxy.senders == [proxy.target]
    assert front.handler.sessions == 1


def parse_address_any() -> Address:
    return Address(parse_address("127.0.0.1:1").family, "0.0.0.0")


class TestStandalone:
    def test_a_header_alone_announces_the_client_of_what_follows(self, harness: Harness) -> None:
        front, backend = behind_proxy(harness, is_standalone=True)
        proxy = front.client()
        proxy.send(header())
        proxy.send(b"1")
        proxy.send(header() + b"2")
        proxy.send(b"3")
        harness.turn_until(lambda: len(proxy.received) == 3)
        assert backend.received == [b"1", b"2", b"3"]
        (session,) = front.handler.table.values()
        assert session.client.sockaddr == CLIENT

    def test_a_peer_speaks_for_whom_it_announced_last(self, harness: Harness) -> None:
        front, _ = behind_proxy(harness, is_standalone=True)
        proxy = front.client()
        for source in (CLIENT, OTHER):
            proxy.send(header(source))
            proxy.send(b"?")
        harness.turn_until(lambda: len(proxy.received) == 2)
        clients = {session.client.sockaddr for session in front.handler.table.values()}
        assert clients == {CLIENT, OTHER}

    def test_without_an_announcement_a_datagram_is_dropped(self, harness: Harness) -> None:
        front, backend = behind_proxy(harness, is_standalone=True)
        announced, other = front.client(), front.client()
        announced.send(header())
        other.send(b"?")
        harness.turn_until(lambda: dropped(front) == {"invalid": 1})
        announced.send(build_v2(None, None))
        announced.send(b"?")
        harness.turn_until(lambda: dropped(front) == {"invalid": 2})
        assert backend.received == []

    def test_without_the_key_a_header_alone_announces_nothing(self, harness: Harness) -> None:
        front, backend = behind_proxy(harness)
        proxy = front.client()
        proxy.send(header())
        proxy.send(b"?")
        harness.turn_until(lambda: dropped(front) == {"invalid": 1} and backend.received)
        assert backend.received == [b""]

    def test_whom_a_peer_announces_to_the_heir_it_announces_here(self, harness: Harness) -> None:
        front, _ = behind_proxy(harness, is_standalone=True)
        proxy = front.client()
        proxy.send(header())
        proxy.send(b"for the first client")
        harness.turn_until(lambda: proxy.received)
        left: list[bytes] = []
        front.handler.drain(True)
        front.handler.heir = lambda _sender, _local, data: left.append(bytes(data))
        proxy.send(b"again")
        proxy.send(header(OTHER))
        proxy.send(b"for the second")
        harness.turn_until(lambda: len(left) == 2)
        assert left == [header(OTHER), b"for the second"]

    def test_a_reload_keeps_what_was_announced(self, harness: Harness) -> None:
        front, _ = behind_proxy(harness, is_standalone=True)
        proxy = front.client()
        proxy.send(header())
        harness.settle()
        front.reload()
        read_headers(front, is_standalone=True)
        proxy.send(b"?")
        harness.turn_until(lambda: proxy.received)
        (session,) = front.handler.table.values()
        assert session.client.sockaddr == CLIENT


class ForgetfulReader(HeaderReader):
    __slots__ = ()

    headers_max = 5
    announcements_max = 3


def test_what_is_remembered_of_headers_and_peers_is_bounded(harness: Harness) -> None:
    front, _ = behind_proxy(harness, reader=ForgetfulReader, is_standalone=True)
    proxies = [front.client() for _ in range(9)]
    for port, proxy in enumerate(proxies, 1):
        proxy.send(header(("192.0.2.7", port)))
        harness.settle(2)
    assert len(front.handler.announcements) == 3
    proxies[-1].send(b"?")
    harness.turn_until(lambda: proxies[-1].received)
    proxies[0].send(b"?")
    harness.turn_until(lambda: dropped(front) == {"invalid": 1})


def test_a_flood_of_announced_datagrams_arrives_whole_and_in_order(harness: Harness) -> None:
    front, backend = behind_proxy(harness)
    proxies = [front.client() for _ in range(2)]
    rng = random.Random(6)
    sent: list[list[bytes]] = [[], []]
    for number in range(200):
        which = rng.randrange(2)
        data = (b"%d/%d:" % (which, number)).ljust(64, b".")
        proxies[which].send(header((f"192.0.2.{which}", 7)) + data)
        sent[which].append(data)
    harness.turn_until(lambda: [proxy.received for proxy in proxies] == sent)
    assert len(backend.received) == 200
    assert front.handler.sessions == 2


def test_announced_sessions_leave_no_garbage(harness: Harness) -> None:
    front, _ = behind_proxy(harness)
    proxy = front.client()
    with no_garbage():
        proxy.send(header() + b"?")
        harness.turn_until(lambda: proxy.received)
        for session in tuple(front.handler.table.values()):
            session.kill()
        del session
