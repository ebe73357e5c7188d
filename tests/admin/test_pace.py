"""Slices end when their steps have cost enough, and the next one begins anew."""

from nginy.admin.pace import SLICE_US, Pace


def test_a_slice_ends_with_the_step_that_makes_it_long_enough() -> None:
    pace = Pace()
    ends = [step for step in range(1, 31) if pace.is_over(SLICE_US / 10)]
    assert ends == [10, 20, 30]
    assert Pace().is_over(10 * SLICE_US)
    assert not Pace().is_over(SLICE_US - 1)
