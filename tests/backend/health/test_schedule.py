"""The grid of checks: spread, jitter, delays, pauses."""

import random

from nginy.backend.health.schedule import CheckSchedule

INTERVAL_MS = 5_000
JITTER_MS = 500


def begun(rng, first_slot_at_ms=0, now_ms=0):
    """A schedule whose first check is planned."""
    schedule = CheckSchedule()
    schedule.begin(first_slot_at_ms, INTERVAL_MS)
    schedule.plan(INTERVAL_MS, JITTER_MS, now_ms, rng)
    return schedule


def run(schedule, now_ms, rng):
    """Start one check at `now_ms`."""
    schedule.start(INTERVAL_MS, now_ms)
    schedule.plan(INTERVAL_MS, JITTER_MS, now_ms, rng)


def test_jitter_is_added_to_each_slot_and_never_adds_up():
    seed = 20268
    print("seed", seed)
    rng = random.Random(seed)
    schedule = begun(rng, first_slot_at_ms=1_000)
    offsets = set()
    for slot in range(500):
        offset_ms = schedule.next_at_ms - (1_000 + slot * INTERVAL_MS)
        assert 0 <= offset_ms <= JITTER_MS
        offsets.add(offset_ms)
        run(schedule, schedule.next_at_ms, rng)
    assert len(offsets) > 200


def test_a_late_timer_does_not_shift_the_grid():
    rng = random.Random(1)
    schedule = begun(rng)
    run(schedule, 4_999, rng)
    assert INTERVAL_MS <= schedule.next_at_ms <= INTERVAL_MS + JITTER_MS


def test_after_whole_slots_were_missed_the_grid_begins_anew_without_a_burst():
    rng = random.Random(2)
    schedule = begun(rng)
    run(schedule, 3_600_000, rng)
    first_ms = schedule.next_at_ms
    assert 3_600_000 + INTERVAL_MS <= first_ms <= 3_600_000 + INTERVAL_MS + JITTER_MS


def test_a_check_ahead_of_its_time_does_not_put_off_the_next_one():
    rng = random.Random(2)
    schedule = begun(rng, first_slot_at_ms=60_000)
    run(schedule, 10, rng)
    assert 10 + INTERVAL_MS <= schedule.next_at_ms <= 10 + INTERVAL_MS + JITTER_MS


def test_another_interval_counts_from_the_last_slot():
    rng = random.Random(3)
    schedule = begun(rng)
    run(schedule, 0, rng)
    schedule.plan(2_000, 0, 1_000, rng)
    assert schedule.next_at_ms == 2_000


def test_a_slot_that_is_over_already_is_planned_for_now():
    rng = random.Random(4)
    schedule = begun(rng)
    run(schedule, 0, rng)
    schedule.plan(500, 0, 1_000, rng)
    assert schedule.next_at_ms == 1_000


def test_a_pause_plans_nothing_and_the_end_of_it_plans_a_check_at_once():
    rng = random.Random(5)
    schedule = begun(rng)
    schedule.pause()
    assert schedule.next_at_ms is None
    schedule.resume(7_777)
    assert schedule.next_at_ms == 7_777
    run(schedule, 7_777, rng)
    assert schedule.next_at_ms is not None
    assert 7_777 + INTERVAL_MS <= schedule.next_at_ms <= 7_777 + INTERVAL_MS + JITTER_MS
