"""Names as members of a pool: what they stand for, how they change, and what never changes them."""

import logging
import pathlib
import random
import time
from collections.abc import Iterator

import pytest
from nginy.backend.backend import BackendSettings
from nginy.backend.names.members import Balancing, Members, carry_over
from nginy.backend.names.resolver import Resolver, ResolverSettings
from nginy.backend.pool import MakeBalancer
from nginy.balancer.maglev import Maglev
from nginy.balancer.ring import Ring
from nginy.balancer.round_robin import RoundRobin
from nginy.text.address import parse_peer

from conftest import ExpectLog
from kit.clock import FakeClock
from kit.harness import Harness
from kit.names import NXDOMAIN, Asked, NameServer, srv
from kit.program import free_port
from kit.servers import EchoBackend

NAME = "web.example"
TURN_BUDGET_MS = 50


@pytest.fixture(params=["epoll"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def settings(text: str = f"{NAME}:80", **changes: object) -> BackendSettings:
    return BackendSettings(text, parse_peer(text), **changes)  # type: ignore[arg-type]


class World:
    """Pools with names, their resolver, and the name server that they ask."""

    def __init__(self, harness: Harness, directory: pathlib.Path) -> None:
        self.harness = harness
        self.server = harness.add(NameServer())
        self.resolver = Resolver(
            harness.loop, random.Random(3), str(directory / "hosts"), str(directory / "conf")
        )
        self.configure()

    def configure(self, **changes: object) -> None:
        servers = (self.server.address,)
        self.resolver.apply(ResolverSettings(servers, **changes))  # type: ignore[arg-type]

    def members(
        self, *configured: BackendSettings, make_balancer: MakeBalancer = RoundRobin
    ) -> Members:
        members = Members(self.resolver, "web", configured, Balancing(make_balancer))
        self.harness.add_pool(members.pool)
        return members

    def settled(self, *configured: BackendSettings) -> Members:
        members = self.members(*configured)
        self.settle(members)
        return members

    def settle(self, members: Members) -> None:
        self.harness.turn_until(lambda: members.are_settled)

    def pass_time(self, members: Members, duration_ms: int, questions: int = 2) -> None:
        """Let time pass until the names are asked for again, and answered."""
        asked = len(self.server.asked) + questions
        self.harness.advance(duration_ms)
        self.harness.turn_until(lambda: len(self.server.asked) >= asked)
        self.harness.settle()
        self.settle(members)


@pytest.fixture
def world(harness: Harness, tmp_path: pathlib.Path) -> Iterator[World]:
    world = World(harness, tmp_path)
    yield world
    world.resolver.close()


def addresses(members: Members) -> list[str]:
    return [backend.addr_text for backend in members.pool.backends]


def picks(members: Members, count: int, key: bytes = b"") -> list[str]:
    """Pick this often, and give everything back."""
    picked = [members.pool.pick(key, (), 0) for _ in range(count)]
    found = []
    for backend in picked:
        assert backend is not None
        members.pool.release(backend)
        found.append(backend.addr_text)
    return found


# What a name stands for.


def test_those_who_stay_are_the_same_objects_even_if_one_is_listed_twice() -> None:
    listed = [settings("10.0.0.1:80"), settings("10.0.0.1:80", weight=2), settings("10.0.0.2:80")]
    before = carry_over((), listed)
    after = carry_over(before, [*listed[:2], settings("10.0.0.3:80")])
    assert after[:2] == before[:2]
    assert after[2] not in before


# In a pool.


def test_a_pool_starts_unresolved_and_serves_once_its_name_has_addresses(
    world: World, clock: FakeClock
) -> None:
    world.server.set(NAME, "10.0.0.1", "10.0.0.2")
    members = world.members(settings())
    assert members.pool.pick(b"", (), 0) is None
    world.settle(members)
    assert addresses(members) == ["10.0.0.1:80", "10.0.0.2:80"]
    assert picks(members, 4) == ["10.0.0.1:80", "10.0.0.2:80"] * 2


def test_names_and_addresses_stand_side_by_side_in_their_order(world: World) -> None:
    world.server.set(NAME, "10.0.0.1")
    members = world.settled(settings("10.9.9.1:1"), settings(), settings("10.9.9.2:1"))
    assert addresses(members) == ["10.9.9.1:1", "10.0.0.1:80", "10.9.9.2:1"]


def test_a_name_with_resolve_follows_its_answers(world: World) -> None:
    world.server.set(NAME, "10.0.0.1", "10.0.0.2", ttl_s=5)
    members = world.settled(settings(resolve=True))
    staying = members.pool.backends[1]
    leaving = members.pool.backends[0]
    leaving.conns = 3
    staying.failures = 4
    world.server.set(NAME, "10.0.0.2", "10.0.0.3", ttl_s=5)
    world.pass_time(members, 5000)
    assert addresses(members) == ["10.0.0.2:80", "10.0.0.3:80"]
    assert members.pool.backends[0] is staying
    assert (staying.failures, leaving.down, leaving.conns) == (4, True, 3)
    assert set(picks(members, 10)) == {"10.0.0.2:80", "10.0.0.3:80"}


def test_a_name_without_resolve_is_asked_for_once_and_again_after_a_reload(world: World) -> None:
    world.server.set(NAME, "10.0.0.1", ttl_s=5)
    members = world.settled(settings())
    world.server.set(NAME, "10.0.0.2", ttl_s=5)
    world.harness.advance(3_600_000)
    world.harness.settle()
    assert (addresses(members), world.server.count(NAME)) == (["10.0.0.1:80"], 1)
    world.configure()
    members.apply([settings()], Balancing(RoundRobin))
    assert addresses(members) == ["10.0.0.1:80"]
    world.harness.turn_until(lambda: addresses(members) == ["10.0.0.2:80"])


def test_one_that_does_not_resolve_is_asked_for_until_it_does(
    world: World, expect_log: ExpectLog
) -> None:
    with expect_log(r"web\.example:80 has no address: no such name", count=1):
        members = world.settled(settings())
        world.pass_time(members, 10_000)
    assert addresses(members) == [f"{NAME}:80"]
    world.server.set(NAME, "10.0.0.1")
    world.pass_time(members, 10_000)
    assert addresses(members) == ["10.0.0.1:80"]


def test_failures_keep_what_is_known_and_are_logged_once(
    world: World, expect_log: ExpectLog
) -> None:
    world.server.set(NAME, "10.0.0.1", ttl_s=5)
    members = world.settled(settings(resolve=True))
    world.server.fail(NAME)
    with expect_log(r"cannot be resolved, keeping 1: .*SERVFAIL", count=1):
        for delay_ms in (5000, 1000, 2000, 4000, 8000, 16_000, 16_000):
            world.pass_time(members, delay_ms, questions=4)
            assert addresses(members) == ["10.0.0.1:80"]
    world.server.set(NAME, "10.0.0.2", ttl_s=5)
    world.pass_time(members, 16_000)
    assert addresses(members) == ["10.0.0.2:80"]


def test_no_such_name_empties_a_backend_after_a_warning(
    world: World, expect_log: ExpectLog
) -> None:
    world.server.set(NAME, "10.0.0.1", "10.0.0.2", ttl_s=5)
    members = world.settled(settings(resolve=True))
    world.server.fail(NAME, NXDOMAIN)
    text = r"web\.example:80 has no address: no such name; keeping 2 for 30s \(hold\)"
    with expect_log(text, count=1):
        world.pass_time(members, 5000)
    assert len(picks(members, 2)) == 2
    with expect_log(r"web\.example:80 has no address any more: no such name", count=1):
        for _ in range(8):
            world.pass_time(members, 4000)
    (placeholder,) = members.pool.backends
    assert (placeholder.name, placeholder.down) == (f"{NAME}:80", True)
    assert members.pool.pick(b"", (), 0) is None


def test_records_of_a_service_become_primaries_and_backups(world: World) -> None:
    world.server.set_srv(
        f"_http._tcp.{NAME}", srv(1, 10, 81, "a.example"), srv(2, 10, 82, "b.example")
    )
    world.server.set("a.example", "10.0.0.1")
    world.server.set("b.example", "10.0.0.2")
    members = world.settled(settings(NAME, service="http", resolve=True))
    assert picks(members, 3) == ["10.0.0.1:81"] * 3
    members.pool.backends[0].down = True
    assert picks(members, 3) == ["10.0.0.2:82"] * 3


def test_a_target_that_fails_keeps_its_addresses(world: World) -> None:
    world.server.set_srv(f"_http._tcp.{NAME}", srv(1, 1, 81, "a.example"), ttl_s=5)
    world.server.set("a.example", "10.0.0.1", ttl_s=5)
    members = world.settled(settings(NAME, service="http", resolve=True))
    world.server.fail("a.example")
    world.pass_time(members, 5000, questions=5)
    assert addresses(members) == ["10.0.0.1:81"]


def test_who_asks_for_members_is_told_of_each_change_once(world: World) -> None:
    world.server.set("a.example", "10.0.0.1")
    world.server.set("b.example", "10.0.0.2")
    members = world.members(settings("a.example:80"), settings("b.example:80"))
    seen: list[list[str]] = []
    members.changed = lambda: seen.append(addresses(members))
    world.settle(members)
    assert seen[-1] == ["10.0.0.1:80", "10.0.0.2:80"]
    assert len(seen) <= 2


def test_a_closed_pool_asks_no_more(world: World) -> None:
    world.server.set(NAME, "10.0.0.1", ttl_s=5)
    members = world.settled(settings(resolve=True))
    asked = len(world.server.asked)
    members.close()
    world.harness.advance(3_600_000)
    world.harness.settle()
    assert len(world.server.asked) == asked


def test_a_name_that_a_reload_took_out_leaves_with_its_backends(world: World) -> None:
    world.server.set(NAME, "10.0.0.1", ttl_s=5)
    members = world.settled(settings(resolve=True), settings("10.9.9.1:1"))
    (leaving, _) = members.pool.backends
    members.apply([settings("10.9.9.1:1")], Balancing(RoundRobin))
    assert (addresses(members), leaving.down) == (["10.9.9.1:1"], True)
    world.harness.advance(60_000)
    world.harness.settle()
    assert world.server.count(NAME) == 1


def test_sessions_of_a_backend_that_left_go_on_and_new_ones_go_elsewhere(world: World) -> None:
    port = free_port("0.0.0.0")
    old = world.harness.add(EchoBackend(("127.0.0.1", port)))
    new = world.harness.add(EchoBackend(("127.0.0.2", port)))
    world.server.set(NAME, "127.0.0.1", ttl_s=5)
    members = world.settled(settings(f"{NAME}:{port}", resolve=True))
    front = world.harness.proxy(members.pool)
    first = front.connect()
    first.send(b"one")
    world.harness.turn_until(lambda: first.received == b"one")
    world.server.set(NAME, "127.0.0.2", ttl_s=5)
    world.pass_time(members, 5000)
    second = front.connect()
    first.send(b"two")
    second.send(b"three")
    world.harness.turn_until(lambda: (first.received, second.received) == (b"onetwo", b"three"))
    assert (len(old.ends), len(new.ends)) == (1, 1)
    first.finish()
    second.finish()
    world.harness.turn_until(lambda: len(front.ended) == 2)
    assert {ended.upstreams for ended in front.ended} == {
        (f"127.0.0.1:{port}",),
        (f"127.0.0.2:{port}",),
    }


def test_an_answer_that_comes_after_close_changes_nothing(world: World) -> None:
    world.server.is_silent = True
    members = world.members(settings())
    world.harness.turn_until(lambda: len(world.server.asked) == 2)
    members.close()
    world.server.set(NAME, "10.0.0.1")
    for asked in world.server.asked:
        world.server.udp.sendto(world.server.answer(asked), asked.sender)
    world.harness.settle()
    assert addresses(members) == [f"{NAME}:80"]


# Tables are built in slices.


THOUSAND = [settings(f"10.0.{i >> 8}.{i & 255}:80", weight=1 + i % 3) for i in range(1000)]


@pytest.mark.slow
@pytest.mark.parametrize("make_balancer", [Ring, Maglev, RoundRobin])
def test_no_turn_is_long_when_a_thousand_backends_change(
    world: World, make_balancer: MakeBalancer
) -> None:
    members = world.members(*THOUSAND, make_balancer=make_balancer)
    members.apply(THOUSAND[1:], Balancing(make_balancer))
    longest_ms, turns = 0.0, 0
    while not members.are_settled:
        started_s = time.thread_time()
        world.harness.loop.turn(0)
        longest_ms = max(longest_ms, (time.thread_time() - started_s) * 1000)
        turns += 1
    print(f"{make_balancer.__name__}: {turns} turns, the longest took {longest_ms:.1f} ms")
    assert longest_ms < TURN_BUDGET_MS


def test_the_old_table_serves_until_the_new_one_is_done_without_those_who_left(
    world: World,
) -> None:
    members = world.members(*THOUSAND[:500], make_balancer=Ring)
    keys = [b"%d" % i for i in range(200)]
    before = [picks(members, 1, key)[0] for key in keys]
    members.apply(THOUSAND[1:500], Balancing(Ring))
    gone = str(THOUSAND[0].address)
    turns = 0
    while not members.are_settled:
        during = [picks(members, 1, key)[0] for key in keys]
        assert gone not in during
        assert all(a == b for a, b in zip(before, during, strict=True) if a != gone)
        world.harness.loop.turn(0)
        turns += 1
    assert turns > 1
    after = [picks(members, 1, key)[0] for key in keys]
    fresh = world.members(*THOUSAND[1:500], make_balancer=Ring)
    assert after == [picks(fresh, 1, key)[0] for key in keys]


def test_a_list_that_changes_all_the_time_gets_its_tables_all_the_same(world: World) -> None:
    members = world.members(*THOUSAND[:50], make_balancer=Ring)
    newcomer = settings("10.7.7.7:80", weight=50)
    for i in range(200):
        members.apply([*THOUSAND[: 50 - i % 2], newcomer], Balancing(Ring))
        world.harness.loop.turn(0)
        if "10.7.7.7:80" in {picks(members, 1, b"%d" % k)[0] for k in range(20)}:
            return
    pytest.fail("the newcomer was never in a table")


def test_two_nodes_choose_the_same_whatever_the_order_of_their_answers(world: World) -> None:
    listed = [f"10.0.0.{i}" for i in range(1, 9)]
    world.server.set("a.example", *listed)
    world.server.set("b.example", *reversed(listed))
    shuffled = [settings(f"{address}:80") for address in listed]
    random.Random(5).shuffle(shuffled)
    one = world.members(*[settings(f"{a}:80") for a in listed], make_balancer=Maglev)
    two = world.members(*shuffled, make_balancer=Maglev)
    keys = [b"client %d" % i for i in range(500)]
    assert [picks(one, 1, k) for k in keys] == [picks(two, 1, k) for k in keys]
    by_name, by_other_order = (
        world.settled(settings("a.example:80")),
        world.settled(settings("b.example:80")),
    )
    assert addresses(by_name) == addresses(by_other_order)


# Those that leave and return.


def test_a_backend_that_returns_is_the_same_one(world: World) -> None:
    one, two = settings("10.0.0.1:80", max_conns=1), settings("10.0.0.2:80")
    members = world.members(one, two)
    leaving = members.pool.backends[0]
    assert members.pool.pick(b"", (), 0) is leaving
    leaving.fails, leaving.failures, leaving.average_ms = 3, 4, 500
    members.apply([two], Balancing(RoundRobin))
    world.settle(members)
    assert (leaving.down, leaving.left_at_ms) == (True, world.harness.clock.now_ms)
    world.harness.advance(300_000)
    members.apply([one, two], Balancing(RoundRobin))
    world.settle(members)
    assert members.pool.backends[0] is leaving
    assert (leaving.down, leaving.left_at_ms, leaving.conns) == (False, None, 1)
    assert (leaving.fails, leaving.failures, leaving.average_ms) == (3, 4, 500)
    # The session from before is its one: there is no room for another.
    assert set(picks(members, 5)) == {"10.0.0.2:80"}
    members.pool.release(leaving)


def test_an_address_that_leaves_an_answer_and_returns_is_the_same_one(world: World) -> None:
    world.server.set(NAME, "10.0.0.1", "10.0.0.2", ttl_s=5)
    members = world.settled(settings(resolve=True))
    leaving = members.pool.backends[0]
    world.server.set(NAME, "10.0.0.2", ttl_s=5)
    world.pass_time(members, 5000)
    assert leaving not in members.pool.backends
    world.server.set(NAME, "10.0.0.1", "10.0.0.2", ttl_s=5)
    world.pass_time(members, 5000)
    assert members.pool.backends[0] is leaving


def test_a_backend_is_forgotten_in_the_end_but_not_before_its_sessions(world: World) -> None:
    one, two, other = (settings(f"10.0.0.{i}:80") for i in (1, 2, 3))
    members = world.members(one, two, other)
    idle, busy, _ = members.pool.backends
    busy.conns = 1
    members.apply([other], Balancing(RoundRobin))
    world.harness.advance(600_000)
    members.apply([other], Balancing(RoundRobin))
    assert members.pool.left == (busy,)
    members.apply([one, two, other], Balancing(RoundRobin))
    assert members.pool.backends[0] is not idle
    assert members.pool.backends[1] is busy
    busy.conns = 0


def test_an_address_under_another_name_is_the_same_backend(world: World) -> None:
    world.server.set(NAME, "10.0.0.1")
    members = world.settled(settings(), settings("10.0.0.2:80"))
    first, second = members.pool.backends
    world.configure()
    members.apply([settings("10.0.0.2:80"), settings("WEB.Example:80")], Balancing(RoundRobin))
    assert members.pool.backends == (second, first)
    assert first.name == "WEB.Example:80"


# Reloads that bring names.


def test_a_known_name_with_another_port_or_spelling_serves_at_once(world: World) -> None:
    world.server.set(NAME, "10.0.0.1", ttl_s=5)
    members = world.settled(settings(resolve=True))
    world.server.is_silent = True
    world.configure()
    members.apply([settings("Web.Example.:81", resolve=True)], Balancing(RoundRobin))
    assert addresses(members) == ["10.0.0.1:81"]
    assert picks(members, 1) == ["10.0.0.1:81"]


def test_the_list_of_before_serves_until_a_new_name_is_resolved(world: World) -> None:
    members = world.members(settings("10.0.0.1:80"))
    world.server.is_silent = True
    world.server.set(NAME, "10.0.0.2")
    members.apply([settings()], Balancing(RoundRobin))
    world.harness.turn_until(lambda: len(world.server.asked) == 2)
    assert picks(members, 2) == ["10.0.0.1:80"] * 2
    assert not members.are_ready
    world.server.is_silent = False
    for asked in world.server.asked:
        world.server.udp.sendto(world.server.answer(asked), asked.sender)
    world.settle(members)
    assert addresses(members) == ["10.0.0.2:80"]
    assert picks(members, 2) == ["10.0.0.2:80"] * 2
    assert members.are_ready


def test_the_list_of_before_serves_as_long_as_a_new_name_cannot_be_resolved(
    world: World, expect_log: ExpectLog
) -> None:
    members = world.members(settings("10.0.0.1:80"))
    world.server.fail(NAME)
    with expect_log("cannot be resolved, it has no address yet: .*SERVFAIL", count=1):
        members.apply([settings()], Balancing(RoundRobin))
        for delay_ms in (0, 1000, 2000, 4000, 8000, 16_000):
            world.pass_time(members, delay_ms, questions=4)
            assert picks(members, 2) == ["10.0.0.1:80"] * 2
    world.server.set(NAME, "10.0.0.2")
    world.pass_time(members, 16_000)
    assert picks(members, 2) == ["10.0.0.2:80"] * 2


def test_that_a_new_name_does_not_exist_is_believed_after_the_hold(
    world: World, expect_log: ExpectLog
) -> None:
    members = world.members(settings("10.0.0.1:80"))
    with expect_log("has no address: no such name", count=1):
        members.apply([settings()], Balancing(RoundRobin))
        for delay_ms in (0, 1000, 2000, *[4000] * 6):
            world.pass_time(members, delay_ms)
            assert picks(members, 1) == ["10.0.0.1:80"]
        world.pass_time(members, 4000)
    assert members.pool.pick(b"", (), 0) is None


def test_new_names_beside_others_wait_for_the_last_or_for_the_timeout(
    world: World, expect_log: ExpectLog
) -> None:
    members = world.members(settings("10.0.0.1:80"))
    world.server.set("a.example", "10.0.0.2")
    world.server.instead = lambda asked: [] if asked.name == "b.example" else None
    members.apply([settings("a.example:80"), settings("b.example:80")], Balancing(RoundRobin))
    world.harness.settle()
    assert addresses(members) == ["10.0.0.1:80"]
    with expect_log("b.example:80 cannot be resolved, it has no address yet: .*timed out"):
        for _ in range(2):
            world.harness.advance(2500)
            world.harness.settle()
    assert addresses(members) == ["10.0.0.2:80", "b.example:80"]


def test_an_answer_that_comes_before_the_reload_is_over_counts_for_it(world: World) -> None:
    members = world.members(settings("10.0.0.1:80"))
    ready: list[bool] = []
    members.settled = lambda: ready.append(members.are_ready)
    world.server.set(NAME, "10.0.0.2")
    members.apply([settings()], Balancing(RoundRobin))
    world.settle(members)
    assert ready[-1]


# Whatever a name server says.


def test_a_name_that_fails_leaves_the_other_names_alone(
    world: World, expect_log: ExpectLog
) -> None:
    world.server.fail("bad.example")
    world.server.set("good.example", "10.0.0.1", ttl_s=5)
    with expect_log("bad.example:80 cannot be resolved", count=1):
        members = world.settled(
            settings("bad.example:80", resolve=True), settings("good.example:80", resolve=True)
        )
        assert picks(members, 2) == ["10.0.0.1:80"] * 2
        world.server.set("good.example", "10.0.0.2", ttl_s=5)
        world.pass_time(members, 5000, questions=4)
    assert picks(members, 2) == ["10.0.0.2:80"] * 2


@pytest.mark.slow
def test_no_answer_whatever_it_holds_is_taken_for_a_bug(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    targets = ["a.example", "b.example", "c.example", ".", "odd\x01name.example"]

    def say(asked: Asked) -> list[bytes] | None:
        """Change the zone, and send an answer with a few bytes wrong, now and then."""
        port, weight = rng.choice([0, 1, 80, 65535]), rng.choice([0, 1, 7, 65535])
        records = [srv(rng.randrange(3), weight, port, t) for t in rng.sample(targets, 2)]
        world.server.set_srv(f"_http._tcp.{NAME}", *records, ttl_s=rng.choice([0, 1, 60]))
        hosts = ["10.0.0.1", "0.0.0.0", "224.0.0.1", "::", "fd00::1", "::ffff:10.0.0.9"]
        for name in (NAME, "a.example", "b.example"):
            world.server.set(name, *rng.sample(hosts, rng.randrange(4)), ttl_s=1)
        if rng.random() < 0.5:
            return None
        message = bytearray(world.server.answer(asked))
        for _ in range(rng.randrange(4)):
            message[rng.randrange(2, len(message))] = rng.randrange(256)
        return [bytes(message)]

    world.server.instead = say
    members = world.members(
        settings(resolve=True),
        settings(NAME, service="http", resolve=True),
        settings("a.example:1"),
    )
    for _ in range(300):
        world.harness.advance(rng.choice([10, 500, 1000, 2500]))
        world.harness.settle(turns=2)
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.WARNING] == []
    assert len(members.pool.backends) >= 1
    members.close()
