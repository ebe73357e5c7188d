"""Reloads around names: pools and listeners of one configuration after the other, in one process.

The name server is the test's, so it may be slow, silent or wrong when the reload comes.
"""

import pathlib
from collections.abc import Iterator

import pytest
from nginy.backend.backend import Backend
from nginy.process.gradual import at_once
from nginy.process.logs import LogSet
from nginy.process.pools import PoolSet
from nginy.process.services import ServiceSet

from conftest import ExpectLog
from kit.configs import loaded
from kit.datagrams import UdpBackend, UdpClient
from kit.ends import End, connect
from kit.harness import Harness
from kit.names import NXDOMAIN, NameServer, srv
from kit.program import free_port, own_host
from kit.servers import EchoBackend

NAME = "web.example"


@pytest.fixture(params=["epoll"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Site:
    """What a configuration has become, a name server, and two backends on one port."""

    def __init__(self, harness: Harness, directory: pathlib.Path) -> None:
        self.harness = harness
        self.directory = directory
        self.names = harness.add(NameServer())
        self.ones, self.twos = own_host(), own_host()
        self.one = harness.add(EchoBackend((self.ones, 0)))
        self.port = int(self.one.socket.getsockname()[1])
        self.two = harness.add(EchoBackend((self.twos, self.port)))
        self.host = own_host()
        self.front = free_port(self.host)
        self.pools = PoolSet(harness.loop)
        self.services = ServiceSet(harness.loop, LogSet(harness.loop), self.pools)
        self.clients: list[End] = []

    def reload(
        self, upstreams: str = "", listener: str = "proxy_pass: web", more: str = ""
    ) -> None:
        """Start with a configuration, or change to it, as a server does."""
        text = f"""
        resolver: {{nameservers: "{self.names.address}", ipv6: off}}
        upstreams: {{{upstreams}}}
        listeners:
          - {{listen: "{self.host}:{self.front}", {listener}}}
          {more}
        """
        config = loaded(self.directory, text)
        opened = self.services.open(config)
        at_once(self.pools.add(config, at_once(self.pools.prepare(config))))
        self.pools.apply()
        at_once(self.services.begin(config))
        self.services.apply(config, opened)
        self.pools.finish()
        self.harness.settle()

    def settle(self) -> None:
        """Let the name server answer, and the pools follow."""
        self.harness.settle()

    def connect(self) -> End:
        client = self.harness.add(connect((self.host, self.front)))
        self.clients.append(client)
        return client

    def served_by(self) -> str:
        """Return the address of the backend that a new client is served by; "" for none."""
        before = len(self.one.ends), len(self.two.ends)
        client = self.connect()
        client.send(b"x")
        self.harness.turn_until(lambda: client.received or client.is_over)
        if len(self.one.ends) > before[0]:
            return self.one.name
        return self.two.name if len(self.two.ends) > before[1] else ""

    def backends(self, upstream: str = "web") -> list[Backend]:
        return list(self.pools[upstream].backends)

    def close(self) -> None:
        self.services.close()
        self.pools.close()


@pytest.fixture
def site(harness: Harness, tmp_path: pathlib.Path) -> Iterator[Site]:
    site = Site(harness, tmp_path)
    yield site
    site.close()


def listing(*addresses: str, more: str = "") -> str:
    return f"web: {{backends: [{', '.join(addresses)}]{more}}}"


def named(port: int, name: str = NAME) -> str:
    return f"{{address: '{name}:{port}', resolve: on}}"


def test_a_name_in_place_of_an_address_is_no_outage_while_dns_is_slow(site: Site) -> None:
    site.reload(listing(site.one.name))
    assert site.served_by() == site.one.name
    site.names.set(NAME, site.twos)
    site.names.is_silent = True
    site.reload(listing(named(site.port)))
    assert site.served_by() == site.one.name
    site.harness.advance(1000)
    assert site.served_by() == site.one.name
    answer_late(site)
    assert site.served_by() == site.two.name


def answer_late(site: Site) -> None:
    """Let the name server answer its questions, and go on."""
    site.names.is_silent = False
    for asked in site.names.asked:
        site.names.udp.sendto(site.names.answer(asked), asked.sender)
    site.settle()


def test_a_name_in_place_of_an_address_is_no_outage_while_dns_fails(
    site: Site, expect_log: ExpectLog
) -> None:
    site.reload(listing(site.one.name))
    site.names.fail(NAME)
    with expect_log("cannot be resolved, it has no address yet", count=1):
        site.reload(listing(named(site.port)))
        for delay_ms in (1000, 2000, 4000, 8000, 16_000):
            assert site.served_by() == site.one.name
            site.harness.advance(delay_ms)
            site.settle()
    site.names.set(NAME, site.twos)
    site.harness.advance(16_000)
    site.settle()
    assert site.served_by() == site.two.name


def test_a_known_name_serves_at_once_under_another_spelling(site: Site) -> None:
    site.names.set(NAME, site.ones, ttl_s=3600)
    site.reload(listing(named(site.port)))
    site.settle()
    (backend,) = site.backends()
    site.names.is_silent = True
    site.reload(listing(named(site.port, "WEB.Example")))
    assert site.backends() == [backend]
    assert site.served_by() == site.one.name


def test_a_known_name_serves_at_once_in_another_upstream(site: Site) -> None:
    site.names.set(NAME, site.ones, ttl_s=3600)
    site.reload(listing(named(site.port)))
    site.settle()
    site.names.is_silent = True
    site.reload(f"other: {{backends: {named(site.port)}}}", "proxy_pass: other")
    assert site.served_by() == site.one.name


def test_a_listener_that_is_led_to_a_name_stays_until_it_is_resolved(
    site: Site, expect_log: ExpectLog
) -> None:
    site.reload(listener=f"proxy_pass: '{site.one.name}'")
    site.names.fail(NAME)
    with expect_log("cannot be resolved, it has no address yet", count=1):
        site.reload(listener=f"proxy_pass: '{NAME}:{site.port}'")
        assert site.served_by() == site.one.name
        site.harness.advance(1000)
        site.settle()
    assert site.served_by() == site.one.name
    (before,) = site.backends(site.one.name)
    site.names.set(NAME, site.twos)
    site.harness.advance(2000)
    site.settle()
    assert site.served_by() == site.two.name
    assert before.left_at_ms is not None


def test_a_listener_that_waits_for_a_name_can_be_led_elsewhere_meanwhile(site: Site) -> None:
    site.reload(listener=f"proxy_pass: '{site.one.name}'")
    site.names.is_silent = True
    site.names.set(NAME, site.ones)
    site.reload(listener=f"proxy_pass: '{NAME}:{site.port}'")
    site.reload(listener=f"proxy_pass: '{site.two.name}'")
    assert site.served_by() == site.two.name
    answer_late(site)
    assert site.served_by() == site.two.name


def test_an_upstream_that_leaves_and_returns_counts_its_sessions(
    site: Site, expect_log: ExpectLog
) -> None:
    limited = listing(f"{{address: '{site.one.name}', max_conns: 1}}")
    site.reload(limited)
    (backend,) = site.backends()
    assert site.served_by() == site.one.name
    site.reload("other: {backends: '127.0.0.1:1'}", "proxy_pass: other")
    assert backend.left_at_ms is not None
    site.harness.advance(60_000)
    site.reload(limited)
    assert site.backends() == [backend]
    assert (backend.left_at_ms, backend.conns) == (None, 1)
    with expect_log("no usable backend"):
        assert site.served_by() == ""


def test_an_upstream_that_returns_with_its_listener_and_a_slow_name_keeps_its_sessions(
    site: Site,
) -> None:
    draining = "proxy_pass: web, proxy_drain_timeout: 2s"
    site.reload(listing(site.one.name), draining)
    assert site.served_by() == site.one.name
    front, site.front = site.front, free_port(site.host)
    site.reload("other: {backends: '127.0.0.1:1'}", "proxy_pass: other")
    site.front = front
    site.names.is_silent = True
    site.reload(listing(named(site.port)), draining)
    assert site.served_by() == site.one.name
    # The present list serves until the name is resolved, so nothing in it has left.
    site.harness.advance(2200)
    site.settle()
    assert [client.is_over for client in site.clients] == [False, False]


def test_an_upstream_that_has_left_is_not_checked_until_it_returns(site: Site) -> None:
    def checks() -> int:
        """Return how many checks come within some seconds."""
        before = len(site.one.ends)
        for _ in range(5):
            site.harness.advance(1000)
            site.settle()
        return len(site.one.ends) - before

    checked = listing(site.one.name, more=", health_check: {interval: 1s}")
    site.reload(checked)
    assert checks() > 0
    site.reload("other: {backends: '127.0.0.1:1'}", "proxy_pass: other")
    assert checks() == 0
    site.reload(checked)
    assert checks() > 0


def test_an_upstream_is_forgotten_in_the_end(site: Site) -> None:
    site.reload(listing(site.one.name))
    (backend,) = site.backends()
    other = "other: {backends: '127.0.0.1:1'}"
    site.reload(other, "proxy_pass: other")
    site.harness.advance(600_000)
    site.reload(other, "proxy_pass: other")
    site.reload(listing(site.one.name))
    assert site.backends() != [backend]


def test_a_client_in_the_queue_of_an_upstream_that_goes_is_served(site: Site) -> None:
    limited = f"{{address: '{site.one.name}', max_conns: 1}}"
    site.reload(listing(limited, more=", queue: {size: 5, timeout: 10s}"))
    assert site.served_by() == site.one.name
    late = site.connect()
    late.send(b"late")
    site.harness.turn_until(lambda: site.pools["web"].queue)
    site.reload(f"other: {{backends: '{site.two.name}'}}", "proxy_pass: other")
    site.harness.turn_until(lambda: late.received == b"late")
    assert len(site.two.ends) == 1


def test_a_client_in_the_queue_of_an_upstream_that_goes_with_its_listener_is_served(
    site: Site,
) -> None:
    limited = f"{{address: '{site.one.name}', max_conns: 1}}"
    site.reload(listing(limited, more=", queue: {size: 5, timeout: 10s}"))
    assert site.served_by() == site.one.name
    late = site.connect()
    late.send(b"late")
    site.harness.turn_until(lambda: site.pools["web"].queue)
    site.front = free_port(site.host)
    site.reload("other: {backends: '127.0.0.1:1'}", "proxy_pass: other")
    site.clients[0].finish()
    site.harness.turn_until(lambda: late.received == b"late")


def test_a_reload_while_a_record_has_no_port_is_applied_whole(
    site: Site, expect_log: ExpectLog
) -> None:
    service = f"_http._tcp.{NAME}"
    site.names.set("one.example", site.ones)
    site.names.set_srv(service, srv(1, 1, site.port, "one.example"), srv(1, 1, 0, "no.example"))
    upstream = listing(f"{{address: {NAME}, service: http, resolve: on}}")
    other = free_port(site.host)
    with expect_log("the SRV record of no.example has port 0, so it is left out", count=1):
        site.reload(upstream)
        site.settle()
        site.reload(upstream, more=f"- {{listen: '{site.host}:{other}', return: hello}}")
    assert site.served_by() == site.one.name
    added = site.harness.add(connect((site.host, other)))
    site.harness.turn_until(lambda: added.received == b"hello")


def test_a_name_that_leads_to_its_own_listener_is_refused(
    site: Site, expect_log: ExpectLog
) -> None:
    site.names.set(NAME, site.host, site.twos)
    with expect_log(f"{site.host} is a listener of our own, which leads back here", count=1):
        site.reload(listing(named(site.front)))
        site.settle()
    assert [backend.address.host for backend in site.backends()] == [site.twos]


def test_a_name_may_lead_to_a_listener_that_leads_elsewhere(site: Site) -> None:
    site.names.set(NAME, site.host)
    other = free_port(site.host)
    site.reload(
        listing(named(other)),
        more=f"- {{listen: '{site.host}:{other}', proxy_pass: '{site.one.name}'}}",
    )
    site.settle()
    assert site.served_by() == site.one.name


def test_a_way_back_over_two_listeners_is_refused(site: Site, expect_log: ExpectLog) -> None:
    site.names.set(NAME, site.host)
    other = free_port(site.host)
    back = f"- {{listen: '{site.host}:{other}', proxy_pass: '{site.host}:{site.front}'}}"
    with (
        expect_log("is a listener of our own, which leads back here, so it is", count=1),
        expect_log("has no address", count=1),
    ):
        site.reload(listing(named(other)), more=back)
        site.settle()
    assert [backend.address.is_name for backend in site.backends()] == [True]


def test_one_wrong_answer_leaves_nobody_without_a_backend(
    site: Site, expect_log: ExpectLog
) -> None:
    site.names.set(NAME, site.ones, ttl_s=1)
    site.reload(listing(named(site.port)))
    site.settle()
    site.names.fail(NAME, NXDOMAIN)
    with expect_log(r"no such name; keeping 1 for 30s \(hold\)", count=1):
        site.harness.advance(1000)
        site.settle()
    assert site.served_by() == site.one.name


def test_udp_clients_leave_an_address_that_is_gone(site: Site) -> None:
    one = site.harness.add(UdpBackend(lambda _data: [], (site.ones, 0)))
    port = int(one.socket.getsockname()[1])
    two = site.harness.add(UdpBackend(lambda _data: [], (site.twos, port)))
    site.names.set(NAME, site.ones, ttl_s=1)
    site.reload(listing(named(port)), "protocol: udp, proxy_pass: web")
    site.settle()
    client = site.harness.add(UdpClient((site.host, site.front), (own_host(), 0)))
    client.send(b"before")
    site.harness.turn_until(lambda: one.received == [b"before"])
    site.names.set(NAME, site.twos, ttl_s=1)
    for _ in range(3):
        site.harness.advance(1000)
        site.settle()
    client.send(b"after")
    site.harness.turn_until(lambda: two.received == [b"after"])


def test_sessions_with_a_removed_backend_end_after_the_drain_timeout(site: Site) -> None:
    draining = "proxy_pass: web, proxy_drain_timeout: 5s"
    site.reload(listing(site.one.name), draining)
    assert site.served_by() == site.one.name
    (client,) = site.clients
    site.reload(listing(site.two.name), draining)
    site.harness.advance(4800)
    site.settle()
    assert not client.is_over
    site.harness.advance(400)
    site.harness.turn_until(lambda: client.is_over)
    assert site.served_by() == site.two.name


def test_sessions_of_an_upstream_that_goes_with_its_listener_end_after_the_drain_timeout(
    site: Site,
) -> None:
    site.reload(listing(site.one.name), "proxy_pass: web, proxy_drain_timeout: 5s")
    assert site.served_by() == site.one.name
    (client,) = site.clients
    site.front = free_port(site.host)
    site.reload("other: {backends: '127.0.0.1:1'}", "proxy_pass: other")
    site.harness.advance(4800)
    site.settle()
    assert not client.is_over
    site.harness.advance(400)
    site.harness.turn_until(lambda: client.is_over)


def test_without_a_drain_timeout_sessions_with_a_removed_backend_go_on(site: Site) -> None:
    site.reload(listing(site.one.name))
    assert site.served_by() == site.one.name
    (client,) = site.clients
    site.reload(listing(site.two.name))
    site.harness.advance(600_000 - 1000)
    site.settle()
    assert not client.is_over


def test_a_port_beside_a_service_takes_the_place_of_those_of_its_records(site: Site) -> None:
    site.names.set("one.example", site.ones)
    site.names.set_srv(f"_http._tcp.{NAME}", srv(1, 1, 0, "one.example"))
    site.reload(listing(f"{{address: '{NAME}:{site.port}', service: http, resolve: on}}"))
    site.settle()
    assert site.served_by() == site.one.name


def test_an_upstream_that_has_become_empty_serves_again_soon(
    site: Site, expect_log: ExpectLog
) -> None:
    with expect_log("has no address: no such name"), expect_log("no usable backend"):
        site.reload(listing(named(site.port)))
        assert site.served_by() == ""
        site.harness.advance(60_000)
        site.settle()
    site.names.set(NAME, site.ones)
    site.harness.advance(4000)
    site.settle()
    assert site.served_by() == site.one.name


def test_reloads_that_come_while_names_are_asked_for_end_where_the_last_one_leads(
    site: Site,
) -> None:
    site.reload(listing(site.one.name))
    site.names.is_silent = True
    site.names.set(NAME, site.twos)
    for _ in range(3):
        site.reload(f"other: {{backends: {named(site.port)}}}", "proxy_pass: other")
        assert site.served_by() == site.one.name
    # The upstream of before is not configured any more, and serves on.
    assert site.backends()[0].left_at_ms is None
    answer_late(site)
    assert site.served_by() == site.two.name
