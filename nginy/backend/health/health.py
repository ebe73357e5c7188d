"""The health of one backend: what each cause says about it, what follows, and why.

The states, the causes and the table of transitions are in `states`; the grid of checks is in
`schedule`, the arithmetic of ejection in `eject`, what concerns several backends in `group`.
Sockets and timers are in `checks` and `names`, sessions in `nginy.proxy`. Nothing here reads a
clock or logs: time and random source are arguments, and each method returns what it has changed as
one `StateChange`, for the caller to log and act on.

The one idea: every method hears one thing that happened and moves the voice of its cause by the
table. Then the worst word is the state, and if that differs from before, there is one
`StateChange`. One result never makes two.

How the live parts use it:

    timer at health.schedule.next_at_ms -> start_check(), send; timer at health.deadline_at_ms
    answer, error or deadline           -> finish_check(), log the StateChange; next_at_ms is set
    timer at health.ejection_ends_at_ms -> end_ejection()

Read first: `states`, `voices`.
"""

import random
from typing import Final

from nginy.backend.health.eject import Ejection, EjectSettings
from nginy.backend.health.findings import NOTHING_SAID, CheckFinding, merge, result_text
from nginy.backend.health.group import may_eject
from nginy.backend.health.past import PastStates
from nginy.backend.health.schedule import CheckSchedule, CheckSettings
from nginy.backend.health.slow_start import slow_start_percent
from nginy.backend.health.states import UNCHECKED, Cause, Needs, State, StateChange, Trigger
from nginy.backend.health.voices import MODE_TRIGGERS, Voices, agent_words
from nginy.text.units import format_duration
from nginy.wire.agent import AgentAnswer, Mode

NO_RESULT: Final = "no result in time"
NOT_CHECKED: Final = "not checked yet"

# Leaving one of these is a recovery, which slow start is for. A drained backend is still warm.
COLD: Final = frozenset({State.EJECTED, State.DOWN, State.UNRESOLVED, State.MAINTENANCE})


class Health:
    """All that is known about one backend's health; held as `backend.health`, kept over reloads.

    `state` is the worst word of all causes, `reason` says why, `since_at_ms` since when.
    `deadline_at_ms` is set while a check runs: its result must come by then.
    `fails_in_row` and `passes_in_row` stop counting at the thresholds. `is_passing`: the last check
    has passed, and has heard from the backend.
    `agent_percent` and `agent_max_conns` are the agent's; None leaves the configured limit.
    `agent_said` is all that it has said so far.
    """

    __slots__ = (
        "_is_cold",
        "_recovered_at_ms",
        "_settings",
        "_voices",
        "agent_max_conns",
        "agent_percent",
        "agent_said",
        "checks_failed_total",
        "checks_total",
        "deadline_at_ms",
        "ejection",
        "fails_in_row",
        "is_passing",
        "last_check",
        "passes_in_row",
        "past",
        "reason",
        "schedule",
        "since_at_ms",
        "state",
        "unhealthy_total",
    )

    def __init__(
        self,
        settings: CheckSettings | None,
        now_ms: int,
        *,
        is_down: bool = False,
        is_resolved: bool = True,
    ) -> None:
        """Begin with what the configuration says: `is_down` is its `down`.

        `settings` is None without an active check; `is_resolved` is false for a host name without a
        known address.
        """
        self._voices = Voices()
        if is_down:
            self._voices.set(Cause.OPERATOR, State.MAINTENANCE, "down in the configuration")
        if not is_resolved:
            self._voices.set(Cause.NAME, State.UNRESOLVED, "not resolved yet")
        self._settings = settings
        self.deadline_at_ms: int | None = None
        self._begin_check_voice(is_trusted=settings is None or settings.is_initially_up)
        self.schedule = CheckSchedule()
        self.state = self._voices.state
        self.reason = self._voices.reason
        self.since_at_ms = now_ms
        self.last_check = ""
        self.checks_total = self.checks_failed_total = 0
        self.unhealthy_total, self.past = 0, PastStates()  # the former: how often it became DOWN
        self.ejection = Ejection()
        self.agent_percent = 100
        self.agent_max_conns: int | None = None
        self.agent_said = NOTHING_SAID
        self._is_cold = self.state in COLD
        self._recovered_at_ms: int | None = None

    def __repr__(self) -> str:
        """Return the state, why, and the counters of its checks."""
        return f"<Health {self.state} {self.reason!r} +{self.passes_in_row} -{self.fails_in_row}>"

    def can_serve(self, *, fail_open: bool = False) -> bool:
        """Tell whether new sessions may go to the backend.

        `fail_open` ignores what checks, agent and failures say, and heeds what is deliberate.
        """
        return not self.is_deliberately_out if fail_open else self.state is State.UP

    @property
    def voices(self) -> Voices:
        """What each cause says."""
        return self._voices

    @property
    def is_deliberately_out(self) -> bool:
        """Whether an operator, the agent or its name keeps the backend out, whatever else holds."""
        return self._voices.are_deliberate

    @property
    def is_ejected(self) -> bool:
        """Whether the backend is ejected, whatever else is said about it."""
        return self._voices.word(Cause.PASSIVE) is State.EJECTED

    @property
    def ejection_ends_at_ms(self) -> int | None:
        """The time for `end_ejection`, or None if the backend is not ejected."""
        return self.ejection.until_at_ms if self.is_ejected else None

    def weight_percent(self, slow_start_ms: int | None, now_ms: int) -> int:
        """Return the present share of the configured weight, from agent and slow start, in percent.

        At least 1, unless the agent says 0. It grows until `slow_start_ms` have passed since the
        backend came back.
        """
        if slow_start_ms is None or self._recovered_at_ms is None or self.agent_percent == 0:
            return self.agent_percent
        ramp = slow_start_percent(now_ms - self._recovered_at_ms, slow_start_ms)
        return max(self.agent_percent * ramp // 100, 1)

    def apply(
        self, settings: CheckSettings | None, now_ms: int, rng: random.Random
    ) -> StateChange | None:
        """Go on with other settings after a reload; call `begin_checks` next.

        Results so far, a running check and the grid stay, so frequent reloads do not put off checks
        for ever; a new interval counts from the last check. New checks do not take out a serving
        backend; `initial` is only for a new backend.
        """
        before, self._settings = self._settings, settings
        if settings is None or before is None:
            self._begin_check_voice(is_trusted=True)
            self.schedule.pause()
            return self._conclude(Cause.CHECK, "health check removed", now_ms)
        if settings != before and self.schedule.next_at_ms is not None:
            self.schedule.plan(self._interval_ms(settings), settings.jitter_ms, now_ms, rng)
        return None

    def begin_checks(self, position: int, total: int, now_ms: int, rng: random.Random) -> None:
        """Plan the first check of the backend at `position`, from 0, among `total`.

        Plans nothing without an active check, with a check planned already, or in a state that gets
        no checks; leaving that state will plan one.
        """
        settings = self._settings
        if settings is None or self.schedule.next_at_ms is not None or self.state in UNCHECKED:
            return
        interval_ms = self._interval_ms(settings)
        self.schedule.begin(now_ms + settings.interval_ms * position // total, interval_ms)
        self.schedule.plan(interval_ms, settings.jitter_ms, now_ms, rng)

    def start_check(self, now_ms: int, rng: random.Random) -> StateChange | None:
        """Begin the check that is due, plan the next one, and set `deadline_at_ms`.

        The deadline stays None if no check is planned: make none, then. A check that still runs has
        failed, and may cause the StateChange that is returned.
        """
        change = self.finish_check(NO_RESULT, now_ms, rng)
        settings = self._settings
        if settings is not None and self.schedule.next_at_ms is not None:
            interval_ms = self._interval_ms(settings)
            self.schedule.start(interval_ms, now_ms)
            self.schedule.plan(interval_ms, settings.jitter_ms, now_ms, rng)
            self.deadline_at_ms = min(now_ms + settings.timeout_ms, self.schedule.next_at_ms)
        return change

    def finish_check(
        self, failure: str | None, now_ms: int, rng: random.Random, *, is_silent: bool = False
    ) -> StateChange | None:
        """Take the result of the running check: None if it passed, else a clause on the failure.

        A check that passes `is_silent` if it has heard nothing. It ignores a result that comes
        after checks have been paused or removed.
        """
        settings = self._settings
        if settings is None or self.deadline_at_ms is None:
            return None
        self.deadline_at_ms = None
        interval_ms = self._interval_ms(settings)
        met = self._count(failure, settings)
        self.is_passing = failure is None and not is_silent
        trigger = Trigger.CHECK_PASSED if failure is None else Trigger.CHECK_FAILED
        reason = result_text(self.passes_in_row or self.fails_in_row, failure)
        if self._voices.tell(Cause.CHECK, trigger, reason, met) and failure is None:
            # The check has brought it up, which is worth more than older failures of sessions.
            self._end_ejection(reason, now_ms)
        if self._interval_ms(settings) != interval_ms:
            self.schedule.plan(self._interval_ms(settings), settings.jitter_ms, now_ms, rng)
        return self._conclude(Cause.CHECK, reason, now_ms)

    @property
    def finding(self) -> CheckFinding:
        """What the check has found so far, for other workers."""
        word, failure = self._voices.word(Cause.CHECK), self.last_check if self.fails_in_row else ""
        in_row = self.fails_in_row or self.passes_in_row
        return CheckFinding(word, in_row, failure, self.is_passing)

    def hear_check(self, finding: CheckFinding, now_ms: int) -> StateChange | None:
        """Take over what another worker's check has found, instead of checking."""
        if self._settings is None or self.state in UNCHECKED:
            return None
        failure = finding.failure or None
        self.checks_total += 1
        self.checks_failed_total += failure is not None
        self.last_check = failure or "passed"
        self.is_passing = finding.is_passing
        self.passes_in_row = finding.in_row if failure is None else 0
        self.fails_in_row = 0 if failure is None else finding.in_row
        reason = result_text(self.passes_in_row or self.fails_in_row, failure)
        if finding.word is not self._voices.word(Cause.CHECK):
            self._voices.set(Cause.CHECK, finding.word, reason)
            if finding.word is State.UP:
                self._end_ejection(reason, now_ms)
        return self._conclude(Cause.CHECK, reason, now_ms)

    def learn(self, other: "Health", now_ms: int) -> StateChange | None:
        """Begin with what another backend with the same question knows: it is the same server.

        Call `begin_checks` next. A backend that has results of its own, or a plan, keeps them.
        """
        if self._settings is not None and self.schedule.next_at_ms is None:
            self.schedule.follow(other.schedule)
        if self.checks_total or not other.checks_total:
            return None
        return self.hear_check(other.finding, now_ms)

    def set_mode(self, mode: Mode, reason: str, now_ms: int) -> StateChange | None:
        """Do what an operator says."""
        self._voices.tell(Cause.OPERATOR, MODE_TRIGGERS[mode], reason)
        return self._conclude(Cause.OPERATOR, reason, now_ms)

    def hear_agent(self, answer: AgentAnswer, now_ms: int) -> StateChange | None:
        """Do what the agent says; leave what it does not mention."""
        moved: list[Cause] = []
        reasons: list[str] = []
        for cause, trigger, reason in agent_words(answer):
            if self._voices.tell(cause, trigger, reason):
                moved.append(cause)
                reasons.append(reason)
        if answer.weight_percent is not None:
            self.agent_percent = answer.weight_percent
        if answer.max_conns is not None:
            self.agent_max_conns = answer.max_conns
        self.agent_said = merge(self.agent_said, answer)
        if not moved:
            return None
        return self._conclude(max(moved, key=self._voices.word), "; ".join(reasons), now_ms)

    def forget_agent(self, now_ms: int) -> StateChange | None:
        """Take back all that an agent has said: it has left the configuration."""
        for cause in (Cause.AGENT_MODE, Cause.AGENT_CONDITION, Cause.AGENT_WEIGHT):
            self._voices.set(cause, State.UP, "")
        self.agent_percent = 100
        self.agent_max_conns = None
        self.agent_said = NOTHING_SAID
        return self._conclude(Cause.AGENT_MODE, "agent check removed", now_ms)

    def eject(
        self, settings: EjectSettings, ejected: int, total: int, reason: str, now_ms: int
    ) -> StateChange | None:
        """Put the backend out for a while, because too many of its sessions have failed.

        `ejected` of the group's `total` backends are out already (`is_ejected`). Nothing happens if
        the group's share is used up, or if the backend gets no new sessions anyway. In either case
        the failures have had their effect, and the caller counts from 0 again.
        """
        if self.state is not State.UP or not may_eject(settings, ejected, total):
            return None
        duration_ms = self.ejection.begin(settings, now_ms)
        reason = f"ejected for {format_duration(duration_ms)}: {reason}"
        self._voices.tell(Cause.PASSIVE, Trigger.TOO_MANY_FAILURES, reason)
        return self._conclude(Cause.PASSIVE, reason, now_ms)

    def end_ejection(self, now_ms: int) -> StateChange | None:
        """Let the backend back if its time is over; before that, or if not ejected, do nothing."""
        if now_ms < self.ejection.until_at_ms:
            return None
        return self.readmit("ejection is over", now_ms)

    def readmit(self, reason: str, now_ms: int) -> StateChange | None:
        """End an ejection now: the backend has shown that it works."""
        self._end_ejection(reason, now_ms)
        return self._conclude(Cause.PASSIVE, reason, now_ms)

    def _end_ejection(self, reason: str, now_ms: int) -> None:
        self.ejection.until_at_ms = min(self.ejection.until_at_ms, now_ms)
        self._voices.tell(Cause.PASSIVE, Trigger.EJECTION_OVER, reason)

    def _conclude(self, cause: Cause, reason: str, now_ms: int) -> StateChange | None:
        """Make the worst word the state; return the StateChange if it is another one."""
        before = self.state
        self.state = after = self._voices.state
        if after is not State.UP:
            self.reason = self._voices.reason
        if after is before:
            return None
        if after is State.UP:
            self.reason = reason
        elif self._voices.worst is not cause:
            reason = f"{reason}; {self.reason}"
        self.past.add(before, now_ms - self.since_at_ms)
        self.since_at_ms = now_ms
        self._pause_or_resume(before, now_ms)
        self._note_recovery(now_ms)
        return StateChange(before, after, cause, reason)

    def _pause_or_resume(self, before: State, now_ms: int) -> None:
        """Stop checks when entering a state without checks; start them when leaving it."""
        if self._settings is None or (before in UNCHECKED) is (self.state in UNCHECKED):
            return
        if self.state in UNCHECKED:
            self._voices.tell(Cause.CHECK, Trigger.CHECKS_PAUSED, NOT_CHECKED)
            self.schedule.pause()
            self._forget_results()
        else:
            self.schedule.resume(now_ms)

    def _note_recovery(self, now_ms: int) -> None:
        """Note when slow start begins, and count how often the backend was down."""
        if self.state is State.DOWN:
            self.unhealthy_total += 1
        if self.state is State.UP and self._is_cold:
            self._is_cold = False
            self._recovered_at_ms = now_ms
        elif self.state in COLD:
            self._is_cold = True

    def _begin_check_voice(self, *, is_trusted: bool) -> None:
        """Begin without results of the check: with no objection to a trusted backend."""
        self._forget_results()
        if self._settings is None or (is_trusted and self._voices.state not in UNCHECKED):
            self._voices.set(Cause.CHECK, State.UP, "")
        else:
            self._voices.set(Cause.CHECK, State.CHECKING, NOT_CHECKED)

    def _forget_results(self) -> None:
        """Wait for no result, and count from 0."""
        self.is_passing = False
        self.deadline_at_ms = None
        self.fails_in_row = self.passes_in_row = 0

    def _interval_ms(self, settings: CheckSettings) -> int:
        """Return the interval for what the check has found so far."""
        is_up = self._voices.word(Cause.CHECK) is State.UP
        is_changing = self.fails_in_row if is_up else self.passes_in_row
        if is_changing and settings.interval_changing_ms is not None:
            return settings.interval_changing_ms
        return settings.interval_ms if is_up else settings.interval_down_ms

    def _count(self, failure: str | None, settings: CheckSettings) -> set[Needs]:
        """Count one result, which ends a row of the other kind; return the needs that are met."""
        self.checks_total += 1
        self.last_check = failure or "passed"
        if failure is None:
            self.passes_in_row = min(self.passes_in_row + 1, settings.passes)
            self.fails_in_row = 0
        else:
            self.checks_failed_total += 1
            self.fails_in_row = min(self.fails_in_row + 1, settings.fails)
            self.passes_in_row = 0
        met = {Needs.ONE}
        if self.fails_in_row == settings.fails:
            met.add(Needs.FAILS)
        if self.passes_in_row == settings.passes:
            met.add(Needs.PASSES)
        return met
