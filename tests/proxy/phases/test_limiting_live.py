"""Limits for each key, through real sockets: counted, given back, shared, and only tried."""

import gc
import logging
import weakref
from typing import Any

import pytest
from nginy.proxy.access import ALL, Access, Rule
from nginy.proxy.phases.limiting import LimitConn, LimitConnRate, Zones
from nginy.proxy.phases.phase import AccessPhase, Phase
from nginy.proxy.session import Reason, Session
from nginy.proxy.texts import Variables

from kit.clock import FakeClock
from kit.datagrams import UdpBackend, udp_proxy
from kit.ends import End
from kit.harness import Front, Harness
from kit.leaks import no_garbage
from kit.servers import EchoBackend

OVER = r"over limit_conn, \d+ sessions? at a time in zone"
OVER_RATE = "over limit_conn_rate, 10 new sessions a second in zone"


def address(session: Session) -> str:
    return str(session.client.sockaddr[0])


def one(_session: Session) -> str:
    return "one"


def nobody(_session: Session) -> str:
    return ""


def limited(
    zones: Zones, most: int, zone: str = "addr", *, key: Any = address, dry: bool = False
) -> LimitConn:
    return LimitConn(key, zones.counts(zone, 1000), most, zone, dry)


def rated(zones: Zones, *, dry: bool = False) -> LimitConnRate:
    return LimitConnRate(address, zones.rates("new", 10, 3, 1000), 10, "new", dry)


def echo_front(harness: Harness) -> Front:
    return harness.proxy(harness.pool(harness.add(EchoBackend()).name))


def served(harness: Harness, front: Front) -> End:
    """A client that has had an answer."""
    client = front.connect()
    client.send(b"hello")
    harness.turn_until(lambda: client.received == b"hello")
    return client


def refused(harness: Harness, front: Front, count: int) -> None:
    """Let clients be refused, one after the other."""
    for _ in range(count):
        client = front.connect()
        harness.turn_until(lambda client=client: client.is_over)  # type: ignore[misc]


def leave(harness: Harness, front: Front, client: End) -> None:
    count = len(front.ended)
    client.finish()
    harness.turn_until(lambda: len(front.ended) > count)


def test_a_key_may_have_so_many_sessions_and_the_next_ends_with_503(
    harness: Harness, expect_log: Any
) -> None:
    front = echo_front(harness)
    front.handler.phases = (limited(Zones(), 2),)
    front.log("$status $termination $limit_conn_status")
    first, _second = served(harness, front), served(harness, front)
    with expect_log(OVER):
        third = front.connect()
        harness.turn_until(lambda: third.is_over)
    assert front.only().reason == 'over limit_conn, 2 sessions at a time in zone "addr"'
    assert front.ended[0].upstreams == ()
    leave(harness, front, first)
    assert front.lines == ["503 PC REJECTED", "200 -- PASSED"]
    served(harness, front)


def test_listeners_that_name_one_zone_share_its_counts(harness: Harness, expect_log: Any) -> None:
    zones = Zones()
    fronts = [echo_front(harness), echo_front(harness)]
    for front in fronts:
        front.handler.phases = (limited(zones, 1),)
    client = served(harness, fronts[0])
    with expect_log(OVER):
        fronts[1].connect()
        assert fronts[1].only().status == 503
    leave(harness, fronts[0], client)
    served(harness, fronts[1])


def test_a_session_without_a_key_is_not_counted(harness: Harness) -> None:
    front = echo_front(harness)
    front.handler.phases = (limited(Zones(), 1, key=nobody),)
    front.log("[$limit_conn_status]")
    clients = [served(harness, front) for _ in range(3)]
    leave(harness, front, clients[0])
    assert front.lines == ["[]"]


def test_what_one_limit_counted_is_given_back_if_another_refuses(
    harness: Harness, expect_log: Any
) -> None:
    zones = Zones()
    front = echo_front(harness)
    front.handler.phases = (limited(zones, 9), limited(zones, 1, "total", key=one))
    client = served(harness, front)
    with expect_log(OVER):
        refused(harness, front, 3)
    assert zones.counts("addr", 1000).count(b"127.0.0.1") == 1
    leave(harness, front, client)
    assert [len(zones.counts(zone, 1000)) for zone in ("addr", "total")] == [0, 0]


def test_a_later_phase_that_refuses_gives_back_as_well(harness: Harness) -> None:
    zones = Zones()
    front = echo_front(harness)
    deny = AccessPhase(Access([(Rule(False, "all", is_for_unix=True), ALL)]))
    front.handler.phases = (limited(zones, 1), deny)
    refused(harness, front, 3)
    assert front.terminations == ["PR"] * 3
    assert len(zones.counts("addr", 1000)) == 0


def test_a_dry_run_refuses_nobody_and_says_so(harness: Harness, expect_log: Any) -> None:
    front = echo_front(harness)
    front.handler.phases = (limited(Zones(), 1, dry=True),)
    front.log("$limit_conn_status")
    served(harness, front)
    with expect_log(OVER + r' "addr", dry run'):
        leave(harness, front, served(harness, front))
    assert front.lines == ["REJECTED_DRY_RUN"]


def test_so_many_sessions_may_begin_and_then_as_the_rate_permits(
    harness: Harness, clock: FakeClock, expect_log: Any
) -> None:
    front = echo_front(harness)
    front.handler.phases = (rated(Zones()),)
    for _ in range(3):
        served(harness, front)
    with expect_log(OVER_RATE):
        front.connect()
        assert (front.only().status, front.only().termination) == (503, "PC")
    clock.advance(100)
    served(harness, front)
    with expect_log(OVER_RATE):
        front.connect()
        harness.turn_until(lambda: len(front.ended) == 2)


def test_a_rate_may_be_tried_as_well(harness: Harness, expect_log: Any) -> None:
    front = echo_front(harness)
    front.handler.phases = (rated(Zones(), dry=True),)
    with expect_log(OVER_RATE + ' "new", dry run'):
        for _ in range(4):
            served(harness, front)


def test_counts_live_as_long_as_a_listener_or_a_session_uses_them(harness: Harness) -> None:
    zones = Zones()
    front = echo_front(harness)
    front.handler.phases = (limited(zones, 9),)
    counts = weakref.ref(zones.counts("addr", 1000))
    client = served(harness, front)
    front.handler.phases = ()
    gc.collect()
    assert zones.counts("addr", 1000) is counts()
    leave(harness, front, client)
    gc.collect()
    assert counts() is None


def test_limits_leave_no_garbage(harness: Harness) -> None:
    front = echo_front(harness)
    front.handler.phases = (limited(Zones(), 9), rated(Zones()))
    with no_garbage():
        leave(harness, front, served(harness, front))


def test_remote_net_is_one_client(harness: Harness) -> None:
    front = echo_front(harness)
    render = Variables(harness.loop.clock).compile("$remote_net")
    served(harness, front)
    (session,) = harness.sessions()
    told = {}
    for host in ("192.0.2.1", "2001:db8:1:2:3:4:5:6", "::ffff:192.0.2.1", "fe80::1%lo"):
        session.client.sockaddr = (host, 1)
        told[host] = render(session)
    assert list(told.values()) == [
        "192.0.2.1/32",
        "2001:db8:1:2::/64",
        "192.0.2.1/32",
        "fe80::/64",
    ]
    session.client.sockaddr = ""
    assert render(session) == "unix:"


def test_a_udp_session_counts_as_a_connection(harness: Harness, expect_log: Any) -> None:
    zones = Zones()
    front = udp_proxy(harness, harness.pool(harness.add(UdpBackend()).name))
    front.handler.phases = (limited(zones, 1),)
    front.log("$limit_conn_status")
    first, second = front.client(), front.client()
    for _ in range(2):
        first.send(b"?")
        harness.turn_until(lambda: first.received)
        first.received.clear()
    with expect_log(OVER):
        second.send(b"?")
        harness.turn_until(lambda: front.handler.drops["limit"] == 1)
    assert (front.handler.sessions, second.received) == (1, [])
    (session,) = front.handler.table.values()
    session.finalize(Reason.COMPLETED)
    assert front.lines == ["PASSED"]
    second.send(b"?")
    harness.turn_until(lambda: second.received == [b"?"])


def test_a_refused_datagram_gives_back_what_was_counted(harness: Harness, expect_log: Any) -> None:
    zones = Zones()
    front = udp_proxy(harness, harness.pool(harness.add(UdpBackend()).name))
    front.handler.phases = (limited(zones, 9), limited(zones, 1, "total", key=one))
    first, second = front.client(), front.client()
    first.send(b"?")
    harness.turn_until(lambda: first.received)
    with expect_log(OVER):
        second.send(b"?")
        harness.turn_until(lambda: front.handler.drops["limit"] == 1)
    assert zones.counts("addr", 1000).count(b"127.0.0.1") == 1


def test_a_dry_run_of_udp_says_what_it_would_drop(harness: Harness, expect_log: Any) -> None:
    front = udp_proxy(harness, harness.pool(harness.add(UdpBackend()).name))
    front.handler.phases = (limited(Zones(), 1, dry=True),)
    first, second = front.client(), front.client()
    first.send(b"?")
    harness.turn_until(lambda: first.received)
    with expect_log(OVER + r' "addr", dry run'):
        second.send(b"?")
        harness.turn_until(lambda: second.received == [b"?"])


def test_a_dry_run_of_udp_fills_no_log(harness: Harness, expect_log: Any) -> None:
    front = udp_proxy(harness, harness.pool(harness.add(UdpBackend()).name))
    front.handler.phases = (limited(Zones(), 1, dry=True),)
    clients = [front.client() for _ in range(20)]
    with expect_log(OVER + r' "addr", dry run', count=1):
        for client in clients:
            client.send(b"?")
        harness.turn_until(lambda: all(client.received for client in clients))


def test_tcp_and_udp_may_share_a_zone(harness: Harness, expect_log: Any) -> None:
    zones = Zones()
    tcp = echo_front(harness)
    udp = udp_proxy(harness, harness.pool(harness.add(UdpBackend()).name))
    tcp.handler.phases = (limited(zones, 2),)
    udp.handler.phases = (limited(zones, 2),)
    served(harness, tcp)
    client = udp.client()
    client.send(b"?")
    harness.turn_until(lambda: client.received)
    with expect_log(OVER):
        refused(harness, tcp, 1)
    with expect_log(OVER):
        udp.client().send(b"?")
        harness.turn_until(lambda: udp.handler.drops["limit"] == 1)


@pytest.mark.parametrize("is_rate", [False, True])
def test_a_refused_session_is_logged_at_the_level_of_its_limit(
    harness: Harness, caplog: pytest.LogCaptureFixture, is_rate: bool
) -> None:
    caplog.set_level(logging.INFO)
    zones = Zones()

    def limit() -> Phase:
        if is_rate:
            rates = zones.rates("new", 10, 1, 1000)
            return LimitConnRate(one, rates, 10, "new", False, logging.INFO)
        return LimitConn(one, zones.counts("addr", 1000), 1, "addr", False, logging.INFO)

    front = echo_front(harness)
    front.handler.phases = (limit(),)
    served(harness, front)
    refused(harness, front, 1)
    udp = udp_proxy(harness, harness.pool(harness.add(UdpBackend()).name))
    udp.handler.phases = (limit(),)
    udp.client().send(b"?")
    harness.turn_until(lambda: udp.handler.drops["limit"] == 1)
    levels = [record.levelname for record in caplog.records if "over limit" in record.message]
    assert levels == ["INFO", "INFO"]
