"""The path of a unix socket: what is removed before a bind and after a close, and what stays."""

import logging
import os
import pathlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from nginy.event.unix_path import remove_socket, remove_stale

ExpectLog = Callable[..., AbstractContextManager[list[logging.LogRecord]]]


@pytest.fixture
def listening(tmp_path: pathlib.Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.listen()
        yield sock


def test_a_path_that_no_process_listens_on_is_removed(listening: socket.socket) -> None:
    path = listening.getsockname()
    remove_stale(path)
    assert os.path.exists(path)
    listening.close()
    remove_stale(path)
    assert not os.path.exists(path)


def test_a_listener_with_a_full_queue_is_not_stale(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as client:
        sock.bind(path)
        sock.listen(0)
        client.connect(path)
        remove_stale(path)
        assert os.path.exists(path)


@pytest.mark.parametrize("remove", [remove_stale, remove_socket])
def test_only_sockets_are_removed(tmp_path: pathlib.Path, remove: Callable[[str], None]) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "", "absent", "file/absent"):
        remove(str(tmp_path / name))
    assert (tmp_path / "file").exists()


def test_a_listener_removes_its_path_while_it_is_open(listening: socket.socket) -> None:
    path = listening.getsockname()
    remove_socket(path)
    assert not os.path.exists(path)
    remove_socket(path)


def test_a_path_that_cannot_be_removed_is_logged(
    listening: socket.socket, expect_log: ExpectLog
) -> None:
    path = f"/proc/self/fd/{listening.fileno()}"  # a socket, where nobody may remove a file
    with expect_log(r"^unlink\(\) /proc/.* failed \(1: Operation not permitted\)$", count=1):
        remove_socket(path)
