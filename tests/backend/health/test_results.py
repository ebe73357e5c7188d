"""The ring of check results."""

from nginy.backend.health.results import KEPT, CheckResults


def test_the_latest_result_comes_first_and_old_ones_go() -> None:
    results = CheckResults()
    assert list(results) == []
    for number in range(KEPT + 3):
        results.add(number * 5000, number, has_passed=number % 2 == 0)
    found = list(results)
    assert len(found) == KEPT
    assert found[0] == ((KEPT + 2) * 5000, KEPT + 2, True)
    assert found[-1] == (3 * 5000, 3, False)


def test_times_of_years_and_long_checks_fit() -> None:
    results = CheckResults()
    results.add(10**12, 10**9, has_passed=True)
    assert list(results) == [(10**12, (1 << 20) - 1, True)]
