"""Upgrades under traffic: another program serves, and no client notices anything.

Every byte and every datagram is compared, and the time it took is known (`kit.crowd`). What goes
wrong in the middle of a hand-over is in test_takeover_faults.py, and what `USR2` does to listening
sockets in test_upgrade.py.
"""

import pathlib
import random
import resource
from collections.abc import Iterator

import pytest

from kit.crowd import Crowd
from kit.program import Nginy
from kit.takeover import Place, Succession, check_log, held_by, place_of

UPGRADES = 20
CLIENTS = 1000
FEW_UPGRADES = 3
FEW_CLIENTS = 40
NEWCOMERS = 3
LONGEST_PAUSE_MS = 4000
"""What a busy machine does to a client is no fault of an upgrade; the measured time is printed."""
DESCRIPTORS = 12_000
GROWTH_BYTES = 8 << 20


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Allow this process, and those that it starts, the descriptors of many clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_few_clients_notice_nothing_of_three_upgrades(
    tmp_path: pathlib.Path, workers: int
) -> None:
    prove(tmp_path, FEW_UPGRADES, FEW_CLIENTS, slowest_s=0.5, workers=workers)


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("many_descriptors")
def test_two_thousand_clients_notice_nothing_of_twenty_upgrades(
    tmp_path: pathlib.Path,
) -> None:
    prove(tmp_path, UPGRADES, CLIENTS, slowest_s=2)


def prove(
    directory: pathlib.Path, upgrades: int, clients: int, slowest_s: float, workers: int = 1
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    with Crowd(seed, slowest_s) as crowd:
        place = place_of(crowd, f"workers: {workers}")
        with Nginy(directory, place.config) as nginy, Succession(nginy, crowd) as line:
            prove_with(crowd, place, line, upgrades, clients)


def prove_with(crowd: Crowd, place: Place, line: Succession, upgrades: int, clients: int) -> None:
    crowd.arrive(clients, place.tcp, clients, place.udp)
    crowd.stick()
    crowd.newcomers = NEWCOMERS
    crowd.hear_from_all()
    crowd.forget_pauses()
    crowd.hear_from_all()
    print("longest pause without an upgrade:", describe(crowd))
    before = held_by(line.pid)
    print("at first:", before, "stuck:", crowd.stuck())
    longest_ms = 0.0
    for _ in range(upgrades):
        outcome = line.succeed()
        crowd.hear_from_all()
        print(f"{outcome.took_s:.2f} s,", describe(crowd), "stuck:", crowd.stuck())
        longest_ms = max(longest_ms, crowd.forget_pauses()[0])
        crowd.unstick(0.5)
        crowd.hear_from_all()
        crowd.stick(0.5)
    print(f"longest pause: {longest_ms:.0f} ms")
    print("\n".join(outcome.lines))
    sockets = before.descriptors["socket"] + 2 * NEWCOMERS
    # Newcomers that have just left may still be there.
    crowd.step_until(lambda: held_by(line.pid).descriptors["socket"] <= sockets, "their end")
    after = held_by(line.pid)
    print("at last:", after)
    ended = crowd.finish()
    line.end()
    check_log(line.nginy, ended, crowd)
    assert len(line.pids) == upgrades + 1
    assert longest_ms < LONGEST_PAUSE_MS
    # The last process has what the first one had.
    assert after.resident_bytes < before.resident_bytes + GROWTH_BYTES


def describe(crowd: Crowd) -> str:
    shown = ", ".join(f"{ms:.0f} ms ({who})" for ms, who in sorted(crowd.pauses, reverse=True)[:3])
    return f"{shown}; the crowd's own {crowd.own_ms:.0f} ms"
