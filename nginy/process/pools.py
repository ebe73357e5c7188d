"""PoolSet: the pools of a whole process, in step with the configuration and with the name servers.

What `logs.py` is for logs, this is for upstreams: the server says `apply` and takes pools by
name. What belongs to one pool is in the package `backend`: its members in `members`, names in
`resolver`, who of them may serve in `monitor`. What each key of the configuration becomes is in
`config/build.py` and `config/build_health.py`.

The one idea: nothing here can fail, so a reload that has got this far is a reload that succeeds.
"""

import random
from functools import partial
from typing import Final

from nginy.backend.backend import Backend
from nginy.backend.checks.checker import Checker
from nginy.backend.checks.monitor import PoolMonitor
from nginy.backend.checks.relay import Relay
from nginy.backend.names.members import Members
from nginy.backend.names.resolver import Resolver
from nginy.backend.pool import BackendPool
from nginy.backend.shared import MakeSharedBackend
from nginy.config import build, schema
from nginy.config.build_health import monitor_settings
from nginy.event.loop import Loop
from nginy.proxy.closer import SessionCloser

NAMES_WAIT_MS: Final = 1000
"""How long a start waits for the names of backends; after that it does without."""


class PoolSet:
    """All pools by name. Created and closed by the server."""

    __slots__ = (
        "_checker",
        "_closer",
        "_loop",
        "_make_backend",
        "_members",
        "_monitors",
        "_resolver",
        "_rng",
        "relay",
    )

    def __init__(self, loop: Loop, make_backend: MakeSharedBackend | None = None) -> None:
        """Make `make_backend` make the backends, if this process is one of several workers."""
        self._loop = loop
        self._make_backend = make_backend
        self._rng = random.Random()
        # The ids of questions to name servers must not be foreseen.
        self._resolver = Resolver(loop, random.SystemRandom())
        self._members: dict[str, Members] = {}
        self._checker = Checker(loop)
        self._closer = SessionCloser(loop)
        self.relay = Relay(loop)
        """What carries the findings of checks from one worker to the others."""
        self._monitors: dict[str, PoolMonitor] = {}

    def __getitem__(self, name: str) -> BackendPool:
        """Return the pool of an upstream that is configured."""
        return self._members[name].pool

    def apply(self, config: schema.Config) -> None:
        """Bring all pools in step; those that left serve the sessions that they have."""
        self._resolver.configure(build.resolver_settings(config.resolver))
        for name in [name for name in self._members if name not in config.upstreams]:
            self._monitors.pop(name).close()
            self._members.pop(name).close()
        for name, upstream in config.upstreams.items():
            backends = [build.backend_settings(backend) for backend in upstream.backends]
            method = build.method(upstream.balance, self._rng)
            if name in self._members:
                self._members[name].apply(backends, method)
            else:
                make = partial(self._make_backend, name) if self._make_backend else Backend
                members = Members(self._loop, self._resolver, name, backends, method, make)
                self._members[name] = members
            pool = self._members[name].pool
            pool.set_queue(build.queue_settings(upstream.queue))
            pool.max_session_time_ms = upstream.max_session_time_ms
            self._watch(name, upstream)

    def _watch(self, name: str, upstream: schema.Upstream) -> None:
        """Watch over the health of a pool, or go on with what is configured now."""
        settings = monitor_settings(upstream)
        if name in self._monitors:
            self._monitors[name].apply(settings)
            return
        members = self._members[name]
        end_sessions = self._closer.end_sessions
        monitor = PoolMonitor(
            members.pool, self._checker, self._rng, settings, end_sessions, self.relay
        )
        members.changed = monitor.sync
        self._monitors[name] = monitor

    def await_names(self) -> None:
        """Turn the loop until all names are resolved, at most for `NAMES_WAIT_MS`.

        Only for a start, when no client is served yet: clients wait in the kernel's queue meanwhile
        instead of being turned away.
        """
        deadline_ms = self._loop.clock.now_ms + NAMES_WAIT_MS
        while not all(members.are_settled for members in self._members.values()):
            left_ms = deadline_ms - self._loop.clock.now_ms
            if left_ms <= 0:
                return
            self._loop.turn(left_ms)

    def close(self) -> None:
        """Stop checking, resolving and building."""
        for monitor in self._monitors.values():
            monitor.close()
        self.relay.close()
        self._checker.close()
        self._closer.close()
        for members in self._members.values():
            members.close()
        self._resolver.close()
