"""Clients of several workers that wait for the backends of one upstream: one order for all."""

import pathlib
from collections.abc import Iterator

import pytest
from nginy.backend.shared import SharedCounts
from nginy.process.gradual import at_once
from nginy.process.pools import PoolSet
from nginy.process.queues import QUEUE_LOOK_MS

from kit.configs import loaded
from kit.ends import End
from kit.harness import Front, Harness
from kit.servers import EchoBackend


@pytest.fixture(params=["epoll"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Workers:
    """The pools of two workers, each with a listener of its own; here they share a loop."""

    def __init__(self, harness: Harness, directory: pathlib.Path, backends: int = 1) -> None:
        self.harness = harness
        names = [harness.add(EchoBackend()).name for _ in range(backends)]
        listed = ", ".join(f"{{address: '{name}', max_conns: 1}}" for name in names)
        text = f"""
        upstreams: {{web: {{backends: [{listed}], queue: {{size: 5, timeout: 60s}}}}}}
        listeners: {{listen: 127.0.0.1:1, proxy_pass: web}}
        """
        config = loaded(directory, text)
        self.counts = SharedCounts(2)
        self.pools = [PoolSet(harness.loop, self.counts.for_worker(i)) for i in range(2)]
        self.fronts: list[Front] = []
        for pools in self.pools:
            at_once(pools.add(config, at_once(pools.prepare(config))))
            pools.apply()
            self.fronts.append(harness.proxy(pools["web"]))
        harness.settle()

    def served(self, worker: int) -> End:
        client = self.fronts[worker].connect()
        client.send(b"x")
        self.harness.turn_until(lambda: client.received == b"x")
        return client

    def waiting(self, worker: int) -> End:
        """Return a client that has joined the queue of a worker, after a moment."""
        queue = self.pools[worker]["web"].queue
        assert queue is not None
        length = len(queue)
        client = self.fronts[worker].connect()
        client.send(b"x")
        self.harness.turn_until(lambda: len(queue) == length + 1)
        self.harness.advance(1)
        return client

    def look(self) -> None:
        """Let the time pass after which each worker looks what the others have given back."""
        for _ in range(2):  # a timer may be a tick late
            self.harness.advance(QUEUE_LOOK_MS)
            self.harness.settle()

    def close(self) -> None:
        for session in self.harness.sessions():
            session.kill()
        for pools in self.pools:
            pools.close()


@pytest.fixture
def workers(harness: Harness, tmp_path: pathlib.Path) -> Iterator[Workers]:
    made = Workers(harness, tmp_path)
    yield made
    made.close()


def test_a_client_gets_the_backend_that_another_worker_has_given_back(workers: Workers) -> None:
    first = workers.served(0)
    late = workers.waiting(1)
    first.finish()
    workers.harness.settle()
    workers.look()
    assert late.received == b"x"


def test_the_client_that_has_waited_longest_is_next_whichever_worker_holds_it(
    workers: Workers,
) -> None:
    current = workers.served(0)
    clients = [workers.waiting(worker) for worker in (1, 0, 0, 1, 0)]
    for client in clients:
        current.finish()
        workers.harness.settle()
        workers.look()
        assert [c.received for c in clients if c.received] == [b"x"] * (clients.index(client) + 1)
        assert client.received == b"x"
        current = client


def test_a_newcomer_does_not_pass_those_who_wait_elsewhere(workers: Workers) -> None:
    first = workers.served(0)
    late = workers.waiting(1)
    first.finish()
    workers.harness.settle()
    newcomer = workers.waiting(0)
    workers.look()
    assert (late.received, newcomer.received) == (b"x", b"")


def test_a_worker_that_hangs_keeps_the_backend_from_others_for_a_moment_only(
    workers: Workers,
) -> None:
    first = workers.served(0)
    # What a worker that does not run has left behind.
    peers = workers.counts.for_worker(1).peers("web", workers.harness.clock)
    peers.tell(workers.harness.clock.now_ms - 5000)
    late = workers.waiting(0)
    first.finish()
    workers.look()
    assert late.received == b""
    for _ in range(12):
        workers.look()
    assert late.received == b"x"


def test_the_place_of_a_worker_that_died_is_free(workers: Workers) -> None:
    first = workers.served(0)
    peers = workers.counts.for_worker(1).peers("web", workers.harness.clock)
    peers.tell(workers.harness.clock.now_ms - 5000)
    workers.counts.clear(1)
    late = workers.waiting(0)
    first.finish()
    workers.harness.turn_until(lambda: late.received == b"x")
