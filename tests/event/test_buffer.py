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


def test_bytes_are_added_at_last_up_to_end() -> None:
    b = Buffer(b"he", size_bytes=5)
    assert (len(b), b.end) == (2, 5)
    free = b.free()
    assert len(free) == 3
    free[:2] = b"ll"
    b.fill(2)
    assert bytes(b.pending()) == b"hell"
    assert len(b.free()) == 1


def test_a_buffer_is_never_smaller_than_its_bytes() -> None:
    b = Buffer(b"hello", size_bytes=2)
    assert bytes(b.pending()) == b"hello"
    assert len(b.free()) == 0


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
