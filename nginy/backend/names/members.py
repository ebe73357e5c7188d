"""The members of a pool: the configured backends, and those behind configured names.

`Members` keeps a pool in step with what the configuration lists and with what its names stand for
(`watch`). A backend that stays is the same object and keeps its state. One that leaves gets no new
sessions, and the pool remembers it for a while, so that it is the same one if it returns: its
sessions still count for `max_conns`, and its health still holds.

The list changes at once, and the tables of hash methods follow. Filling a ring for 1,000 backends
takes 100 ms, so it goes in slices, one a turn, while the old table serves; backends that left are
down meanwhile. Each build ends before the next one begins, or a list that changes all the time
would never get its table.

A reload that brings new names causes no outage: the present list serves until they are resolved, or
until it is certain that they have no address.

nginx: `ngx_stream_upstream_zone_resolve_handler` in `ngx_stream_upstream_zone_module.c`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.names.expand import expand, refusal
from nginy.backend.names.left import LeftBackends
from nginy.backend.names.resolver import Resolver
from nginy.backend.names.watch import NameWatch, Refuse
from nginy.backend.pool import BackendPool, MakeBalancer
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE

logger = logging.getLogger("nginy.backend")

STEPS_A_TURN: Final = 32
"""Steps of a build done in one turn: of 0.1 to 0.2 ms each, so some 5 ms in all."""
MARGIN_MS: Final = 1000
"""How long new names have beyond the timeout of one query: a search list needs several."""


@dataclass(frozen=True, slots=True)
class Balancing:
    """How a pool chooses: what makes its balancer, what it hashes, and which time it measures."""

    make_balancer: MakeBalancer
    key: str = ""
    """The text with variables that hash methods hash; "" for none."""
    measured: str = ""
    """connect, first_byte or last_byte; "" for methods that measure nothing."""


MakeBackend = Callable[[BackendSettings], Backend]
"""Makes a backend: `Backend` itself, or one whose counts several workers share."""

NameKey = tuple[str, str]
"""What tells the names of a pool apart: the address as configured, and the service."""


class Members:
    """The members of one pool. Created and closed by the server; survives reloads."""

    __slots__ = (
        "_balancing",
        "_configured",
        "_deadline",
        "_has_news",
        "_is_behind",
        "_is_new",
        "_left",
        "_loop",
        "_make_backend",
        "_refuse",
        "_resolver",
        "_steps",
        "_watches",
        "changed",
        "pool",
        "settled",
    )

    def __init__(
        self,
        resolver: Resolver,
        name: str,
        configured: Sequence[BackendSettings],
        balancing: Balancing,
        make_backend: MakeBackend = Backend,
        refuse: Refuse = refusal,
    ) -> None:
        """Make the pool, at once, and begin to resolve its names.

        `refuse` says why the pool cannot use an address that a name has.
        """
        self._loop = resolver.loop
        self._make_backend = make_backend
        self._resolver = resolver
        self._refuse = refuse
        self._configured = tuple(configured)
        self._balancing = balancing
        self._deadline = Timer(self._deadline_handler, self)
        self._watches: dict[NameKey, NameWatch] = {}
        self._steps: Iterator[None] | None = None
        self._has_news = self._is_behind = False
        self._is_new = False
        """Whether the list of the last reload has not replaced the one before it yet."""
        self._left = LeftBackends()
        self.changed: Callable[[], None] | None = None
        """Called after the pool's list of backends has changed."""
        self.settled: Callable[[], None] | None = None
        """Called when members that were not ready may be ready now."""
        backends = [make_backend(settings) for settings in configured]
        self.pool = BackendPool(name, backends, balancing.make_balancer, balancing.key)
        self.pool.choose_by(balancing.measured)
        self._watch()
        self._start_deadline()
        if any(watch.endpoints for watch in self._watches.values()):
            self._update()

    @property
    def are_settled(self) -> bool:
        """Whether each name has its answer, or has failed, and the tables are up to date."""
        is_at_work = self._has_news or self._is_behind or self._steps is not None
        return not is_at_work and all(watch.is_settled for watch in self._watches.values())

    @property
    def are_ready(self) -> bool:
        """Whether the pool may replace another one: its names are settled, or have timed out, and
        it has a backend, or certainly none."""
        if self._is_settling:
            return False
        return has_address(self.pool.backends) or self._is_certain

    @property
    def _is_settling(self) -> bool:
        """Whether new names still wait for their first answer."""
        return self._deadline.is_running and not all(
            watch.is_settled or watch.endpoints for watch in self._watches.values()
        )

    @property
    def _is_certain(self) -> bool:
        return all(watch.is_certain for watch in self._watches.values())

    def apply(self, configured: Sequence[BackendSettings], balancing: Balancing) -> None:
        """Take over what a reload has changed, and resolve all names anew.

        A name that was in use before, here or elsewhere, keeps its addresses until its answer
        comes. While a new name has none, the present list serves.
        """
        self._configured = tuple(configured)
        self._balancing = balancing
        for backend in self.pool.backends:
            backend.left_at_ms = None
        self.pool.key = balancing.key
        self.pool.choose_by(balancing.measured)
        self._is_new = True
        self._watch()
        self._start_deadline()
        self._update()
        if self._is_new:
            text = 'upstream "%s" keeps its present backends (%d) until its new names are resolved'
            logger.log(NOTICE, text, self.pool.name, len(self.pool.backends))

    def rebuild(self) -> None:
        """Build the tables anew: weights have changed, and the list has not."""
        self._is_behind = True
        self._loop.soon(self._work, self)

    def retire(self) -> None:
        """Stop resolving and building, as no new client comes here; `apply` resumes both.

        The pool stays as it is, for the clients that it has and those that wait in its queue.
        """
        self._stop()
        for backend in self.pool.backends:
            backend.left_at_ms = self._loop.clock.now_ms

    def close(self) -> None:
        """Stop for good."""
        self._stop()
        # It refers to these members as well: see `BackendWatch.close`.
        del self._deadline

    def _stop(self) -> None:
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        self._has_news = self._is_behind = False
        self._loop.timers.cancel(self._deadline)
        self._steps = None

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f'the names of upstream "{self.pool.name}"'

    def abort(self) -> None:
        """Go on with the tables as they are, after a bug in building others."""
        self._steps = None

    def _watch(self) -> None:
        """Watch the configured names, and no others."""
        before, self._watches = self._watches, {}
        for settings in self._configured:
            if not settings.address.is_name:
                continue
            key = (settings.name, settings.service)
            watch = before.pop(key, None) or self._watches.get(key)
            if watch is None:
                watch = NameWatch(
                    self._loop,
                    self._resolver,
                    self.pool.name,
                    settings,
                    self._note_news,
                    self._refuse,
                )
            if key not in self._watches:
                watch.is_repeating = False
            watch.is_repeating |= settings.resolve
            self._watches[key] = watch
        for watch in before.values():
            watch.close()
        for watch in self._watches.values():
            watch.ask()

    def _start_deadline(self) -> None:
        """Give new names as much time as a query may take."""
        if self._watches:
            timeout_ms = self._resolver.settings.timeout_ms + MARGIN_MS
            self._loop.timers.start(self._deadline, self._loop.clock.now_ms + timeout_ms)

    def _deadline_handler(self, _timer: Timer) -> None:
        self._note_news()

    def _note_news(self) -> None:
        """Update the pool later in this turn or in the next, once for all names that changed."""
        self._has_news = True
        self._loop.soon(self._work, self)

    def _work(self) -> None:
        """Update the list if a name has changed, and do one slice of building."""
        if self._has_news:
            self._update()
        if self._steps is None and self._is_behind:
            self._is_behind = False
            self._steps = self.pool.build_steps(self._balancing.make_balancer)
        if self._steps is not None and not _advance(self._steps):
            self._steps = None
        if self._steps is not None or self._is_behind:
            self._loop.soon(self._work, self)

    def _update(self) -> None:
        """Bring the pool's list in step with the names, unless that would be an outage."""
        self._has_news = False
        wanted = self._wanted()
        if not self._must_wait(wanted):
            present = [backend.settings for backend in self.pool.backends]
            if self._is_new or wanted != present:
                self._replace(wanted)
        if self.settled is not None:
            self.settled()

    def _wanted(self) -> list[BackendSettings]:
        wanted: list[BackendSettings] = []
        for settings in self._configured:
            watch = self._watches.get((settings.name, settings.service))
            wanted += expand(settings, watch.endpoints) if watch is not None else [settings]
        return wanted

    def _must_wait(self, wanted: Sequence[BackendSettings]) -> bool:
        """Return whether the present list goes on serving, as answers about new names are
        missing."""
        if not self._is_new or not has_address(self.pool.backends):
            return False
        return self._is_settling or not (has_address(wanted) or self._is_certain)

    def _replace(self, wanted: Sequence[BackendSettings]) -> None:
        self._is_new = False
        now_ms = self._loop.clock.now_ms
        before = self.pool.backends
        known = (*before, *self._left.backends)
        members = carry_over(known, wanted, self._make_backend)
        self.pool.replace(members)
        self._left.update(before, members, now_ms)
        self.pool.left = self._left.backends
        self._is_behind = True
        self._loop.soon(self._work, self)
        if self.changed is not None:
            self.changed()


def has_address(members: Sequence[Backend] | Sequence[BackendSettings]) -> bool:
    """Return whether any of them is more than a name."""
    return any(not member.address.is_name for member in members)


def _advance(steps: Iterator[None]) -> bool:
    """Do one slice; return False if that was the end."""
    return sum(1 for _ in islice(steps, STEPS_A_TURN)) == STEPS_A_TURN


def carry_over(
    backends: Sequence[Backend],
    wanted: Sequence[BackendSettings],
    make_backend: MakeBackend = Backend,
) -> list[Backend]:
    """Return a backend for each of `wanted`: the one of that name and address, or a new one.

    Where no name fits, a backend with the same address is the same server under another name.
    """
    known: dict[object, list[Backend]] = {}
    for backend in backends:
        known.setdefault((backend.name, backend.address), []).append(backend)
    found = {i: _take_first(known, (s.name, s.address)) for i, s in enumerate(wanted)}
    by_address: dict[object, list[Backend]] = {}
    for rest in known.values():
        for backend in rest:
            by_address.setdefault(backend.address, []).append(backend)
    members = []
    for i, settings in enumerate(wanted):
        same = found[i] or _take_first(by_address, settings.address)
        if same is not None and (same.settings != settings or same.left_at_ms is not None):
            same.apply(settings)
        members.append(same or make_backend(settings))
    return members


def _take_first(known: dict[object, list[Backend]], key: object) -> Backend | None:
    same = known.get(key)
    return same.pop(0) if same else None
