"""The resolver, with its queries and exchanges, against a name server that the test plays.

It answers, is silent, lies and floods.
"""

import os
import pathlib
import random
import struct
from collections.abc import Callable, Iterator

import pytest
from nginy.backend.names.answers import Resolution
from nginy.backend.names.resolver import Resolver, ResolverSettings
from nginy.wire.dns import Outcome

from kit.clock import FakeClock
from kit.harness import Harness, descriptor_count
from kit.names import (
    AAAA,
    FORMERR,
    REFUSED,
    SERVFAIL,
    SRV,
    A,
    Asked,
    NameServer,
    Zone,
    srv,
    wire_name,
)

NAME = "web.example"


class Client:
    """A resolver with what it was told, and a name server for it."""

    def __init__(self, harness: Harness, directory: pathlib.Path) -> None:
        self.harness = harness
        self.server = harness.add(NameServer())
        self.hosts = directory / "hosts"
        self.resolv_conf = directory / "resolv.conf"
        self.resolver = Resolver(
            harness.loop, random.Random(7), str(self.hosts), str(self.resolv_conf)
        )
        self.results: list[Resolution] = []
        self.configure()

    def configure(self, *more_servers: NameServer, **settings: object) -> None:
        servers = tuple(s.address for s in (*more_servers, self.server))
        self.resolver.apply(ResolverSettings(servers, **settings))  # type: ignore[arg-type]

    def ask(self, name: str = NAME) -> None:
        self.resolver.resolve(name, self.results.append)

    def result(self) -> Resolution:
        self.harness.turn_until(lambda: self.results)
        return self.results.pop()

    def resolve(self, name: str = NAME) -> Resolution:
        self.ask(name)
        return self.result()

    def resolve_service(self, service: str = "http", host: str = NAME) -> Resolution:
        self.resolver.resolve_service(service, host, 0, self.results.append)
        return self.result()

    def turn_until_asked(self, count: int) -> None:
        self.harness.turn_until(lambda: len(self.server.asked) >= count)


@pytest.fixture
def client(harness: Harness, tmp_path: pathlib.Path) -> Iterator[Client]:
    client = Client(harness, tmp_path)
    yield client
    client.resolver.close()


@pytest.fixture(params=["epoll"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("method", ["epoll", "level", "poll", "select"], indirect=True)
def test_a_name_has_the_addresses_of_both_families(client: Client) -> None:
    client.server.set(NAME, "10.0.0.2", "10.0.0.1", "fd00::1", ttl_s=30)
    resolution = client.resolve()
    assert resolution.outcome is Outcome.FOUND
    assert resolution.addresses == ("10.0.0.1", "10.0.0.2", "fd00::1")
    assert resolution.ttl_ms == 30_000


@pytest.mark.parametrize("method", ["epoll", "level", "poll", "select"], indirect=True)
def test_300_addresses_come_over_tcp(client: Client) -> None:
    addresses = [f"10.0.{i >> 8}.{i & 255}" for i in range(300)]
    client.server.set(NAME, *addresses)
    assert set(client.resolve().addresses) == set(addresses)
    assert [asked.is_tcp for asked in client.server.asked if asked.type == A] == [False, True]


def test_of_thousands_of_addresses_a_thousand_are_used(client: Client) -> None:
    client.configure(ipv6=False)
    client.server.set(NAME, *[f"10.0.{i >> 8}.{i & 255}" for i in range(4000)])
    assert len(client.resolve().addresses) == 1000


def test_without_ipv6_nobody_asks_for_it(client: Client) -> None:
    client.configure(ipv6=False)
    client.server.set(NAME, "10.0.0.1", "fd00::1")
    assert client.resolve().addresses == ("10.0.0.1",)
    assert {asked.type for asked in client.server.asked} == {A}


def test_ids_and_ports_differ_from_question_to_question(client: Client) -> None:
    for i in range(16):
        client.resolve(f"{i}.example")
    asked = client.server.asked
    assert len({one.id for one in asked}) > 28
    assert len({one.sender[1] for one in asked}) > 16


def test_an_answer_holds_for_its_time_and_no_longer(client: Client, clock: FakeClock) -> None:
    client.server.set(NAME, "10.0.0.1", ttl_s=10)
    client.resolve()
    client.server.set(NAME, "10.0.0.2", ttl_s=10)
    clock.advance(9_999)
    assert client.resolve().addresses == ("10.0.0.1",)
    clock.advance(1)
    assert client.resolve().addresses == ("10.0.0.2",)


def test_a_ttl_of_0_counts_as_a_second_and_valid_overrides_it(client: Client) -> None:
    client.server.set(NAME, "10.0.0.1", ttl_s=0)
    assert client.resolve().ttl_ms == 1000
    client.configure(valid_ms=25_000)
    assert client.resolve().ttl_ms == 25_000


def test_a_reload_asks_anew(client: Client) -> None:
    client.server.set(NAME, "10.0.0.1", ttl_s=1000)
    client.resolve()
    client.server.set(NAME, "10.0.0.2", ttl_s=1000)
    client.configure()
    assert client.resolve().addresses == ("10.0.0.2",)


def test_two_who_ask_the_same_cost_one_question(client: Client) -> None:
    client.configure(ipv6=False)
    client.server.set(NAME, "10.0.0.1")
    client.ask()
    client.ask()
    client.harness.turn_until(lambda: len(client.results) == 2)
    assert client.server.count(NAME) == 1


def test_that_there_is_none_is_believed_for_a_second(client: Client) -> None:
    client.configure(valid_ms=25_000)
    resolution = client.resolve("nobody.example")
    assert (resolution.outcome, resolution.reason) == (Outcome.NO_NAME, "no such name")
    assert resolution.ttl_ms == 1000


def test_a_name_without_records_is_empty(client: Client) -> None:
    client.server.zones[NAME] = Zone()
    assert client.resolve().outcome is Outcome.EMPTY


def test_an_unfinished_chain_of_aliases_is_followed(client: Client) -> None:
    client.configure(ipv6=False)

    def alias(asked: Asked) -> list[bytes]:
        if asked.name != NAME:
            return []
        data = wire_name("real.example")
        header = struct.pack("!HHHHHH", asked.id, 0x8180, 1, 1, 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 60, len(data)) + data
        return [header + asked.question + record]

    client.server.before = alias
    client.server.set("real.example", "10.0.0.9")
    assert client.resolve().addresses == ("10.0.0.9",)


# Trouble.


def test_a_lost_question_is_asked_again(client: Client, clock: FakeClock) -> None:
    client.server.set(NAME, "10.0.0.1")
    client.server.is_silent = True
    client.ask()
    client.turn_until_asked(2)
    client.server.is_silent = False
    client.harness.advance(2500)
    assert client.result().addresses == ("10.0.0.1",)


def test_silence_is_a_failure_after_the_timeout(client: Client) -> None:
    client.server.is_silent = True
    client.ask()
    for asked in (2, 4):
        client.turn_until_asked(asked)
        client.harness.advance(2500)
    resolution = client.result()
    assert resolution.outcome is Outcome.FAILED
    assert resolution.reason == f"{client.server.address}: timed out"


def test_the_next_server_is_asked_where_one_is_dead_or_fails(client: Client) -> None:
    dead, failing = NameServer(), client.harness.add(NameServer())
    address = dead.address
    dead.close()
    failing.fail(NAME)
    client.server.set(NAME, "10.0.0.1")
    settings = ResolverSettings((address, failing.address, client.server.address))
    client.resolver.apply(settings)
    assert client.resolve().addresses == ("10.0.0.1",)
    assert failing.count(NAME) == 1


def test_a_server_that_fails_twice_leaves_what_was_known(client: Client, clock: FakeClock) -> None:
    client.server.set(NAME, "10.0.0.1", ttl_s=1)
    client.resolve()
    client.server.fail(NAME)
    clock.advance(1000)
    resolution = client.resolve()
    assert resolution.outcome is Outcome.FAILED
    assert resolution.addresses == ("10.0.0.1",)
    assert resolution.reason.endswith("SERVFAIL")


def test_a_server_that_knows_no_edns_is_asked_without(client: Client) -> None:
    client.configure(ipv6=False)
    client.server.set(NAME, "10.0.0.1")

    def refuse(asked: Asked) -> list[bytes]:
        header = struct.pack("!HHHHHH", asked.id, 0x8181, 0, 0, 0, 0)
        return [header] if asked.has_edns else []

    client.server.before = refuse
    assert client.resolve().addresses == ("10.0.0.1",)
    assert [asked.has_edns for asked in client.server.asked] == [True, False]


def answers_without_edns(rcode: int | None) -> Callable[[Asked], list[bytes] | None]:
    """Return the habit of a server that does not answer questions with EDNS, or refuses them."""

    def habit(asked: Asked) -> list[bytes] | None:
        if not asked.has_edns:
            return None
        if rcode is None:
            return []
        return [struct.pack("!HHHHHH", asked.id, 0x8180 | rcode, 1, 0, 0, 0) + asked.question]

    return habit


@pytest.mark.parametrize("rcode", [None, SERVFAIL, REFUSED, FORMERR])
def test_a_server_that_drops_or_refuses_edns_is_asked_without_and_remembered(
    client: Client, clock: FakeClock, rcode: int | None
) -> None:
    client.configure(ipv6=False)
    client.server.set(NAME, "10.0.0.1", ttl_s=1)
    client.server.instead = answers_without_edns(rcode)
    client.ask()
    client.turn_until_asked(1)
    if rcode is None:
        client.harness.advance(2500)
    assert client.result().addresses == ("10.0.0.1",)
    clock.advance(1000)
    assert client.resolve().addresses == ("10.0.0.1",)
    assert [asked.has_edns for asked in client.server.asked] == [True, False, False]
    clock.advance(300_000)
    client.server.instead = lambda _asked: None
    client.resolve()
    assert client.server.asked[-1].has_edns


def test_a_server_that_never_answers_for_ipv6_holds_nobody_up(
    client: Client, clock: FakeClock
) -> None:
    client.server.set(NAME, "10.0.0.1", ttl_s=60)
    client.server.instead = lambda asked: [] if asked.type == AAAA else None
    client.ask()
    client.turn_until_asked(2)
    client.harness.settle()
    client.harness.advance(500)
    resolution = client.result()
    assert (resolution.outcome, resolution.addresses) == (Outcome.FOUND, ("10.0.0.1",))
    # It is not asked again at once, once nobody has answered to the end.
    client.harness.advance(2000)
    client.turn_until_asked(3)
    client.harness.advance(2500)
    clock.advance(1)
    assert client.resolve().addresses == ("10.0.0.1",)
    assert client.server.count(NAME, AAAA) == 2
    clock.advance(30_000)
    client.ask()
    client.turn_until_asked(4)


def test_hundreds_of_names_come_though_nobody_answers_for_ipv6(client: Client) -> None:
    client.server.instead = lambda asked: [] if asked.type == AAAA else None
    for i in range(200):
        client.server.set(f"{i}.example", "10.0.0.1")
        client.ask(f"{i}.example")
    client.harness.turn_until(lambda: sum(asked.type == A for asked in client.server.asked) == 200)
    client.harness.settle()
    client.harness.advance(500)
    client.harness.turn_until(lambda: len(client.results) == 200)


def test_addresses_that_come_late_are_there_the_next_time(client: Client, clock: FakeClock) -> None:
    client.server.set(NAME, "10.0.0.1", "fd00::1", ttl_s=60)
    client.server.instead = lambda asked: [] if asked.type == AAAA else None
    client.ask()
    client.turn_until_asked(2)
    client.harness.settle()
    client.harness.advance(500)
    assert client.result().addresses == ("10.0.0.1",)
    late = next(asked for asked in client.server.asked if asked.type == AAAA)
    client.server.udp.sendto(client.server.answer(late), late.sender)
    client.harness.settle()
    assert client.resolve().addresses == ("10.0.0.1", "fd00::1")


def test_a_server_that_is_dead_for_a_while_costs_its_timeout_once(
    client: Client, clock: FakeClock
) -> None:
    dead = client.harness.add(NameServer())
    dead.is_silent = True
    client.configure(dead, ipv6=False)
    client.server.set(NAME, "10.0.0.1", ttl_s=1)
    client.ask()
    client.harness.turn_until(lambda: dead.asked)
    client.harness.advance(1250)
    assert client.result().addresses == ("10.0.0.1",)
    clock.advance(1000)
    assert client.resolve().addresses == ("10.0.0.1",)
    assert len(dead.asked) == 1
    dead.is_silent = False
    dead.set(NAME, "10.0.0.2", ttl_s=1)
    clock.advance(30_000)
    assert client.resolve().addresses == ("10.0.0.2",)


def test_a_malformed_answer_is_named_when_no_better_one_comes(client: Client) -> None:
    client.configure(ipv6=False)
    client.server.set(NAME, "10.0.0.1")
    client.server.instead = lambda asked: [forged(asked)[:-2]]
    client.ask()
    for asked in (1, 2):
        client.turn_until_asked(asked)
        client.harness.settle()
        client.harness.advance(2500)
    resolution = client.result()
    assert resolution.outcome is Outcome.FAILED
    reason = "malformed answer: a record's data runs out of the message"
    assert resolution.reason == f"{client.server.address}: {reason}"


def alias_to(target: str) -> Callable[[Asked], list[bytes]]:
    """Return the habit of a server that answers with an alias and nothing else."""

    def habit(asked: Asked) -> list[bytes]:
        data = wire_name(target)
        header = struct.pack("!HHHHHH", asked.id, 0x8180, 1, 1, 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 60, len(data)) + data
        return [header + asked.question + record]

    return habit


def test_aliases_in_a_circle_are_a_failure_at_once_and_keep_what_was_known(
    client: Client, clock: FakeClock
) -> None:
    client.configure(ipv6=False)
    client.server.set(NAME, "10.0.0.1", ttl_s=1)
    client.resolve()
    client.server.instead = alias_to(NAME)
    clock.advance(1000)
    resolution = client.resolve()
    assert (resolution.outcome, resolution.addresses) == (Outcome.FAILED, ("10.0.0.1",))
    assert "circle" in resolution.reason


def test_unfinished_chains_that_lead_in_a_circle_are_a_failure(client: Client) -> None:
    client.configure(ipv6=False)
    client.server.instead = lambda asked: alias_to("other.example" if asked.name == NAME else NAME)(
        asked
    )
    resolution = client.resolve()
    assert resolution.outcome is Outcome.FAILED
    assert "circle" in resolution.reason


def test_no_name_that_cannot_be_asked_for_stops_anybody(client: Client) -> None:
    resolution = client.resolve("a..b")
    assert resolution.outcome is Outcome.FAILED
    assert "label" in resolution.reason
    assert client.server.asked == []


def test_a_server_that_refuses_tcp_has_failed(client: Client) -> None:
    client.configure(ipv6=False)
    client.server.set(NAME, *[f"10.0.1.{i}" for i in range(200)])
    client.server.tcp.close()
    resolution = client.resolve()
    assert resolution.outcome is Outcome.FAILED
    assert "Connection refused" in resolution.reason


# Lies.


def forged(asked: Asked, *, identifier: int | None = None, question: bytes = b"") -> bytes:
    """Return an answer that sends clients to 6.6.6.6."""
    header = struct.pack(
        "!HHHHHH", asked.id if identifier is None else identifier, 0x8180, 1, 1, 0, 0
    )
    record = b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 60, 4) + bytes([6, 6, 6, 6])
    return header + (question or asked.question) + record


@pytest.mark.parametrize(
    "lie",
    [
        lambda asked: forged(asked, identifier=asked.id ^ 1),
        lambda asked: forged(asked, question=wire_name("other.example") + b"\0\1\0\1"),
        lambda asked: forged(asked)[:-2],
        lambda asked: forged(asked)[:5],
        lambda _asked: b"",
        lambda asked: bytes([asked.id >> 8, asked.id & 255, 1, 0]) + forged(asked)[4:],
    ],
    ids=["other id", "other question", "cut record", "cut header", "empty", "a question"],
)
def test_what_is_no_answer_to_the_question_is_dropped(client: Client, lie: object) -> None:
    client.configure(ipv6=False)
    client.server.set(NAME, "10.0.0.1")
    client.server.before = lambda asked: [lie(asked)] * 3  # type: ignore[operator]
    assert client.resolve().addresses == ("10.0.0.1",)


def test_an_answer_from_elsewhere_is_never_seen(client: Client) -> None:
    client.configure(ipv6=False)
    other = client.harness.add(NameServer(client.server.address.host))

    def from_elsewhere(asked: Asked) -> list[bytes]:
        other.udp.sendto(forged(asked), asked.sender)
        return []

    client.server.before = from_elsewhere
    client.server.set(NAME, "10.0.0.1")
    assert client.resolve().addresses == ("10.0.0.1",)


def test_an_answer_that_comes_after_the_next_question_is_not_believed(
    client: Client, clock: FakeClock
) -> None:
    client.configure(ipv6=False)
    client.server.is_silent = True
    client.ask()
    client.turn_until_asked(1)
    client.harness.advance(2500)
    late = client.server.asked[0]
    client.server.udp.sendto(forged(late), late.sender)
    client.server.is_silent = False
    client.server.set(NAME, "10.0.0.1")
    client.turn_until_asked(2)
    late_again = client.server.asked[1]
    assert (late.id, late.sender) != (late_again.id, late_again.sender)
    assert client.result().addresses == ("10.0.0.1",)


def test_a_flood_of_guesses_costs_little_a_turn_and_leads_to_tcp(
    client: Client, clock: FakeClock
) -> None:
    client.configure(ipv6=False)
    client.server.set(NAME, "10.0.0.1")
    client.server.before = lambda asked: [
        forged(asked, identifier=(asked.id + 1 + i) & 0xFFFF) for i in range(100)
    ]
    client.ask()
    client.turn_until_asked(1)
    turns = clock.updates
    assert client.result().addresses == ("10.0.0.1",)
    assert clock.updates - turns >= 65 // 16
    assert client.server.asked[-1].is_tcp


# Services.


def test_a_service_is_its_records_with_the_addresses_of_their_targets(client: Client) -> None:
    client.server.set_srv(
        f"_http._tcp.{NAME}",
        srv(20, 0, 8082, "b.example"),
        srv(10, 5, 8081, "a.example"),
        srv(10, 5, 8083, "nobody.example"),
        ttl_s=50,
    )
    client.server.set("a.example", "10.0.0.1", "fd00::1", ttl_s=40)
    client.server.set("b.example", "10.0.0.2")
    resolution = client.resolve_service()
    found = [(p.address, p.port, p.priority, p.weight) for p in resolution.endpoints]
    assert found == [
        ("10.0.0.1", 8081, 10, 5),
        ("fd00::1", 8081, 10, 5),
        ("10.0.0.2", 8082, 20, 0),
    ]
    assert resolution.ttl_ms is not None
    assert resolution.ttl_ms <= 40_000
    assert client.server.count(f"_http._tcp.{NAME}", SRV) == 1
    assert client.server.count("a.example", AAAA) == 1


def test_a_service_that_nobody_offers_is_no_name(client: Client) -> None:
    assert client.resolve_service().outcome is Outcome.NO_NAME


def test_targets_without_an_address_leave_a_service_empty(client: Client) -> None:
    client.server.set_srv(f"_http._tcp.{NAME}", srv(1, 1, 80, "gone.example"))
    resolution = client.resolve_service()
    assert (resolution.outcome, resolution.endpoints) == (Outcome.EMPTY, ())


# Files.


def test_the_port_of_an_address_takes_the_place_of_those_of_the_records(client: Client) -> None:
    records = (srv(1, 5, 0, "a.example"), srv(1, 7, 82, "b.example"))
    client.server.set_srv(f"_http._tcp.{NAME}", *records)
    client.server.set("a.example", "10.0.0.1")
    client.server.set("b.example", "10.0.0.2")
    client.resolver.resolve_service("http", NAME, 9000, client.results.append)
    found = [(e.address, e.port, e.weight) for e in client.result().endpoints]
    assert found == [("10.0.0.1", 9000, 5), ("10.0.0.2", 9000, 7)]


def test_targets_are_followed_though_nobody_answers_for_the_records(
    client: Client, clock: FakeClock
) -> None:
    client.server.set_srv(f"_http._tcp.{NAME}", srv(1, 5, 81, "a.example"), ttl_s=1)
    client.server.set("a.example", "10.0.0.1", ttl_s=1)
    client.resolve_service()
    client.server.fail(f"_http._tcp.{NAME}")
    client.server.set("a.example", "10.0.0.2", ttl_s=1)
    clock.advance(1000)
    resolution = client.resolve_service()
    assert resolution.outcome is Outcome.FAILED
    assert [e.address for e in resolution.endpoints] == ["10.0.0.2"]


def test_what_is_known_is_recalled_in_any_spelling_and_however_old(
    client: Client, clock: FakeClock
) -> None:
    client.server.set(NAME, "10.0.0.1", "fd00::1", ttl_s=1)
    client.server.set_srv(f"_http._tcp.{NAME}", srv(1, 5, 81, NAME), ttl_s=1)
    client.resolve_service()
    clock.advance(3_600_000)
    client.configure()
    assert client.resolver.recall("Web.Example.") == ("10.0.0.1", "fd00::1")
    recalled = client.resolver.recall_service("_http._tcp", "WEB.example", 90)
    assert [(e.address, e.port) for e in recalled] == [("10.0.0.1", 90), ("fd00::1", 90)]
    assert client.resolver.recall("other.example") == ()


def test_the_hosts_file_comes_first_and_is_looked_at_again(client: Client) -> None:
    client.hosts.write_text("10.1.1.1 Web.Example\nfd00::5 web.example\nfe80::1%lo web.example\n")
    client.configure()
    resolution = client.resolve()
    assert (resolution.addresses, resolution.ttl_ms) == (("10.1.1.1", "fd00::5"), 5000)
    client.configure(ipv6=False)
    assert client.resolve().addresses == ("10.1.1.1",)
    assert client.server.asked == []


def test_nameservers_and_search_list_come_from_resolv_conf(
    client: Client, harness: Harness
) -> None:
    host = client.server.address.host
    client.resolv_conf.write_text(f"nameserver {host}\nsearch corp.example example\n")
    client.resolver = Resolver(
        harness.loop,
        random.Random(7),
        str(client.hosts),
        str(client.resolv_conf),
        client.server.address.port,
    )
    client.resolver.apply(ResolverSettings())
    client.server.set("web.example", "10.0.0.1")
    assert client.resolve("web").addresses == ("10.0.0.1",)
    assert [a.name for a in client.server.asked if a.type == A] == [
        "web.corp.example",
        "web.example",
    ]


def from_resolv_conf(client: Client, search: str = "") -> None:
    """Make the client's resolver take name server and search list from its resolv.conf."""
    host, port = client.server.address.host, client.server.address.port
    client.resolv_conf.write_text(f"nameserver {host}\n{search}")
    paths = str(client.hosts), str(client.resolv_conf)
    client.resolver = Resolver(client.harness.loop, random.Random(7), *paths, port)
    client.resolver.apply(ResolverSettings())


def test_a_search_domain_that_fails_is_passed_over(client: Client) -> None:
    from_resolv_conf(client, "search broken.example a..b example\n")
    client.server.fail("web.broken.example")
    client.server.set("web.example", "10.0.0.1")
    assert client.resolve("web").addresses == ("10.0.0.1",)


def test_a_search_that_finds_nothing_has_failed_if_a_domain_has(client: Client) -> None:
    from_resolv_conf(client, "search broken.example example\n")
    client.server.fail("web.broken.example")
    resolution = client.resolve("web")
    assert (resolution.outcome, resolution.reason[-8:]) == (Outcome.FAILED, "SERVFAIL")


def test_a_search_stays_with_the_name_that_was_found_before(
    client: Client, clock: FakeClock
) -> None:
    from_resolv_conf(client, "search corp.example example\n")
    client.server.set("web.corp.example", "10.0.0.1", ttl_s=1)
    client.server.set("web.example", "10.0.0.2")
    client.resolve("web")
    client.server.fail("web.corp.example")
    clock.advance(1000)
    resolution = client.resolve("web")
    assert (resolution.outcome, resolution.addresses) == (Outcome.FAILED, ("10.0.0.1",))


def test_files_that_change_are_read_again_within_a_second(client: Client, clock: FakeClock) -> None:
    from_resolv_conf(client, "search corp.example\n")
    client.server.set("web.corp.example", "10.0.0.1")
    assert client.resolve("web").addresses == ("10.0.0.1",)
    host = client.server.address.host
    client.resolv_conf.write_text(f"nameserver {host}\nsearch other.example\n")
    client.server.set("web.other.example", "10.0.0.2")
    assert client.resolve("web").addresses == ("10.0.0.1",)
    clock.advance(1000)
    assert client.resolve("web").addresses == ("10.0.0.2",)
    client.hosts.write_text("10.0.0.3 web\n")
    clock.advance(1000)
    assert client.resolve("web").addresses == ("10.0.0.3",)
    client.hosts.write_text("10.0.0.4 web\n")
    os.utime(client.hosts, ns=(1, 1))
    clock.advance(1000)
    assert client.resolve("web").addresses == ("10.0.0.4",)
    client.hosts.unlink()
    clock.advance(1000)
    assert client.resolve("web").addresses == ("10.0.0.4",)


def test_with_nameservers_of_its_own_a_name_is_taken_as_it_stands(client: Client) -> None:
    client.resolv_conf.write_text("search example\n")
    client.configure()
    assert client.resolve("web").outcome is Outcome.NO_NAME
    assert {asked.name for asked in client.server.asked} == {"web"}


# The end.


def test_hundreds_of_names_take_few_descriptors_at_a_time(client: Client) -> None:
    before = descriptor_count()
    client.server.is_silent = True
    for i in range(300):
        client.ask(f"{i}.example")
    client.harness.turn()
    assert descriptor_count() - before <= 64
    client.server.is_silent = False
    client.server.zones.update({f"{i}.example": Zone() for i in range(300)})
    for _ in range(2):
        client.harness.settle()
        client.harness.advance(2500)
    client.harness.turn_until(lambda: len(client.results) == 300)
    assert descriptor_count() == before


def test_a_closed_resolver_calls_nobody_and_keeps_no_descriptor(client: Client) -> None:
    before = descriptor_count()
    client.server.is_silent = True
    client.ask()
    client.turn_until_asked(2)
    client.resolver.close()
    client.harness.settle()
    assert (client.results, descriptor_count()) == ([], before)
