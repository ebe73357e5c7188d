"""One name followed: when it is asked for again, what is believed, and what is refused."""

import pathlib
import random
from collections.abc import Iterator

import pytest
from nginy.backend.backend import BackendSettings
from nginy.backend.names.expand import refusal
from nginy.backend.names.resolver import Resolver, ResolverSettings
from nginy.backend.names.watch import NameWatch, Refuse
from nginy.text.address import parse_peer

from conftest import ExpectLog
from kit.harness import Harness
from kit.names import NXDOMAIN, NameServer, Zone, srv

NAME = "web.example"


@pytest.fixture(params=["epoll"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Followed:
    """A name with `resolve`, its watch, and the name server that it asks."""

    def __init__(self, harness: Harness, directory: pathlib.Path) -> None:
        self.harness = harness
        self.server = harness.add(NameServer())
        self.resolver = Resolver(
            harness.loop, random.Random(3), str(directory / "hosts"), str(directory / "conf")
        )
        self.resolver.apply(ResolverSettings((self.server.address,), ipv6=False))
        self.changes = 0
        self.watches: list[NameWatch] = []

    def watch(
        self, text: str = f"{NAME}:80", refuse: Refuse = refusal, service: str = ""
    ) -> NameWatch:
        settings = BackendSettings(text, parse_peer(text), resolve=True, service=service)
        loop = self.harness.loop
        watch = NameWatch(loop, self.resolver, "web", settings, self._changed, refuse)
        self.watches.append(watch)
        watch.ask()
        self.harness.turn_until(lambda: watch.is_settled)
        return watch

    def _changed(self) -> None:
        self.changes += 1

    def pass_time(self, duration_ms: int, questions: int = 1) -> None:
        """Let time pass until the name server has been asked this often, and has answered."""
        asked = len(self.server.asked) + questions
        self.harness.advance(duration_ms)
        self.harness.turn_until(lambda: len(self.server.asked) >= asked)
        self.harness.settle()


@pytest.fixture
def followed(harness: Harness, tmp_path: pathlib.Path) -> Iterator[Followed]:
    followed = Followed(harness, tmp_path)
    yield followed
    for watch in followed.watches:
        watch.close()
    followed.resolver.close()


def addresses(watch: NameWatch) -> list[str]:
    return [endpoint.address for endpoint in watch.endpoints]


def test_one_wrong_answer_among_good_ones_changes_nothing(
    followed: Followed, expect_log: ExpectLog
) -> None:
    followed.server.set(NAME, "10.0.0.1", ttl_s=1)
    watch = followed.watch()
    changes = followed.changes
    with expect_log(r"no such name; keeping 1 for 30s \(hold\)", count=3):
        for _ in range(3):
            followed.server.fail(NAME, NXDOMAIN)
            followed.pass_time(1000)
            followed.server.set(NAME, "10.0.0.1", ttl_s=1)
            followed.pass_time(1000)
            assert addresses(watch) == ["10.0.0.1"]
    assert followed.changes == changes


def test_that_there_is_no_address_is_believed_once_it_has_lasted(
    followed: Followed, expect_log: ExpectLog
) -> None:
    followed.server.set(NAME, "10.0.0.1", ttl_s=1)
    watch = followed.watch()
    followed.server.zones[NAME] = Zone()
    with expect_log("has no address: no such record; keeping 1 for 30s", count=1):
        followed.pass_time(1000)
        for delay_ms in (1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000):
            followed.pass_time(delay_ms)
            assert addresses(watch) == ["10.0.0.1"]
    with expect_log("has no address any more: no such record", count=1):
        followed.pass_time(4000)
    assert addresses(watch) == []


def test_a_name_that_has_become_empty_is_asked_for_again_soon(
    followed: Followed, expect_log: ExpectLog
) -> None:
    with expect_log("has no address: no such name", count=1):
        watch = followed.watch()
        for delay_ms in (1000, 2000, 4000, 4000):
            followed.pass_time(delay_ms)
    followed.server.set(NAME, "10.0.0.1")
    followed.pass_time(4000)
    assert addresses(watch) == ["10.0.0.1"]


def test_what_another_use_of_the_name_has_found_is_there_at_once(followed: Followed) -> None:
    followed.server.set(NAME, "10.0.0.1", ttl_s=3600)
    followed.watch()
    followed.server.is_silent = True
    settings = BackendSettings("WEB.example:81", parse_peer("WEB.example:81"))
    other = NameWatch(followed.harness.loop, followed.resolver, "api", settings, lambda: None)
    followed.watches.append(other)
    assert [(e.address, e.port) for e in other.endpoints] == [("10.0.0.1", 81)]


def test_addresses_of_nobody_are_left_out_with_one_warning(
    followed: Followed, expect_log: ExpectLog
) -> None:
    followed.server.set(NAME, "10.0.0.1", "0.0.0.0", "224.0.0.9", ttl_s=1)
    with (
        expect_log(
            r"web\.example:80: 0\.0\.0\.0 is not the address of a server, so it is", count=1
        ),
        expect_log(r"224\.0\.0\.9 is the address of a group of machines, so it is", count=1),
    ):
        watch = followed.watch()
        followed.pass_time(1000)
    assert addresses(watch) == ["10.0.0.1"]


def test_an_address_that_the_owner_refuses_is_left_out(
    followed: Followed, expect_log: ExpectLog
) -> None:
    followed.server.set(NAME, "10.0.0.1", "10.0.0.2", ttl_s=1)
    with expect_log(r"10\.0\.0\.1 is mine, so it is left out", count=1):
        watch = followed.watch(refuse=lambda a: "is mine" if a.host == "10.0.0.1" else "")
    assert addresses(watch) == ["10.0.0.2"]


def test_a_record_with_port_0_is_left_out_with_one_warning(
    followed: Followed, expect_log: ExpectLog
) -> None:
    records = (srv(1, 5, 81, "a.example"), srv(1, 5, 0, "b.example"))
    followed.server.set_srv(f"_http._tcp.{NAME}", *records, ttl_s=1)
    followed.server.set("a.example", "10.0.0.1")
    followed.server.set("b.example", "10.0.0.2")
    text = r"web\.example service http: the SRV record of b\.example has port 0, so it is left out"
    with expect_log(text, count=1):
        watch = followed.watch(NAME, service="http")
        followed.pass_time(1000)
    assert addresses(watch) == ["10.0.0.1"]


def test_an_answer_that_comes_back_after_a_reload_is_warned_of_anew_only_if_it_went(
    followed: Followed, expect_log: ExpectLog
) -> None:
    followed.server.set(NAME, "10.0.0.1", "0.0.0.0", ttl_s=1)
    with expect_log(r"0\.0\.0\.0 is not the address of a server", count=2):
        followed.watch()
        followed.server.set(NAME, "10.0.0.1", ttl_s=1)
        followed.pass_time(1000)
        followed.server.set(NAME, "10.0.0.1", "0.0.0.0", ttl_s=1)
        followed.pass_time(1000)
