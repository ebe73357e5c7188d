"""The waiting queue: who is called, in which order, and who may join."""

import random

import pytest
from nginy.backend.waiting import LOOKS_LEFT, QueueSettings, WaitingQueue


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
        assert queue.join(client, 0)
    queue.call_next()
    queue.call_next()
    assert calls == clients[:2]
    assert len(queue) == 1


def test_a_full_queue_takes_nobody(queue: WaitingQueue, calls: list[Client]) -> None:
    for _ in range(3):
        assert queue.join(Client(calls), 0)
    assert not queue.join(Client(calls), 0)
    assert len(queue) == 3


def test_a_closed_queue_takes_nobody_but_those_who_were_called_in_vain(
    queue: WaitingQueue, calls: list[Client]
) -> None:
    first = Client(calls)
    ticket = queue.join(first, 0)
    queue.is_open = False
    queue.call_next()
    assert queue.join(Client(calls), 0) is None
    assert queue.join(first, 9, ticket) == ticket
    assert len(queue) == 1


def test_who_was_called_in_vain_goes_to_the_head_even_of_a_full_queue(
    queue: WaitingQueue, calls: list[Client]
) -> None:
    first, second = Client(calls), Client(calls)
    ticket = queue.join(first, 0)
    queue.join(second, 0)
    queue.call_next()
    queue.join(Client(calls), 0)
    queue.join(Client(calls), 0)
    assert queue.join(first, 9, ticket)
    assert len(queue) == 4
    queue.call_next()
    assert calls == [first, first]


def test_who_left_is_not_called(queue: WaitingQueue, calls: list[Client]) -> None:
    first, second = Client(calls), Client(calls)
    queue.join(first, 0)
    queue.join(second, 0)
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
            rejoined.append(queue.join(self, 9, tickets[self]))

    calls: list[Client] = []
    clients = [Insisting(calls) for _ in range(3)]
    tickets = {client: queue.join(client, 0) for client in clients}
    queue.call_all()
    assert calls == clients
    assert rejoined == list(tickets.values())


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
            assert (queue.join(client, 0) is not None) == (len(model) < 5)
            if len(model) < 5:
                model.append(client)
        elif step < 0.7 and model:
            queue.leave(model.pop(rng.randrange(len(model))))
        elif model:
            queue.call_next()
            assert calls.pop() is model.pop(0)
        assert len(queue) == len(model)


# Several workers.


class Others:
    """Since when the first client of another worker has waited, as the test says."""

    def __init__(self) -> None:
        self.theirs_ms: int | None = None
        self.ours_ms: int | None = None

    def tell(self, since_ms: int | None) -> None:
        self.ours_ms = since_ms

    def first_since_ms(self) -> int | None:
        return self.theirs_ms


@pytest.fixture
def others() -> Others:
    return Others()


@pytest.fixture
def shared(others: Others) -> WaitingQueue:
    return WaitingQueue(QueueSettings(size=3, timeout_ms=1000), others)


def test_the_others_know_since_when_the_first_one_waits(
    shared: WaitingQueue, others: Others, calls: list[Client]
) -> None:
    first, second = Client(calls), Client(calls)
    shared.join(first, 5)
    shared.join(second, 8)
    assert others.ours_ms == 5
    shared.leave(first)
    assert others.ours_ms == 8
    shared.call_next()
    assert others.ours_ms is None
    shared.join(first, 9)
    shared.call_all()
    assert others.ours_ms is None


def test_a_freed_backend_is_left_to_a_client_elsewhere_that_has_waited_longer(
    shared: WaitingQueue, others: Others, calls: list[Client]
) -> None:
    client = Client(calls)
    shared.join(client, 5)
    others.theirs_ms = 4
    shared.call_next()
    shared.look(1)
    assert calls == []
    others.theirs_ms = 6
    shared.look(1)
    assert calls == [client]


def test_a_newcomer_waits_behind_those_of_other_workers(
    shared: WaitingQueue, others: Others
) -> None:
    assert not shared
    others.theirs_ms = 4
    assert shared
    assert len(shared) == 0


def test_a_backend_that_the_other_worker_does_not_take_goes_to_the_next(
    shared: WaitingQueue, others: Others, calls: list[Client]
) -> None:
    client = Client(calls)
    shared.join(client, 5)
    others.theirs_ms = 4
    for _ in range(LOOKS_LEFT):
        shared.look(1)
    assert calls == []
    shared.look(1)
    assert calls == [client]


def test_no_more_are_called_than_there_is_room_for(
    shared: WaitingQueue, calls: list[Client]
) -> None:
    clients = [Client(calls) for _ in range(3)]
    for client in clients:
        shared.join(client, 5)
    shared.look(0)
    assert calls == []
    shared.look(2)
    assert calls == clients[:2]
