import pytest
from nginy.event.budget import Budget


@pytest.mark.parametrize(("used_bytes", "is_spent"), [(0, False), (99, False), (100, True)])
def test_the_budget_is_spent_when_its_limit_is_reached(used_bytes: int, is_spent: bool) -> None:
    budget = Budget(limit_bytes=100)
    budget.used_bytes = used_bytes
    assert budget.is_spent is is_spent
