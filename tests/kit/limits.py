"""How long a test may take: each of its phases, setup, call and teardown, has a limit of its own.

A phase that takes longer fails, alone: the alarm rings inside the phase, where pytest expects a
test to fail. The plugin pytest-timeout arms one alarm for all phases and what pytest does between
them, and one that rings there ends the whole run with an INTERNALERROR.

The alarm rings again until the phase ends, as the first one may be lost where Python ignores
exceptions (`__del__`). It cannot end a call of C that never returns: faulthandler then prints where
that is (`faulthandler_timeout` in setup.cfg).
"""

import contextlib
import signal
from collections.abc import Generator, Iterator
from types import FrameType

import pytest

PHASE_MAX_S = 60.0
AGAIN_AFTER_S = 5.0


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "seconds that each phase of a test may take; @pytest.mark.timeout overrides it"
    parser.addoption("--timeout", type=float, default=PHASE_MAX_S, help=text)


def limit_s(item: pytest.Item) -> float:
    """Return the limit of each phase of a test, in seconds; 0 means none."""
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0] if mark else item.config.getoption("--timeout"))


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise pytest's Failed in the block when it takes more than `seconds`."""

    def fail(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"this took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_AFTER_S if seconds else 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with within(limit_s(item)):
        yield


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with within(limit_s(item)):
        yield


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    with within(limit_s(item)):
        yield
