"""Work in steps: one a turn, to the end, or called off."""

from typing import Any

import pytest
from nginy.process.gradual import Gradual, Steps, at_once

from kit.harness import Harness


class Work:
    """Counts its steps."""

    def __init__(self, harness: Harness, steps: int = 3) -> None:
        self.steps = steps
        self.done = 0
        self.is_cleaned_up = self.is_aborted = False
        self.gradual = Gradual(harness.loop, self)

    def run(self) -> Steps[None]:
        try:
            for _ in range(self.steps):
                self.done += 1
                yield
        finally:
            self.is_cleaned_up = True

    def abort(self) -> None:
        self.is_aborted = True


@pytest.fixture
def method() -> str:
    return "epoll"


def test_a_step_is_done_in_each_turn(harness: Harness) -> None:
    work = Work(harness)
    work.gradual.start(work.run())
    assert work.done == 0
    for done in (1, 2, 3, 3, 3):
        harness.loop.turn(0)
        assert work.done == done
    assert work.is_cleaned_up


def test_what_is_left_can_be_done_at_once(harness: Harness) -> None:
    work = Work(harness)
    work.gradual.start(work.run())
    harness.loop.turn(0)
    work.gradual.finish()
    assert (work.done, work.is_cleaned_up) == (3, True)
    harness.loop.turn(0)
    assert work.done == 3


def test_what_is_left_can_be_left_undone(harness: Harness) -> None:
    work = Work(harness)
    work.gradual.start(work.run())
    harness.loop.turn(0)
    work.gradual.close()
    assert (work.done, work.is_cleaned_up) == (1, True)
    for _ in range(2):
        harness.loop.turn(0)
    assert work.done == 1


def test_new_work_takes_the_place_of_old(harness: Harness) -> None:
    old, new = Work(harness), Work(harness)
    old.gradual.start(old.run())
    harness.loop.turn(0)
    old.gradual.start(new.run())
    for _ in range(4):
        harness.loop.turn(0)
    assert (old.done, old.is_cleaned_up, new.done) == (1, True, 3)


def test_a_bug_ends_the_work_and_aborts_the_owner(harness: Harness, expect_log: Any) -> None:
    work = Work(harness)

    def broken() -> Steps[None]:
        yield
        raise ValueError("a bug")

    work.gradual.start(broken())
    harness.loop.turn(0)
    assert not work.is_aborted
    with expect_log("bug in nginy", count=1):
        harness.loop.turn(0)
    assert work.is_aborted
    harness.loop.turn(0)


def test_all_steps_at_once_give_the_result() -> None:
    def add() -> Steps[int]:
        yield
        yield
        return 7

    assert at_once(add()) == 7
