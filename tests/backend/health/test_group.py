"""How many of a group may be ejected, and when the health of a group is ignored."""

import pytest
from nginy.backend.health.eject import EjectSettings
from nginy.backend.health.group import is_fail_open, may_eject


@pytest.mark.parametrize(
    ("ejected", "total", "max_percent", "expected"),
    [
        (0, 1, 50, False),
        (0, 1, 100, True),
        (0, 2, 50, True),
        (1, 2, 50, False),
        (0, 3, 33, False),
        (0, 3, 34, True),
        (4, 10, 50, True),
        (5, 10, 50, False),
        (0, 10, 0, False),
    ],
)
def test_no_more_than_the_share_is_ejected(ejected, total, max_percent, expected):
    assert may_eject(EjectSettings(1, 1, max_percent), ejected, total) is expected


@pytest.mark.parametrize(
    ("up", "total", "threshold", "expected"),
    [
        (0, 0, 0.5, False),
        (0, 3, 0.3, True),
        (1, 3, 0.3, False),
        (1, 4, 0.3, True),
        (3, 30, 0.1, False),
        (3, 10, 0.3, False),
        (4, 4, 1.0, False),
        (3, 4, 1.0, True),
    ],
)
def test_health_is_ignored_only_below_the_threshold(
    up: int, total: int, threshold: float, expected: bool
) -> None:
    assert is_fail_open(up, total, threshold) is expected
