"""The counts that workers share, with several workers' views of one table in one process."""

import random
from typing import Any

import pytest
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.pool import BackendPool
from nginy.backend.shared import SharedBackend, SharedCounts, tag_of
from nginy.balancer.least import LeastConn
from nginy.balancer.round_robin import RoundRobin
from nginy.text.address import parse_address

from kit.clock import FakeClock


def settings(name: str, max_conns: int = 0, weight: int = 1) -> BackendSettings:
    return BackendSettings(name, parse_address(name), max_conns=max_conns, weight=weight)


def backends(counts: SharedCounts, workers: int, name: str = "127.0.0.1:1") -> list[Backend]:
    """One backend as each worker has made it."""
    return [counts.for_worker(worker).backend("web", settings(name)) for worker in range(workers)]


def test_everyone_reads_the_sum_of_what_all_have_counted() -> None:
    first, second, third = backends(SharedCounts(3), 3)
    first.take()
    second.take()
    second.take()
    assert (first.conns, second.conns, third.conns) == (3, 3, 3)
    second.give_back()
    assert third.conns == 2


def test_a_sum_that_was_read_before_another_took_cannot_be_written_back() -> None:
    first, second = backends(SharedCounts(2), 2)
    read = first.conns
    second.take()
    with pytest.raises(AttributeError):
        first.conns = read + 1
    assert first.conns == 1


def test_backends_of_other_addresses_and_upstreams_are_counted_apart() -> None:
    make = SharedCounts(1).for_worker(0).backend
    made = [
        make("web", settings("127.0.0.1:1")),
        make("web", settings("127.0.0.1:2")),
        make("api", settings("127.0.0.1:1")),
    ]
    made[0].take()
    assert [backend.conns for backend in made] == [1, 0, 0]


def test_two_objects_for_one_backend_add_up() -> None:
    # One that has left its pool with sessions, and the one that came after it.
    counts = SharedCounts(2)
    make = counts.for_worker(0).backend
    old, new = make("web", settings("127.0.0.1:1")), make("web", settings("127.0.0.1:1"))
    old.take()
    new.take()
    assert (old.conns, new.conns) == (2, 2)
    old.give_back()
    assert new.conns == 1


def test_a_backend_under_another_name_takes_its_count_along() -> None:
    counts = SharedCounts(2)
    make = counts.for_worker(0).backend
    moved = make("web", settings("127.0.0.1:1"))
    moved.take()
    renamed = BackendSettings("web.example:1", parse_address("127.0.0.1:1"))
    moved.apply(renamed)
    other = counts.for_worker(1).backend("web", renamed)
    assert (moved.conns, other.conns) == (1, 1)
    assert make("web", settings("127.0.0.1:1")).conns == 0
    moved.give_back()
    assert other.conns == 0


def test_what_a_died_worker_counted_is_cleared() -> None:
    counts = SharedCounts(2)
    first, second = backends(counts, 2)
    first.take()
    second.take()
    counts.clear(0)
    assert second.conns == 1
    (successor, _) = backends(counts, 2)
    successor.take()
    assert second.conns == 2


def test_workers_that_claimed_one_row_at_the_same_time_part_again() -> None:
    counts = SharedCounts(2, rows=8)
    theirs, ours = counts.for_worker(0).backend, counts.for_worker(1).backend
    loser = theirs("web", settings("127.0.0.1:1"))
    loser.take()
    # The other worker saw the row free when it looked, and its tag was written last.
    taken, _ = counts.find(tag_of("web\0127.0.0.1:1\0127.0.0.1:1"))
    winner = ours("web", settings("127.0.0.1:2"))
    taken[0] = tag_of("web\0127.0.0.1:2\0127.0.0.1:2")
    winner = ours("web", settings("127.0.0.1:2"))
    assert loser.conns == 1
    winner.take()
    assert (winner.conns, loser.conns) == (1, 1)
    also = ours("web", settings("127.0.0.1:1"))
    assert also.conns == 1


def test_backends_that_find_no_row_count_alone() -> None:
    counts = SharedCounts(2, rows=2)
    names = [f"127.0.0.1:{port}" for port in range(1, 5)]
    ours = [counts.for_worker(0).backend("web", settings(name)) for name in names]
    theirs = [counts.for_worker(1).backend("web", settings(name)) for name in names]
    for backend in ours:
        backend.take()
    assert [backend.conns for backend in ours] == [1] * 4
    assert [backend.conns for backend in theirs] == [1, 1, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_any_history_gives_the_sum(seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    workers = 4
    counts = SharedCounts(workers)
    names = [f"127.0.0.1:{port}" for port in range(1, 9)]
    made = [backends(counts, workers, name) for name in names]
    expected = [[0] * workers for _ in names]
    for _ in range(2000):
        which, worker = rng.randrange(len(names)), rng.randrange(workers)
        if rng.random() < 0.01:
            counts.clear(worker)
            for row, name in enumerate(names):
                made[row][worker] = counts.for_worker(worker).backend("web", settings(name))
                expected[row][worker] = 0
        elif expected[which][worker] and rng.random() < 0.5:
            made[which][worker].give_back()
            expected[which][worker] -= 1
        else:
            made[which][worker].take()
            expected[which][worker] += 1
        reader = rng.randrange(workers)
        assert made[which][reader].conns == sum(expected[which])


def test_max_conns_and_least_conn_see_all_workers() -> None:
    counts = SharedCounts(2)
    names = ("127.0.0.1:1", "127.0.0.1:2")

    def pool(worker: int) -> BackendPool:
        make = counts.for_worker(worker).backend
        members = [make("web", settings(name, max_conns=2)) for name in names]
        return BackendPool("web", members, LeastConn)

    ours, theirs = pool(0), pool(1)
    picked = [each.pick(b"", (), 1) for each in (ours, theirs, ours, theirs)]
    # Each worker decides alone which of two equal backends is next; one with fewer comes first.
    chosen = [backend.name for backend in picked if backend is not None]
    assert sorted(chosen[:2]) == sorted(chosen[2:]) == [*names]
    assert ours.pick(b"", (), 1) is None
    released = picked[1]
    assert released is not None
    theirs.release(released)
    again = ours.pick(b"", (), 1)
    assert again is not None
    assert again.name == released.name


@pytest.mark.parametrize("method", [RoundRobin, LeastConn])
@pytest.mark.parametrize("count", [3, 8, 100])
def test_workers_begin_their_rounds_in_different_places(method: Any, count: int) -> None:
    counts = SharedCounts(4)
    pools = []
    for worker in map(counts.for_worker, range(4)):
        members = [worker.backend("web", settings(f"127.0.0.1:{n + 1}")) for n in range(count)]
        pools.append(BackendPool("web", members, method))
        pools[-1].begin_at(worker.phase)
    first = [pool.pick(b"", (), 1) for pool in pools]
    assert len({backend.name for backend in first if backend is not None}) == min(4, count)


@pytest.mark.parametrize("seed", range(5))
def test_all_workers_together_are_fair_to_within_one_session_a_worker(seed: int) -> None:
    rng = random.Random(seed)
    counts = SharedCounts(3)
    weights = [rng.randint(1, 4) for _ in range(7)]
    pools = []
    for worker in map(counts.for_worker, range(3)):
        members = [
            worker.backend("web", settings(f"127.0.0.1:{n + 1}", weight=weight))
            for n, weight in enumerate(weights)
        ]
        pools.append(BackendPool("web", members, RoundRobin))
        pools[-1].begin_at(worker.phase)
    for sessions in range(1, 500):
        rng.choice(pools).pick(b"", (), 1)
        for backend, weight in zip(pools[0].backends, weights, strict=True):
            assert abs(backend.conns - sessions * weight / sum(weights)) <= 2 * len(pools)


def test_a_round_begins_in_its_place_once_names_have_become_backends() -> None:
    counts = SharedCounts(2)
    make = counts.for_worker(1).backend
    pool = BackendPool("web", [], RoundRobin)
    pool.begin_at(0.5)
    members = [make("web", settings(f"127.0.0.1:{n + 1}")) for n in range(4)]
    pool.rebuild(members, RoundRobin)
    assert pool.pick(b"", (), 1) is members[2]
    pool.rebuild(members, RoundRobin)
    assert pool.pick(b"", (), 1) is members[3]


def test_a_backend_alone_keeps_its_plain_count() -> None:
    # What a single process pays: an attribute, as the type says.
    assert not isinstance(vars(Backend)["conns"], property)
    assert isinstance(vars(SharedBackend)["conns"], property)
    pool = BackendPool("web", [Backend(settings("127.0.0.1:1"))], RoundRobin)
    backend = pool.pick(b"", (), 1)
    assert backend is not None
    assert backend.conns == 1


def test_queues_of_several_workers_know_who_has_waited_longest() -> None:
    counts = SharedCounts(3)
    clocks = [FakeClock() for _ in range(3)]
    first, second, third = (
        counts.for_worker(i).peers("web", clock) for i, clock in enumerate(clocks)
    )
    now_ms = clocks[2].now_ms
    assert first.first_since_ms() is None
    first.tell(now_ms - 300)
    # This worker's process stood still for a while, so its time is another one.
    clocks[1].skipped_ms = 10_000
    second.tell(now_ms - 10_500)
    assert third.first_since_ms() == now_ms - 500
    assert second.first_since_ms() == now_ms - 10_300
    other = counts.for_worker(2).peers("api", clocks[2])
    assert other.first_since_ms() is None
    second.tell(None)
    assert third.first_since_ms() == now_ms - 300
    counts.clear(0)
    assert third.first_since_ms() is None
