from collections.abc import Collection, Iterator, Sequence
from functools import partial
from random import Random

import pytest
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.health.eject import EjectSettings
from nginy.backend.pool import BackendPool, MakeBalancer
from nginy.backend.waiting import QueueSettings
from nginy.balancer.hashing import Hash
from nginy.balancer.least import LeastConn
from nginy.balancer.maglev import Maglev
from nginy.balancer.pick_random import PickRandom
from nginy.balancer.rendezvous import Rendezvous
from nginy.balancer.ring import Ring
from nginy.balancer.round_robin import RoundRobin
from nginy.text.address import parse_address, parse_peer
from nginy.wire.agent import AgentAnswer, Mode, OperatingWord

NOW_S = 1_000_000


def backend(number: int, **settings: int | bool) -> Backend:
    name = f"10.0.0.{number}:80"
    return Backend(BackendSettings(name, parse_address(name), **settings))  # type: ignore[arg-type]


def pool_of(*backends: Backend) -> BackendPool:
    return BackendPool("u", backends, RoundRobin)


def picks(pool: BackendPool, count: int, tried: Collection[Backend] = ()) -> list[Backend | None]:
    return [pool.pick(b"", tried, NOW_S) for _ in range(count)]


# -- pick and release --


def test_who_is_picked_is_busy_until_released() -> None:
    a, b = backend(1), backend(2)
    pool = pool_of(a, b)
    assert picks(pool, 3) == [a, b, a]
    assert (a.conns, b.conns) == (2, 1)
    for each in (a, b, a):
        pool.release(each)
    assert (a.conns, b.conns) == (0, 0)


def test_a_full_backend_is_left_out_until_one_is_released() -> None:
    a = backend(1, max_conns=1)
    pool = pool_of(a)
    assert picks(pool, 2) == [a, None]
    pool.release(a)
    assert picks(pool, 1) == [a]


def test_nobody_picked_is_nobody_busy() -> None:
    a = backend(1, down=True)
    assert picks(pool_of(a), 2) == [None, None]
    assert a.conns == 0


def test_who_was_tried_is_not_picked_again() -> None:
    a, b = backend(1), backend(2)
    pool = pool_of(a, b)
    assert picks(pool, 2, tried=(a,)) == [b, b]
    assert picks(pool, 1, tried=(a, b)) == [None]


def test_the_key_reaches_the_method() -> None:
    backends = [backend(number) for number in range(8)]
    pool = BackendPool("u", backends, Hash, key="$remote_addr")
    one = {pool.pick(b"key", (), NOW_S) for _ in range(8)}
    all_keys = {pool.pick(str(number).encode(), (), NOW_S) for number in range(100)}
    assert len(one) == 1
    assert len(all_keys) == 8


# -- backups --


def test_backups_are_picked_when_no_primary_is_usable() -> None:
    a, spare = backend(1, max_conns=1), backend(2, backup=True)
    pool = pool_of(a, spare)
    assert picks(pool, 3) == [a, spare, spare]
    pool.release(a)
    assert picks(pool, 1) == [a]
    assert spare.conns == 2


def test_with_all_backups_out_too_there_is_nobody() -> None:
    pool = pool_of(backend(1, down=True), backend(2, backup=True, down=True))
    assert picks(pool, 1) == [None]


def test_a_pool_may_have_backups_alone() -> None:
    spare = backend(1, backup=True)
    assert picks(pool_of(spare), 2) == [spare, spare]


# -- passive failures --


def test_failures_take_a_backend_out_for_its_fail_timeout() -> None:
    a, b = backend(1, max_fails=2, fail_timeout_s=10), backend(2)
    pool = pool_of(a, b)
    pool.failed(a, NOW_S)
    assert a in picks(pool, 4)
    pool.failed(a, NOW_S)
    assert picks(pool, 4) == [b] * 4
    assert a.failures == 2
    assert pool.pick(b"", (b,), NOW_S + 11) is a
    assert pool.pick(b"", (), NOW_S + 11) is b


def test_a_probe_that_goes_well_forgets_the_failures() -> None:
    a, b = backend(1), backend(2)
    pool = pool_of(a, b)
    pool.failed(a, NOW_S)
    pool.succeeded(a)  # of a session that began before the failure
    assert a.fails == 1
    assert pool.pick(b"", (b,), NOW_S + 11) is a
    pool.succeeded(a)
    assert a.fails == 0


def held_back(number: int, word: str) -> Backend:
    """Return a backend that something other than failures keeps from serving."""
    made = backend(number, down=word == "configured")
    if word == "checked":
        made.health.hear_agent(AgentAnswer(condition=OperatingWord.DOWN), 0)
    elif word == "drained":
        made.health.set_mode(Mode.DRAIN, "by hand", 0)
    elif word == "unresolved":
        made = Backend(BackendSettings("nobody.test:80", parse_peer("nobody.test:80")))
    made.down = True
    return made


@pytest.mark.parametrize("word", ["", "configured", "checked", "drained", "unresolved"])
def test_the_last_backend_that_could_serve_is_never_taken_out(word: str) -> None:
    a = backend(1, weight=4)
    pool = pool_of(a, held_back(2, word)) if word else pool_of(a)
    pool.failed(a, NOW_S)
    assert picks(pool, 3) == [a] * 3
    assert (a.failures, a.fails, a.effective_weight) == (1, 0, 4)


def test_failures_of_the_only_primary_count_if_a_backup_could_serve() -> None:
    a, spare = backend(1), backend(2, backup=True)
    pool = pool_of(a, spare)
    pool.failed(a, NOW_S)
    assert picks(pool, 2) == [spare, spare]


@pytest.mark.parametrize("method", [RoundRobin, LeastConn, Hash, Ring, Maglev, Rendezvous])
def test_if_all_are_out_the_one_that_failed_longest_ago_is_tried(method: MakeBalancer) -> None:
    a, b, c, spare = *(backend(number) for number in (1, 2, 3)), backend(4, backup=True)
    pool = BackendPool("u", [a, b, c, spare], method)
    for each in (c, spare, a, b):
        pool.failed(each, NOW_S)
    assert pool.pick(b"key", (), NOW_S) is c
    pool.failed(c, NOW_S)
    assert pool.pick(b"key", (), NOW_S + 1) is spare
    assert pool.pick(b"key", (spare, a), NOW_S + 1) is b


def test_the_last_failure_decides_who_has_failed_longest_ago() -> None:
    a, b = backend(1, max_fails=2), backend(2)
    pool = pool_of(a, b)
    for each in (a, b, a):
        pool.failed(each, NOW_S)
    assert picks(pool, 1) == [b]


def test_a_failed_backend_that_is_full_is_not_tried() -> None:
    a, b = backend(1, max_conns=1), backend(2)
    pool = pool_of(a, b)
    pool.failed(a, NOW_S)
    pool.failed(b, NOW_S)
    assert picks(pool, 3) == [a, b, b]


def test_clients_who_come_while_one_is_tried_try_the_others() -> None:
    a, b = backend(1), backend(2)
    pool = pool_of(a, b)
    pool.failed(a, NOW_S)
    pool.failed(b, NOW_S)
    assert picks(pool, 4) == [a, b, a, b]


def test_one_that_is_tried_and_serves_is_back() -> None:
    a, b = backend(1), backend(2)
    pool = pool_of(a, b)
    pool.failed(a, NOW_S)
    pool.failed(b, NOW_S)
    assert pool.pick(b"", (), NOW_S + 1) is a
    pool.succeeded(a)
    assert [pool.pick(b"", (), NOW_S + 1) for _ in range(3)] == [a] * 3
    pool.failed(a, NOW_S + 1)
    assert pool.pick(b"", (), NOW_S + 2) is b


@pytest.mark.parametrize("word", ["configured", "checked", "drained"])
def test_no_backend_that_is_held_back_is_tried_for_want_of_others(word: str) -> None:
    a, b, c = backend(1), backend(2), backend(3)
    pool = pool_of(a, b, c)
    for each in (c, a, b):
        pool.failed(each, NOW_S)
    twin = held_back(3, word)
    c.health, c.down = twin.health, True
    assert picks(pool, 2) == [a, b]
    assert picks(pool, 1, tried=(a, b)) == [None]


def test_an_ejected_backend_is_tried_if_nobody_else_is_left_and_not_before() -> None:
    a, b = backend(1), backend(2)
    pool = pool_of(a, b)
    pool.failed(a, NOW_S)
    a.health.eject(EjectSettings(30_000, 60_000, 50), 0, 2, "1 failed session", 0)
    a.fails, a.down = 0, True
    assert picks(pool, 2) == [b, b]
    b.down = True
    assert picks(pool, 1) == [a]


def test_a_full_backend_is_no_reason_to_refuse_what_a_failed_one_may_serve() -> None:
    a, b = backend(1, max_conns=1), backend(2)
    pool = pool_of(a, b)
    pool.failed(b, NOW_S)
    assert picks(pool, 2) == [a, b]


def test_those_who_can_wait_do_so_instead() -> None:
    a, b = backend(1, max_conns=1), backend(2)
    pool = pool_of(a, b)
    pool.set_queue(QueueSettings(size=10, timeout_ms=1000))
    pool.failed(b, NOW_S)
    assert picks(pool, 2) == [a, None]


def test_who_has_left_is_not_tried() -> None:
    a, b, c = backend(1), backend(2), backend(3)
    pool = pool_of(a, b, c)
    for each in (a, b, c):
        pool.failed(each, NOW_S)
    pool.rebuild([b, c], RoundRobin)
    pool.failed(a, NOW_S)  # one of its old sessions
    assert picks(pool, 4) == [b, c, b, c]
    pool.rebuild([b, a], RoundRobin)
    assert [pool.pick(b"", (b,), NOW_S) for _ in range(2)] == [None, None]
    a.down = False
    assert pool.pick(b"", (b,), NOW_S) is a


def test_forgotten_failures_cost_nothing_any_more() -> None:
    a, b = backend(1, weight=5), backend(2, weight=5)
    pool = pool_of(a, b)
    pool.failed(a, NOW_S)
    assert pool.forget_failures(a)
    assert not pool.forget_failures(b)
    assert a.effective_weight == 5
    assert picks(pool, 2) == [a, b]


# -- weights --


def test_changed_weights_rebuild_nothing() -> None:
    built: list[int] = []

    class Counting(RoundRobin[Backend]):
        def rebuild_steps(self, peers: Sequence[Backend]) -> Iterator[None]:
            built.append(len(peers))
            return super().rebuild_steps(peers)

    pool = BackendPool("u", [backend(1), backend(2), backend(3, backup=True)], Counting)
    pool.rebuild(pool.backends, Counting)
    before = len(built)
    for weight in range(1, 100):
        pool.backends[0].reweigh(weight)
        pool.reweigh()
    assert len(built) == before
    assert picks(pool, 100).count(pool.backends[0]) == 99


@pytest.mark.parametrize("method", [RoundRobin, LeastConn, PickRandom])
def test_changed_weights_count_from_the_next_pick(method: MakeBalancer | type[PickRandom]) -> None:
    a, b = backend(1), backend(2)
    make = partial(PickRandom[Backend], rng=Random(1)) if method is PickRandom else method
    pool = BackendPool("u", [a, b], make)
    picks(pool, 2)
    for each in (a, b):
        each.conns = 0
    a.reweigh(9)
    pool.reweigh()
    assert 170 <= picks(pool, 200).count(a) <= 190


# -- why nobody is usable --


def test_the_log_says_in_counts_why_no_backend_is_usable() -> None:
    downs = held_back(1, "configured"), held_back(2, "checked")
    out, later, full = backend(3), backend(4), backend(5, max_conns=1)
    pool = pool_of(*downs, out, later, full)
    pool.failed(out, NOW_S)
    pool.failed(later, NOW_S + 2)
    full.conns = 1
    assert pool.why_none((), NOW_S + 3) == "2 of 5 down, 2 out for 7s, 1 at max_conns"
    tried = (out, later)
    assert pool.why_none(tried, NOW_S + 3) == "2 of 5 down, 1 at max_conns, 2 tried"


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("configured", "1 of 1 down"),
        ("checked", "1 of 1 down"),
        ("drained", "1 of 1 draining"),
        ("unresolved", "1 of 1 unresolved"),
    ],
)
def test_each_way_of_being_held_back_has_its_word(word: str, text: str) -> None:
    assert pool_of(held_back(1, word)).why_none((), NOW_S) == text


def test_the_reasons_of_many_backends_are_counted_once_a_second() -> None:
    pool = pool_of(*(held_back(number, "configured") for number in range(100)))
    assert pool.why_none((), NOW_S) == "100 of 100 down"
    full = pool.backends[0]
    full.down, full.max_conns, full.conns = False, 1, 1
    assert pool.why_none((), NOW_S) == "100 of 100 down"
    assert pool.why_none((), NOW_S + 1) == "99 of 100 down, 1 at max_conns"


def test_an_empty_pool_says_so() -> None:
    assert pool_of().why_none((), NOW_S) == "it has none"


# -- tries, rebuilding, measuring --


def test_times_of_another_kind_are_forgotten_by_those_who_have_left_too() -> None:
    a, b = backend(1), backend(2)
    pool = pool_of(a)
    pool.left = (b,)
    a.average_ms = b.average_ms = 50
    pool.choose_by("connect")
    assert (a.average_ms, b.average_ms) == (0, 0)


def test_a_session_may_try_all_that_are_not_down() -> None:
    pool = pool_of(backend(1), backend(2, down=True), backend(3), backend(4, backup=True))
    assert pool.tries == 3


def test_those_that_stay_keep_their_state_in_a_changed_list() -> None:
    a, b = backend(1), backend(2)
    pool = pool_of(a, b)
    assert picks(pool, 1) == [a]
    pool.rebuild([b, a, backend(3, backup=True)], RoundRobin)
    assert picks(pool, 1) == [b]
    assert a.conns == b.conns == 1


def test_changed_settings_keep_counts_and_the_place_in_the_round() -> None:
    a = backend(1, weight=5)
    a.conns, a.fails, a.current_weight = 3, 1, -2
    settings = BackendSettings(a.name, a.address, weight=2, max_conns=7, fail_timeout_s=4)
    a.apply(settings)
    assert (a.conns, a.fails, a.current_weight) == (3, 1, -2)
    assert (a.weight, a.effective_weight, a.max_conns, a.fail_timeout_s) == (2, 2, 7, 4)
    assert a.settings is settings


def test_backends_and_pools_show_their_state() -> None:
    a = backend(1, weight=5)
    a.conns, a.fails = 3, 1
    assert repr(a).startswith("<Backend 10.0.0.1:80 weight=5/5 conns=3 fails=1")
    assert repr(pool_of(a)) == f"<BackendPool u [{a!r}]>"
    assert " down" in repr(backend(2, down=True))


def test_while_tables_are_built_a_list_without_old_members_serves_by_turns() -> None:
    a, b, c, spare = backend(1), backend(2), backend(3), backend(4, backup=True)
    pool = pool_of(a)
    pool.replace([b, c, spare])
    assert picks(pool, 4) == [b, c, b, c]
    b.down = c.down = True
    assert picks(pool, 2) == [spare, spare]
    assert picks(pool, 1, tried=(spare,)) == [None]


def test_once_tables_are_built_they_alone_choose() -> None:
    a, b = backend(1), backend(2)
    pool = pool_of(a)
    pool.replace([b])
    for _ in pool.build_steps(RoundRobin):
        pass
    b.down = True
    assert picks(pool, 1) == [None]


def test_clients_that_nobody_can_serve_are_counted_by_the_weightiest_reason() -> None:
    first, second = backend(1), backend(2)
    pool = pool_of(first, second)
    first.down = True
    second.max_conns = 1
    second.take()
    assert pool.turn_away(0) == "1 of 2 down, 1 at max_conns"
    second.give_back()
    second.down = True
    pool.why_none((first,), 0)  # what others have tried does not count
    pool.turn_away(1)
    assert pool.turned_away == {"full": 1, "failed": 0, "down": 1, "unresolved": 0}
    pool.forget_failures(second)
