import pathlib
import subprocess
import sys

import pytest
from nginy.event.budget import BALLAST_BYTES, MEASURE_MS, ROOM_SHARE, Budget
from nginy.event.room import cgroup_bytes


class Room:
    """The memory that is left; counts how often it was measured."""

    def __init__(self, left: int | None) -> None:
        self.left = left
        self.measured = 0

    def __call__(self) -> int | None:
        self.measured += 1
        return self.left


@pytest.mark.parametrize(("used_bytes", "is_spent"), [(0, False), (99, False), (100, True)])
def test_the_budget_is_spent_when_its_limit_is_reached(used_bytes: int, is_spent: bool) -> None:
    budget = Budget(100, Room(None))
    budget.hold(used_bytes, 0)
    assert budget.is_spent is is_spent
    budget.give_back(1)
    assert not budget.is_spent


def test_the_budget_follows_the_memory_that_is_left() -> None:
    room = Room(ROOM_SHARE * 1000)
    budget = Budget(1 << 20, room)
    budget.measure(0)
    budget.hold(999, 1)
    assert not budget.is_spent
    budget.hold(1, 2)
    assert budget.is_spent
    # What is held is not left, and would be if it were given back.
    room.left = (ROOM_SHARE - 1) * 1000 + 4
    budget.measure(MEASURE_MS)
    assert not budget.is_spent
    room.left = 0
    budget.measure(2 * MEASURE_MS)
    assert budget.is_spent


def test_the_room_is_measured_once_a_second() -> None:
    room = Room(None)
    budget = Budget(1 << 20, room)
    for now_ms in (0, 1, MEASURE_MS - 1, MEASURE_MS, MEASURE_MS + 1):
        budget.hold(1, now_ms)
    assert room.measured == 2


def test_without_memory_the_budget_is_spent_until_it_is_measured_again() -> None:
    budget = Budget(1 << 20, Room(BALLAST_BYTES))
    budget.starve(0)
    budget.starve(0)
    assert budget.is_spent
    budget.hold(10, 1)
    budget.give_back(10)
    budget.measure(MEASURE_MS - 1)
    assert budget.is_spent
    budget.measure(MEASURE_MS)
    assert not budget.is_spent
    budget.close()


def put_aside() -> int:
    """Return how many maps of memory without a file this process has (`mmap.mmap(-1, ...)`)."""
    return pathlib.Path("/proc/self/maps").read_text().count("/dev/zero (deleted)")


def test_what_is_put_aside_is_there_for_the_next_time_too() -> None:
    room, before = Room(2 * BALLAST_BYTES), put_aside()
    budget = Budget(1 << 20, room)
    assert put_aside() == before + 1
    budget.starve(0)
    budget.measure(MEASURE_MS)
    assert put_aside() == before
    room.left = 2 * BALLAST_BYTES + 1
    budget.measure(2 * MEASURE_MS)
    assert put_aside() == before + 1
    budget.close()
    assert put_aside() == before


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/", {}, None),
        ("0::/", {"memory.max": "max"}, None),
        ("0::/", {"memory.max": "5000"}, 5000),
        ("0::/a/b", {"a/b/memory.max": "5000", "a/memory.max": "4000"}, 4000),
        ("0::/a/b", {"a/b/memory.max": "5000", "memory.max": "max"}, 5000),
        # A container's own path is not to be seen from inside.
        ("0::/docker/5ea7", {"memory.max": "6000"}, 6000),
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": "7000"}, 7000),
        ("4:cpu:/a", {"cpu/a/memory.limit_in_bytes": "7000"}, None),
        ("4:memory:/a\n0::/a", {"memory/memory.limit_in_bytes": "7000"}, 7000),
    ],
)
def test_the_limit_of_a_control_group_is_the_lowest_of_those_above_it(
    tmp_path: pathlib.Path, membership: str, files: dict[str, str], limit: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert cgroup_bytes(f"{membership}\n", tmp_path) == limit


def test_the_room_is_what_the_limit_of_the_address_space_leaves() -> None:
    program = (
        "import resource; from nginy.event.room import room_bytes;"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); print(room_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (1 << 28) < int(done.stdout) < (1 << 30)
