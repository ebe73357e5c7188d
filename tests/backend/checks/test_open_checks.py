"""A limit on the checks that run at once; those beyond it get a turn later."""

from collections.abc import Iterator

import pytest
from nginy.backend.checks.open_checks import PATIENCE_MS, OpenChecks

from conftest import ExpectLog
from kit.harness import Harness


class Running:
    """A check that is under way until it is told to end."""

    def __init__(self, checks: OpenChecks) -> None:
        self.checks = checks
        self.is_closed = False
        checks.add(self)

    def cancel(self) -> None:
        self.checks.discard(self)

    def close(self) -> None:
        self.is_closed = True
        self.checks.discard(self)


class Waiting:
    """Begins a check when its turn comes."""

    def __init__(self, checks: OpenChecks, *, is_quick: bool = False) -> None:
        self.checks = checks
        self.is_quick = is_quick
        self.check: Running | None = None
        self.turns = self.aborts = 0

    def abort(self) -> None:
        self.aborts += 1

    def turn_has_come(self) -> None:
        self.turns += 1
        if not self.is_quick:
            self.check = Running(self.checks)


@pytest.fixture
def method() -> str:
    return "epoll"


@pytest.fixture
def checks(harness: Harness) -> Iterator[OpenChecks]:
    made = OpenChecks(harness.loop)
    made.limit = 2
    yield made
    made.close()


def settle(harness: Harness) -> None:
    for _ in range(4):
        harness.turn(0)


def test_a_turn_that_is_promised_is_given_to_nobody_else(
    harness: Harness, checks: OpenChecks
) -> None:
    running = [Running(checks) for _ in range(2)]
    first, second = Waiting(checks), Waiting(checks)
    checks.admit(first)
    running[0].cancel()
    while not first.turns:
        assert not checks.admit(second)
        checks.leave(second)
        harness.turn(0)
    settle(harness)
    assert len(checks) == 2


def test_beyond_the_limit_checks_wait_in_the_order_of_their_coming(
    harness: Harness, checks: OpenChecks
) -> None:
    running = [Running(checks) for _ in range(2)]
    waiting = [Waiting(checks) for _ in range(3)]
    assert [checks.admit(each) for each in waiting] == [False] * 3
    harness.turn(0)
    assert [each.turns for each in waiting] == [0, 0, 0]
    running[1].cancel()
    settle(harness)
    assert [each.turns for each in waiting] == [1, 0, 0]
    assert not checks.is_waiting(waiting[0])
    running[0].cancel()
    settle(harness)
    assert [each.turns for each in waiting] == [1, 1, 0]
    assert len(checks) == 2


def test_who_comes_while_others_wait_has_no_turn_before_them(
    harness: Harness, checks: OpenChecks
) -> None:
    running = [Running(checks) for _ in range(2)]
    first, second = Waiting(checks), Waiting(checks)
    checks.admit(first)
    running[0].cancel()
    assert not checks.admit(second)
    settle(harness)
    assert (first.turns, second.turns) == (1, 0)


def test_who_has_left_is_not_called(harness: Harness, checks: OpenChecks) -> None:
    running = [Running(checks) for _ in range(2)]
    first, second = Waiting(checks), Waiting(checks)
    checks.admit(first)
    checks.admit(second)
    checks.leave(first)
    running[0].cancel()
    settle(harness)
    assert (first.turns, second.turns) == (0, 1)


def test_checks_that_end_at_once_hold_nobody_up(harness: Harness, checks: OpenChecks) -> None:
    running = [Running(checks) for _ in range(2)]
    waiting = [Waiting(checks, is_quick=True) for _ in range(9)]
    for each in waiting:
        checks.admit(each)
    running[0].cancel()
    for _ in range(2 * len(waiting) + 2):
        harness.turn(0)
    assert [each.turns for each in waiting] == [1] * 9


def test_a_higher_limit_lets_more_begin(harness: Harness, checks: OpenChecks) -> None:
    for _ in range(2):
        Running(checks)
    waiting = [Waiting(checks) for _ in range(3)]
    for each in waiting:
        checks.admit(each)
    checks.set_limit(4)
    settle(harness)
    assert [each.turns for each in waiting] == [1, 1, 0]


def test_the_log_says_so_once_a_minute_if_it_lasts(
    harness: Harness, checks: OpenChecks, expect_log: ExpectLog
) -> None:
    for _ in range(2):
        Running(checks)
    checks.admit(Waiting(checks))
    harness.advance(PATIENCE_MS - 1)
    checks.admit(Waiting(checks))
    harness.advance(1)
    with expect_log(r"checks are late: 3 wait until fewer than 2 are running \(max_checks\)"):
        checks.admit(Waiting(checks))
    checks.admit(Waiting(checks))
    harness.advance(60_000)
    with expect_log("checks are late: 5 wait"):
        checks.admit(Waiting(checks))


def test_a_bug_in_one_holds_nobody_up(
    harness: Harness, checks: OpenChecks, expect_log: ExpectLog
) -> None:
    class Broken(Waiting):
        def turn_has_come(self) -> None:
            raise ZeroDivisionError

    running = [Running(checks) for _ in range(2)]
    first, second = Broken(checks), Waiting(checks)
    checks.admit(first)
    checks.admit(second)
    running[0].cancel()
    with expect_log("bug in nginy"):
        settle(harness)
    assert (first.aborts, second.turns) == (1, 1)


def test_closing_closes_all_and_calls_nobody(harness: Harness, checks: OpenChecks) -> None:
    running = [Running(checks) for _ in range(2)]
    waiting = Waiting(checks)
    checks.admit(waiting)
    checks.close()
    harness.turn(0)
    assert all(each.is_closed for each in running)
    assert (len(checks), waiting.turns) == (0, 0)
