"""One backend's health: what happens to it, and what follows."""

import itertools
import random

import pytest
from nginy.backend.health.eject import EjectSettings
from nginy.backend.health.health import Health
from nginy.backend.health.schedule import CheckSettings
from nginy.backend.health.slow_start import slow_start_percent
from nginy.backend.health.states import Cause, State, StateChange
from nginy.wire.agent import AgentAnswer, Mode, OperatingWord

EJECT = EjectSettings(base_ms=30_000, max_ms=300_000, max_percent=50)
SLOW_START_MS = 10_000


def settings(**changed):
    """The defaults of `health_check`, with some changed."""
    keys = {
        "interval_ms": 5_000,
        "interval_down_ms": 2_000,
        "timeout_ms": 1_000,
        "jitter_ms": 0,
        "fails": 3,
        "passes": 2,
        "is_initially_up": True,
    }
    return CheckSettings(**(keys | changed))


def known(at_ms: int | None) -> int:
    """An instant that has to be there."""
    assert at_ms is not None
    return at_ms


class Checked:
    """A Health with its checks, driven through time: each letter of `results` is one check."""

    def __init__(self, health, now_ms=0, seed=0):
        self.health = health
        self.rng = random.Random(seed)
        self.now_ms = now_ms
        health.begin_checks(0, 1, now_ms, self.rng)

    def run(self, results):
        """Make a check for each letter, "+" passes and "-" fails; return the changes."""
        changes = []
        for result in results:
            self.now_ms = self.health.schedule.next_at_ms
            changes.append(self.health.start_check(self.now_ms, self.rng))
            failure = None if result == "+" else "refused"
            changes.append(self.health.finish_check(failure, self.now_ms, self.rng))
        return [change for change in changes if change is not None]


def checked(**changed):
    """A backend that is checked with these settings."""
    return Checked(Health(settings(**changed), 0))


@pytest.mark.parametrize(
    ("results", "next_ms"),
    [
        ("", 5_000),
        ("+", 5_000),
        ("-", 1_000),
        ("--", 1_000),
        ("---", 2_000),
        ("----", 2_000),
        ("---+", 1_000),
        ("---+-", 2_000),
        ("---++", 5_000),
        ("-+", 5_000),
    ],
)
def test_while_results_change_the_state_checks_come_at_an_interval_of_their_own(results, next_ms):
    backend = checked(interval_changing_ms=1_000)
    backend.run("+" + results)
    assert known(backend.health.schedule.next_at_ms) - backend.now_ms == next_ms


@pytest.mark.parametrize(
    ("is_initially_up", "results", "state"),
    [
        (True, "", State.UP),
        (True, "--", State.UP),
        (True, "---", State.DOWN),
        (True, "--+--", State.UP),
        (True, "--+---", State.DOWN),
        (True, "---+", State.DOWN),
        (True, "---++", State.UP),
        (True, "---+-+", State.DOWN),
        (True, "---+-++", State.UP),
        (True, "---++--", State.UP),
        (True, "---++---", State.DOWN),
        (False, "", State.CHECKING),
        (False, "+", State.UP),
        (False, "--", State.CHECKING),
        (False, "--+", State.UP),
        (False, "---", State.DOWN),
        (False, "---+", State.DOWN),
        (False, "---++", State.UP),
    ],
)
def test_results_in_a_row_lead_to(is_initially_up, results, state):
    backend = checked(is_initially_up=is_initially_up)
    backend.run(results)
    assert backend.health.state is state
    assert backend.health.can_serve() is (state is State.UP)


def test_a_change_is_reported_once_with_its_reason():
    backend = checked()
    assert [str(change) for change in backend.run("-----++++")] == [
        "up -> down: 3 checks in a row failed: refused",
        "down -> up: 2 checks in a row passed",
    ]


def test_one_result_that_is_enough_is_not_called_a_row():
    backend = checked(fails=1, passes=1)
    assert [str(change) for change in backend.run("-+")] == [
        "up -> down: check failed: refused",
        "down -> up: check passed",
    ]


def test_counters_stop_at_the_thresholds_and_totals_do_not():
    backend = checked()
    backend.run("-" * 20)
    health = backend.health
    assert (health.fails_in_row, health.passes_in_row) == (3, 0)
    assert (health.checks_total, health.checks_failed_total, health.unhealthy_total) == (20, 20, 1)
    assert repr(health) == "<Health down '3 checks in a row failed: refused' +0 -3>"
    backend.run("+" * 20)
    assert (health.fails_in_row, health.passes_in_row, health.last_check) == (0, 2, "passed")


def test_the_time_of_the_last_change_is_kept():
    backend = checked()
    backend.run("---")
    assert (backend.now_ms, backend.health.since_at_ms) == (10_000, 10_000)
    backend.run("-")
    assert backend.health.since_at_ms == 10_000


@pytest.mark.parametrize("timeout_ms", [1, 1_000, 4_500])
def test_detection_takes_fails_times_interval_within_one_jitter_however_long_a_check_takes(
    timeout_ms,
):
    for seed in range(50):
        health = Health(settings(jitter_ms=500, timeout_ms=timeout_ms), 0)
        rng = random.Random(seed)
        health.begin_checks(0, 1, 0, rng)
        started_ms = []
        while health.state is State.UP:
            health.start_check(known(health.schedule.next_at_ms), rng)
            deadline_at_ms = known(health.deadline_at_ms)
            started_ms.append(deadline_at_ms - timeout_ms)
            health.finish_check("timed out", deadline_at_ms, rng)
        assert len(started_ms) == 3
        assert abs(started_ms[-1] - started_ms[0] - 2 * 5_000) <= 500


def test_while_down_checks_come_at_their_own_interval():
    backend = checked()
    times_ms = []
    for result in "---+++":
        backend.run(result)
        times_ms.append(backend.now_ms)
    assert times_ms == [0, 5_000, 10_000, 12_000, 14_000, 19_000]


def test_first_checks_of_a_group_are_spread_over_one_interval():
    rng = random.Random(0)
    group = [Health(settings(), 0) for _ in range(5)]
    for position, health in enumerate(group):
        health.begin_checks(position, len(group), 100, rng)
    assert [h.schedule.next_at_ms for h in group] == [100, 1_100, 2_100, 3_100, 4_100]


def test_beginning_twice_does_not_put_off_a_check():
    backend = checked()
    backend.health.begin_checks(0, 1, 60_000, backend.rng)
    assert backend.health.schedule.next_at_ms == 0


def test_a_check_that_gives_no_result_has_failed_when_the_next_one_starts():
    rng = random.Random(0)
    health = Health(settings(fails=2), 0)
    health.begin_checks(0, 1, 0, rng)
    changes = [health.start_check(known(health.schedule.next_at_ms), rng) for _ in range(3)]
    assert changes[:2] == [None, None]
    assert str(changes[2]) == "up -> down: 2 checks in a row failed: no result in time"


def test_a_check_ends_before_the_next_one_is_due_even_with_a_longer_timeout():
    rng = random.Random(0)
    health = Health(settings(timeout_ms=60_000), 0)
    health.begin_checks(0, 1, 0, rng)
    health.start_check(0, rng)
    assert health.deadline_at_ms == health.schedule.next_at_ms == 5_000


def test_a_second_result_of_one_check_is_ignored():
    backend = checked(fails=2)
    backend.run("-")
    assert backend.health.finish_check("refused", 0, backend.rng) is None
    assert backend.health.fails_in_row == 1


def test_without_settings_nothing_is_checked():
    rng = random.Random(0)
    health = Health(None, 0)
    health.begin_checks(0, 1, 0, rng)
    assert health.schedule.next_at_ms is None
    assert health.start_check(0, rng) is None
    assert health.deadline_at_ms is None
    assert health.finish_check("refused", 0, rng) is None
    assert (health.state, health.checks_total) == (State.UP, 0)


def test_maintenance_pauses_checks_and_is_followed_by_one_at_once():
    backend = checked()
    health = backend.health
    backend.run("--")
    health.start_check(backend.now_ms, backend.rng)
    change = health.set_mode(Mode.MAINT, "operator: new kernel", 11_000)
    assert str(change) == "up -> maintenance: operator: new kernel"
    assert (health.schedule.next_at_ms, health.deadline_at_ms) == (None, None)
    assert health.finish_check("refused", 11_500, backend.rng) is None
    assert health.start_check(12_000, backend.rng) is None
    assert health.deadline_at_ms is None
    change = health.set_mode(Mode.READY, "operator: done", 70_000)
    assert str(change) == "maintenance -> checking: operator: done; not checked yet"
    assert (health.schedule.next_at_ms, health.fails_in_row) == (70_000, 0)
    assert [str(change) for change in backend.run("+")] == ["checking -> up: check passed"]


def test_going_from_one_unchecked_state_to_another_keeps_checks_paused():
    health = Health(settings(), 0, is_resolved=False)
    health.begin_checks(0, 1, 0, random.Random(0))
    health.set_mode(Mode.MAINT, "operator", 1)
    assert health.schedule.next_at_ms is None
    change = health.set_mode(Mode.READY, "operator: done", 3)
    assert str(change) == "maintenance -> unresolved: operator: done; not resolved yet"
    assert health.schedule.next_at_ms is None


def test_a_draining_backend_is_still_checked_and_down_when_it_fails():
    backend = checked()
    backend.health.set_mode(Mode.DRAIN, "operator", 0)
    assert [str(c) for c in backend.run("---++")] == [
        "draining -> down: 3 checks in a row failed: refused",
        "down -> draining: 2 checks in a row passed; operator",
    ]


def test_a_backend_that_is_down_in_the_configuration_begins_in_maintenance():
    health = Health(settings(), 0, is_down=True)
    assert repr(health) == "<Health maintenance 'down in the configuration' +0 -0>"
    health.begin_checks(0, 1, 0, random.Random(0))
    assert health.schedule.next_at_ms is None
    health.set_mode(Mode.READY, "operator", 9)
    assert (health.state, health.schedule.next_at_ms) == (State.CHECKING, 9)


def test_what_stands_for_a_name_is_unresolved_and_is_not_checked():
    health = Health(settings(), 0, is_resolved=False)
    assert (health.state, health.reason) == (State.UNRESOLVED, "not resolved yet")
    health.begin_checks(0, 1, 0, random.Random(0))
    assert health.schedule.next_at_ms is None


AGENT_CASES = [
    (AgentAnswer(), State.UP, None),
    (AgentAnswer(unknown="sideways"), State.UP, None),
    (AgentAnswer(weight_percent=75), State.UP, None),
    (AgentAnswer(mode=Mode.READY, condition=OperatingWord.UP), State.UP, None),
    (AgentAnswer(weight_percent=0), State.DRAINING, "up -> draining: agent says 0%"),
    (AgentAnswer(mode=Mode.DRAIN), State.DRAINING, "up -> draining: agent says drain"),
    (AgentAnswer(mode=Mode.MAINT), State.MAINTENANCE, "up -> maintenance: agent says maint"),
    (AgentAnswer(condition=OperatingWord.FAIL), State.DOWN, "up -> down: agent says fail"),
    (
        AgentAnswer(condition=OperatingWord.STOPPED, reason="no disk"),
        State.DOWN,
        "up -> down: agent says stopped (no disk)",
    ),
    (
        AgentAnswer(0, None, Mode.MAINT, OperatingWord.DOWN),
        State.MAINTENANCE,
        "up -> maintenance: agent says maint; agent says down; agent says 0%",
    ),
]


@pytest.mark.parametrize(("answer", "state", "text"), AGENT_CASES)
def test_an_agent_says(answer, state, text):
    health = Health(None, 0)
    change = health.hear_agent(answer, 5)
    assert health.state is state
    assert (change and str(change)) == text
    assert health.hear_agent(answer, 6) is None


def test_what_an_agent_does_not_mention_stays_as_it_is():
    health = Health(None, 0)
    health.hear_agent(AgentAnswer(50, 30, Mode.DRAIN, OperatingWord.DOWN), 0)
    health.hear_agent(AgentAnswer(mode=Mode.READY), 1)
    assert (health.state, health.agent_percent, health.agent_max_conns) == (State.DOWN, 50, 30)
    assert str(health.hear_agent(AgentAnswer(condition=OperatingWord.UP), 2)) == (
        "down -> up: agent says up"
    )


def test_a_weight_above_zero_does_not_end_a_drain_that_the_agent_asked_for():
    health = Health(None, 0)
    health.hear_agent(AgentAnswer(weight_percent=0, mode=Mode.DRAIN), 0)
    assert health.hear_agent(AgentAnswer(weight_percent=50), 1) is None
    assert health.state is State.DRAINING
    health.hear_agent(AgentAnswer(mode=Mode.READY), 2)
    assert health.state is State.UP


def test_only_who_said_a_word_takes_it_back():
    health = Health(None, 0)
    health.set_mode(Mode.MAINT, "operator", 0)
    assert health.hear_agent(AgentAnswer(mode=Mode.READY), 1) is None
    health.hear_agent(AgentAnswer(mode=Mode.DRAIN), 2)
    change = health.set_mode(Mode.READY, "operator: done", 3)
    assert str(change) == "maintenance -> draining: operator: done; agent says drain"
    assert change is not None
    assert change.cause is Cause.OPERATOR


def test_an_agent_that_says_up_does_not_overrule_the_check():
    backend = checked()
    backend.run("---")
    assert backend.health.hear_agent(AgentAnswer(condition=OperatingWord.UP), 0) is None
    assert backend.health.state is State.DOWN


def test_the_reason_shown_is_of_whoever_still_has_the_backend_down():
    backend = checked()
    health = backend.health
    backend.run("---")
    health.hear_agent(AgentAnswer(condition=OperatingWord.DOWN), 0)
    assert backend.run("++") == []
    assert (health.state, health.reason) == (State.DOWN, "agent says down")


def test_without_its_agent_a_backend_is_as_before():
    health = Health(None, 0)
    health.hear_agent(AgentAnswer(10, 5, Mode.MAINT, OperatingWord.DOWN), 0)
    assert str(health.forget_agent(1)) == "maintenance -> up: agent check removed"
    assert (health.agent_percent, health.agent_max_conns) == (100, None)
    assert health.forget_agent(2) is None


def test_an_ejection_lasts_for_its_time_and_grows_with_each_repeat():
    health = Health(None, 0)
    change = health.eject(EJECT, 0, 2, "5 sessions failed", 1_000)
    assert str(change) == "up -> ejected: ejected for 30s: 5 sessions failed"
    assert (health.is_ejected, health.ejection_ends_at_ms) == (True, 31_000)
    assert health.end_ejection(30_999) is None
    assert str(health.end_ejection(31_000)) == "ejected -> up: ejection is over"
    assert (health.is_ejected, health.ejection_ends_at_ms) == (False, None)
    assert health.end_ejection(31_001) is None
    health.eject(EJECT, 0, 2, "again", 32_000)
    assert health.ejection_ends_at_ms == 92_000


def test_no_backend_is_ejected_beyond_the_groups_share():
    health = Health(None, 0)
    assert health.eject(EJECT, 1, 2, "failed", 0) is None
    assert (health.state, health.ejection.in_row) == (State.UP, 0)


@pytest.mark.parametrize("mode", [Mode.DRAIN, Mode.MAINT])
def test_a_backend_without_new_sessions_is_not_ejected(mode):
    health = Health(None, 0)
    health.set_mode(mode, "operator", 0)
    assert health.eject(EJECT, 0, 10, "failed", 1) is None
    assert not health.is_ejected


def test_an_ejected_backend_that_fails_its_check_is_down_and_stays_so_after_the_ejection():
    backend = checked()
    health = backend.health
    health.eject(EJECT, 0, 2, "failed", 0)
    assert [str(c) for c in backend.run("---")] == [
        "ejected -> down: 3 checks in a row failed: refused"
    ]
    assert health.end_ejection(30_000) is None
    assert health.state is State.DOWN


def test_a_passed_check_does_not_end_an_ejection():
    backend = checked()
    backend.health.eject(EJECT, 0, 2, "failed", 0)
    assert backend.run("+++") == []
    assert backend.health.state is State.EJECTED


def test_other_settings_keep_results_and_grid():
    backend = checked()
    backend.run("--")
    health = backend.health
    assert health.apply(settings(interval_ms=60_000), 6_000, backend.rng) is None
    assert health.schedule.next_at_ms == 65_000
    assert health.apply(settings(interval_ms=3_000), 6_000, backend.rng) is None
    assert (health.schedule.next_at_ms, health.fails_in_row) == (8_000, 2)
    assert health.apply(settings(interval_ms=3_000), 7_000, backend.rng) is None
    health.begin_checks(0, 1, 7_000, backend.rng)
    assert health.schedule.next_at_ms == 8_000
    assert [change.after for change in backend.run("-")] == [State.DOWN]


def test_the_same_settings_do_not_put_off_the_next_check():
    backend = Checked(Health(settings(jitter_ms=400), 0))
    backend.run("+")
    planned_ms = backend.health.schedule.next_at_ms
    for now_ms in range(0, 5_000, 100):
        backend.health.apply(settings(jitter_ms=400), now_ms, backend.rng)
        assert backend.health.schedule.next_at_ms == planned_ms


def test_a_lower_threshold_counts_from_the_next_result():
    backend = checked()
    backend.run("--")
    backend.health.apply(settings(fails=1), 6_000, backend.rng)
    assert backend.health.state is State.UP
    assert [change.after for change in backend.run("-")] == [State.DOWN]
    assert backend.health.fails_in_row == 1


def test_new_settings_do_not_wake_a_paused_check():
    health = checked().health
    health.set_mode(Mode.MAINT, "operator", 0)
    health.apply(settings(interval_ms=1), 1, random.Random(0))
    assert health.schedule.next_at_ms is None


def test_without_its_check_a_backend_is_up_again():
    backend = checked()
    backend.run("---")
    health = backend.health
    assert str(health.apply(None, 20_000, backend.rng)) == "down -> up: health check removed"
    assert health.schedule.next_at_ms is None


@pytest.mark.parametrize("is_initially_up", [True, False])
def test_new_checks_do_not_take_out_a_backend_that_serves(is_initially_up):
    rng = random.Random(0)
    health = Health(None, 0)
    assert health.apply(settings(is_initially_up=is_initially_up), 5, rng) is None
    health.begin_checks(1, 2, 5, rng)
    assert (health.state, health.schedule.next_at_ms) == (State.UP, 2_505)


def test_new_checks_of_a_backend_in_maintenance_wait_for_its_end():
    rng = random.Random(0)
    health = Health(None, 0, is_down=True)
    assert health.apply(settings(), 5, rng) is None
    health.begin_checks(0, 1, 5, rng)
    assert health.schedule.next_at_ms is None
    health.set_mode(Mode.READY, "operator", 9)
    assert (health.state, health.schedule.next_at_ms) == (State.CHECKING, 9)


@pytest.mark.parametrize(
    ("elapsed_ms", "percent"),
    [
        (-5, 10),
        (0, 10),
        (1, 10),
        (1_000, 19),
        (5_000, 55),
        (9_999, 99),
        (10_000, 100),
        (10**9, 100),
    ],
)
def test_slow_start_grows_linearly_from_ten_percent(elapsed_ms, percent):
    assert slow_start_percent(elapsed_ms, SLOW_START_MS) == percent


def test_a_backend_that_was_never_out_has_its_whole_weight():
    for health in (Health(None, 0), Health(settings(is_initially_up=False), 0)):
        Checked(health).run("")
        assert health.weight_percent(SLOW_START_MS, 1) == 100
    backend = checked(is_initially_up=False)
    backend.run("+")
    assert backend.health.weight_percent(SLOW_START_MS, 1) == 100


def test_the_weight_grows_after_a_recovery():
    backend = checked()
    backend.run("---++")
    up_at_ms = backend.health.since_at_ms
    weights = [
        backend.health.weight_percent(SLOW_START_MS, up_at_ms + t) for t in (0, 5_000, 10_000)
    ]
    assert weights == [10, 55, 100]
    assert backend.health.weight_percent(None, up_at_ms) == 100


@pytest.mark.parametrize("mode", [Mode.DRAIN, Mode.MAINT])
def test_only_a_backend_that_was_cold_starts_slowly(mode):
    health = Health(None, 0)
    health.set_mode(mode, "operator", 0)
    health.set_mode(Mode.READY, "operator", 1_000)
    assert health.weight_percent(SLOW_START_MS, 1_000) == (100 if mode is Mode.DRAIN else 10)


def test_slow_start_begins_when_sessions_do_not_when_the_check_passes():
    backend = checked()
    backend.run("---")
    backend.health.set_mode(Mode.DRAIN, "operator", 11_000)
    backend.run("++")
    assert backend.health.state is State.DRAINING
    backend.health.set_mode(Mode.READY, "operator", 50_000)
    assert backend.health.weight_percent(SLOW_START_MS, 55_000) == 55


def test_slow_start_scales_what_the_agent_says_and_never_to_nothing():
    health = Health(None, 0, is_down=True)
    health.set_mode(Mode.READY, "operator", 0)
    for percent, expected in [(200, 20), (50, 5), (1, 1), (0, 0)]:
        health.hear_agent(AgentAnswer(weight_percent=percent), 0)
        assert health.weight_percent(SLOW_START_MS, 0) == expected
        assert health.weight_percent(None, 0) == percent


def group(up, down=0, maintenance=0):
    """A group of this many backends in each state."""
    backends = [Health(None, 0) for _ in range(up + down + maintenance)]
    for health in backends[up : up + down]:
        health.hear_agent(AgentAnswer(condition=OperatingWord.DOWN), 0)
    for health in backends[up + down :]:
        health.set_mode(Mode.MAINT, "operator", 0)
    return backends


def test_failing_open_ignores_checks_and_ejections_but_not_what_is_deliberate():
    down = group(0, 1)[0]
    assert (down.can_serve(), down.can_serve(fail_open=True)) == (False, True)
    down.set_mode(Mode.DRAIN, "operator", 1)
    assert down.state is State.DOWN
    assert not down.can_serve(fail_open=True)


class Model:
    """The rules of health in their plainest form: all results are kept, all words recomputed."""

    def __init__(self, chosen, is_resolved):
        self.settings = chosen
        self.results = []
        self.check = State.UP if chosen.is_initially_up else State.CHECKING
        self.operator = self.mode = Mode.READY
        self.condition = OperatingWord.UP
        self.percent = 100
        self.resolved = is_resolved
        self.ejected_until_ms = None

    def state(self):
        """The state, by asking for the worst things first."""
        if Mode.MAINT in (self.operator, self.mode):
            return State.MAINTENANCE
        if not self.resolved:
            return State.UNRESOLVED
        if self.condition is not OperatingWord.UP or self.check is State.DOWN:
            return State.DOWN
        if Mode.DRAIN in (self.operator, self.mode) or self.percent == 0:
            return State.DRAINING
        if self.ejected_until_ms is not None:
            return State.EJECTED
        return self.check

    def result(self, passed):
        """Look back over all results since the last pause."""
        self.results.append(passed)
        row = len(list(itertools.takewhile(lambda r: r is passed, reversed(self.results))))
        if (self.check is State.CHECKING and passed) or (
            self.check is State.DOWN and passed and row >= self.settings.passes
        ):
            self.check = State.UP
            self.ejected_until_ms = None
        elif not passed and row >= self.settings.fails:
            self.check = State.DOWN

    def pause(self):
        """Forget what was found, in a state without checks."""
        if self.state() in (State.MAINTENANCE, State.UNRESOLVED):
            self.results.clear()
            self.check = State.CHECKING


def random_step(rng, health, model, now_ms):
    """Let one thing happen to both; return the change that health reports."""
    match rng.randrange(5):
        case 0:
            model.operator = rng.choice([Mode.READY, Mode.READY, *Mode])
            return health.set_mode(model.operator, "operator", now_ms)
        case 1:
            answer = AgentAnswer(
                rng.choice([None, 0, 50, 100]),
                None,
                rng.choice([None, Mode.READY, *Mode]),
                rng.choice([None, OperatingWord.UP, *OperatingWord]),
            )
            model.percent = (
                model.percent if answer.weight_percent is None else answer.weight_percent
            )
            model.mode = answer.mode or model.mode
            model.condition = answer.condition or model.condition
            return health.hear_agent(answer, now_ms)
        case 2:
            if model.state() is State.UP:
                model.ejected_until_ms = now_ms
            change = health.eject(EJECT, 0, 2, "failed", now_ms)
            if model.ejected_until_ms == now_ms:
                model.ejected_until_ms = health.ejection_ends_at_ms
            return change
        case 3:
            if model.ejected_until_ms is not None and now_ms >= model.ejected_until_ms:
                model.ejected_until_ms = None
            return health.end_ejection(now_ms)
        case _:
            assert health.start_check(now_ms, rng) is None
            is_running = health.deadline_at_ms is not None
            assert is_running == (health.state not in (State.MAINTENANCE, State.UNRESOLVED))
            passed = rng.random() < 0.5
            if is_running:
                model.result(passed)
            return health.finish_check(None if passed else "refused", now_ms, rng)


@pytest.mark.parametrize("seed", range(30))
def test_random_histories_agree_with_a_plain_model(seed):
    print("seed", seed)
    rng = random.Random(seed)
    chosen = settings(
        fails=rng.randrange(1, 4),
        passes=rng.randrange(1, 4),
        jitter_ms=rng.choice([0, 700]),
        is_initially_up=rng.random() < 0.5,
    )
    is_resolved = seed % 5 > 0
    health = Health(chosen, 0, is_resolved=is_resolved)
    model, now_ms = Model(chosen, is_resolved), 0
    health.begin_checks(0, 1, 0, rng)
    for _ in range(300):
        now_ms += rng.choice([0, 1, 900, 5_000, 40_000])
        before = health.state
        change = random_step(rng, health, model, now_ms)
        model.pause()
        assert health.state is model.state()
        assert (change is not None) == (before is not health.state)
        if change is not None:
            assert change == StateChange(before, health.state, change.cause, change.reason)
            assert change.reason
            assert health.since_at_ms == now_ms
        assert 0 <= health.fails_in_row <= chosen.fails
        assert 0 <= health.passes_in_row <= chosen.passes
        assert 0 in (health.fails_in_row, health.passes_in_row)
        if health.state in (State.MAINTENANCE, State.UNRESOLVED):
            assert health.schedule.next_at_ms is None
        else:
            assert known(health.schedule.next_at_ms) <= now_ms + 5_700


@pytest.mark.parametrize("seed", range(10))
def test_no_random_history_ejects_more_than_the_groups_share(seed):
    print("seed", seed)
    rng = random.Random(seed)
    chosen = EjectSettings(1_000, 5_000, rng.randrange(101))
    backends = [Health(None, 0) for _ in range(rng.randrange(1, 12))]
    most = 0
    for now_ms in range(0, 60_000, 100):
        health = rng.choice(backends)
        ejected = sum(h.is_ejected for h in backends)
        health.eject(chosen, ejected, len(backends), "failed", now_ms)
        for other in backends:
            if other.ejection_ends_at_ms == now_ms:
                other.end_ejection(now_ms)
        most = max(most, sum(h.is_ejected for h in backends))
        assert sum(h.is_ejected for h in backends) * 100 <= chosen.max_percent * len(backends)
    assert most == chosen.max_percent * len(backends) // 100


def test_the_states_of_the_past_are_summed_up():
    health = Health(None, 0)
    health.set_mode(Mode.DRAIN, "by hand", 1_000)
    health.set_mode(Mode.MAINT, "by hand", 3_000)
    health.set_mode(Mode.READY, "by hand", 6_000)
    health.set_mode(Mode.DRAIN, "by hand", 9_000)
    assert (health.past.count, health.past.unusable_ms) == (4, 5_000)
