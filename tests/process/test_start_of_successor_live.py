"""The start of a new program, where the system has no room for it."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.process.takeover.tally import Moved
from nginy.process.upgrade import Progress, Upgrade

from conftest import ExpectLog
from kit.harness import Harness
from kit.leaks import no_descriptor_left


class Nothing:
    """Has nothing to hand over."""

    def listeners(self) -> Sequence[Listener]:
        return ()

    def give(self, _report: Callable[[Moved], None]) -> Sequence[socket.socket]:
        return ()

    def take_back(self) -> None:
        raise AssertionError

    def book(self) -> bytes:
        return b""

    def totals(self) -> Iterator[str]:
        return iter(())


class FullInterest:
    """What a loop watches, with no room for one more (fs.epoll.max_user_watches)."""

    def __init__(self, interest: Any) -> None:
        self.interest = interest

    def add(self, _c: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.interest, name)


@contextlib.contextmanager
def full(loop: Loop) -> Iterator[None]:
    interest: Any = loop.interest
    full_interest: Any = FullInterest(interest)
    loop.interest = full_interest
    yield
    loop.interest = interest


WANTS: dict[str, tuple[Callable[[Loop], contextlib.AbstractContextManager[object]], str]] = {
    "a link": (lambda _loop: no_descriptor_left(), "Too many open files"),
    "its place in the loop": (full, "No space left"),
    "the program": (lambda _loop: contextlib.nullcontext(), "Argument list too long"),
}


@pytest.mark.parametrize("want", WANTS)
def test_where_there_is_no_room_no_program_is_started(
    harness: Harness, expect_log: ExpectLog, want: str
) -> None:
    """Nobody would hear from it, nor of its end. No system starts one with this environment."""
    environ = {"TOO_LONG": "x" * 1_000_000}
    before, connections = len(os.listdir("/proc/self/fd")), harness.loop.connections
    changing = Upgrade(harness.loop, Nothing(), lambda: None)
    lacking, what = WANTS[want]
    with expect_log(f"new program not started .*{what}"), lacking(harness.loop):
        changing.start([], None, environ)
    assert changing.progress is Progress.NONE
    assert len(os.listdir("/proc/self/fd")) == before
    assert harness.loop.connections == connections
