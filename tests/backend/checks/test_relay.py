"""Several workers, of which one asks the backends and tells the others what it has found.

The workers are relays and monitors on one loop. Texts go from the leader to the others by call.
"""

import dataclasses
import json
import random
from collections.abc import Callable, Iterator

import pytest
from nginy.backend.backend import Backend
from nginy.backend.checks.agent import AgentSettings
from nginy.backend.checks.checker import Checker, ProbeSettings
from nginy.backend.checks.monitor import PoolMonitor
from nginy.backend.checks.relay import RESEND_MS, TEXT_MAX_CHARACTERS, Relay
from nginy.backend.checks.settings import MonitorSettings
from nginy.backend.health.eject import EjectSettings
from nginy.backend.health.findings import CheckFinding, Finding
from nginy.backend.health.schedule import CheckSettings
from nginy.backend.health.states import State
from nginy.backend.pool import BackendPool
from nginy.wire.agent import AgentAnswer, Mode, OperatingWord

from conftest import ExpectLog
from kit.harness import Harness
from kit.leaks import no_garbage
from kit.servers import EchoBackend, RefusingPort, Server

INTERVAL_MS = 1000
CHECK = CheckSettings(
    interval_ms=INTERVAL_MS,
    interval_down_ms=INTERVAL_MS,
    timeout_ms=500,
    jitter_ms=0,
    fails=3,
    passes=2,
    is_initially_up=True,
)
CHECKED = MonitorSettings(CHECK, ProbeSettings())
KEY = ("web:80", "10.0.0.1:80")


class Worker:
    """One worker's part of an upstream: a pool, its monitor and a relay."""

    def __init__(self, harness: Harness, pool: BackendPool, is_leading: bool) -> None:
        self.checker = Checker(harness.loop)
        self.relay = Relay(harness.loop)
        self.relay.lead(is_leading)
        self.pool = pool
        self.monitor: PoolMonitor | None = None

    def watch(self, settings: MonitorSettings) -> None:
        self.monitor = PoolMonitor(
            self.pool, self.checker, random.Random(1), settings, relay=self.relay
        )

    @property
    def backend(self) -> Backend:
        return self.pool.backends[0]

    def close(self) -> None:
        if self.monitor is not None:
            self.monitor.close()
        self.relay.close()
        self.checker.close()


class Crew:
    """Workers with one upstream of the same backends; the first one leads."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.workers: list[Worker] = []

    def start(self, name: str, settings: MonitorSettings, count: int = 2) -> list[Worker]:
        for _ in range(count):
            self.join(name, settings)
        return self.workers

    def join(self, name: str, settings: MonitorSettings) -> Worker:
        worker = Worker(self.harness, self.harness.pool(name), is_leading=not self.workers)
        worker.relay.send = lambda text: self.pass_on(worker, text)
        worker.watch(settings)
        self.workers.append(worker)
        return worker

    def pass_on(self, sender: Worker, text: str) -> bool:
        for worker in self.workers:
            if worker is not sender:
                worker.relay.receive(text)
        return True

    def pass_time(self, duration_ms: int, until: Callable[[], object] = lambda: False) -> None:
        for _ in range(duration_ms // 50):
            if until():
                break
            self.harness.advance(50)
            busy = [worker.checker.open for worker in self.workers]
            for _ in range(50):
                self.harness.turn()
                if not any(busy):
                    break
            self.harness.turn(0)

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


@pytest.fixture
def method() -> str:
    return "epoll"


@pytest.fixture
def crew(harness: Harness) -> Iterator[Crew]:
    made = Crew(harness)
    yield made
    made.close()


def test_one_worker_asks_and_all_know(crew: Crew, harness: Harness, expect_log: ExpectLog) -> None:
    server = harness.add(EchoBackend())
    leader, other, third = crew.start(server.name, CHECKED, 3)
    crew.pass_time(5 * INTERVAL_MS)
    assert len(server.ends) in (5, 6)
    assert other.backend.health.is_passing
    assert other.backend.health.checks_total == leader.backend.health.checks_total
    server.close()
    harness.forget(server)
    with expect_log("up -> down: 3 checks in a row failed: connect", count=1):
        crew.pass_time(5 * INTERVAL_MS, lambda: leader.backend.down)
        harness.turn(0)
    assert [w.backend.health.state for w in (other, third)] == [State.DOWN] * 2
    assert other.backend.down
    assert "connect" in other.backend.health.reason


def test_a_worker_that_comes_later_hears_what_was_found_before(
    crew: Crew, harness: Harness, expect_log: ExpectLog
) -> None:
    (leader,) = crew.start(harness.add(RefusingPort()).name, CHECKED, 1)
    with expect_log("up -> down", count=1):
        crew.pass_time(5 * INTERVAL_MS, lambda: leader.backend.down)
    late = crew.join(leader.backend.name, CHECKED)
    assert not late.backend.down
    leader.relay.recite()
    harness.turn(0)
    assert late.backend.down


def test_a_worker_that_becomes_the_leader_goes_on_from_what_it_has_heard(
    crew: Crew, harness: Harness, expect_log: ExpectLog
) -> None:
    leader, other = crew.start(harness.add(RefusingPort()).name, CHECKED)
    crew.pass_time(3 * INTERVAL_MS, lambda: other.backend.health.fails_in_row == 2)
    crew.workers.remove(leader)
    leader.close()
    other.relay.lead(True)
    with expect_log("up -> down: 3 checks in a row failed", count=1):
        crew.pass_time(2 * INTERVAL_MS, lambda: other.backend.down)
    assert other.backend.health.checks_total == 3


def test_a_worker_that_leads_no_more_asks_no_more(crew: Crew, harness: Harness) -> None:
    server = harness.add(EchoBackend())
    (leader,) = crew.start(server.name, CHECKED, 1)
    crew.pass_time(2 * INTERVAL_MS)
    leader.relay.lead(False)
    seen = len(server.ends)
    crew.pass_time(3 * INTERVAL_MS)
    assert len(server.ends) == seen


def test_a_worker_that_is_told_serves_after_the_first_pass_if_it_is_down_at_first(
    crew: Crew, harness: Harness
) -> None:
    check = dataclasses.replace(CHECK, is_initially_up=False)
    settings = dataclasses.replace(CHECKED, check=check)
    _, other = crew.start(harness.add(EchoBackend()).name, settings)
    assert other.backend.down
    crew.pass_time(2 * INTERVAL_MS, lambda: not other.backend.down)
    assert other.backend.health.state is State.UP


def test_a_worker_that_is_told_plans_nothing_after_a_maintenance(
    crew: Crew, harness: Harness
) -> None:
    server = harness.add(EchoBackend())
    worker = Worker(harness, harness.pool(server.name), is_leading=False)
    worker.watch(CHECKED)
    assert worker.monitor is not None
    worker.monitor.set_mode(worker.backend, Mode.MAINT, "by hand")
    worker.monitor.set_mode(worker.backend, Mode.READY, "by hand")
    assert worker.backend.health.state is State.CHECKING
    assert harness.loop.timers.next_deadline_ms() is None
    worker.close()


def test_a_check_that_brings_a_backend_up_ends_its_ejection_in_every_worker(
    harness: Harness, expect_log: ExpectLog
) -> None:
    worker = Worker(harness, harness.pool("127.0.0.1:9", "127.0.0.1:10"), is_leading=False)
    eject = EjectSettings(base_ms=30_000, max_ms=60_000, max_percent=100)
    worker.watch(dataclasses.replace(CHECKED, eject=eject))
    with expect_log("up -> ejected", count=1):
        worker.pool.failed(worker.backend, harness.clock.now_ms // 1000)
    for word, in_row, failure in (("DOWN", 3, "refused"), ("UP", 2, "")):
        name = worker.backend.name
        worker.relay.receive(
            json.dumps([["check", "backends", name, name, word, in_row, failure, not failure]])
        )
        assert worker.backend.health.state is State[word]
    worker.close()


def test_a_worker_that_leads_hears_nobody(harness: Harness) -> None:
    relay, member = Relay(harness.loop), Hearing()
    relay.join("u", member)
    relay.receive('[["check", "u", "b", "a", "DOWN", 3, "refused", false]]')
    assert member.heard == []
    relay.close()


def test_what_an_agent_says_all_workers_do(crew: Crew, harness: Harness) -> None:
    agent = harness.add(Agent(b"50% maxconn:7\n"))
    settings = MonitorSettings(agent=AgentSettings(agent.port, INTERVAL_MS))
    _, other = crew.start(harness.add(EchoBackend()).name, settings)
    crew.pass_time(INTERVAL_MS, lambda: other.backend.max_conns)
    assert (other.backend.weight, other.backend.max_conns) == (50, 7)
    assert len(agent.ends) == 1
    agent.line = b"drain\n"
    crew.pass_time(2 * INTERVAL_MS, lambda: other.backend.down)
    assert other.backend.health.state is State.DRAINING
    late = crew.join(other.backend.name, settings)
    crew.workers[0].relay.recite()
    harness.turn(0)
    assert (late.backend.weight, late.backend.health.state) == (50, State.DRAINING)
    assert other.monitor is not None
    other.monitor.apply(MonitorSettings())
    assert (other.backend.weight, other.backend.max_conns, other.backend.down) == (1, 0, False)


class Agent(Server):
    """Says its line to each connection, and closes."""

    def __init__(self, line: bytes) -> None:
        super().__init__()
        self.line = line
        self.port = int(self.socket.getsockname()[1])

    def step(self) -> bool:
        known = len(self.ends)
        has_moved = super().step()
        for end in self.ends[known:]:
            end.send(self.line)
            end.finish()
        return has_moved


# -- texts --


class Hearing:
    """A monitor that notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[tuple[str, str], Finding]] = []

    def lead_changed(self) -> None: ...

    def hear(self, key: tuple[str, str], finding: Finding) -> None:
        self.heard.append((key, finding))

    def recite(self) -> list[tuple[tuple[str, str], Finding]]:
        return []


FINDINGS: list[Finding] = [
    CheckFinding(State.UP, 2, "", is_passing=True),
    CheckFinding(State.UP, 1, ""),
    CheckFinding(State.DOWN, 3, 'the answer is not "+PONG", ü'),
    CheckFinding(State.CHECKING, 1, "x" * 200),
    AgentAnswer(),
    AgentAnswer(75, 0, Mode.DRAIN, OperatingWord.FAIL, "no disk"),
]


def test_each_finding_arrives_as_it_was_told(harness: Harness) -> None:
    teller, told, member = Relay(harness.loop), Relay(harness.loop), Hearing()
    told.lead(False)
    told.join("u", member)

    def send(text: str) -> bool:
        told.receive(text)
        return True

    teller.send = send
    for number, finding in enumerate(FINDINGS):
        teller.tell("u", (f"b{number}", KEY[1]), finding)
        teller.tell("other", KEY, finding)
    harness.turn(0)
    assert member.heard == [((f"b{n}", KEY[1]), f) for n, f in enumerate(FINDINGS)]
    teller.close()
    told.close()


def sending_to(texts: list[str]) -> Callable[[str], bool]:
    """Return a way to the other workers that ends in a list."""

    def send(text: str) -> bool:
        texts.append(text)
        return True

    return send


def test_texts_fit_into_messages_and_the_latest_finding_of_a_backend_is_enough(
    harness: Harness,
) -> None:
    relay, texts = Relay(harness.loop), list[str]()
    relay.send = sending_to(texts)
    for number in range(1000):
        for word in (State.UP, State.DOWN):
            finding = CheckFinding(word, 1, "refused " * 50)
            relay.tell("u", (f"backend-{number}:80", KEY[1]), finding)
    for _ in range(100):
        harness.turn(0)
    items = [item for text in texts for item in json.loads(text)]
    assert [item[2] for item in items] == [f"backend-{number}:80" for number in range(1000)]
    assert {item[4] for item in items} == {"DOWN"}
    assert max(map(len, texts)) <= TEXT_MAX_CHARACTERS
    relay.close()


def test_what_cannot_be_sent_is_sent_later(harness: Harness) -> None:
    relay, texts = Relay(harness.loop), list[str]()
    relay.send = lambda text: False
    relay.tell("u", KEY, FINDINGS[0])
    harness.turn(0)
    relay.send = sending_to(texts)
    relay.tell("u", KEY, FINDINGS[2])
    harness.turn(0)
    assert texts == []
    harness.advance(RESEND_MS + 10)
    assert [json.loads(text)[0][4] for text in texts] == ["DOWN"]
    relay.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "[3]",
        "[[]]",
        '["check"]',
        '[["check", "u", "b", "a", "UP", 1, ""]]',
        '[["check", "u", "b", "a", "SIDEWAYS", 1, "", true]]',
        '[["check", "u", "b", "a", "UP", -1, "", true]]',
        '[["check", "u", "b", 3, "UP", 1, "", true]]',
        '[["agent", "u", "b", "a", "x", null, null, null, ""]]',
        "[" * 100_000,
    ],
)
def test_a_text_that_makes_no_sense_is_logged_and_changes_nothing(
    harness: Harness, expect_log: ExpectLog, text: str
) -> None:
    relay, member = Relay(harness.loop), Hearing()
    relay.lead(False)
    relay.join("u", member)
    with expect_log("another worker sent invalid findings", count=1):
        relay.receive(text)
    assert member.heard == []
    relay.close()


def test_a_worker_that_is_alone_tells_nobody(harness: Harness) -> None:
    relay, texts = Relay(harness.loop), list[str]()
    relay.tell("u", KEY, FINDINGS[0])
    relay.send = sending_to(texts)
    harness.turn(0)
    assert texts == []
    relay.close()


def test_a_relay_that_is_closed_leaves_nothing_for_the_cyclic_collector(harness: Harness) -> None:
    with no_garbage():
        relay = Relay(harness.loop)
        relay.send = lambda text: False
        relay.tell("u", KEY, FINDINGS[0])
        harness.turn(0)
        relay.close()
