"""What every test gets without asking: a log line that was not announced makes it fail."""

import gc
import logging
import pathlib
import resource
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager

import pytest

from kit.clock import FakeClock
from kit.harness import METHODS, Harness
from kit.limits import (
    pytest_addoption,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_runtest_teardown,
)
from kit.logs import LogWatch

__all__ = (
    "pytest_addoption",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
)

pytest_plugins = ("kit.share",)

DESCRIPTORS = 4096
EVENT_TESTS = pathlib.Path(__file__).parent / "event"
ExpectLog = Callable[..., AbstractContextManager[list[logging.LogRecord]]]


def pytest_configure() -> None:
    """Allow the descriptors that some tests open, of which a system may allow 1024 by default.

    And hear Ctrl-C, as do the programs that tests start: what a script runs in the background
    begins with SIGINT ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the marks that -m names
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark repetitions as slow, and leave out the tests marked `real` unless `-m` names them.

    A test above the loop repeats what it has shown with epoll for each other way to wait.
    """
    for item in items:
        if EVENT_TESTS not in item.path.parents and is_repetition(item):
            item.add_marker(pytest.mark.slow)
    if "real" in config.option.markexpr.split():
        return
    left_out = [item for item in items if item.get_closest_marker("real")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("real")]


def is_repetition(item: pytest.Item) -> bool:
    """Tell whether a test waits in another way than epoll's."""
    return isinstance(item, pytest.Function) and (
        hasattr(item, "callspec") and item.callspec.params.get("method") in METHODS[1:]
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Generator[None, None, None]:
    """Make the cyclic collector skip what pytest collects.

    These are some 10^5 objects that live to the end; a collection that a test asks for, or that
    falls into a span which a test measures, is then about the test's own.
    """
    gc.disable()
    yield
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def log_watch(request: pytest.FixtureRequest) -> Iterator[LogWatch]:
    """Fail the test if nginy logs a warning, or worse, that the test has not announced.

    A test that asks for pytest's `caplog`, or opens an error log, reads that one instead. Nor may a
    loop be recorded any more: its recorder would hear of each collection in the tests to come.
    """
    callbacks = gc.callbacks.copy()
    watch = LogWatch()
    logging.getLogger().addHandler(watch)
    yield watch
    logging.getLogger().removeHandler(watch)
    if "caplog" not in request.fixturenames:
        assert watch.unannounced() == []
    assert gc.callbacks == callbacks


@pytest.fixture
def expect_log(log_watch: LogWatch) -> ExpectLog:
    """Announce log records: `with expect_log(r"connect\\(\\) failed"): ...`."""
    return log_watch.expect


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only when told to."""
    return FakeClock()


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Each way to wait, one after the other."""
    return str(request.param)


@pytest.fixture
def harness(method: str, clock: FakeClock) -> Iterator[Harness]:
    """A loop and what is around it, for each way to wait; the test's `clock` is its clock."""
    with Harness(method, clock) as made:
        yield made
