"""Limits against plain models: counts that pair up, buckets, and bytes that keep a pace."""

import random
import sys

import pytest
from nginy.proxy.limits import ByteRate, Counts, Rates

NOW_MS = 1_000_000


def test_a_key_may_have_so_many_sessions_and_no_more() -> None:
    counts = Counts()
    assert [counts.take(b"a", 2) for _ in range(3)] == [True, True, False]
    assert counts.take(b"b", 2)
    counts.give_back(b"a")
    assert counts.take(b"a", 2)
    assert counts.count(b"a") == 2


def test_a_key_without_a_session_is_not_kept() -> None:
    counts = Counts()
    counts.take(b"a", 1)
    counts.give_back(b"a")
    assert (len(counts), counts.count(b"a")) == (0, 0)


def test_a_full_table_takes_no_new_key_and_goes_on_with_those_it_has() -> None:
    counts = Counts(max_keys=2)
    assert counts.take(b"a", 9)
    assert counts.take(b"b", 9)
    assert not counts.take(b"c", 9)
    assert counts.take(b"a", 9)
    counts.give_back(b"b")
    assert counts.take(b"c", 9)


def test_a_burst_comes_in_at_once_and_then_so_many_a_second() -> None:
    rates = Rates(rate=10, burst=5)
    assert [rates.take(b"a", NOW_MS) for _ in range(6)] == [True] * 5 + [False]
    assert not rates.take(b"a", NOW_MS + 99)
    assert rates.take(b"a", NOW_MS + 100)
    assert not rates.take(b"a", NOW_MS + 100)
    assert [rates.take(b"a", NOW_MS + 10_000) for _ in range(6)] == [True] * 5 + [False]
    assert rates.take(b"b", NOW_MS)


def test_a_refused_session_costs_no_token() -> None:
    rates = Rates(rate=10, burst=1)
    assert rates.take(b"a", NOW_MS)
    assert not any(rates.take(b"a", NOW_MS + ms) for ms in range(100))
    assert rates.take(b"a", NOW_MS + 100)


def test_buckets_do_as_buckets_with_tokens_in_them_would() -> None:
    rng = random.Random(371)
    for _ in range(100):
        rate, burst = rng.choice([1, 3, 10, 500]), rng.randrange(1, 20)
        rates = Rates(rate, burst)
        interval_us = 1_000_000 // rate
        now_ms, model = NOW_MS, {}
        for _ in range(200):
            now_ms += rng.choice([0, 0, 1, 7, 100, 2000])
            key = rng.choice([b"a", b"b"])
            tokens_us, at_ms = model.get(key, (burst * interval_us, now_ms))
            tokens_us = min(burst * interval_us, tokens_us + (now_ms - at_ms) * 1000)
            is_allowed = tokens_us >= interval_us
            model[key] = tokens_us - is_allowed * interval_us, now_ms
            assert rates.take(key, now_ms) is is_allowed


def test_keys_that_are_made_up_do_not_fill_the_memory() -> None:
    rates = Rates(rate=1, burst=1, max_keys=1000)
    assert rates.take(b"mine", NOW_MS)
    for number in range(5000):
        rates.take(number.to_bytes(16, "big"), NOW_MS)
        assert not rates.take(b"mine", NOW_MS)  # not idle, so not forgotten
        assert len(rates) <= 1000
    for number in range(600):
        rates.take(b"mine", NOW_MS + 10_000 + number)
    assert len(rates) == 1


def test_a_stranger_costs_less_than_two_hundred_bytes() -> None:
    rates = Rates(rate=1, burst=1)
    keys = [number.to_bytes(16, "big") for number in range(20_000)]
    for key in keys:
        rates.take(key, NOW_MS)
    table = rates._full_at_us  # noqa: SLF001 - its size is the point
    size = sys.getsizeof(table) + sum(sys.getsizeof(k) + sys.getsizeof(v) for k, v in table.items())
    assert size / len(keys) < 200


@pytest.mark.parametrize("rate", [100_000, 1_000_000, 10_000_000])
@pytest.mark.parametrize("piece", [1_000, 65_536, 1_048_576])
def test_a_pace_is_kept_to_a_few_percent_whatever_comes_at_a_time(rate: int, piece: int) -> None:
    """A reader that always has bytes takes what is allowed, waits as told, and wakes no more often
    than it must."""
    now_ms, passed, wakings = NOW_MS, 0, 0
    pace = ByteRate(rate, now_ms)
    while now_ms < NOW_MS + 10_000:
        allowed = pace.allowance(now_ms)
        if allowed <= 0:
            now_ms += pace.delay_ms(now_ms)
            wakings += 1
            continue
        count = min(piece, allowed)
        pace.spend(count)
        passed += count
    assert passed == pytest.approx(10 * rate, rel=0.05)
    assert wakings <= 10_000 / 40


def test_what_came_in_one_piece_is_paid_for_by_waiting() -> None:
    pace = ByteRate(1000, NOW_MS)
    pace.spend(65_536)
    assert pace.allowance(NOW_MS + 65_400) <= 0
    assert pace.allowance(NOW_MS + 65_500) > 0
    assert NOW_MS + pace.delay_ms(NOW_MS) == pytest.approx(NOW_MS + 65_486, abs=2)


def test_a_pause_does_not_lead_to_a_flood() -> None:
    pace = ByteRate(1_000_000, NOW_MS)
    assert pace.allowance(NOW_MS + 3_600_000) == 100_000


@pytest.mark.parametrize("rate", [100_000, 1_000_000, 10_000_000])
def test_a_reader_that_gets_a_turn_every_millisecond_still_wakes_seldom(rate: int) -> None:
    pace = ByteRate(rate, NOW_MS)
    now_ms, passed, reads = NOW_MS, 0, 0
    while now_ms < NOW_MS + 10_000:
        allowed = pace.allowance(now_ms)
        if allowed > 0:
            count = min(65_536, allowed)
            pace.spend(count)
            passed += count
            reads += 1
        now_ms += pace.delay_ms(now_ms) if pace.is_short(now_ms) else 1
    assert passed == pytest.approx(10 * rate, rel=0.02)
    assert reads <= 10 * (25 + rate / 30_000)


def test_the_smallest_pieces_count_as_well() -> None:
    pace = ByteRate(10_000_000, NOW_MS)
    for _ in range(100_000):
        pace.spend(1)
    assert pace.allowance(NOW_MS) == pytest.approx(900_000, abs=2)
