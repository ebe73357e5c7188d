"""Hundreds of transfers of any size, at any pace, ended in any order: not a byte off, none hangs.

It finds what throughput benchmarks do not show: the FIN that hides behind a short read, the rest
that nobody sends, the direction that is forgotten when the other one ends.
"""

import pathlib
import random
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
from nginy.proxy.originating import UpstreamTls
from nginy.proxy.phases.terminating import ServerTls, TlsPhase
from nginy.text.address import Address, parse_address

from kit.ends import End
from kit.harness import ANY_PORT, Front, Harness, descriptor_count
from kit.leaks import alive, no_garbage
from kit.servers import Server
from kit.tls import HalfClosingEnd, make_certificate, serving, trusting

TRANSFERS = 160
"""For each way to wait."""
TLS_TRANSFERS = 48
LANES = 16
"""Transfers at a time."""
LARGEST_BYTES = 8 * 1024 * 1024
STEPS = 300
"""How many steps an end takes for its bytes at most, so that slow is not endless."""
DEADLINE_S = 18.0

RANDOM_BYTES = random.Random(4).randbytes(LARGEST_BYTES + 4096)
"""All payloads are pieces of this."""


class Plan:
    """What one end does: which bytes it sends, how it sends and reads them, when it ends."""

    def __init__(self, rng: random.Random) -> None:
        size = rng.choice(
            [0, 0, 1, rng.randrange(100), rng.randrange(10_000)] * 5
            + [65536, 65537, rng.randrange(200_000), rng.randrange(200_000)] * 2
            + [rng.randrange(3_000_000), rng.choice([LARGEST_BYTES, rng.randrange(LARGEST_BYTES)])]
        )
        start = rng.randrange(4096)
        self.data = RANDOM_BYTES[start : start + size]
        self.write_bytes = self._piece(rng, size)
        # With less, a window can stay a few bytes under a segment, and the sender's kernel waits
        # 200 ms for each: 15 kB take 3 s.
        self.rcvbuf_bytes = rng.choice([0, 0, 8192, 16384])
        self.laziness = rng.choice([0, 0, 0, 0.3, 0.9])
        """The chance that it does not read in a step."""
        self.ends_last = rng.random() < 0.4
        """It ends only after the other side has: two such ends would wait for each other."""

    @staticmethod
    def _piece(rng: random.Random, size: int) -> int:
        return max(size // STEPS, rng.choice([1, 100, 5000, 65536, 1 << 20, LARGEST_BYTES]))


class Lane:
    """One transfer after the other between the clients of a listener and its only backend."""

    def __init__(
        self, harness: Harness, rng: random.Random, front: Front, server: Server, transfers: int
    ) -> None:
        self.context: ssl.SSLContext | None = None
        """How clients speak TLS; None if they do not."""
        self._harness = harness
        self._rng = rng
        self._front = front
        self._server = server
        self._left = transfers
        self._ends: list[tuple[End, Plan]] = []
        self._server.is_accepting = False

    def step(self) -> bool:
        """Carry on with the transfer, or check it and begin the next one."""
        if not self._ends:
            if self._left == 0:
                return False
            self._begin()
            return True
        if len(self._ends) == 1:
            self._accept()
        for end, plan in self._ends:
            end.is_reading = self._rng.random() >= plan.laziness
        if self.is_complete:
            self._check()
        return True

    @property
    def is_complete(self) -> bool:
        return len(self._ends) == 2 and all(end.is_over for end, _ in self._ends)

    @property
    def is_done(self) -> bool:
        return not self._ends and self._left == 0

    def _begin(self) -> None:
        self._left -= 1
        plan = Plan(self._rng)
        client = self._front.connect(plan.rcvbuf_bytes)
        if self.context is not None:
            self._harness.forget(client)
            client = HalfClosingEnd(client.socket, self.context, "example.test")
            self._harness.add(client)
        self._begin_end(client, plan)

    def _accept(self) -> None:
        self._server.is_accepting = True
        self._server.step()
        self._server.is_accepting = False
        if self._server.ends:
            plan = Plan(self._rng)
            plan.ends_last &= not self._ends[0][1].ends_last
            self._begin_end(self._server.ends[0], plan)

    def _begin_end(self, end: End, plan: Plan) -> None:
        end.send(plan.data)
        end.write_bytes = plan.write_bytes
        end.read_bytes = max(plan.write_bytes, LARGEST_BYTES // STEPS)
        end.is_finishing_last = plan.ends_last
        if not plan.ends_last:
            end.finish()
        self._ends.append((end, plan))

    def _check(self) -> None:
        (client, asked), (backend, answered) = self._ends
        assert client.errno == backend.errno == 0
        assert backend.received == asked.data
        assert client.received == answered.data
        for end in (client, backend):
            end.close()
        self._ends.clear()
        self._server.ends.clear()
        self._harness.forget(client)

    def close(self) -> None:
        """Do nothing: the harness closes the ends."""


def addresses(directory: pathlib.Path) -> Iterator[tuple[Address, str]]:
    """Where to listen, and where the backend does: each kind of socket on each side."""
    for number in range(LANES):
        front = ANY_PORT
        backend = ""
        if number % 4 == 1:
            front = parse_address(f"unix:{directory}/front{number}")
        if number % 4 == 2:
            backend = f"{directory}/backend{number}"
        yield front, backend


def open_lane(
    harness: Harness, rng: random.Random, front_address: Address, backend_path: str
) -> Lane:
    server = Server(backend_path or ("127.0.0.1", 0))
    harness.add(server)
    front = harness.proxy(
        harness.pool(server.name),
        front_address,
        buffer_size=rng.choice([64, 4096, 16384, 65536, 65536]),
    )
    return harness.add(Lane(harness, rng, front, server, TRANSFERS // LANES))


@pytest.mark.slow
def test_no_transfer_hangs_and_none_is_a_byte_off(harness: Harness, tmp_path: pathlib.Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    # Low enough for reads to shrink and grow now and then.
    harness.loop.budget.limit_bytes = 512 * 1024
    # Few enough for some to find none left.
    pipes = harness.loop.pipes
    pipes.limit = 3
    lanes = [open_lane(harness, rng, *each) for each in addresses(tmp_path)]
    descriptors = descriptor_count()
    objects = alive()
    with no_garbage():
        started_s = time.monotonic()
        harness.turn_until(lambda: all(lane.is_done for lane in lanes), DEADLINE_S)
        harness.turn_until(lambda: harness.loop.connections == LANES)
        print(f"{time.monotonic() - started_s:.1f} s")
    assert pipes.opened
    pipes.close()
    assert pipes.opened == 0
    assert descriptor_count() == descriptors
    assert alive() == objects
    assert harness.loop.budget.used_bytes == 0
    assert [code for front in harness.fronts for code in front.terminations] == ["--"] * TRANSFERS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A key and a certificate for example.test, in one file."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.slow
@pytest.mark.parametrize("sides", ["client", "upstream", "client, upstream"])
def test_nor_does_one_through_tls(
    harness: Harness, tmp_path: pathlib.Path, certificate: pathlib.Path, sides: str
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    harness.loop.budget.limit_bytes = 512 * 1024
    lanes = []
    for address, path in addresses(tmp_path):
        server = Server(path or ("127.0.0.1", 0))
        harness.add(server)
        size = rng.choice([64, 4096, 16384, 65536, 65536])
        changes: dict[str, Any] = {"buffer_size": size}
        if "upstream" in sides:
            context = serving(certificate)
            server.end_class = lambda sock, c=context: HalfClosingEnd(sock, c)  # type: ignore[assignment]
            changes["tls"] = UpstreamTls(trusting(certificate), "example.test")
        front = harness.proxy(harness.pool(server.name), address, **changes)
        lane = harness.add(Lane(harness, rng, front, server, TLS_TRANSFERS // LANES))
        if "client" in sides:
            lane.context = trusting(certificate)
            front.handler.phases = (TlsPhase(ServerTls(serving(certificate), {})),)
        lanes.append(lane)
    descriptors = descriptor_count()
    with no_garbage():
        harness.turn_until(lambda: all(lane.is_done for lane in lanes), DEADLINE_S)
        while harness.loop.connections > LANES:
            # A goodbye without room waits for it, and a timer looks.
            harness.advance(20)
    assert descriptor_count() == descriptors
    assert harness.loop.budget.used_bytes == 0
    ended = [code for front in harness.fronts for code in front.terminations]
    assert ended == ["--"] * TLS_TRANSFERS
