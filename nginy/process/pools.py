"""PoolSet: the pools of a whole process, in step with the configuration and with the name servers.

This is for upstreams what `logs.py` is for logs: the server calls `apply` and takes pools by name.
The package `backend` has what belongs to one pool: its `members`, their names in `resolver`, and
`monitor`, which decides which of them may serve. `config/building/build.py` and
`config/building/health.py` make settings of the configuration's keys.

The one idea: `prepare` does all the parsing, and `apply` cannot fail, so a reload that gets this
far succeeds. An upstream that a reload takes out is kept for a while, with its backends: if it
returns, it is the same one.

Tested in tests/process/test_reload_names_live.py.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.checks.checker import Checker
from nginy.backend.checks.monitor import Overrides, PoolMonitor
from nginy.backend.checks.news import BackendEvent
from nginy.backend.checks.relay import Relay
from nginy.backend.checks.settings import MonitorSettings
from nginy.backend.listing import AS_CONFIGURED, Listing
from nginy.backend.names.left import REMEMBERED_MS
from nginy.backend.names.members import Balancing, Members
from nginy.backend.names.resolver import Resolver
from nginy.backend.pool import BackendPool
from nginy.backend.shared import WorkerCounts
from nginy.backend.waiting import QueueSettings
from nginy.config import schema
from nginy.config.building import build
from nginy.config.building.health import monitor_settings, tls_towards
from nginy.config.checking.targets import by_upstream
from nginy.event.loop import Loop
from nginy.process.gradual import Steps
from nginy.process.queues import SharedQueues
from nginy.process.ways_back import WaysBack
from nginy.proxy.closer import SessionCloser

SLICE_BACKENDS: Final = 500
"""Backends whose pools are made, or take over a reload, in one turn: 5 to 15 ms."""

NAMES_WAIT_MS: Final = 1000
"""How long a start waits for the names of backends before it goes on without them."""


@dataclass(frozen=True, slots=True)
class PreparedPool:
    """What `apply` will make of an upstream of the configuration."""

    backends: tuple[BackendSettings, ...]
    balancing: Balancing
    monitor: MonitorSettings
    queue: QueueSettings | None
    max_session_time_ms: int | None


@dataclass(slots=True)
class _Upstream:
    """The members of a pool, and the monitor of their health."""

    members: Members
    monitor: PoolMonitor
    wanted: PreparedPool
    """What the configuration says."""
    retired_at_ms: int = 0
    """When it left the configuration, if it has."""

    def close(self) -> None:
        self.monitor.close()
        self.members.close()

    @property
    def has_sessions(self) -> bool:
        pool = self.members.pool
        return any(backend.conns for backend in (*pool.backends, *pool.left))


class PoolSet:
    """All pools by name. Created and closed by the server."""

    __slots__ = (
        "_changes",
        "_checker",
        "_closer",
        "_configured",
        "_counts",
        "_drain_times_ms",
        "_listings",
        "_loop",
        "_overrides",
        "_queues",
        "_resolver",
        "_retired",
        "_rng",
        "_upstreams",
        "_waiting",
        "_ways_back",
        "listener",
        "relay",
    )

    def __init__(self, loop: Loop, counts: WorkerCounts | None = None) -> None:
        """Share `counts` with others, if this process is one of several workers."""
        self._loop = loop
        self._counts = counts
        self._queues = SharedQueues(loop, counts, self._all_pools)
        self._rng = random.Random()
        # The ids of queries to name servers must not be predictable.
        self._resolver = Resolver(loop, random.SystemRandom())
        self._checker = Checker(loop)
        self._closer = SessionCloser(loop)
        self.relay = Relay(loop)
        """Carries the findings of checks from one worker to the others."""
        self.relay.names = queries = self._resolver.queries
        queries.tell = self.relay.tell_answer
        queries.is_leading = lambda: self.relay.is_leading
        self._upstreams: dict[str, _Upstream] = {}
        self._changes: dict[str, PreparedPool] = {}
        """What upstreams still have to take over from a reload."""
        self._retired: dict[str, _Upstream] = {}
        """Upstreams that have left the configuration and may return."""
        self._ways_back = WaysBack(self._backends_of)
        self._drain_times_ms: set[int] = set()
        self._configured: frozenset[str] = frozenset()
        self._overrides: Mapping[str, Overrides] = {}
        self._listings: Mapping[str, Listing] = {}
        self.listener: Callable[[BackendEvent], None] | None = None
        """Hears what happens to backends."""
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        """Callbacks for each pool that is not ready to serve yet."""

    def __getitem__(self, name: str) -> BackendPool:
        """Return the pool of a configured upstream."""
        return self._upstreams[name].members.pool

    def pools(self) -> list[BackendPool]:
        """Return the pools of all configured upstreams."""
        return [upstream.members.pool for upstream in self._upstreams.values()]

    def monitor(self, name: str) -> PoolMonitor | None:
        """Return the monitor of an upstream's backends; None if no such upstream is configured."""
        upstream = self._upstreams.get(name)
        return None if upstream is None else upstream.monitor

    def override(self, overrides: Mapping[str, Overrides], listings: Mapping[str, Listing]) -> None:
        """Apply what operators have set, and added or removed, by upstream; it replaces everything
        that they had set before.
        """
        before, self._listings = self._listings, listings
        self._overrides = overrides
        for name, upstream in self._upstreams.items():
            if before.get(name) != listings.get(name):
                self._list(name, upstream)
            self._override(name, upstream)

    def _override(self, name: str, upstream: _Upstream) -> None:
        has_moved = upstream.monitor.override(self._overrides.get(name, {}))
        if has_moved and not upstream.monitor.settings.has_weights:
            upstream.members.rebuild()

    def _list(self, name: str, upstream: _Upstream) -> None:
        """Bring the list of an upstream in step with its configuration and with operators."""
        upstream.members.apply(self._listed(name, upstream.wanted), upstream.wanted.balancing)

    def _listed(self, name: str, wanted: PreparedPool) -> tuple[BackendSettings, ...]:
        return self._listings.get(name, AS_CONFIGURED).applied_to(wanted.backends)

    def prepare(self, config: schema.Config) -> Steps[dict[str, PreparedPool]]:
        """Work out what `add` and `apply` need."""
        prepared: dict[str, PreparedPool] = {}
        backends = 0
        listeners = by_upstream(config.listeners)
        for name, upstream in config.upstreams.items():
            prepared[name] = PreparedPool(
                tuple(build.backend_settings(backend) for backend in upstream.backends),
                build.balancing(upstream.balance, self._rng),
                monitor_settings(
                    upstream,
                    build.proxy_protocol_of(listeners.get(name, ()), upstream.health_check),
                    tls_towards(listeners.get(name, ())),
                ),
                build.queue_settings(upstream.queue),
                upstream.max_session_time_ms,
            )
            backends += max(len(upstream.backends), 1)
            if backends >= SLICE_BACKENDS:
                backends = 0
                yield
        return prepared

    def add(self, config: schema.Config, prepared: dict[str, PreparedPool]) -> Steps[None]:
        """Make the pools that are new; nobody uses them before `apply`."""
        self._waiting.clear()
        self._changes.clear()
        for upstream in self._upstreams.values():
            upstream.members.settled = None
        self._configured = frozenset(prepared)
        self._ways_back.follow(config)
        # Sessions keep what they began with, so this never drops a value.
        self._drain_times_ms |= {
            listener.proxy_drain_timeout_ms
            for listener in config.listeners
            if listener.proxy_drain_timeout_ms is not None
        }
        self._resolver.apply(build.resolver_settings(config.resolver))
        self._checker.open.set_limit(config.max_checks)
        changes: dict[str, PreparedPool] = {}
        backends = 0
        for name, wanted in prepared.items():
            self._bring_back(name)
            if name in self._upstreams:
                changes[name] = wanted
                continue
            upstream = self._upstreams[name] = self._make(name, wanted)
            self._set_up(upstream.members.pool, wanted)
            backends += max(len(wanted.backends), 1)
            if backends >= SLICE_BACKENDS:
                backends = 0
                yield
        self._changes = changes

    def apply(self) -> None:
        """Bring the existing pools in step; those that left serve the sessions they have.

        They change by slices if there are many backends: each takes its new list and settings in
        one turn, but not all pools in the same.
        """
        self._change_some()

    def _change_some(self) -> None:
        """Apply what a reload has changed to as many pools as fit into a short turn."""
        backends = 0
        while self._changes and backends < SLICE_BACKENDS:
            name = next(iter(self._changes))
            upstream = self._upstreams[name]
            wanted = upstream.wanted = self._changes.pop(name)
            self._list(name, upstream)
            upstream.monitor.apply(wanted.monitor)
            self._set_up(upstream.members.pool, wanted)
            backends += max(len(wanted.backends), 1)
        if self._changes:
            self._loop.soon(self._change_some, self)

    def _set_up(self, pool: BackendPool, wanted: PreparedPool) -> None:
        self._queues.set(pool, wanted.queue)
        pool.max_session_time_ms = wanted.max_session_time_ms

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the pools of a reload"

    def abort(self) -> None:
        """Go on after a bug, with the rest of a reload."""
        if self._changes:
            self._loop.soon(self._change_some, self)

    def finish(self) -> None:
        """Retire the upstreams that left, unless a listener still waits for a new one."""
        if self._waiting:
            return
        now_ms = self._loop.clock.now_ms
        for name in [name for name in self._upstreams if name not in self._configured]:
            upstream = self._retired[name] = self._upstreams.pop(name)
            upstream.retired_at_ms = now_ms
            upstream.monitor.rest()
            upstream.members.retire()
            self.drain()
        for name, upstream in list(self._retired.items()):
            is_over = now_ms >= upstream.retired_at_ms + REMEMBERED_MS
            if is_over and not upstream.has_sessions:
                self._retired.pop(name).close()

    def _bring_back(self, name: str) -> None:
        if name in self._retired:
            self._upstreams[name] = self._retired.pop(name)

    def _make(self, name: str, wanted: PreparedPool) -> _Upstream:
        make = partial(self._counts.backend, name) if self._counts else Backend
        members = Members(
            self._resolver,
            name,
            self._listed(name, wanted),
            wanted.balancing,
            make,
            partial(self._ways_back.refuse, name),
        )
        if self._counts is not None:
            members.pool.begin_at(self._counts.phase)
        end_sessions = self._closer.end_sessions
        monitor = PoolMonitor(
            members.pool, self._checker, self._rng, wanted.monitor, end_sessions, self.relay
        )
        monitor.news.listener = self._tell
        members.changed = partial(self._changed, monitor)
        upstream = _Upstream(members, monitor, wanted)
        if name in self._overrides:
            self._override(name, upstream)
        return upstream

    def _tell(self, event: BackendEvent) -> None:
        if self.listener is not None:
            self.listener(event)

    def _changed(self, monitor: PoolMonitor) -> None:
        """Follow a pool whose list of backends has changed."""
        monitor.sync()
        if monitor.pool.left:
            self.drain()

    def drain(self) -> None:
        """Deal with sessions that have lost their place: a backend has left, or a listener leads to
        another pool.
        """
        self._closer.drain(self._drain_times_ms)

    def _all_pools(self) -> list[BackendPool]:
        return [u.members.pool for u in (*self._upstreams.values(), *self._retired.values())]

    def _backends_of(self, name: str) -> tuple[Backend, ...]:
        upstream = self._upstreams.get(name)
        return () if upstream is None else upstream.members.pool.backends

    # Names without an answer so far.

    def is_ready(self, name: str) -> bool:
        """Return whether the pool of an upstream can take clients.

        A pool with new names waits for answers about them, even negative ones.
        """
        return self._upstreams[name].members.are_ready

    def when_ready(self, name: str, call: Callable[[], None]) -> None:
        """Call once the pool of an upstream, which is not ready yet, can take clients."""
        self._upstreams[name].members.settled = partial(self._look, name)
        self._waiting.setdefault(name, []).append(call)

    def _look(self, name: str) -> None:
        """Call back the listeners that wait for a pool, if it is ready."""
        members = self._upstreams[name].members
        if not members.are_ready:
            return
        members.settled = None
        for call in self._waiting.pop(name, ()):
            call()
        self.finish()

    def await_names(self) -> None:
        """Turn the loop until all names are resolved, for at most `NAMES_WAIT_MS`. Only for a
        start, which serves no client yet: meanwhile clients wait in the kernel's queue instead of
        being turned away.
        """
        deadline_ms = self._loop.clock.now_ms + NAMES_WAIT_MS
        while not all(each.members.are_settled for each in self._upstreams.values()):
            left_ms = deadline_ms - self._loop.clock.now_ms
            if left_ms <= 0:
                return
            self._loop.turn(left_ms)

    def close(self) -> None:
        """Stop checking, resolving and building."""
        for upstream in (*self._upstreams.values(), *self._retired.values()):
            upstream.close()
        self.relay.close()
        self._queues.close()
        self._checker.close()
        self._closer.close()
        self._resolver.close()
