"""Random histories of a UDP listener, each step compared with a model that has no sockets.

The model knows what the documentation says and nothing else: which session belongs to which client,
when a session ends and how, and what is dropped. Before each step it predicts what everybody hears,
what ends and what is dropped; then the step is done over real sockets, and must match exactly.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from nginy.backend.backend import Backend
from nginy.balancer.round_robin import RoundRobin
from nginy.proxy.handler import ProxySettings
from nginy.proxy.session import Session
from nginy.proxy.udp.handler import UdpHandler

from kit.datagrams import UdpBackend, set_down, udp_proxy
from kit.ends import SockAddr
from kit.harness import Harness
from kit.program import own_host

CLIENTS = 12
BACKENDS = 3
STEPS = 2000
TIMEOUT_MS = 5000
ACTIVITIES = (
    *("send",) * 24,
    *("answer late",) * 4,
    *("let time pass",) * 4,
    *("silence", "stop or start", "take down or up", "change settings"),
)


class MoodyBackend(UdpBackend):
    """Answers or is silent; may stop, and start again at the same port.

    It has an address of its own. On 127.0.0.1, where the sockets of the sessions are, one of them
    may be given the port of a backend that has stopped, and then hears itself.
    """

    def __init__(self) -> None:
        super().__init__(lambda data: [] if self.is_silent else [answer_to(data)], (own_host(), 0))
        self.is_silent = False

    @property
    def is_stopped(self) -> bool:
        return self.socket.fileno() < 0

    def start(self) -> None:
        self.socket = UdpBackend(sockaddr=self.sockaddr).socket


def answer_to(data: bytes) -> bytes:
    return b"answer to " + data


class ObedientBalancer(RoundRobin[Backend]):
    """Picks what the model says."""

    def __init__(self, peers: Sequence[Backend]) -> None:
        super().__init__(peers)
        self.all = peers
        self.choice = 0

    def rebuild_steps(self, peers: Sequence[Backend]) -> Iterator[None]:
        self.all = peers
        yield from super().rebuild_steps(peers)

    def pick(self, key: bytes, tried: Collection[Backend], now_s: int) -> Backend | None:
        backend = self.all[self.choice]
        return None if backend.down else backend


@dataclass(eq=False)
class ModelSession:
    """Everything there is to know about a session."""

    client: int
    backend: int
    settings: ProxySettings
    """Those that the listener had when the session began."""
    active_at_ms: int = 0
    requests: int = 0
    responses: int = 0
    has_key: bool = True


@dataclass
class Model:
    """What the listener should do, in plain words."""

    settings: ProxySettings
    rng: random.Random
    is_down: list[bool] = field(default_factory=lambda: [False] * BACKENDS)
    table: dict[int, ModelSession] = field(default_factory=dict)
    open: list[ModelSession] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    drops: Counter[str] = field(default_factory=Counter)
    choice: int = 0

    def end(self, session: ModelSession, code: str) -> None:
        self.ended.append(code)
        self.open.remove(session)
        self.release(session)

    def release(self, session: ModelSession) -> None:
        if session.has_key:
            del self.table[session.client]
            session.has_key = False

    def session_for(self, client: int) -> ModelSession | None:
        """Return the session that a datagram belongs to; None if it is dropped."""
        session = self.table.get(client)
        if session is not None:
            if not self.is_down[session.backend]:
                return session
            self.end(session, "DD")
        if 0 < self.settings.max_sessions <= len(self.open):
            self.drops["shed"] += 1
            return None
        if all(self.is_down):
            self.drops["no_backend"] += 1
            self.ended.append("SC")
            return None
        self.choice = self.rng.choice([i for i in range(BACKENDS) if not self.is_down[i]])
        session = self.table[client] = ModelSession(client, self.choice, self.settings)
        self.open.append(session)
        return session

    def sent(self, session: ModelSession, now_ms: int) -> None:
        session.active_at_ms = now_ms
        session.requests += 1
        if 0 < session.settings.requests <= session.requests:
            self.release(session)
        self.end_if_answered(session)

    def answered(self, session: ModelSession, now_ms: int) -> bool:
        """Count an answer; return whether there was a session to pass it on."""
        if session not in self.open:
            return False
        session.active_at_ms = now_ms
        session.responses += 1
        self.end_if_answered(session)
        return True

    def end_if_answered(self, session: ModelSession) -> None:
        settings = session.settings
        if settings.responses is None or (session.has_key and settings.requests):
            return
        if self.has_its_answers(session):
            self.end(session, "--")

    def has_its_answers(self, session: ModelSession) -> bool:
        expected = session.settings.responses
        return expected is None or session.responses >= expected * session.requests

    def expire(self, now_ms: int) -> None:
        for session in [s for s in self.open if now_ms - s.active_at_ms >= TIMEOUT_MS]:
            self.end(session, "--" if self.has_its_answers(session) else "sD")


@dataclass
class Heard:
    """Datagrams that came in during one step, by the number of their receiver."""

    clients: list[list[bytes]] = field(default_factory=lambda: [[] for _ in range(CLIENTS)])
    backends: list[list[bytes]] = field(default_factory=lambda: [[] for _ in range(BACKENDS)])


class History:
    """One random run: does each step in the model and in the world, and compares the two."""

    def __init__(self, harness: Harness, seed: int) -> None:
        self.rng = random.Random(seed)
        self.harness = harness
        self.backends = [harness.add(MoodyBackend()) for _ in range(BACKENDS)]
        self.balancers: list[ObedientBalancer] = []
        self.pool = harness.pool(
            *(b.name for b in self.backends), make_balancer=self.make_balancer, max_fails=0
        )
        self.model = Model(self.random_settings(), self.rng)
        self.front = udp_proxy(harness, self.pool)
        self.front.handler.log_session = self.session_ended
        self.front.reload(settings=self.model.settings)
        self.clients = [self.front.client() for _ in range(CLIENTS)]
        self.upstreams: dict[ModelSession, SockAddr] = {}
        self.unanswered: list[tuple[ModelSession, bytes]] = []
        self.ended: list[str] = []
        self.counts: Counter[str] = Counter()

    @property
    def handler(self) -> UdpHandler:
        return self.front.handler

    def make_balancer(self, peers: Sequence[Backend]) -> ObedientBalancer:
        balancer = ObedientBalancer(peers)
        self.balancers.append(balancer)  # the last is that of the primaries
        return balancer

    def session_ended(self, session: Session) -> None:
        self.ended.append(session.termination)
        self.counts["requests"] += session.requests
        self.counts["responses"] += session.responses

    def random_settings(self) -> ProxySettings:
        return ProxySettings(
            timeout_ms=TIMEOUT_MS,
            requests=self.rng.choice([0, 0, 0, 1, 3]),
            responses=self.rng.choice([None, None, 0, 1, 2]),
            max_sessions=self.rng.choice([0, 4, 10]),
        )

    def random_datagram(self) -> bytes:
        self.counts["sent"] += 1
        size = self.rng.choice([0, 1, 20, 300, 1500, 9000])
        return b"%d:" % self.counts["sent"] + self.rng.randbytes(size) if size else b""

    def step(self) -> None:
        """Do a random step, and check that everybody hears exactly what the model says."""
        for end in (*self.clients, *self.backends):
            end.received.clear()
            end.senders.clear()
        expected = Heard()
        activity = self.rng.choice(ACTIVITIES)
        if activity == "send":
            self.send(expected)
        elif activity == "answer late":
            self.answer_late(expected)
        elif activity == "let time pass":
            duration_ms = 10 * self.rng.randint(0, TIMEOUT_MS // 15)
            self.model.expire(self.harness.clock.now_ms + duration_ms)
            self.harness.advance(duration_ms)
        else:
            self.change(activity)
        self.harness.turn_until(lambda: self.seen() == self.foreseen(expected))
        self.check_gauges()

    def seen(self) -> tuple[object, ...]:
        heard = Heard([c.received for c in self.clients], [b.received for b in self.backends])
        drops = {reason: count for reason, count in self.handler.drops.items() if count}
        return heard, drops, sorted(self.ended), self.handler.sessions, len(self.handler.table)

    def foreseen(self, expected: Heard) -> tuple[object, ...]:
        model = self.model
        return expected, model.drops, sorted(model.ended), len(model.open), len(model.table)

    def check_gauges(self) -> None:
        conns = Counter(session.backend for session in self.model.open)
        assert [b.conns for b in self.pool.backends] == [conns[i] for i in range(BACKENDS)]
        assert self.harness.loop.connections == 1 + self.handler.sessions
        assert self.handler.counters.terminations == Counter(self.ended)

    def send(self, expected: Heard) -> None:
        model, now_ms, data = self.model, self.harness.clock.now_ms, self.random_datagram()
        client = self.rng.randrange(CLIENTS)
        session = model.session_for(client)
        self.balancers[-1].choice = model.choice
        if session is not None:
            backend = self.backends[session.backend]
            model.sent(session, now_ms)
            if backend.is_stopped:
                # A session that has ended well by now does not hear of the refusal.
                self.counts["lost"] += 1
                if session in model.open:
                    model.end(session, "SD")
            else:
                expected.backends[session.backend].append(data)
                if backend.is_silent:
                    self.unanswered.append((session, data))
                elif model.answered(session, now_ms):
                    expected.clients[client].append(answer_to(data))
        self.clients[client].send(data)
        if session is not None and expected.backends[session.backend]:
            self.harness.turn_until(lambda: self.backends[session.backend].senders)
            (self.upstreams[session],) = self.backends[session.backend].senders

    def answer_late(self, expected: Heard) -> None:
        """Let a backend give an overdue answer, if its session is still open."""
        self.unanswered = [entry for entry in self.unanswered if entry[0] in self.model.open]
        self.rng.shuffle(self.unanswered)
        if not self.unanswered:
            return
        session, data = self.unanswered.pop()
        backend = self.backends[session.backend]
        if not backend.is_stopped:
            assert self.model.answered(session, self.harness.clock.now_ms)
            expected.clients[session.client].append(answer_to(data))
            backend.send_to(answer_to(data), self.upstreams[session])

    def change(self, activity: str) -> None:
        number = self.rng.randrange(BACKENDS)
        backend = self.backends[number]
        if activity == "silence":
            backend.is_silent = not backend.is_silent
        elif activity == "stop or start":
            if backend.is_stopped:
                backend.start()
            else:
                backend.close()
        elif activity == "take down or up":
            is_down = self.model.is_down[number] = not self.model.is_down[number]
            set_down(self.pool.backends[number], is_down)
        else:
            self.model.settings = self.random_settings()
            self.front.reload(settings=self.model.settings)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("method", ["epoll", "poll"])
def test_any_history_is_as_the_model_says(
    harness: Harness, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    print("seed", seed)
    history = History(harness, seed)
    for _ in range(STEPS):
        history.step()
    model, counts = history.model, history.counts
    print(counts, Counter(model.ended), model.drops)
    assert {"--", "sD", "SD", "DD", "SC"} == set(model.ended)
    assert min(model.drops["shed"], model.drops["no_backend"], counts["lost"]) > 0
    harness.advance(TIMEOUT_MS)
    assert history.handler.sessions == len(history.handler.table) == 0
    assert counts["requests"] == counts["sent"] - sum(model.drops.values())
