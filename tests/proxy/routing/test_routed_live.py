"""Routed listeners on real sockets: targets, counts, reloads; and the same over UDP."""

import dataclasses

import pytest
from nginy.backend.pool import BackendPool
from nginy.backend.waiting import QueueSettings
from nginy.config.building.build import nobody
from nginy.event.bind import ListenOptions
from nginy.event.listener import Listener
from nginy.proxy.access import Access, Rule, parse_network
from nginy.proxy.closer import left_since_ms
from nginy.proxy.handler import ProtocolHandler, ProxySettings
from nginy.proxy.pacing import PacedSession
from nginy.proxy.phases.limiting import LimitConn, Zones
from nginy.proxy.phases.preread import ChooseRoute
from nginy.proxy.reply import DatagramReplyHandler
from nginy.proxy.routing.conditions import Condition, From, Ports, StartsWith
from nginy.proxy.routing.routed import Contents, RoutedDatagramHandler, RoutedHandler
from nginy.proxy.routing.routes import Route, RouteTable, RouteTarget
from nginy.proxy.tcp import TcpHandler
from nginy.proxy.udp.handler import UdpHandler
from nginy.text.address import Address
from nginy.wire.starts import parse_starts

from conftest import ExpectLog
from kit.datagrams import SessionCloser, UdpBackend, UdpFront
from kit.harness import ANY_PORT, Front, Harness
from kit.leaks import no_garbage
from kit.routes import Ways, rerouted, routed, routed_handler
from kit.servers import EchoBackend, Server

HERE = Access([(Rule(True, "127.0.0.0/8"), (parse_network("127.0.0.0/8"),))])
ELSEWHERE = Access([(Rule(True, "192.0.2.0/24"), (parse_network("192.0.2.0/24"),))])
LETTER_A = StartsWith(parse_starts("a"))
LETTER_B = StartsWith(parse_starts("b"))


def pool_of(harness: Harness, name: str, *servers: Server) -> BackendPool:
    pool = harness.pool(*(server.name for server in servers))
    pool.name = name
    return pool


def test_clients_go_where_the_first_route_leads_them(harness: Harness) -> None:
    one, two = harness.add(EchoBackend()), harness.add(EchoBackend())
    ways: Ways = [
        ([LETTER_A, From(ELSEWHERE)], None),
        ([LETTER_A], pool_of(harness, "one", one)),
        ([LETTER_B], "b is for bee\n"),
    ]
    front = routed(harness, ways, pool_of(harness, "two", two))
    for data, answer in ((b"a1", b"a1"), (b"b1", b"b is for bee\n"), (b"c1", b"c1")):
        client = front.connect()
        client.send(data)
        harness.turn_until(lambda: client.received == answer)  # noqa: B023
        client.finish()
        harness.turn_until(lambda: client.is_over)  # noqa: B023
    assert [ended.upstreams for ended in front.ended] == [(one.name,), (), (two.name,)]
    counters = front.handler.counters
    assert (counters.sessions, counters.open) == (3, 0)
    assert counters.bytes_received == 6
    assert harness.loop.sessions_started == 3


def test_a_route_without_bytes_waits_for_none(harness: Harness) -> None:
    server = harness.add(Server())
    ways: Ways = [([From(HERE)], pool_of(harness, "here", server)), ([LETTER_A], None)]
    front = routed(harness, ways)
    front.connect()
    harness.turn_until(lambda: server.ends)


def test_a_port_of_the_listener_decides(harness: Harness) -> None:
    ways: Ways = [([Ports(((1, 2),))], "low\n"), ([Ports(((3, 65535),))], "high\n")]
    client = routed(harness, ways).connect()
    harness.turn_until(lambda: client.received == b"high\n")


def test_what_a_phase_has_counted_is_given_back_by_whoever_serves(
    harness: Harness, expect_log: ExpectLog
) -> None:
    counts = Zones().counts("zone", 10)
    limit = LimitConn(lambda _session: "key", counts, 1, "zone", False)
    server = harness.add(EchoBackend())
    front = routed(
        harness, [([LETTER_A], pool_of(harness, "one", server))], "no\n", phases=(limit,)
    )
    first = front.connect()
    first.send(b"a")
    harness.turn_until(lambda: first.received == b"a")
    with expect_log("over limit_conn"):
        front.connect()
        assert front.only().termination == "PC"
    first.finish()
    harness.turn_until(lambda: len(front.ended) == 2)
    again = front.connect()
    again.send(b"x")
    harness.turn_until(lambda: again.received == b"no\n")


def test_settings_of_the_listener_hold_behind_each_route(harness: Harness) -> None:
    server = harness.add(Server())
    settings = ProxySettings(timeout_ms=5000, connect_timeout_ms=None)
    front = routed(
        harness, [([LETTER_A], pool_of(harness, "one", server))], "no\n", settings=settings
    )
    client = front.connect()
    client.send(b"a")
    harness.turn_until(lambda: server.ends)
    harness.settle()
    harness.advance(5100)
    assert front.only().termination == "sD"


def test_a_session_of_a_route_leaves_nothing(harness: Harness) -> None:
    server = harness.add(EchoBackend())
    front = routed(harness, [([LETTER_A], pool_of(harness, "one", server))], "no\n")
    for data in (b"a", b"b"):
        client = front.connect()
        client.send(data)
        harness.turn_until(lambda: client.received)  # noqa: B023
        client.finish()
        harness.turn_until(lambda: client.is_over)  # noqa: B023
    with no_garbage():
        for data in (b"a", b"b"):
            client = front.connect()
            client.send(data)
            harness.turn_until(lambda: client.received)  # noqa: B023
            client.finish()
            harness.turn_until(lambda: client.is_over)  # noqa: B023
        harness.turn_until(lambda: not harness.sessions())


# Reloads.


def established(harness: Harness, front: Front, data: bytes) -> None:
    client = front.connect()
    client.send(data)
    harness.turn_until(lambda: client.received == data)


def test_sessions_stay_with_their_route_and_new_ones_take_the_new(harness: Harness) -> None:
    one, two = harness.add(EchoBackend()), harness.add(EchoBackend())
    first, second = pool_of(harness, "one", one), pool_of(harness, "two", two)
    front = routed(harness, [([LETTER_A], first)], second)
    client = front.connect()
    client.send(b"a")
    harness.turn_until(lambda: client.received == b"a")
    waiting = front.connect()
    harness.settle()
    address = front.listener.address
    rerouted(harness, front, routed_handler(harness, address, [([LETTER_A], second)], second))
    client.send(b"b")
    harness.turn_until(lambda: client.received == b"ab")
    assert len(one.ends) == 1
    waiting.send(b"a")
    harness.turn_until(lambda: waiting.received == b"a")
    assert (len(one.ends), len(two.ends)) == (2, 0)
    established(harness, front, b"a")
    assert (len(one.ends), len(two.ends)) == (2, 1)
    assert front.handler.sessions == 3


def test_only_sessions_whose_upstream_is_gone_have_to_drain(harness: Harness) -> None:
    one, two = harness.add(EchoBackend()), harness.add(EchoBackend())
    first, second = pool_of(harness, "one", one), pool_of(harness, "two", two)
    front = routed(harness, [([LETTER_A], first)], second)
    established(harness, front, b"a")
    established(harness, front, b"b")
    harness.advance(10)
    address = front.listener.address
    rerouted(harness, front, routed_handler(harness, address, [([LETTER_B], second)], "x"))
    left = [left_since_ms(session) for session in harness.sessions()]
    assert sorted(left, key=str) == [harness.clock.now_ms, None]
    again = routed_handler(harness, address, [([LETTER_B], second), ([LETTER_A], first)], "x")
    rerouted(harness, front, again)
    left = [left_since_ms(session) for session in harness.sessions()]
    assert sorted(left, key=str) == [harness.clock.now_ms, None]


def test_a_listener_may_gain_routes_and_lose_them(harness: Harness) -> None:
    one = harness.add(EchoBackend())
    pool = pool_of(harness, "one", one)
    front = harness.proxy(pool)
    established(harness, front, b"plain")
    address = front.listener.address
    rerouted(harness, front, routed_handler(harness, address, [([LETTER_A], "x")], pool))
    established(harness, front, b"routed")
    assert [left_since_ms(session) for session in harness.sessions()] == [None, None]
    plain = TcpHandler(harness.loop, "front", address, pool, ProxySettings())
    rerouted(harness, front, plain)
    established(harness, front, b"again")
    assert [left_since_ms(session) for session in harness.sessions()] == [None] * 3
    assert front.handler.sessions == 3
    assert all(front.handler.owns(session) for session in harness.sessions())


def test_who_waits_in_a_queue_goes_on_by_the_new_settings(harness: Harness) -> None:
    one = harness.add(EchoBackend())
    pool = pool_of(harness, "one", one)
    (backend,) = pool.backends
    backend.max_conns = 1
    backend.take()
    pool.set_queue(QueueSettings(size=10, timeout_ms=100_000))
    front = routed(harness, [([LETTER_A], pool)], "x")
    client = front.connect()
    client.send(b"a")
    harness.turn_until(lambda: pool.queue is not None and len(pool.queue))
    address = front.listener.address
    rerouted(harness, front, routed_handler(harness, address, [([LETTER_A], pool)], "x"))
    pool.release(backend)
    harness.turn_until(lambda: client.received == b"a")


def test_a_paced_listener_paces_behind_its_routes(harness: Harness) -> None:
    one = harness.add(EchoBackend())
    pool = pool_of(harness, "one", one)
    front = routed(harness, [], pool)
    handler = front.handler
    assert isinstance(handler, RoutedHandler)
    content = handler.contents.handler(handler, RouteTarget("one"))
    assert isinstance(content, TcpHandler)
    content.session_class = PacedSession
    content.settings = dataclasses.replace(content.settings, upload_rate=1 << 20)
    established(harness, front, b"x")
    assert [type(session) for session in harness.sessions()] == [PacedSession]


def test_a_routed_listener_leads_where_no_route_fits(harness: Harness) -> None:
    pool = pool_of(harness, "one", harness.add(EchoBackend()))
    assert harness.proxy(pool).handler.leads_to == "one"
    assert routed(harness, [([LETTER_A], "x")], pool).handler.leads_to == "one"
    assert routed(harness, [([LETTER_A], pool)], "x").handler.leads_to is None
    assert routed(harness, [([LETTER_A], pool)]).handler.leads_to is None


# UDP.


@pytest.fixture
def udp(harness: Harness) -> "UdpScene":
    return UdpScene(harness)


class UdpScene:
    """Two upstreams and an answer behind one UDP listener."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.one, self.two = harness.add(UdpBackend()), harness.add(UdpBackend())
        self.pools = {
            "one": pool_of_datagrams(harness, "one", self.one),
            "two": pool_of_datagrams(harness, "two", self.two),
        }
        listener = Listener(ListenOptions(ANY_PORT, udp=True))
        harness.listeners.append(listener)
        ways: list[tuple[list[Condition], RouteTarget]] = [
            ([LETTER_A], RouteTarget("one")),
            ([LETTER_B], RouteTarget(answer="bee")),
            ([StartsWith(parse_starts("no"))], RouteTarget()),
            ([From(ELSEWHERE)], RouteTarget("one")),
        ]
        self.handler = self.made(listener.address, ways, RouteTarget("two"))
        self.receiver = listener.start_datagrams(harness.loop, self.handler.datagram_handler)
        self.front = UdpFront(harness, listener, self.handler)
        harness.fronts.append(self.front)
        harness.add(SessionCloser(self.handler))

    def made(
        self,
        address: Address,
        ways: list[tuple[list[Condition], RouteTarget]],
        default: RouteTarget | None,
    ) -> RoutedDatagramHandler:
        def make(target: RouteTarget) -> ProtocolHandler:
            settings = ProxySettings(timeout_ms=60_000)
            if target.proxy_pass is not None:
                pool = self.pools[target.proxy_pass]
                return UdpHandler(self.harness.loop, "front", address, pool, settings)
            handler = DatagramReplyHandler(self.harness.loop, "front", address, settings)
            handler.text = lambda _session: (target.answer or "").encode()
            return handler

        contents = Contents(make, default, self.pools, nobody())
        loop = self.harness.loop
        handler = RoutedDatagramHandler(loop, "front", address, ProxySettings(), contents)
        table = RouteTable(
            Route(number, tuple(conditions), target)
            for number, (conditions, target) in enumerate(ways, 1)
        )
        handler.phases = (ChooseRoute(table, address.port, {}, default is not None, 16384, 1000),)
        return handler


def pool_of_datagrams(harness: Harness, name: str, backend: UdpBackend) -> BackendPool:
    pool = harness.pool(backend.name)
    pool.name = name
    return pool


def test_datagrams_go_where_the_first_one_leads(harness: Harness, udp: UdpScene) -> None:
    client = udp.front.client()
    client.send(b"a1")
    harness.turn_until(lambda: client.received == [b"a1"])
    client.send(b"c2")
    harness.turn_until(lambda: client.received == [b"a1", b"c2"])
    assert len(udp.one.received) == 2
    assert udp.handler.sessions == 1
    other = udp.front.client()
    other.send(b"c1")
    harness.turn_until(lambda: other.received == [b"c1"])
    assert len(udp.two.received) == 1
    assert len(udp.handler.table) == 2


def test_datagrams_are_answered_or_dropped(harness: Harness, udp: UdpScene) -> None:
    client = udp.front.client()
    client.send(b"b1")
    client.send(b"b2")
    harness.turn_until(lambda: client.received == [b"bee", b"bee"])
    client.send(b"no way")
    harness.turn_until(lambda: udp.handler.drops["access"] == 1)
    assert udp.handler.counters.sessions == 2
    assert udp.handler.sessions == 0


def test_udp_sessions_outlive_a_reload_and_new_ones_go_the_new_way(
    harness: Harness, udp: UdpScene
) -> None:
    client = udp.front.client()
    client.send(b"a1")
    harness.turn_until(lambda: client.received == [b"a1"])
    after = udp.made(udp.front.listener.address, [([LETTER_A], RouteTarget("two"))], None)
    assert after.follows(udp.handler)
    after.take_over(udp.handler)
    udp.receiver.handler = after.datagram_handler
    client.send(b"a2")
    harness.turn_until(lambda: client.received == [b"a1", b"a2"])
    assert len(udp.one.received) == 2
    other = udp.front.client()
    other.send(b"a3")
    harness.turn_until(lambda: other.received == [b"a3"])
    assert len(udp.two.received) == 1
    other = udp.front.client()
    other.send(b"x")
    harness.turn_until(lambda: after.drops["access"] == 1)
    (session,) = (each for each in after.table.values() if each.backend.name == udp.one.name)
    assert left_since_ms(session) is not None


def test_a_listener_that_is_to_go_serves_known_clients_only(
    harness: Harness, udp: UdpScene, expect_log: ExpectLog
) -> None:
    client = udp.front.client()
    client.send(b"a1")
    harness.turn_until(lambda: client.received == [b"a1"])
    udp.handler.drain(True)
    assert all(isinstance(h, UdpHandler) and h.is_draining for h in udp.handler.proxies())
    client.send(b"a2")
    harness.turn_until(lambda: client.received == [b"a1", b"a2"])
    with expect_log("the listener takes no new clients"):
        udp.front.client().send(b"a3")
        harness.turn_until(lambda: udp.handler.drops["shed"] == 1)
