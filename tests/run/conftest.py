"""Tests that start the program are slow, but for those of a newcomer's first minutes.

A start takes a fifth of a second, so hundreds of them are no inner loop. What is not slow by
itself is marked `program` as well: with `-m "not slow or program"` it runs in every environment.
"""

import contextlib
import pathlib
from collections.abc import Iterator

import pytest

from kit.faults import Site
from kit.program import own_host

HERE = pathlib.Path(__file__).parent
INNER_LOOP = ("test_newcomer.py", "test_readme.py")


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the marks that -m names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents or item.path.name in INNER_LOOP:
            continue
        if not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.program)
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def host() -> str:
    """An address that no other test uses."""
    return own_host()


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Iterator[Site]:
    """An address and a directory for nginy, which is not running yet: `start` or `run` it."""
    with contextlib.closing(Site(tmp_path)) as made:
        yield made
