"""The start of a new program, where the system has no room for it."""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from nginy.event.listener import Listener
from nginy.process import upgrade
from nginy.process.takeover.tally import Moved
from nginy.process.upgrade import Progress, Upgrade

from conftest import ExpectLog
from kit.harness import Harness


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


def no_room(*_: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["Link", "link_pair", "start_program"])
def test_where_there_is_no_room_no_program_is_started(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog, name: str
) -> None:
    """Nobody would hear from it, nor of its end."""
    started: list[object] = []
    monkeypatch.setattr(upgrade, "start_program", lambda *them: started.append(them))
    monkeypatch.setattr(upgrade, name, no_room)
    before, connections = len(os.listdir("/proc/self/fd")), harness.loop.connections
    changing = Upgrade(harness.loop, Nothing(), lambda: None)
    with expect_log("new program not started .*No space left"):
        changing.start([], None, {})
    assert started == []
    assert changing.progress is Progress.NONE
    assert len(os.listdir("/proc/self/fd")) == before
    assert harness.loop.connections == connections
