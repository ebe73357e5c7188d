"""Who belongs to a pool: the configured backends, and those behind configured names.

`Members` keeps a pool in step with what the configuration lists and with what its names stand for
(`names`). A backend that stays is the same object and keeps its state; one that leaves gets no new
sessions, and its old ones go on. Which backend is picked is the pool's affair (`pool`).

The one idea: the list changes at once, the tables of hash methods follow. Filling a ring for 1,000
backends takes 100 ms, so it is done in slices, one a turn, while the old table serves; who left is
down meanwhile. A build that has begun is finished before the next one begins, or a list that
changes all the time would never get its table.

nginx: `ngx_stream_upstream_zone_resolve_handler` in `ngx_stream_upstream_zone_module.c`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.names.resolver import Resolver
from nginy.backend.names.watch import NameWatch, expand
from nginy.backend.pool import BackendPool, MakeBalancer
from nginy.event.loop import Loop

STEPS_A_TURN: Final = 32
"""Steps of a build done in one turn: of 0.1 to 0.2 ms each, so some 5 ms in all."""


@dataclass(frozen=True, slots=True)
class Method:
    """How a pool chooses: what makes its balancer, what is hashed, and which time is measured."""

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
        "_configured",
        "_has_news",
        "_is_behind",
        "_loop",
        "_make_backend",
        "_method",
        "_resolver",
        "_steps",
        "_watches",
        "changed",
        "pool",
    )

    def __init__(
        self,
        loop: Loop,
        resolver: Resolver,
        name: str,
        configured: Sequence[BackendSettings],
        method: Method,
        make_backend: MakeBackend = Backend,
    ) -> None:
        """Make the pool, at once, and begin to resolve its names."""
        self._loop = loop
        self._make_backend = make_backend
        self._resolver = resolver
        self._configured = tuple(configured)
        self._method = method
        self._watches: dict[NameKey, NameWatch] = {}
        self._steps: Iterator[None] | None = None
        self._has_news = self._is_behind = False
        self.changed: Callable[[], None] | None = None
        """Called after the pool's list of backends has changed."""
        backends = [make_backend(settings) for settings in configured]
        self.pool = BackendPool(name, backends, method.make_balancer, method.key)
        self.pool.choose_by(method.measured)
        self._watch()

    @property
    def are_settled(self) -> bool:
        """Whether each name has been answered for, or has failed, and the tables know it."""
        is_at_work = self._has_news or self._is_behind or self._steps is not None
        return not is_at_work and all(watch.is_settled for watch in self._watches.values())

    def apply(self, configured: Sequence[BackendSettings], method: Method) -> None:
        """Take over what a reload has changed, and resolve all names anew.

        The list is changed when this returns. A name that was there before keeps what it stood for
        until it is answered for.
        """
        self._configured = tuple(configured)
        self._method = method
        self.pool.key = method.key
        self.pool.choose_by(method.measured)
        self._watch()
        self._update()

    def close(self) -> None:
        """Stop resolving and building; the pool stays as it is."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        self._has_news = self._is_behind = False
        self._steps = None

    def abort(self) -> None:
        """Go on with the tables as they are, after a bug in building others."""
        self._steps = None

    def _watch(self) -> None:
        """Watch the names that are configured, and no others."""
        before, self._watches = self._watches, {}
        for settings in self._configured:
            if not settings.address.is_name:
                continue
            key = (settings.name, settings.service)
            watch = before.pop(key, None) or self._watches.get(key)
            if watch is None:
                watch = NameWatch(
                    self._loop, self._resolver, self.pool.name, settings, self._note_news
                )
            if key not in self._watches:
                watch.is_repeating = False
            watch.is_repeating |= settings.resolve
            self._watches[key] = watch
        for watch in before.values():
            watch.close()
        for watch in self._watches.values():
            watch.ask()

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
            self._steps = self.pool.build_steps(self._method.make_balancer)
        if self._steps is not None and not _advance(self._steps):
            self._steps = None
        if self._steps is not None or self._is_behind:
            self._loop.soon(self._work, self)

    def _update(self) -> None:
        """Bring the pool's list in step with the names."""
        self._has_news = False
        wanted: list[BackendSettings] = []
        for settings in self._configured:
            watch = self._watches.get((settings.name, settings.service))
            wanted += expand(settings, watch.places) if watch is not None else [settings]
        self.pool.replace(carry_over(self.pool.backends, wanted, self._make_backend))
        self._is_behind = True
        self._loop.soon(self._work, self)
        if self.changed is not None:
            self.changed()


def _advance(steps: Iterator[None]) -> bool:
    """Do one slice; return False if that was the end."""
    return sum(1 for _ in islice(steps, STEPS_A_TURN)) == STEPS_A_TURN


def carry_over(
    backends: Sequence[Backend],
    wanted: Sequence[BackendSettings],
    make_backend: MakeBackend = Backend,
) -> list[Backend]:
    """Return a backend for each of `wanted`: the one of that name and address, or a new one."""
    known: dict[object, list[Backend]] = {}
    for backend in backends:
        known.setdefault((backend.name, backend.address), []).append(backend)
    members = []
    for settings in wanted:
        same = known.get((settings.name, settings.address))
        if not same:
            members.append(make_backend(settings))
            continue
        backend = same.pop(0)
        if backend.settings != settings:
            backend.apply(settings)
        members.append(backend)
    return members
