"""Counts of durations by their bounds."""

from nginy.event.histogram import CONNECT_BOUNDS_MS, TURN_BOUNDS_MS, Histogram, quantile_s


def test_a_bound_belongs_to_what_is_below_it() -> None:
    histogram = Histogram((1, 5))
    for duration_ms in (0, 1, 1.5, 5, 6, 1000):
        histogram.count(duration_ms)
    assert histogram.counts == [2, 2, 2]
    assert histogram.sum_ms == 1013.5


def test_a_quantile_is_the_bound_that_so_many_do_not_exceed() -> None:
    assert quantile_s([98, 1, 1, 0], (1, 5, 10), 0.99) == 0.005
    assert quantile_s([0, 0, 0, 3], (1, 5, 10), 0.99) is None
    assert quantile_s([0, 0, 0, 0], (1, 5, 10), 0.99) is None
    assert quantile_s([], (1, 5, 10), 0.99) is None


def test_bounds_rise() -> None:
    assert list(CONNECT_BOUNDS_MS) == sorted(set(CONNECT_BOUNDS_MS))
    assert list(TURN_BOUNDS_MS) == sorted(set(TURN_BOUNDS_MS))
