"""One backend under watch: the timer and the check that bring its health forward.

`Health` knows what must happen and when; a `BackendWatch` makes it happen. It has one timer, for
whatever is due first: the next check, the end of an ejection, the next step of a slow start.
`monitor` decides what a change does to the backend and to its pool.

The one idea: `Health` has the plan and knows no timer, and everything that happens sets the timer
anew from the plan. So no forgotten case can lose a check.

Read first: `health`. Read next: `monitor`, `checker`.

Tested in tests/backend/checks/test_monitor.py.
"""

import logging
import random
from collections.abc import Hashable, Sequence
from typing import Final, Protocol

from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.checks.agent import AgentWatch
from nginy.backend.checks.checker import Checker, question_key
from nginy.backend.checks.dialog import Result
from nginy.backend.checks.news import News
from nginy.backend.checks.open_checks import Check
from nginy.backend.checks.settings import MonitorSettings
from nginy.backend.checks.sharing import Part, SharedCheck, Sharer
from nginy.backend.health.findings import NOTHING_SAID, Finding
from nginy.backend.health.health import Health
from nginy.backend.health.states import StateChange
from nginy.event.timer import Timer
from nginy.wire.agent import AgentAnswer, Mode

logger = logging.getLogger("nginy.backend")

SLOW_START_STEPS: Final = 90
"""From 10 to 100 %, one by one."""
SLOW_START_STEP_MS: Final = 50
"""The shortest step: a weight that changes faster changes no choice."""
AFTER_BUG_MS: Final = 1000
"""When to go on after a bug."""


class Monitor(Protocol):
    """The monitor of a pool, as the watch of one backend sees it."""

    checker: Checker
    news: News
    rng: random.Random
    settings: MonitorSettings

    @property
    def now_ms(self) -> int:
        """The loop's time."""

    @property
    def is_asking(self) -> bool:
        """Whether to ask the backend and its agent; another worker does if not."""

    def follow_up(self, backend: Backend, change: StateChange | None) -> None:
        """Do what follows from what the backend's `Health` has just heard."""

    def tell(self, backend: Backend, finding: Finding) -> None:
        """Tell other workers what a check or an agent has found."""

    def check_passed(self, backend: Backend) -> None:
        """Forget failures of sessions."""


class BackendWatch:
    """The timer and the checks of one backend. Created and closed by its `PoolMonitor`."""

    __slots__ = (
        "_agent",
        "_began_at_ms",
        "_check",
        "_group",
        "_is_down",
        "_key",
        "_monitor",
        "_step_at_ms",
        "_timer",
        "applied",
        "backend",
    )

    def __init__(self, monitor: Monitor, backend: Backend) -> None:
        """Give a new backend its health."""
        self._monitor = monitor
        self.backend = backend
        self._is_down = backend.settings.down
        backend.health = Health(
            monitor.settings.check,
            monitor.now_ms,
            is_down=self._is_down,
            is_resolved=not backend.address.is_name,
        )
        self._timer = Timer(self._next_step_handler, self)
        self._check: Check | None = None
        self._key: Hashable = None
        self._group: Sequence[Sharer] = ()
        """Those that ask the same, this one among them, while it has a `_key`."""
        self._agent: AgentWatch | None = None
        self._step_at_ms: int | None = None
        self._began_at_ms = 0
        self.applied: BackendSettings | None = None
        """The backend's settings when `begin` was called; None if the monitor's have changed."""

    def __repr__(self) -> str:
        """Show the backend and its health."""
        return f"<BackendWatch {self.backend!r} {self.backend.health!r}>"

    def apply(self) -> tuple[StateChange | None, ...]:
        """Take over the settings of a reload; call `begin` next."""
        monitor, health, now_ms = self._monitor, self.backend.health, self._monitor.now_ms
        changes = [health.apply(monitor.settings.check, now_ms, monitor.rng)]
        is_down = self.backend.settings.down
        if is_down is not self._is_down:
            self._is_down = is_down
            mode = Mode.MAINT if is_down else Mode.READY
            reason = f"{'' if is_down else 'no longer '}down in the configuration"
            changes.append(health.set_mode(mode, reason, now_ms))
        if monitor.settings.agent is None:
            self._close_agent()
            if health.agent_said != NOTHING_SAID:
                changes.append(health.forget_agent(now_ms))
        return tuple(changes)

    def begin(self, position: int, total: int) -> None:
        """Plan what is not planned yet, for the backend at `position` among `total`."""
        monitor, backend = self._monitor, self.backend
        self.applied = backend.settings
        if not monitor.is_asking:
            self._close_agent()
            self._leave_group()
            backend.health.deadline_at_ms = None
            self.arm()
            return
        self._join_group()
        backend.health.begin_checks(position, total, monitor.now_ms, monitor.rng)
        agent = monitor.settings.agent
        if agent is not None and not backend.address.is_name:
            if self._agent is None:
                self._agent = AgentWatch(
                    monitor.checker, monitor.rng, backend.address, self._agent_heard
                )
            self._agent.apply(agent, position, total)
        self.arm()

    def arm(self) -> None:
        """Set the timer for what is due first; stop a check whose result no longer matters."""
        health, timers = self.backend.health, self._monitor.checker.loop.timers
        if health.deadline_at_ms is None and self._check is not None:
            self._check.cancel()
            self._check = None
        self._plan_step()
        check_at_ms = health.schedule.next_at_ms if self._monitor.is_asking else None
        if self._monitor.checker.open.is_waiting(self):
            check_at_ms = None
        due = (check_at_ms, health.ejection_ends_at_ms, self._step_at_ms)
        first_ms = min((at_ms for at_ms in due if at_ms is not None), default=None)
        if first_ms is None:
            timers.cancel(self._timer)
        else:
            timers.start(self._timer, first_ms)

    def rest(self) -> None:
        """Watch no more until `apply` and `begin`; the backend's health stays as it is."""
        self.applied = None
        self._monitor.checker.loop.timers.cancel(self._timer)
        if self._check is not None:
            self._check.cancel()
            self._check = None
            # Its result no longer matters, and a missing one is not the backend's fault.
            self.backend.health.deadline_at_ms = None
        self._leave_group()
        self._close_agent()

    def _join_group(self) -> None:
        """Join the watches that ask the same; a new backend learns at once what they have found."""
        monitor, settings = self._monitor, self._monitor.settings
        key: Hashable = None
        if settings.probe and settings.check and not self.backend.address.is_name:
            key = question_key(settings.probe, settings.check, self.backend)
        if key == self._key:
            return
        self._leave_group()
        if key is None:
            return
        self._key, self._group = key, monitor.checker.groups.join(key, self)
        if len(self._group) > 1:
            health = self._group[0].backend.health
            monitor.follow_up(self.backend, self.backend.health.learn(health, monitor.now_ms))

    def _leave_group(self) -> None:
        self._monitor.checker.open.leave(self)
        if self._key is not None:
            self._monitor.checker.groups.leave(self._key, self)
            self._key, self._group = None, ()

    def _close_agent(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def close(self) -> None:
        """Watch no more, for ever."""
        self.rest()
        # It refers to this watch as well: together they would wait, with the backend, for the
        # cyclic garbage collector, which comes seldom (process/server.py).
        del self._timer

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f"backend {self.backend.name}"

    def abort(self) -> None:
        """Go on after a bug in a handler, but not at once."""
        self._monitor.checker.loop.timers.start(self._timer, self._monitor.now_ms + AFTER_BUG_MS)

    def _plan_step(self) -> None:
        """Plan the next step of a slow start that is under way, if none is planned."""
        slow_start_ms, health = self.backend.settings.slow_start_ms, self.backend.health
        now_ms = self._monitor.now_ms
        if slow_start_ms is None or (
            health.weight_percent(slow_start_ms, now_ms) >= health.agent_percent
        ):
            self._step_at_ms = None
        elif self._step_at_ms is None:
            step_ms = max(slow_start_ms // SLOW_START_STEPS, SLOW_START_STEP_MS)
            self._step_at_ms = now_ms + step_ms

    def _next_step_handler(self, _timer: Timer) -> None:
        """Do all that is due, and set the timer again in any case."""
        health, now_ms = self.backend.health, self._monitor.now_ms
        check_at_ms = health.schedule.next_at_ms if self._monitor.is_asking else None
        back_at_ms = health.ejection_ends_at_ms
        if self._step_at_ms is not None and self._step_at_ms <= now_ms:
            self._step_at_ms = None
            self._monitor.follow_up(self.backend, None)
        if back_at_ms is not None and back_at_ms <= now_ms:
            self._monitor.follow_up(self.backend, health.end_ejection(now_ms))
        if check_at_ms is not None and check_at_ms <= now_ms:
            checks = self._monitor.checker.open
            if not checks.is_waiting(self) and checks.admit(self):
                self._ask()
                return
        self.arm()

    def turn_has_come(self) -> None:
        """Make the check that has waited until fewer were under way, if it is still due."""
        next_at_ms = self.backend.health.schedule.next_at_ms
        if next_at_ms is not None and next_at_ms <= self._monitor.now_ms:
            self._ask()
        else:
            self.arm()

    def _ask(self) -> None:
        """Make a check, for all watches that ask the same."""
        sharers: list[Sharer] = [self]
        if len(self._group) > 1:
            sharers += [other for other in self._group if other is not self]
        asking = [sharer for sharer in sharers if sharer.begin_check()]
        probe = self._monitor.settings.probe
        deadline_ms = asking[0].backend.health.deadline_at_ms if asking else None
        if probe is None or deadline_ms is None:
            self.arm()
            return
        backend = asking[0].backend
        shared = SharedCheck(asking) if len(asking) > 1 else None
        check = self._monitor.checker.start(
            probe,
            backend.address,
            deadline_ms,
            asking[0].check_ended if shared is None else shared.ended,
            backend.settings.proxy_protocol,
            backend.name,
        )
        if shared is None:
            asking[0].note_check(check)
            return
        shared.check = check
        for sharer in asking:
            sharer.note_check(Part(shared, sharer))

    def begin_check(self) -> bool:
        """Begin to wait for a result, if the backend needs a check now."""
        monitor, health = self._monitor, self.backend.health
        if not monitor.is_asking or health.schedule.next_at_ms is None:
            return False
        monitor.checker.open.leave(self)
        change = health.start_check(monitor.now_ms, monitor.rng)
        if self._check is not None:
            # It is late, and counted as failed.
            self._check.cancel()
            self._check = None
            self._note(b"", b"", has_passed=False)
            monitor.tell(self.backend, health.finding)
        if change is not None:
            monitor.follow_up(self.backend, change)
        self._began_at_ms = monitor.now_ms
        return health.deadline_at_ms is not None

    def note_check(self, check: Check) -> None:
        """Take the check that has begun; it may have ended at once."""
        if self.backend.health.deadline_at_ms is not None:
            self._check = check
        self.arm()

    def check_ended(self, result: Result) -> None:
        """Take the result of a check."""
        self._check = None
        monitor, health = self._monitor, self.backend.health
        if result.is_ours:
            # There was no check, so this says nothing about the backend.
            health.deadline_at_ms = None
            monitor.news.not_checked(self.backend, result.failure, monitor.now_ms)
            return
        self._note(result.sent, result.got, has_passed=not result.failure)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("check of %s: %s", self.backend.name, result.failure or "passed")
        next_at_ms = health.schedule.next_at_ms
        change = health.finish_check(
            result.failure or None, monitor.now_ms, monitor.rng, is_silent=result.is_silent
        )
        monitor.tell(self.backend, health.finding)
        if change is not None:
            monitor.follow_up(self.backend, change)
        elif health.schedule.next_at_ms != next_at_ms:
            self.arm()
        if health.is_passing:
            monitor.check_passed(self.backend)

    def _note(self, sent: bytes, got: bytes, *, has_passed: bool) -> None:
        """Remember the result of the check that has just ended, and what both sides said."""
        took_ms = self._monitor.now_ms - self._began_at_ms
        results = self.backend.health.schedule.results
        results.add(self._began_at_ms, took_ms, has_passed=has_passed)
        results.said = sent, got

    def _agent_heard(self, answer: AgentAnswer) -> None:
        monitor, health = self._monitor, self.backend.health
        change = health.hear_agent(answer, monitor.now_ms)
        monitor.tell(self.backend, health.agent_said)
        monitor.follow_up(self.backend, change)
