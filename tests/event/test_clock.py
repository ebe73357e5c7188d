import time

from nginy.event.clock import MonotonicClock


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
