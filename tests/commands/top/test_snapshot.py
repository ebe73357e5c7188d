"""Rates, which are differences of two snapshots."""

from nginy.commands.top.snapshot import HISTORY, UNKNOWN, Rates, Snapshot, take

from kit.top import backends, overview, shot


def test_rates_are_what_has_grown_in_the_time_between() -> None:
    found = shot()
    assert found.rates[""] == Rates(312, 11_375_000, 105_000_000)
    assert found.rates["web/10.0.0.2:80"] == Rates(80, 2_750_000, 25_000_000)
    assert found.rates["web/10.0.0.1:80"] == Rates(0, 0, 0)
    assert found.history == (312,)


def test_rates_stay_until_nginy_has_counted_bytes_again() -> None:
    """With thousands of sessions, it does not count them for each answer."""

    def rounds(*ages_s: float | None) -> list[float | None]:
        shown, found = None, []
        for second, age_s in enumerate(ages_s):
            at = f"2026-11-28T06:00:{second:02}.000Z"
            counted = int(100 * (second - (age_s or 0)))
            bytes_ = {"received": 0, "sent": counted, "age_s": age_s}
            shown = take(shown, Snapshot(float(second), overview(at=at, bytes=bytes_)))
            found.append(shown.rates.get("", UNKNOWN).sent)
        return found

    assert rounds(0, 1, 0, 1.01, 0, 0) == [None, None, 100, 100, 100, 100]
    assert rounds(0, 0.5, 0, None) == [None, 50, 150, 150]
    timeless = take(None, Snapshot(0.0, overview(at="soon")))
    later = overview(bytes={**timeless.overview["bytes"], "age_s": 5.0})
    assert take(timeless, Snapshot(1.0, later)).rates[""] == Rates(0, 0, 0)


def test_another_process_has_no_rates_yet_nor_has_a_count_that_fell() -> None:
    before = shot()
    other = take(before, Snapshot(3.0, overview(pid=1), rows=backends(2)))
    assert (other.rates, other.history) == ({}, ())
    fell = take(before, Snapshot(3.0, overview(), rows=backends(0)))
    assert fell.rates["web/10.0.0.2:80"] == UNKNOWN
    assert fell.history == before.history
    assert take(before, Snapshot(2.0, overview(), rows=backends(2))).rates == {}


def test_a_row_that_is_new_has_none_and_the_history_has_an_end() -> None:
    now = take(None, Snapshot(0.0, overview()))
    for second in range(1, 2 * HISTORY):
        total = {"now": 1, "total": 1_000_000 + second * 5, "rate": None}
        now = take(now, Snapshot(float(second), overview(sessions=total), rows=backends()))
        assert ("web/10.0.0.2:80" in now.rates) is (second > 1)
    assert now.history == (5.0,) * HISTORY


def test_ages_are_by_the_clock_of_nginy() -> None:
    found = shot()
    assert found.age_s("2026-11-28T06:00:00.000Z") == 12
    assert found.age_s(None) is found.age_s("yesterday") is None
