"""How long an ejection lasts."""

import random

import pytest
from nginy.backend.health.eject import Ejection, EjectSettings

SETTINGS = EjectSettings(base_ms=30_000, max_ms=100_000, max_percent=50)


def test_each_ejection_in_a_row_is_longer_by_the_base_up_to_the_maximum():
    ejection = Ejection()
    now_ms, durations = 5_000, []
    for _ in range(5):
        durations.append(ejection.begin(SETTINGS, now_ms))
        assert ejection.until_at_ms == now_ms + durations[-1]
        now_ms = ejection.until_at_ms + 1
    assert durations == [30_000, 60_000, 90_000, 100_000, 100_000]


def test_a_maximum_below_the_base_does_not_shorten_the_first_ejection():
    assert Ejection().begin(EjectSettings(30_000, 10_000, 50), 0) == 30_000


@pytest.mark.parametrize(
    ("served_ms", "duration_ms"),
    [(0, 90_000), (29_999, 90_000), (30_000, 60_000), (60_000, 30_000), (10**9, 30_000)],
)
def test_each_base_in_service_forgives_one_ejection(served_ms, duration_ms):
    ejection = Ejection()
    ejection.begin(SETTINGS, 0)
    ejection.begin(SETTINGS, ejection.until_at_ms)
    assert ejection.begin(SETTINGS, ejection.until_at_ms + served_ms) == duration_ms


def test_durations_stay_within_base_and_maximum_for_random_times():
    seed = 20267
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(200):
        ejection, now_ms = Ejection(), 0
        settings = EjectSettings(rng.randrange(1, 1000), rng.randrange(1, 5000), 50)
        for count in range(1, 30):
            now_ms = ejection.until_at_ms + rng.randrange(2000)
            duration_ms = ejection.begin(settings, now_ms)
            longest_ms = max(settings.base_ms, settings.max_ms)
            assert settings.base_ms <= duration_ms <= longest_ms
            assert 1 <= ejection.in_row <= count
