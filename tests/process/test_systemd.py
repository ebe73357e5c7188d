"""The service manager's two protocols, against a socket that plays the manager."""

import os
import pathlib
import re
import socket
import time
from collections.abc import Iterator

import pytest
from nginy.process.systemd import Notifier, passed_descriptors

PATIENCE_S = 5


@pytest.fixture
def manager(tmp_path: pathlib.Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.bind(str(tmp_path / "notify"))
        yield sock


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_each_change_of_state_is_one_datagram(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "HOME": "/"}
    notifier = Notifier(environ)
    assert environ == {"HOME": "/"}
    notifier.ready("Serving")
    assert heard(manager) == ["READY=1", f"MAINPID={os.getpid()}", "STATUS=Serving"]
    notifier.stopping("Ending")
    assert heard(manager) == ["STOPPING=1", "STATUS=Ending"]


def test_a_reload_tells_its_time(manager: socket.socket) -> None:
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier({"NOTIFY_SOCKET": manager.getsockname()}).reloading()
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
        Notifier({"NOTIFY_SOCKET": f"@{path}"}).stopping("Ending")
        assert heard(manager)[0] == "STOPPING=1"


def test_without_a_manager_nothing_is_sent() -> None:
    Notifier({}).ready("Serving")


def test_a_manager_that_is_gone_costs_a_warning(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("Serving")
    assert "NOTIFY_SOCKET failed (2: No such file or directory)" in caplog.text


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
