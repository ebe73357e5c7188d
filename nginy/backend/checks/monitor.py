"""PoolMonitor: acts on each change in the health of a pool's backends.

The monitor of a pool has a `BackendWatch` for each backend, as they come and go. Every change of a
backend's health ends up here: the monitor logs it once, with its reason, lets `effect` turn it into
the numbers that balancing reads, tells other workers through the `relay`, and ends the sessions of
a backend that went down if `on_down` says so. Failures of sessions arrive here too, and eject a
backend where the configuration says so.

`health` decides what a backend's state is, and why. `proxy/closer.py` closes sessions; the server
passes that in.

The one idea: nothing here decides about one backend, and nothing in `health` knows of the others.

Source for ejection: Envoy, "Outlier detection".
"""

import random
from collections.abc import Callable, Iterator, Mapping

from nginy.backend.backend import Backend
from nginy.backend.checks.checker import Checker
from nginy.backend.checks.effect import HealthEffect
from nginy.backend.checks.news import News
from nginy.backend.checks.relay import BackendKey, Relay
from nginy.backend.checks.settings import MonitorSettings, OnDown
from nginy.backend.checks.watch import BackendWatch
from nginy.backend.health.eject import EjectSettings
from nginy.backend.health.findings import NOTHING_SAID, Finding
from nginy.backend.health.states import State, StateChange
from nginy.backend.override import Override
from nginy.backend.pool import BackendPool
from nginy.balancer.peer import is_usable
from nginy.text.counts import counted
from nginy.wire.agent import AgentAnswer, Mode

EndSessions = Callable[[Backend, bool, bool], None]
"""Ends the sessions of a backend soon: with a reset if the first flag is set, by an operator if the
second one is."""

Overrides = Mapping[BackendKey, Override]
"""What an operator has set, by name and address; an address "" stands for all of a name."""


class PoolMonitor:
    """Watches over the backends of one pool. Created and closed by the server; survives reloads."""

    __slots__ = (
        "_away",
        "_by_key",
        "_effect",
        "_ejected",
        "_end_sessions",
        "_overrides",
        "_relay",
        "_watches",
        "checker",
        "news",
        "pool",
        "rng",
        "settings",
    )

    def __init__(
        self,
        pool: BackendPool,
        checker: Checker,
        rng: random.Random,
        settings: MonitorSettings,
        end_sessions: EndSessions | None = None,
        relay: Relay | None = None,
    ) -> None:
        """Begin to watch. A `relay` decides whether this worker asks or listens."""
        self.pool = pool
        self.news = News(pool)
        self._overrides: Overrides = {}
        self.checker = checker
        self.rng = rng
        self._end_sessions = end_sessions
        self._watches: dict[Backend, BackendWatch] = {}
        self._by_key: dict[BackendKey, list[Backend]] = {}
        """The backends by the keys that workers share; empty until the first finding comes."""
        self._ejected: set[Backend] = set()
        """The backends that were ejected; some may be back."""
        self._away: dict[Backend, BackendWatch] = {}
        """The resting watches of backends that have left the pool and may return."""
        self._effect = HealthEffect(pool, settings, self.news)
        self._relay = relay
        self.settings = settings
        self.apply(settings)

    @property
    def now_ms(self) -> int:
        """The loop's time."""
        return self.checker.loop.clock.now_ms

    @property
    def is_asking(self) -> bool:
        """Whether this worker asks the backends; if not, another one tells what it finds."""
        return self._relay is None or self._relay.is_leading

    def apply(self, settings: MonitorSettings) -> None:
        """Take over the settings of a reload; health stays."""
        if settings != self.settings:
            self.settings = settings
            for watch in self._watches.values():
                watch.applied = None
        self.pool.watcher = self
        if self._relay is not None:
            self._relay.join(self.pool.name, self)
        self.sync()

    def sync(self) -> None:
        """Follow the pool's list: watch new backends, and stop watching those that have left.

        A backend that returns has the health that it left with.
        """
        before, self._watches = self._watches, {}
        for backend in self.pool.backends:
            watch = before.pop(backend, None) or self._away.pop(backend, None)
            if watch is None:
                watch = BackendWatch(self, backend)
            elif watch.applied is not backend.settings:
                self.news.changed(backend, *watch.apply())
            self._watches[backend] = watch
            if self._overrides and backend.override is None:
                self._set(backend)
        for watch in before.values():
            watch.rest()
        away, remembered = self._away | before, set(self.pool.left)
        self._away = {backend: away.pop(backend) for backend in remembered & away.keys()}
        for watch in away.values():
            watch.close()
        self._by_key.clear()
        self._ejected = {backend for backend in self._watches if backend.health.is_ejected}
        self._begin()
        self._effect.apply(self.settings, self._watches, self.now_ms)

    def _begin(self) -> None:
        """Plan what is not planned yet, for all backends that are new or have changed."""
        total = len(self._watches)
        for position, watch in enumerate(self._watches.values()):
            if watch.applied is not watch.backend.settings:
                watch.begin(position, total)

    def follow_up(
        self, backend: Backend, change: StateChange | None, *, is_heard: bool = False
    ) -> None:
        """Act on what a backend's `Health` has heard.

        `change` is what it returned; without one, weight and limit may still have changed. With
        `is_heard` another worker has found it out and logged it.
        """
        watch = self._watches.get(backend)
        if watch is None:
            return
        if change is not None:
            if not is_heard:
                self.news.changed(backend, change)
            self._effect.update_fail_open(self.now_ms, is_heard=is_heard)
        self._effect.refresh((backend,), self.now_ms)
        if change is not None and change.after is State.UP:
            # They belong to the time before.
            self.pool.forget_failures(backend)
        watch.arm()
        if change is not None and change.after is State.DOWN and not self.pool.is_fail_open:
            self._end_sessions_of(backend)

    def set_mode(self, backend: Backend, mode: Mode, reason: str) -> None:
        """Do what an operator says about a backend; of several workers, only the one that asks logs
        it."""
        change = backend.health.set_mode(mode, reason, self.now_ms)
        self.follow_up(backend, change, is_heard=not self.is_asking)

    def override(self, overrides: Overrides) -> bool:
        """Apply these values to their backends, and the configuration's to all others.

        Returns whether a weight has changed.
        """
        self._overrides = overrides
        weights = [self._weight(backend) for backend in self._watches]
        for backend in self._watches:
            self._set(backend)
        self._effect.refresh(self._watches, self.now_ms)
        return weights != [self._weight(backend) for backend in self._watches]

    def _weight(self, backend: Backend) -> int:
        return backend.settings.weight if backend.override is None else backend.override.weight or 0

    def _set(self, backend: Backend) -> None:
        """Apply what an operator has set for a backend, or no longer sets."""
        wanted = self._overrides.get(_key(backend)) or self._overrides.get((backend.name, ""))
        before, backend.override = backend.override, wanted
        mode_before = None if before is None else before.mode
        mode = None if wanted is None else wanted.mode
        if mode is not mode_before:
            reason = "no longer changed by an operator" if wanted is None else wanted.reason
            is_down = backend.settings.down
            self.set_mode(backend, mode or (Mode.MAINT if is_down else Mode.READY), reason)
        if mode is Mode.READY or (wanted is None and before is not None):
            self.check_passed(backend)

    def end_sessions(self, backend: Backend, *, reset: bool) -> None:
        """End the sessions of a backend because an operator wants it."""
        if self._end_sessions is not None:
            self._end_sessions(backend, reset, True)

    # Findings for other workers, and from them: see `relay`.

    def tell(self, backend: Backend, finding: Finding) -> None:
        """Tell the other workers a finding about a backend."""
        if self._relay is not None:
            self._relay.tell(self.pool.name, _key(backend), finding)

    def hear(self, key: BackendKey, finding: Finding) -> None:
        """Take over another worker's finding."""
        if not self._by_key:
            for backend in self._watches:
                self._by_key.setdefault(_key(backend), []).append(backend)
        for backend in self._by_key.get(key, ()):
            if isinstance(finding, AgentAnswer):
                change = backend.health.hear_agent(finding, self.now_ms)
                self.follow_up(backend, change, is_heard=True)
                continue
            change = backend.health.hear_check(finding, self.now_ms)
            self.follow_up(backend, change, is_heard=True)
            if finding.is_passing:
                self.check_passed(backend)

    def recite(self) -> Iterator[tuple[BackendKey, Finding]]:
        """Yield all findings so far."""
        for backend in self._watches:
            health = backend.health
            if health.checks_total:
                yield _key(backend), health.finding
            if health.agent_said != NOTHING_SAID:
                yield _key(backend), health.agent_said

    def lead_changed(self) -> None:
        """Begin asking, or stop."""
        for watch in self._watches.values():
            watch.applied = None
        self._begin()

    def rest(self) -> None:
        """Watch no more until `apply`: the upstream has left the configuration and may return."""
        self.pool.watcher = None
        if self._relay is not None:
            self._relay.leave(self.pool.name)
        for watch in self._watches.values():
            watch.rest()

    def close(self) -> None:
        """Watch no more; the pool stays as it is."""
        self.pool.watcher = None
        if self._relay is not None:
            self._relay.leave(self.pool.name)
        for watch in (*self._watches.values(), *self._away.values()):
            watch.close()
        self._watches.clear()
        self._away.clear()

    def failed_often(self, backend: Backend, is_news: bool) -> None:
        """Log that failures have taken a backend out, or eject it; see `pool.Watcher`."""
        if backend not in self._watches:
            return
        if self.settings.eject is not None:
            self._eject(backend, self.settings.eject)
            return
        if is_news and not self.pool.is_fail_open:
            now_s = self.now_ms // 1000
            is_alone = not any(is_usable(other, now_s) for other in self._watches)
            self.news.out(backend, is_alone=is_alone)
        self._effect.update_fail_open(self.now_ms)

    def served_again(self, backend: Backend) -> None:
        """Log that a backend works again after failures took it out; see `pool.Watcher`."""
        if backend.health.is_ejected:
            self.follow_up(backend, backend.health.readmit("it served a client", self.now_ms))
        else:
            self._note_back(backend)

    def check_passed(self, backend: Backend) -> None:
        """Forget failures of sessions: the backend has just passed a check."""
        if backend.fails and self.pool.forget_failures(backend):
            self._note_back(backend)

    def _note_back(self, backend: Backend) -> None:
        # Of one that is down, its change to up will tell.
        if not self.pool.is_fail_open and not backend.down:
            self.news.back(backend)
        self._effect.update_fail_open(self.now_ms)

    def _eject(self, backend: Backend, settings: EjectSettings) -> None:
        """Eject a backend whose failed sessions have reached `max_fails`."""
        health = backend.health
        # No pass over the group: many backends of a large one may fail together.
        self._ejected = {b for b in self._ejected if b.health.is_ejected}
        ejected = len(self._ejected)
        reason = counted(backend.fails, "failed session")
        change = health.eject(settings, ejected, len(self._watches), reason, self.now_ms)
        if change is not None:
            self._ejected.add(backend)
        # The failures have had their effect, or have none.
        backend.fails = 0
        self.follow_up(backend, change)

    def eject_until(self, backend: Backend, until_ms: int, in_row: int, reason: str) -> None:
        """Go on with an ejection that another process has begun."""
        if self.settings.eject is None:
            return
        total = len(self._watches) * 100  # what the other one has found right is
        change = backend.health.eject(self.settings.eject, 0, total, reason, self.now_ms)
        if change is not None:
            backend.health.ejection.until_at_ms = until_ms
            backend.health.ejection.in_row = in_row
            self._ejected.add(backend)
            self.follow_up(backend, change, is_heard=True)

    def _end_sessions_of(self, backend: Backend) -> None:
        on_down = self.settings.on_down
        if self._end_sessions is not None and on_down is not OnDown.KEEP:
            self._end_sessions(backend, on_down is OnDown.RESET, False)


def _key(backend: Backend) -> BackendKey:
    return backend.name, backend.addr_text
