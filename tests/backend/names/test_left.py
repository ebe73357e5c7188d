"""Backends that have left a list: how long they are remembered, and how many."""

from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.names.left import MAX_LEFT, REMEMBERED_MS, LeftBackends
from nginy.text.address import parse_peer


def backend(text: str) -> Backend:
    return Backend(BackendSettings(text, parse_peer(text)))


def test_a_backend_that_leaves_is_marked_and_remembered_and_one_that_returns_is_not() -> None:
    left, one, two = LeftBackends(), backend("10.0.0.1:80"), backend("10.0.0.2:80")
    left.update([one, two], [two], 1000)
    assert (left.backends, one.left_at_ms, two.left_at_ms) == ((one,), 1000, None)
    left.update([two], [two, one], 2000)
    assert (left.backends, one.left_at_ms) == ((), None)


def test_a_name_without_an_address_is_not_remembered() -> None:
    left, name, one = LeftBackends(), backend("web.example:80"), backend("10.0.0.1:80")
    left.update([name], [one], 1000)
    assert left.backends == ()


def test_a_backend_with_sessions_is_remembered_longer_than_one_without() -> None:
    left, idle, busy = LeftBackends(), backend("10.0.0.1:80"), backend("10.0.0.2:80")
    busy.take()
    left.update([idle, busy], [], 1000)
    left.update([], [], 1000 + REMEMBERED_MS - 1)
    assert left.backends == (idle, busy)
    left.update([], [], 1000 + REMEMBERED_MS)
    assert left.backends == (busy,)
    busy.give_back()
    left.update([], [], 1000 + REMEMBERED_MS)
    assert left.backends == ()


def test_of_too_many_the_first_to_leave_are_forgotten_unless_they_have_sessions() -> None:
    left = LeftBackends()
    many = [backend(f"10.0.{i >> 8}.{i & 255}:80") for i in range(MAX_LEFT + 3)]
    many[1].take()
    for each in many:
        left.update([each], [], 1000)
    assert left.backends == (many[1], *many[3:])
