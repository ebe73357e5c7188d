"""Groups: what they count, against a look at each backend by itself."""

import random
from collections import Counter

import pytest
from nginy.admin.facts.group import AT_ONCE, TROUBLED_MAX, Group, counted_group
from nginy.admin.pace import Pace
from nginy.backend.backend import Backend
from nginy.backend.health.states import TROUBLES, State
from nginy.backend.pool import BackendPool
from nginy.backend.unusable import OUT

from kit.admin import done, pool, take_down

NOW_S = 1000


def spoil(web: BackendPool, rng: random.Random) -> None:
    """Give each backend some reason, or none, to take no clients."""
    for index, backend in enumerate(web.backends):
        backend.conns = rng.randrange(4)
        kind = rng.choice(
            ("plain", "plain", "failed", "failing", "full", "limited", "down", "gone", "ignored")
        )
        if kind == "failed":
            backend.fails, backend.accessed_s = backend.max_fails, NOW_S
            backend.checked_s = NOW_S - rng.randrange(20)
        elif kind == "failing":
            backend.max_fails, backend.fails = 3, 1
        elif kind == "full":
            backend.max_conns = backend.conns = 2
        elif kind == "limited":
            backend.max_conns = backend.conns + 1
        elif kind == "down":
            backend.down = True
        elif kind in ("gone", "ignored"):
            take_down(web, index)
            backend.health.since_at_ms = rng.randrange(1000)
            backend.down = kind == "gone"  # with `fail_open`, health may be ignored


def plainly(web: BackendPool) -> Group:
    """Count as a reader would expect: each backend, by what the pool says of it."""
    group, reasons = Group(web), [web.why_not(b, NOW_S) for b in web.backends]
    group.usable = reasons.count("")
    group.sessions = sum(b.conns for b in web.backends)
    group.states = dict(Counter(str(b.health.state) for b in web.backends))
    group.troubled = [b for b in web.backends if b.health.state in TROUBLES]
    group.reasons = Counter(filter(None, reasons))
    group.since_at_ms = max(
        (b.health.since_at_ms for b in web.backends if b.health.state is not State.UP), default=None
    )
    outs = [b for b, why in zip(web.backends, reasons, strict=True) if why == OUT]
    group.out_until_s = min((b.checked_s + b.fail_timeout_s for b in outs), default=0)
    return group


@pytest.mark.parametrize("seed", range(20))
def test_a_group_counts_what_a_look_at_each_backend_finds(seed: int) -> None:
    rng = random.Random(seed)
    web = pool("web", *(f"10.0.0.{n}:80" for n in range(rng.randrange(1, 60))))
    spoil(web, rng)
    found, _ = done(counted_group(web, NOW_S, Pace()))
    assert found == plainly(web)


def test_only_the_first_of_many_in_trouble_are_kept() -> None:
    web = pool("web", *(f"10.0.{n >> 8}.{n & 255}:80" for n in range(TROUBLED_MAX + 10)))
    for index in range(len(web.backends)):
        take_down(web, index)
    found, _ = done(counted_group(web, NOW_S, Pace()))
    assert found.troubled == list(web.backends[:TROUBLED_MAX])
    assert found.states == {"unresolved": TROUBLED_MAX + 10}


def test_backends_in_trouble_cost_more_than_those_that_are_up() -> None:
    web = pool("web", *(f"10.0.{n >> 8}.{n & 255}:80" for n in range(15 * AT_ONCE)))
    backends: tuple[Backend, ...] = web.backends
    assert done(counted_group(web, NOW_S, Pace()))[1] <= 2
    for backend in backends:
        backend.fails = 1
    assert done(counted_group(web, NOW_S, Pace()))[1] > 3
