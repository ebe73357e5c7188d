"""The queue of a pool: who is called, in which order, and who may join."""

import random

import pytest
from nginy.backend.waiting import QueueSettings, WaitingQueue


class Client:
    """Notes that it was called."""

    def __init__(self, calls: list["Client"]) -> None:
        self._calls = calls

    def call(self) -> None:
        self._calls.append(self)


@pytest.fixture
def queue() -> WaitingQueue:
    return WaitingQueue(QueueSettings(size=3, timeout_ms=1000))


@pytest.fixture
def calls() -> list[Client]:
    return []


def test_the_longest_waiting_is_called_first(queue: WaitingQueue, calls: list[Client]) -> None:
    clients = [Client(calls) for _ in range(3)]
    for client in clients:
        assert queue.join(client)
    queue.call_next()
    queue.call_next()
    assert calls == clients[:2]
    assert len(queue) == 1


def test_a_full_queue_takes_nobody(queue: WaitingQueue, calls: list[Client]) -> None:
    for _ in range(3):
        assert queue.join(Client(calls))
    assert not queue.join(Client(calls))
    assert len(queue) == 3


def test_who_was_called_in_vain_goes_to_the_head_even_of_a_full_queue(
    queue: WaitingQueue, calls: list[Client]
) -> None:
    first, second = Client(calls), Client(calls)
    queue.join(first)
    queue.join(second)
    queue.call_next()
    queue.join(Client(calls))
    queue.join(Client(calls))
    assert queue.join(first, is_first=True)
    assert len(queue) == 4
    queue.call_next()
    assert calls == [first, first]


def test_who_left_is_not_called(queue: WaitingQueue, calls: list[Client]) -> None:
    first, second = Client(calls), Client(calls)
    queue.join(first)
    queue.join(second)
    queue.leave(first)
    queue.leave(first)
    queue.call_next()
    assert calls == [second]


def test_nobody_is_called_if_nobody_waits(queue: WaitingQueue, calls: list[Client]) -> None:
    queue.call_next()
    queue.call_all()
    assert calls == []


def test_calling_all_calls_each_once_though_they_join_again(queue: WaitingQueue) -> None:
    rejoined = []

    class Insisting(Client):
        def call(self) -> None:
            super().call()
            rejoined.append(queue.join(self, is_first=True))

    calls: list[Client] = []
    clients = [Insisting(calls) for _ in range(3)]
    for client in clients:
        queue.join(client)
    queue.call_all()
    assert len(calls) == 3
    assert rejoined == [True] * 3
    assert len(queue) == 3


def test_any_history_keeps_the_order_of_joining(calls: list[Client]) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    queue = WaitingQueue(QueueSettings(size=5, timeout_ms=1000))
    model: list[Client] = []
    for _ in range(2000):
        step = rng.random()
        if step < 0.5:
            client = Client(calls)
            assert queue.join(client) == (len(model) < 5)
            if len(model) < 5:
                model.append(client)
        elif step < 0.7 and model:
            queue.leave(model.pop(rng.randrange(len(model))))
        elif model:
            queue.call_next()
            assert calls.pop() is model.pop(0)
        assert len(queue) == len(model)
