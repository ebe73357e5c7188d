"""Tests that start the program are slow, but for those of a newcomer's first minutes.

A start takes a fifth of a second, so hundreds of them would slow the inner loop. Tests that are not
slow by themselves are marked `program` as well: `-m "not slow or program"` runs them everywhere.
"""

import contextlib
import gc
import os
import pathlib
import tempfile
from collections.abc import Iterator

import pytest
from nginy.event.clock import MonotonicClock
from nginy.process.collector import resume_collector

from kit import program
from kit.asked import Checks
from kit.faults import Site
from kit.harness import Harness
from kit.program import free_port, own_host

HERE = pathlib.Path(__file__).parent
WHOLE_STARTS = (
    *("test_first_moments.py", "test_newcomer.py", "test_readme.py", "test_start.py"),
    *("test_pyz.py", "test_systemd.py"),
)
INNER_LOOP = ("test_newcomer.py", "test_readme.py")


def pytest_ignore_collect(collection_path: pathlib.Path, config: pytest.Config) -> bool | None:
    """Do not even import what the inner loop leaves out: that takes half a second."""
    is_ours = collection_path.parent == HERE and collection_path.name.startswith("test_")
    is_left_out = is_ours and collection_path.name not in INNER_LOOP
    return True if is_left_out and config.option.markexpr == "not slow" else None


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the marks that -m names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents or item.path.name in INNER_LOOP:
            continue
        if not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.program)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def _start_by_fork(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start nginy by a fork, except in tests of what a start does before it serves."""
    program.IS_FORKED = "NGINY_PROGRAM" not in os.environ and request.path.name not in WHOLE_STARTS
    yield
    program.IS_FORKED = False


@pytest.fixture
def host() -> str:
    """An address that no other test uses."""
    return own_host()


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Iterator[Site]:
    """An address and a directory for nginy, which is not running yet: `start` or `run` it."""
    with contextlib.closing(Site(tmp_path)) as made:
        yield made


@pytest.fixture
def place() -> tuple[str, int]:
    """An address and a port for a server that is not ours."""
    host = own_host()
    return host, free_port(host)


@pytest.fixture
def checks() -> Iterator[Checks]:
    """Health checks on a loop of their own."""
    with Harness(clock=MonotonicClock()) as harness:
        made = Checks(harness)
        yield made
        made.checker.close()


@pytest.fixture
def open_directory() -> Iterator[pathlib.Path]:
    """A directory that servers under users of their own can get to."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


@pytest.fixture
def collector_as_in_run() -> Iterator[None]:
    """Make the cyclic collector look through as much as it does in a running server."""
    before = gc.get_threshold()
    resume_collector()
    yield
    gc.set_threshold(*before)
