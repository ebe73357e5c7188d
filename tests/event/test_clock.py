import time

from nginy.event.clock import MonotonicClock
from nginy.event.pauses import KEPT


def test_the_time_stands_still_until_the_clock_is_read() -> None:
    clock = MonotonicClock()
    before_ms = clock.now_ms
    while time.monotonic_ns() // 1_000_000 == before_ms:
        pass
    assert clock.now_ms == before_ms
    clock.update()
    assert clock.now_ms > before_ms


def test_wall_time_is_since_1970() -> None:
    assert abs(MonotonicClock().wall_ms() / 1000 - time.time()) < 5


def test_a_pause_is_taken_out_of_the_time_for_good() -> None:
    clock = MonotonicClock()
    before_ms = clock.now_ms
    clock.skip(60_000)
    assert clock.now_ms == before_ms - 60_000
    clock.update()
    assert before_ms - 60_000 <= clock.now_ms < before_ms - 30_000


def test_pauses_are_known_by_the_time_that_they_took_out_since() -> None:
    clock = MonotonicClock()
    first_ms = clock.now_ms
    moments = []
    for _ in range(KEPT + 2):
        clock.now_ms += 2_000
        moments.append(clock.now_ms)
        clock.now_ms += 500  # the next thing was to happen then, and came a minute late
        clock.now_ms += 60_000
        clock.skip(60_000)
    assert clock.pauses.since(first_ms) == clock.skipped_ms == 60_000 * (KEPT + 2)
    assert [clock.pauses.since(each) for each in moments[-2:]] == [120_000, 60_000]
    assert clock.pauses.since(clock.now_ms) == 0
