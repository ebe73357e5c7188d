import pytest
from nginy.log.levels import EMERG, LEVELS, NOTICE, level_name


def test_levels_are_ordered_as_nginx_orders_them():
    assert sorted(LEVELS, key=LEVELS.__getitem__) == [
        "debug", "info", "notice", "warn", "error", "crit", "emerg",
    ]  # fmt: skip


@pytest.mark.parametrize("name", LEVELS)
def test_each_level_is_called_by_its_name(name):
    assert level_name(LEVELS[name]) == name


@pytest.mark.parametrize(
    ("level", "name"), [(1, "debug"), (NOTICE + 1, "notice"), (EMERG + 9, "emerg")]
)
def test_a_level_between_two_names_takes_the_lower_one(level, name):
    assert level_name(level) == name
