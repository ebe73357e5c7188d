"""The load check against agents of every habit; time is the test's."""

import random
from collections.abc import Iterator

import pytest
from nginy.backend.backend import Backend
from nginy.backend.checks.agent import AgentSettings
from nginy.backend.checks.checker import Checker
from nginy.backend.checks.monitor import PoolMonitor
from nginy.backend.checks.settings import MonitorSettings
from nginy.backend.health.states import State

from conftest import ExpectLog
from kit.clock import FakeClock
from kit.ends import End
from kit.harness import Harness
from kit.servers import EchoBackend, Server

INTERVAL_MS = 1000


class Agent(Server):
    """Answers each connection with its present line, and closes."""

    def __init__(self) -> None:
        super().__init__()
        self.line = b"100%\n"
        self.is_closing = True

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def step(self) -> bool:
        known = len(self.ends)
        has_moved = super().step()
        for end in self.ends[known:]:
            end.send(self.line)
            if self.is_closing:
                end.finish()
        return has_moved

    def asked(self) -> End:
        return self.ends[-1]


class Group:
    """A pool of two backends on one host, so with one agent, and its monitor."""

    def __init__(self, harness: Harness, **settings: int | bytes) -> None:
        self.harness = harness
        self.agent = harness.add(Agent())
        self.pool = harness.pool(harness.add(EchoBackend()).name, max_conns=7, weight=2)
        self.checker = Checker(harness.loop)
        agent = AgentSettings(self.agent.port, INTERVAL_MS, 500, **settings)  # type: ignore[arg-type]
        self.monitor = PoolMonitor(
            self.pool, self.checker, random.Random(1), MonitorSettings(agent=agent)
        )

    @property
    def backend(self) -> Backend:
        return self.pool.backends[0]

    def say(self, line: bytes) -> Backend:
        """Let the agent say `line` the next time that it is asked."""
        self.agent.line = line
        self.ask()
        return self.backend

    def ask(self) -> None:
        assert isinstance(self.harness.clock, FakeClock)
        known = len(self.agent.ends)
        self.harness.advance(INTERVAL_MS)
        self.harness.turn_until(lambda: len(self.agent.ends) > known)
        self.harness.turn_until(lambda: not self.checker.open)

    def close(self) -> None:
        self.monitor.close()
        self.checker.close()


@pytest.fixture
def group(harness: Harness) -> Iterator[Group]:
    made = Group(harness)
    yield made
    made.close()


def test_a_percentage_scales_the_weight(group: Group) -> None:
    assert group.backend.weight == 200
    assert group.say(b"75%\n").weight == 150
    assert group.say(b"up\n").weight == 150
    assert group.say(b"200%\n").weight == 400


def test_maxconn_takes_the_place_of_the_configured_limit(group: Group) -> None:
    assert group.backend.max_conns == 7
    assert group.say(b"maxconn:30\n").max_conns == 30
    assert group.say(b"ready\n").max_conns == 30
    assert group.say(b"maxconn:0\n").max_conns == 0


def test_an_agent_that_drains_lets_old_sessions_finish(group: Group, harness: Harness) -> None:
    front = harness.proxy(group.pool)
    client = front.connect()
    client.send(b"one")
    harness.turn_until(lambda: client.received == b"one")
    backend = group.say(b"drain\n")
    assert (backend.health.state, backend.down) == (State.DRAINING, True)
    assert group.pool.pick(b"", (), 0) is None
    client.send(b"two")
    harness.turn_until(lambda: client.received == b"onetwo")
    assert group.say(b"ready\n").down is False


def test_zero_percent_drains_as_well(group: Group) -> None:
    assert group.say(b"0%\n").health.state is State.DRAINING
    backend = group.say(b"1%\n")
    assert (backend.health.state, backend.weight) == (State.UP, 2)


@pytest.mark.parametrize("word", [b"down", b"fail", b"stopped"])
def test_an_agent_takes_its_backend_down_with_a_reason(
    group: Group, expect_log: ExpectLog, word: bytes
) -> None:
    with expect_log(f"up -> down: agent says {word.decode()} .disk is full.", count=1):
        backend = group.say(word + b" # disk is full\n")
    assert (backend.health.state, backend.down) == (State.DOWN, True)
    assert group.say(b"up\n").health.state is State.UP


def test_maintenance_ends_when_the_agent_says_ready(group: Group) -> None:
    assert group.say(b"maint\n").health.state is State.MAINTENANCE
    assert group.say(b"up 50%\n").health.state is State.MAINTENANCE
    assert group.say(b"ready\n").health.state is State.UP


def test_an_agent_that_cannot_be_reached_changes_nothing_and_is_logged_once(
    group: Group, harness: Harness, expect_log: ExpectLog
) -> None:
    group.say(b"drain 50% maxconn:3\n")
    group.agent.is_accepting = False
    with expect_log("agent of .*, port .*, does not answer: timed out", count=1):
        for _ in range(4):
            harness.advance(INTERVAL_MS)
            harness.settle()
            harness.advance(510)
            harness.advance(110)
    backend = group.backend
    assert (backend.health.state, backend.max_conns) == (State.DRAINING, 3)
    group.agent.is_accepting = True
    with expect_log("answers again", count=1, level=25):
        group.ask()


@pytest.mark.parametrize("line", [b"down", b"", b"x" * 5000 + b"\n"])
def test_a_line_that_is_cut_short_or_too_long_is_not_believed(
    group: Group, expect_log: ExpectLog, line: bytes
) -> None:
    with expect_log("does not answer: ", count=1):
        backend = group.say(line)
    assert backend.health.state is State.UP


def test_an_unknown_word_is_logged_and_the_others_are_done(
    group: Group, expect_log: ExpectLog
) -> None:
    with expect_log('says "sideways", which is unknown', count=1):
        for _ in range(3):
            assert group.say(b"sideways 50%\n").weight == 100


def test_what_the_agent_wants_to_hear_is_sent(harness: Harness) -> None:
    group = Group(harness, send=b"web1\n")
    group.ask()
    assert group.agent.asked().received == b"web1\n"
    group.close()


def test_without_its_check_an_agent_has_said_nothing(group: Group) -> None:
    group.say(b"drain 50% maxconn:3\n")
    group.monitor.apply(MonitorSettings())
    backend = group.backend
    assert (backend.health.state, backend.weight, backend.max_conns) == (State.UP, 2, 7)
