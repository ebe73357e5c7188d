"""Answers of name servers, told by one worker to the others."""

import json
import random
from collections.abc import Callable, Iterator

import pytest
from nginy.backend.checks.relay import Relay
from nginy.backend.names.queries import TOLD_MS, Queries
from nginy.backend.names.resolver import Resolver, ResolverSettings
from nginy.backend.names.telling import answer_items, parse_answer, parse_type
from nginy.wire.dns import Answer, Outcome, RecordType, Srv

from kit.harness import Harness
from kit.names import NameServer

NAME = "web.example"

ANSWERS = [
    Answer(Outcome.FOUND, 0, NAME, ("10.0.0.1", "10.0.0.2"), (), 300),
    Answer(Outcome.FOUND, 0, NAME, (), (Srv(1, 2, 80, "a.example"), Srv(1, 3, 81, "b.example"))),
    Answer(Outcome.NO_NAME, 3),
    Answer(Outcome.EMPTY, 0, "other.example"),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_arrives_as_it_was_told(answer: Answer) -> None:
    assert parse_answer(json.loads(json.dumps(answer_items(answer)))) == answer


@pytest.mark.parametrize(
    "items",
    [
        [],
        ["FOUND"],
        ["SIDEWAYS", 0, "", [], [], 1],
        ["FOUND", "x", "", [], [], 1],
        ["FOUND", 0, 3, [], [], 1],
        ["FOUND", 0, "", "10.0.0.1", [], 1],
        ["FOUND", 0, "", [1], [], 1],
        ["FOUND", 0, "", [], [[1, 2, 3]], 1],
        ["FOUND", 0, "", [], [], -1],
    ],
)
def test_what_makes_no_sense_is_refused(items: list[object]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        parse_answer(items)


@pytest.mark.parametrize("name", ["OPT", "x", 1, None])
def test_a_type_that_nobody_asks_for_is_refused(name: object) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        parse_type(name)


def test_a_ttl_is_kept_within_bounds() -> None:
    assert parse_answer(["FOUND", 0, "", [], [], 0]).ttl_s == 1
    assert parse_answer(["FOUND", 0, "", [], [], 10**9]).ttl_s == 604_800


# -- workers --


class Crew:
    """Two workers' resolvers and relays, of which the first leads, and a name server."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.server = harness.add(NameServer())
        self.server.set(NAME, "10.0.0.1")
        self.relays = [Relay(harness.loop) for _ in range(2)]
        self.resolvers = [Resolver(harness.loop, self.harness_rng(i), "", "") for i in range(2)]
        for number, (relay, resolver) in enumerate(zip(self.relays, self.resolvers, strict=True)):
            relay.lead(number == 0)
            relay.names = resolver.queries
            resolver.queries.tell = relay.tell_answer
            resolver.queries.is_leading = self.asker(relay)
            resolver.apply(ResolverSettings((self.server.address,), ipv6=False))
        self.relays[0].send = self.pass_on
        self.found: list[list[str]] = [[], []]

    @staticmethod
    def harness_rng(seed: int) -> random.Random:
        return random.Random(seed)

    @staticmethod
    def asker(relay: Relay) -> Callable[[], bool]:
        return lambda: relay.is_leading

    def pass_on(self, text: str) -> bool:
        self.relays[1].receive(text)
        return True

    def ask(self, number: int) -> None:
        self.resolvers[number].resolve(
            NAME, lambda resolution: self.found[number].extend(resolution.addresses)
        )

    def close(self) -> None:
        for resolver in self.resolvers:
            resolver.close()
        for relay in self.relays:
            relay.close()


@pytest.fixture
def crew(harness: Harness) -> Iterator[Crew]:
    made = Crew(harness)
    yield made
    made.close()


@pytest.fixture
def method() -> str:
    return "epoll"


@pytest.mark.parametrize("first", [0, 1])
def test_one_worker_asks_and_the_other_is_told(crew: Crew, harness: Harness, first: int) -> None:
    crew.ask(first)
    crew.ask(1 - first)
    harness.turn_until(lambda: all(crew.found))
    assert crew.found == [["10.0.0.1"], ["10.0.0.1"]]
    assert crew.server.count(NAME) == 1
    crew.ask(1)
    assert crew.found[1] == ["10.0.0.1"] * 2


def test_a_worker_that_is_told_nothing_asks_itself(crew: Crew, harness: Harness) -> None:
    crew.ask(1)
    harness.settle()
    assert crew.server.asked == []
    harness.advance(TOLD_MS + 10)
    harness.turn_until(lambda: crew.found[1])
    assert crew.server.count(NAME) == 1


def test_a_worker_that_becomes_the_leader_asks_at_once(crew: Crew, harness: Harness) -> None:
    crew.ask(1)
    crew.relays[1].lead(True)
    harness.turn_until(lambda: crew.found[1])


def test_an_answer_that_comes_while_its_own_question_is_out_changes_nothing(
    crew: Crew, harness: Harness
) -> None:
    crew.ask(1)
    harness.advance(TOLD_MS + 10)
    crew.resolvers[1].queries.take(NAME, RecordType.A, ANSWERS[2])
    harness.turn_until(lambda: crew.found[1])
    assert crew.found[1] == ["10.0.0.1"]


def test_an_answer_that_is_too_long_for_a_message_is_not_told(crew: Crew, harness: Harness) -> None:
    crew.server.set(NAME, *(f"10.100.{i // 100}.{i % 100 + 100}" for i in range(300)))
    crew.ask(0)
    crew.ask(1)
    harness.turn_until(lambda: crew.found[0])
    harness.settle()
    assert crew.found[1] == []
    harness.advance(TOLD_MS + 10)
    harness.turn_until(lambda: crew.found[1])
    assert len(crew.found[1]) == len(crew.found[0]) == 300


def test_queries_that_wait_end_with_their_owner(harness: Harness) -> None:
    queries = Queries(harness.loop, random.Random(1))
    queries.is_leading = lambda: False
    queries.ask(NAME, RecordType.A, lambda _reply: pytest.fail("called"))
    queries.close()
    harness.advance(TOLD_MS + 10)
    assert harness.loop.timers.next_deadline_ms() is None
