from collections.abc import Collection

import pytest
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.pool import BackendPool
from nginy.balancer.hashing import Hash
from nginy.balancer.round_robin import RoundRobin
from nginy.text.address import parse_address

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
    assert pool.pick(b"", (b,), NOW_S + 10) is None
    assert pool.pick(b"", (b,), NOW_S + 11) is a


def test_a_probe_that_goes_well_forgets_the_failures() -> None:
    a, b = backend(1), backend(2)
    pool = pool_of(a, b)
    pool.failed(a, NOW_S)
    pool.succeeded(a)  # of a session that began before the failure
    assert a.fails == 1
    assert pool.pick(b"", (b,), NOW_S + 11) is a
    pool.succeeded(a)
    assert a.fails == 0


@pytest.mark.parametrize("is_alone", [True, False])
def test_the_only_backend_is_never_taken_out(is_alone: bool) -> None:
    a = backend(1)
    pool = pool_of(a) if is_alone else pool_of(a, backend(2, backup=True))
    assert pool.is_single is is_alone
    pool.failed(a, NOW_S)
    picked = pool.pick(b"", (), NOW_S)
    assert (picked is a) is is_alone
    assert a.failures == 1


# -- tries, rebuilding --


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
    assert not pool.is_single


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
