"""A pool of many backends, whose balancers keep sorted lists, beside one that asks them all.

The same things happen to both. A change that the pool did not tell its balancers of would show as
another choice, sooner or later.
"""

import random
from collections.abc import Callable, Sequence

import pytest
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.pool import BackendPool
from nginy.balancer.least import LeastConn
from nginy.balancer.peer import Balancer
from nginy.balancer.round_robin import RoundRobin
from nginy.text.address import parse_address

Make = Callable[[Sequence[Backend]], Balancer[Backend]]


class PlainRoundRobin(RoundRobin[Backend]):
    def _sort(self, peers: Sequence[Backend]) -> None:
        return None


class PlainLeastConn(LeastConn[Backend]):
    def _sort(self, peers: Sequence[Backend]) -> None:
        return None


METHODS: dict[str, tuple[Make, Make]] = {
    "round_robin": (RoundRobin, PlainRoundRobin),
    "least_conn": (LeastConn, PlainLeastConn),
}


class Both:
    """Two pools of equal backends, and who has sessions there."""

    def __init__(self, method: str, seed: int) -> None:
        self.rng = random.Random(f"{method} {seed}")
        self.makes = METHODS[method]
        self.settings = [self.new_settings(number) for number in range(self.rng.randrange(34, 50))]
        self.pools = [
            BackendPool("many", [Backend(each) for each in self.settings], make)
            for make in self.makes
        ]
        self.busy: list[tuple[Backend, Backend]] = []
        self.now_s = 100
        assert [balancer.is_sorted for balancer in self.balancers()] == [True, False]

    def balancers(self) -> list[Balancer[Backend]]:
        return [pool._primaries for pool in self.pools]  # noqa: SLF001 - which kind is the point

    def new_settings(self, number: int) -> BackendSettings:
        rng = self.rng
        name = f"10.0.0.{number}:80"
        return BackendSettings(
            name,
            parse_address(name),
            weight=rng.choice((1, 1, 2, 5)),
            max_conns=rng.choice((0, 0, 2)),
            max_fails=rng.choice((0, 1, 2)),
            backup=number % 17 == 3,
        )

    def pick(self) -> None:
        tried = [pair for pair in self.busy[-2:] if self.rng.random() < 0.2]
        picked = [
            pool.pick(b"", tuple({pair[side] for pair in tried}), self.now_s)
            for side, pool in enumerate(self.pools)
        ]
        names = [backend and backend.name for backend in picked]
        assert names[0] == names[1]
        if picked[0] is not None and picked[1] is not None:
            self.busy.append((picked[0], picked[1]))

    def end(self) -> None:
        pair = self.busy.pop(self.rng.randrange(len(self.busy)))
        how = self.rng.random()
        for pool, backend in zip(self.pools, pair, strict=True):
            pool.release(backend)
            if how < 0.3:
                pool.failed(backend, self.now_s)
            elif how < 0.6:
                pool.succeeded(backend)

    def trouble(self) -> None:
        rng, what = self.rng, self.rng.random()
        place = rng.randrange(len(self.pools[0].backends))
        backends = [pool.backends[place] for pool in self.pools]
        weight = rng.choice((1, 3, 8))
        for pool, backend in zip(self.pools, backends, strict=True):
            if what < 0.3:
                pool.forget_failures(backend)
            elif what < 0.5:
                backend.down = not backend.down
                pool.changed(backend)
            elif what < 0.7:
                backend.reweigh(weight)
                pool.changed(backend)
                pool.reweigh()
        if what >= 0.7:
            self.now_s += rng.choice((1, 5, 11))

    def reload(self) -> None:
        """Other settings for some, others gone, others new; the tables are done some time later."""
        rng = self.rng
        kept = [each for each in self.settings if rng.random() < 0.9]
        self.settings = [
            self.new_settings(int(each.address.host.rpartition(".")[2]))
            if rng.random() < 0.2 else each
            for each in kept
        ]  # fmt: skip
        self.settings += [self.new_settings(200 + rng.randrange(50)) for _ in range(4)]
        self.settings = list({each.name: each for each in self.settings}.values())
        steps = []
        for pool, make in zip(self.pools, self.makes, strict=True):
            known = {backend.name: backend for backend in pool.backends}
            members = []
            for each in self.settings:
                backend = known.get(each.name) or Backend(each)
                if backend.settings != each:
                    backend.apply(each)
                members.append(backend)
            pool.replace(members)
            steps.append(pool.build_steps(make))
        for _ in range(rng.randrange(10)):
            self.pick()
        for each_step in steps:
            for _ in each_step:
                pass

    def step(self) -> None:
        what = self.rng.random()
        if what < 0.5:
            self.pick()
        elif what < 0.9:
            if self.busy:
                self.end()
        elif what < 0.995:
            self.trouble()
        else:
            self.reload()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_many_backends_are_chosen_from_as_few_are(method: str) -> None:
    for seed in range(12):
        print("seed", seed)
        both = Both(method, seed)
        for _ in range(1200):
            both.step()
        for pool in both.pools:
            pool.rebuild(pool.backends, PlainRoundRobin)
        ours, theirs = ([numbers(b) for b in pool.backends] for pool in both.pools)
        assert ours == theirs


def numbers(b: Backend) -> tuple[object, ...]:
    return (b.name, b.current_weight, b.effective_weight, b.conns, b.fails, b.checked_s)
