"""HealthEffect: what health does to the choice of a backend.

Balancing algorithms know nothing of health. They read four numbers of a backend: `down`, `weight`,
`max_conns` and `max_fails`. This module computes them whenever something has changed, so health
costs nothing at a pick. `fail_open` belongs here too: when too few backends are up, the numbers
come out as if all were.

`monitor` says when to compute them, and for which backends.

Source for `fail_open`: Envoy, "Panic threshold".

Tested in tests/backend/checks/test_monitor.py.
"""

from collections.abc import Collection, Iterable

from nginy.backend.backend import Backend
from nginy.backend.checks.news import News
from nginy.backend.checks.settings import MonitorSettings
from nginy.backend.health.group import is_fail_open
from nginy.backend.health.states import State
from nginy.backend.override import NOTHING
from nginy.backend.pool import BackendPool


class HealthEffect:
    """The numbers of one pool's backends. Created by its `PoolMonitor`; needs no closing."""

    __slots__ = ("_backends", "_news", "_pool", "_settings")

    def __init__(self, pool: BackendPool, settings: MonitorSettings, news: News) -> None:
        """Compute nothing before `apply`."""
        self._pool = pool
        self._news = news
        self._settings = settings
        self._backends: Collection[Backend] = ()

    def apply(self, settings: MonitorSettings, backends: Collection[Backend], now_ms: int) -> None:
        """Compute everything anew: the settings or the pool's list have changed."""
        self._settings = settings
        self._backends = backends
        is_scaled = settings.has_weights and (
            settings.agent is not None
            or any(backend.settings.slow_start_ms is not None for backend in backends)
        )
        # 100 steps for each unit: a weight of 1 could not become less otherwise.
        self._pool.scale = 100 if is_scaled else 1
        self._pool.is_fail_open = self._is_fail_open(now_ms)
        self.refresh(backends, now_ms)

    def refresh(self, backends: Iterable[Backend], now_ms: int) -> None:
        """Compute the numbers of some backends."""
        pool, has_moved = self._pool, False
        for backend in backends:
            health, settings = backend.health, backend.settings
            backend.down = not health.can_serve(fail_open=pool.is_fail_open)
            override = backend.override or NOTHING
            limit = health.agent_max_conns if override.max_conns is None else override.max_conns
            backend.max_conns = settings.max_conns if limit is None else limit
            backend.max_fails = 0 if pool.is_fail_open else settings.max_fails
            weight = settings.weight if override.weight is None else override.weight
            if pool.scale > 1:
                percent = health.weight_percent(settings.slow_start_ms, now_ms)
                weight = max(weight * percent * pool.scale // 100, 1)
            if weight != backend.weight:
                backend.reweigh(weight)
                has_moved = True
            pool.changed(backend)
        if has_moved and self._settings.has_weights:
            pool.reweigh()
        if pool.queue is not None:
            pool.queue.call_all()

    def update_fail_open(self, now_ms: int, *, is_heard: bool = False) -> None:
        """Begin or stop ignoring health; with `is_heard` another worker logs it."""
        pool = self._pool
        is_open = self._is_fail_open(now_ms)
        if is_open is pool.is_fail_open:
            return
        pool.is_fail_open = is_open
        if not is_heard:
            self._news.fail_open(self._count_up(now_ms), len(self._backends))
        self.refresh(self._backends, now_ms)

    def _is_fail_open(self, now_ms: int) -> bool:
        threshold = self._settings.fail_open
        if not threshold:
            return False
        total = sum(not backend.health.is_deliberately_out for backend in self._backends)
        return is_fail_open(self._count_up(now_ms), total, threshold)

    def _count_up(self, now_ms: int) -> int:
        """Count the backends that neither health nor failures of sessions keep from serving."""
        now_s = now_ms // 1000
        return sum(b.health.state is State.UP and not _is_out(b, now_s) for b in self._backends)


def _is_out(backend: Backend, now_s: int) -> bool:
    """Whether failures of sessions have a backend out, or would if `fail_open` let them."""
    settings = backend.settings
    return (
        0 < settings.max_fails <= backend.fails
        and now_s - backend.checked_s <= settings.fail_timeout_s
    )
