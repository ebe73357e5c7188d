"""The service manager's two protocols, against a socket that plays the manager."""

import contextlib
import os
import pathlib
import re
import resource
import socket
import time
from collections.abc import Iterator, MutableMapping

import pytest
from nginy.event.loop import Loop
from nginy.process.systemd import Notifier, Watchdog, passed_descriptors

from kit.clock import FakeClock

PATIENCE_S = 15


@pytest.fixture
def manager(tmp_path: pathlib.Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.bind(str(tmp_path / "notify"))
        yield sock


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


@contextlib.contextmanager
def notifying(environ: MutableMapping[str, str], pid: int = 0) -> Iterator[Notifier]:
    notifier = Notifier(environ, pid)
    try:
        yield notifier
    finally:
        notifier.close()


def test_each_change_of_state_is_one_datagram(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "HOME": "/"}
    with notifying(environ) as notifier:
        assert environ == {"HOME": "/"}
        notifier.ready("Serving")
        assert heard(manager) == ["READY=1", f"MAINPID={os.getpid()}", "STATUS=Serving"]
        notifier.stopping("Ending")
        assert heard(manager) == ["STOPPING=1", "STATUS=Ending"]


def test_a_reload_tells_its_time(manager: socket.socket) -> None:
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with notifying({"NOTIFY_SOCKET": manager.getsockname()}) as notifier:
        notifier.reloading()
    reloading, usec, _ = heard(manager)
    assert reloading == "RELOADING=1"
    match = re.fullmatch("MONOTONIC_USEC=([0-9]+)", usec)
    assert match
    assert before_us <= int(match[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_an_abstract_address_begins_with_an_at_sign() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE_S)
        manager.bind("")  # the kernel chooses an abstract one
        path = manager.getsockname()[1:].decode()
        with notifying({"NOTIFY_SOCKET": f"@{path}"}) as notifier:
            notifier.stopping("Ending")
        assert heard(manager)[0] == "STOPPING=1"


def test_without_a_manager_nothing_is_sent() -> None:
    Notifier({}).ready("Serving")


def test_a_manager_that_is_gone_costs_a_warning(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    with notifying({"NOTIFY_SOCKET": str(tmp_path / "gone")}) as notifier:
        notifier.ready("Serving")
    assert "NOTIFY_SOCKET failed (2: No such file or directory)" in caplog.text


# The watchdog.


@pytest.fixture
def loop(clock: FakeClock) -> Iterator[Loop]:
    loop = Loop(clock=clock)
    yield loop
    loop.close()


def heard_by_now(manager: socket.socket) -> list[bytes]:
    """All notifications that have come."""
    found = []
    manager.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(manager.recv(4096))
    manager.settimeout(PATIENCE_S)
    return found


def test_three_signs_of_life_fall_within_the_time_allowed(
    manager: socket.socket, loop: Loop, clock: FakeClock
) -> None:
    environ = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": "7",
    }
    with notifying(environ, 7) as notifier:
        assert environ == {}
        watchdog = Watchdog(loop, notifier)
        assert heard_by_now(manager) == []
        watchdog.start()
        assert heard_by_now(manager) == [b"WATCHDOG=1"]
        for _ in range(3):
            clock.advance(990)
            loop.turn(0)
            assert heard_by_now(manager) == []
            clock.advance(10)
            loop.turn(0)
            assert heard_by_now(manager) == [b"WATCHDOG=1"]
        clock.advance(60_000)  # the loop is stuck, then turns again
        assert heard_by_now(manager) == []
        loop.turn(0)
        assert heard_by_now(manager) == [b"WATCHDOG=1"]
        watchdog.close()
        clock.advance(60_000)
        loop.turn(0)
        assert heard_by_now(manager) == []


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"},
    ],
)
def test_nobody_gets_signs_of_life_who_does_not_ask(
    manager: socket.socket, loop: Loop, variables: dict[str, str]
) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), **variables}
    with notifying(environ, 7) as notifier:
        assert environ == {}
        Watchdog(loop, notifier).start()
        assert loop.timers.next_deadline_ms() is None
        assert heard_by_now(manager) == []


def test_the_successor_is_watched_as_well(manager: socket.socket) -> None:
    environ = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": "7",
    }
    with notifying(environ, 7) as notifier, notifying(notifier.variables.copy(), 8) as successor:
        assert successor.watchdog_usec == 3_000_000


def test_it_gives_signs_of_life_without_a_free_descriptor(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    with notifying(environ) as notifier, no_free_descriptor():
        notifier.alive()
    assert heard(manager) == ["WATCHDOG=1"]


@contextlib.contextmanager
def no_free_descriptor() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Sockets.


def test_passed_descriptors_follow_the_standard_streams() -> None:
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "HOME": "/"}
    assert list(passed_descriptors(environ, 7)) == [3, 4]
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "8", "LISTEN_FDS": "2"},
        {"LISTEN_PID": "7", "LISTEN_FDS": "many"},
        {"LISTEN_PID": "7"},
    ],
)
def test_what_is_meant_for_another_process_is_left_alone(environ: dict[str, str]) -> None:
    assert list(passed_descriptors(environ, 7)) == []
