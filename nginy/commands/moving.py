"""How many keys of a hash method move to another backend if the list of an upstream changes.

It creates both pools and compares where a few thousand keys go.

Tested in tests/commands/test_plan.py.
"""

import random
from typing import Final

from nginy.backend.backend import Backend
from nginy.backend.pool import BackendPool
from nginy.config.building import build
from nginy.config.upstream import Upstream

SAMPLE_KEYS: Final = 4096
"""Keys tried; with so many, the share is right to about 1.5 percentage points."""


def moved_share(old: Upstream, new: Upstream) -> float | None:
    """Return the share of keys, from 0 to 1, that go to another backend; None without keys.

    All backends count as healthy and idle, and a host name as one backend. The cost is that of
    building the tables of both methods, 0.1 s for 1,000 backends.
    """
    if not old.balance.key or not new.balance.key:
        return None
    before, after = _pool(old), _pool(new)
    keys = [b"10.%d.%d.%d" % (n >> 8, n & 255, n * 7 & 255) for n in range(SAMPLE_KEYS)]
    return sum(_choice(before, key) != _choice(after, key) for key in keys) / SAMPLE_KEYS


def _pool(upstream: Upstream) -> BackendPool:
    """Return a pool to ask; no session uses it."""
    backends = [Backend(build.backend_settings(backend)) for backend in upstream.backends]
    for backend in backends:
        backend.down = backend.settings.down  # a host name counts without its addresses
    return BackendPool("", backends, build.balancer_maker(upstream.balance, random.Random(0)))


def _choice(pool: BackendPool, key: bytes) -> str:
    backend = pool.pick(key, (), 0)
    if backend is None:
        return ""
    pool.release(backend)
    return backend.name
