"""Tests that start the program are slow, but for those of a newcomer's first minutes.

A start takes a fifth of a second, so hundreds of them are no inner loop. What is not slow by
itself is marked `program` as well: with `-m "not slow or program"` it runs in every environment.
"""

import pathlib

import pytest

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
