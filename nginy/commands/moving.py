"""How many keys of a hash method go to another backend if the list of an upstream changes.

It creates both pools and compares where some thousand keys go. That takes a while for many backends
(0.1 s for 1,000), so `moved_share_steps` does it in steps of less than a millisecond, for a process
that serves clients meanwhile; `nginy plan` does all of them at once.

Tested in tests/commands/test_plan.py.
"""

import random
from collections.abc import Generator
from typing import Final

from nginy.backend.backend import Backend
from nginy.backend.pool import BackendPool
from nginy.config import build
from nginy.config.upstream import Upstream

SAMPLE_KEYS: Final = 4096
"""Keys tried; the share is then right to about 1.5 percent points."""
KEYS_A_STEP: Final = 50
"""Keys tried, or backends made, in one step."""


def moved_share(old: Upstream, new: Upstream) -> float | None:
    """Return what `moved_share_steps` does, here and now."""
    steps = moved_share_steps(old, new)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            share: float | None = end.value
            return share


def moved_share_steps(old: Upstream, new: Upstream) -> Generator[None, None, float | None]:
    """Return the share of keys, from 0 to 1, that go to another backend; None without keys.

    All backends count as healthy and idle, and a host name as one backend.
    """
    if not old.balance.key or not new.balance.key:
        return None
    before = yield from _pool(old)
    after = yield from _pool(new)
    moved = 0
    for n in range(SAMPLE_KEYS):
        key = b"10.%d.%d.%d" % (n >> 8, n & 255, n * 7 & 255)
        moved += _choice(before, key) != _choice(after, key)
        if n % KEYS_A_STEP == 0:
            yield
    return moved / SAMPLE_KEYS


def _pool(upstream: Upstream) -> Generator[None, None, BackendPool]:
    """Return a pool for asking; nobody sends anything to it."""
    backends = []
    for each in upstream.backends:
        backend = Backend(build.backend_settings(each))
        backend.down = backend.settings.down  # a host name counts without its addresses
        backends.append(backend)
        if len(backends) % KEYS_A_STEP == 0:
            yield
    maker = build.balancer_maker(upstream.balance, random.Random(0))
    pool = BackendPool("", (), maker)
    pool.replace(backends)
    yield from pool.build_steps(maker)
    return pool


def _choice(pool: BackendPool, key: bytes) -> str:
    backend = pool.pick(key, (), 0)
    if backend is None:
        return ""
    pool.release(backend)
    return backend.name
