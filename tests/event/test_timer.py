import importlib
import inspect
import pkgutil
import random
import re
from collections.abc import Callable

import nginy
import pytest
from nginy.event.timer import TICK_MS, Timer, TimerWheel

HOUR_MS = 3_600_000


class Book:
    """Owns timers and notes which fired, in order."""

    def __init__(self) -> None:
        self.wheel = TimerWheel()
        self.fired: list[Timer] = []

    def timer(self, handler: Callable[[Timer], None] | None = None) -> Timer:
        return Timer(handler or self.fired.append, self)

    def start(self, deadline_ms: int, handler: Callable[[Timer], None] | None = None) -> Timer:
        timer = self.timer(handler)
        self.wheel.start(timer, deadline_ms)
        return timer

    def expire(self, now_ms: int) -> list[Timer]:
        """Do what the loop does in its fifth step; return what fired."""
        self.fired.clear()
        for timer in self.wheel.expired(now_ms):
            timer.handler(timer)
        return list(self.fired)

    def abort(self) -> None:
        """Satisfy `Owner`."""


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.mark.parametrize("deadline_ms", [0, 1, 9, 10, 11, 99, 1_000_005, 1_000_000_000_000_007])
def test_a_timer_never_fires_early_and_at_most_a_tick_late(book: Book, deadline_ms: int) -> None:
    timer = book.start(deadline_ms)
    assert book.expire(deadline_ms - 1) == []
    assert timer.is_running
    assert book.expire(deadline_ms + TICK_MS - 1) == [timer]
    assert not timer.is_running


def test_a_timer_fires_once(book: Book) -> None:
    book.start(100)
    assert len(book.expire(200)) == 1
    assert book.expire(HOUR_MS) == []


def test_a_cancelled_timer_does_not_fire(book: Book) -> None:
    timer = book.start(100)
    book.wheel.cancel(timer)
    assert not timer.is_running
    assert book.expire(200) == []


def test_cancelling_what_does_not_run_does_nothing(book: Book) -> None:
    timer = book.timer()
    book.wheel.cancel(timer)
    book.wheel.start(timer, 100)
    assert book.expire(200) == [timer]
    book.wheel.cancel(timer)


def test_starting_a_running_timer_moves_it_either_way(book: Book) -> None:
    later = book.start(100)
    book.wheel.start(later, 500)
    sooner = book.start(500)
    book.wheel.start(sooner, 100)
    assert book.expire(400) == [sooner]
    assert book.expire(500) == [later]


def test_timers_fire_in_the_order_of_their_ticks_however_late_the_loop_is(book: Book) -> None:
    timers = [book.start(deadline_ms) for deadline_ms in (700, 30, HOUR_MS, 20)]
    assert book.expire(2 * HOUR_MS) == [timers[3], timers[1], timers[0], timers[2]]


def test_a_clock_that_jumps_an_hour_fires_all_that_is_due_and_no_more(book: Book) -> None:
    due = [book.start(deadline_ms) for deadline_ms in range(0, HOUR_MS, 60_000)]
    after = book.start(HOUR_MS + TICK_MS)
    assert book.expire(HOUR_MS) == due
    assert after.is_running


def test_far_deadlines_cost_nothing_until_they_are_due(book: Book) -> None:
    year_ms = 365 * 24 * HOUR_MS
    timer = book.start(year_ms)
    assert book.expire(year_ms - 1) == []
    assert book.wheel.next_deadline_ms() == year_ms
    assert book.expire(year_ms) == [timer]


def test_a_handler_can_cancel_a_timer_of_the_same_slot(book: Book) -> None:
    doomed: list[Timer] = []
    first = book.start(100, lambda _timer: book.wheel.cancel(doomed[0]))
    doomed.append(book.start(100))
    assert book.expire(100) == []
    assert not first.is_running
    assert not doomed[0].is_running


def test_a_handler_can_cancel_a_timer_of_a_later_slot_that_is_due_too(book: Book) -> None:
    doomed: list[Timer] = []
    book.start(100, lambda _timer: book.wheel.cancel(doomed[0]))
    doomed.append(book.start(200))
    assert book.expire(300) == []


def test_a_handler_can_move_a_timer_that_is_due_too(book: Book) -> None:
    moved: list[Timer] = []
    book.start(100, lambda _timer: book.wheel.start(moved[0], 900))
    moved.append(book.start(200))
    assert book.expire(300) == []
    assert book.expire(900) == moved


@pytest.mark.parametrize("delay_ms", [-50, 0, 1])
def test_a_timer_started_by_its_own_handler_fires_in_a_later_turn(
    book: Book, delay_ms: int
) -> None:
    times = 0

    def again(timer: Timer) -> None:
        nonlocal times
        times += 1
        book.wheel.start(timer, 100 + delay_ms)

    timer = book.start(100, again)
    book.expire(100)
    assert times == 1
    assert timer.is_running
    book.expire(100 + TICK_MS)
    assert times == 2


def test_the_next_deadline_is_the_tick_in_which_the_next_timer_fires(book: Book) -> None:
    assert book.wheel.next_deadline_ms() is None
    late = book.start(505)
    soon = book.start(101)
    assert book.wheel.next_deadline_ms() == 110
    book.wheel.cancel(soon)
    assert book.wheel.next_deadline_ms() == 510
    book.wheel.cancel(late)
    assert book.wheel.next_deadline_ms() is None


def test_a_slot_that_became_empty_can_be_used_again(book: Book) -> None:
    book.wheel.cancel(book.start(100))
    again = book.start(100)
    assert book.wheel.next_deadline_ms() == 100
    assert book.expire(100) == [again]


@pytest.mark.slow
def test_any_sequence_of_operations_agrees_with_a_sorted_list(book: Book) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    timers = [book.timer() for _ in range(500)]
    deadlines: dict[Timer, int] = {}
    now_ms = 0
    for _ in range(100_000):
        choice = rng.random()
        timer = rng.choice(timers)
        if choice < 0.6:
            deadline_ms = now_ms + rng.choice([rng.randrange(100), rng.randrange(HOUR_MS)])
            book.wheel.start(timer, deadline_ms)
            deadlines[timer] = deadline_ms
        elif choice < 0.9:
            book.wheel.cancel(timer)
            deadlines.pop(timer, None)
        else:
            now_ms += rng.choice([0, 1, rng.randrange(200), rng.randrange(60_000)])
            due = [each for each in deadlines if -(-deadlines[each] // TICK_MS) * TICK_MS <= now_ms]
            fired = book.expire(now_ms)
            assert sorted(map(id, fired)) == sorted(map(id, due))
            ticks = [-(-deadlines.pop(each) // TICK_MS) for each in fired]
            assert ticks == sorted(ticks)
            earliest_ms = min(deadlines.values(), default=None)
            next_ms = book.wheel.next_deadline_ms()
            assert (next_ms is None) == (earliest_ms is None)
            assert earliest_ms is None or 0 <= (next_ms or 0) - earliest_ms < TICK_MS
        assert timer.is_running == (timer in deadlines)


def test_timers_that_run_are_found_one_by_one_while_others_go(book: Book) -> None:
    first, second, later = book.start(100), book.start(100), book.start(HOUR_MS)
    timers = [(100, first), (100, second), (HOUR_MS, later)]
    assert list(book.wheel.running()) == timers
    found = book.wheel.running()
    assert next(found) == timers[0]
    book.start(HOUR_MS)
    book.wheel.cancel(later)
    assert [timer.is_running for _, timer in found] == [True, True]
    found = book.wheel.running()
    book.expire(2 * HOUR_MS)
    assert list(found) == []


def test_a_timer_says_in_words_what_it_is_for() -> None:
    class Session:
        def abort(self) -> None: ...

        def __str__(self) -> str:
            return "session 7"

        def idle_timer_handler(self, _timer: Timer) -> None: ...

    session = Session()
    assert str(Timer(session.idle_timer_handler, session)) == "idle timer of session 7"


def test_whoever_owns_a_timer_has_a_name_in_words() -> None:
    modules = [info.name for info in pkgutil.walk_packages(nginy.__path__, "nginy.")]
    its_own = re.compile(r"Timer\(self\.\w+, self\)")
    imported = [importlib.import_module(name) for name in modules if "__main__" not in name]
    classes = {
        each
        for module in imported
        if its_own.search(inspect.getsource(module))
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__
    }
    owners = {each for each in classes if its_own.search(inspect.getsource(each))}
    assert len(owners) > 20
    assert [each for each in owners if each.__str__ is object.__str__] == []
