import pytest
from nginy.event.buffer import Budget, Buffer


def test_bytes_are_taken_at_pos_until_none_are_left() -> None:
    b = Buffer(b"hello")
    assert len(b) == 5
    b.consume(2)
    assert bytes(b.pending()) == b"llo"
    b.consume(3)
    assert len(b) == 0
    assert not b


def test_a_buffer_keeps_a_copy() -> None:
    shared = bytearray(b"hello")
    b = Buffer(memoryview(shared)[1:4])
    shared[:] = b"xxxxx"
    assert bytes(b.pending()) == b"ell"


@pytest.mark.parametrize(("used_bytes", "is_spent"), [(0, False), (99, False), (100, True)])
def test_the_budget_is_spent_when_its_limit_is_reached(used_bytes: int, is_spent: bool) -> None:
    budget = Budget(limit_bytes=100)
    budget.used_bytes = used_bytes
    assert budget.is_spent is is_spent
