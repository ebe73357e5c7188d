"""Room: how much memory the system still lets this process take.

Two limits count. RLIMIT_AS (`ulimit -v`) bounds the address space; beyond it, allocating fails and
Python raises MemoryError. The control group, a container's say, bounds pages; beyond that, the
kernel kills the process without a word. Much of what a group uses can be given back at any time,
such as cached files, so its current use says little: a fixed part of its limit stands for the room.

`event/budget.py` draws the conclusions. Linux: getrlimit(2), proc(5), cgroups(7).

Tested in tests/event/test_budget.py.
"""

import contextlib
import functools
import os
import pathlib
import resource
from typing import Final

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
CGROUPS: Final = pathlib.Path("/sys/fs/cgroup")
"""Where they are mounted (cgroups(7))."""
CGROUP_SHARE: Final = 4
"""A control group's memory divided by this counts as room."""


def room_bytes() -> int | None:
    """Return how many bytes this process may still take; None if there is no limit."""
    rooms = [room for room in (_address_space(), _cgroup_room()) if room is not None]
    return min(rooms, default=None)


def _address_space() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        with open("/proc/self/statm", "rb") as file:
            return max(0, soft - int(file.read().split()[0]) * PAGE_BYTES)
    except OSError:  # no /proc, or no descriptor
        return soft // CGROUP_SHARE


def cgroup_bytes(
    membership: str, mount: pathlib.Path = pathlib.Path("/sys/fs/cgroup")
) -> int | None:
    """Return the lowest memory limit of the control groups that `membership` names, the text of
    /proc/self/cgroup; None if there is no limit.

    Both hierarchies are known: version 2 (`0::/path`, memory.max) and 1 (`4:memory:/path`).
    """
    limits = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = mount, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = mount / controllers, "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for each in (group, *group.parents):
            if each.is_relative_to(root):
                with contextlib.suppress(OSError, ValueError):  # not there, or "max"
                    limits.append(int((each / name).read_text()))
    return min(limits, default=None)


@functools.cache
def _cgroup_room() -> int | None:
    try:
        limit = cgroup_bytes(pathlib.Path("/proc/self/cgroup").read_text())
    except (OSError, ValueError):
        return None
    return None if limit is None else limit // CGROUP_SHARE
