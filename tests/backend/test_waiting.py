"""The waiting line: who is called, in which order, and who may join."""

import random

import pytest
from nginy.backend.waiting import QueueSettings, WaitingLine


class Client:
    """Notes that it was called."""

    def __init__(self, calls: list["Client"]) -> None:
        self._calls = calls

    def call(self) -> None:
        self._calls.append(self)


@pytest.fixture
def line() -> WaitingLine:
    return WaitingLine(QueueSettings(size=3, timeout_ms=1000))


@pytest.fixture
def calls() -> list[Client]:
    return []


def test_the_longest_waiting_is_called_first(line: WaitingLine, calls: list[Client]) -> None:
    clients = [Client(calls) for _ in range(3)]
    for client in clients:
        assert line.join(client)
    line.call_next()
    line.call_next()
    assert calls == clients[:2]
    assert len(line) == 1


def test_a_full_line_takes_nobody(line: WaitingLine, calls: list[Client]) -> None:
    for _ in range(3):
        assert line.join(Client(calls))
    assert not line.join(Client(calls))
    assert len(line) == 3


def test_who_was_called_in_vain_goes_to_the_head_even_of_a_full_line(
    line: WaitingLine, calls: list[Client]
) -> None:
    first, second = Client(calls), Client(calls)
    line.join(first)
    line.join(second)
    line.call_next()
    line.join(Client(calls))
    line.join(Client(calls))
    assert line.join(first, is_first=True)
    assert len(line) == 4
    line.call_next()
    assert calls == [first, first]


def test_who_left_is_not_called(line: WaitingLine, calls: list[Client]) -> None:
    first, second = Client(calls), Client(calls)
    line.join(first)
    line.join(second)
    line.leave(first)
    line.leave(first)
    line.call_next()
    assert calls == [second]


def test_nobody_is_called_if_nobody_waits(line: WaitingLine, calls: list[Client]) -> None:
    line.call_next()
    line.call_all()
    assert calls == []


def test_calling_all_calls_each_once_though_they_join_again(line: WaitingLine) -> None:
    rejoined = []

    class Insisting(Client):
        def call(self) -> None:
            super().call()
            rejoined.append(line.join(self, is_first=True))

    calls: list[Client] = []
    clients = [Insisting(calls) for _ in range(3)]
    for client in clients:
        line.join(client)
    line.call_all()
    assert len(calls) == 3
    assert rejoined == [True] * 3
    assert len(line) == 3


def test_any_history_keeps_the_order_of_joining(calls: list[Client]) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    line = WaitingLine(QueueSettings(size=5, timeout_ms=1000))
    model: list[Client] = []
    for _ in range(2000):
        step = rng.random()
        if step < 0.5:
            client = Client(calls)
            assert line.join(client) == (len(model) < 5)
            if len(model) < 5:
                model.append(client)
        elif step < 0.7 and model:
            line.leave(model.pop(rng.randrange(len(model))))
        elif model:
            line.call_next()
            assert calls.pop() is model.pop(0)
        assert len(line) == len(model)
