"""The process that the pid file names, and what it runs."""

import os
import pathlib
import resource
import stat
import subprocess
import sys

import pytest
from nginy.errors import NginyError
from nginy.process.pidfile import (
    PidFile,
    read_pid,
    read_running,
    read_upgrade,
    text_path,
    upgrade_path,
)

TEXT = "listeners: [80]\n# ü\n"


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "nginy.pid")


def test_both_files_are_there_until_they_are_removed(path: str) -> None:
    file = PidFile(path, TEXT)
    assert read_pid(path) == os.getpid()
    assert read_running(path) == TEXT
    file.remove()
    assert os.listdir(os.path.dirname(path)) == []


def test_a_lent_file_names_the_borrower_until_it_is_taken_back(path: str) -> None:
    file = PidFile(path, TEXT)
    pathlib.Path(path).write_text("1\n")
    file.lend()
    assert read_pid(f"{path}.oldbin") == os.getpid()
    pathlib.Path(text_path(path)).write_text("of the borrower")
    file.rewrite(TEXT * 2)
    assert read_pid(path) == 1
    os.unlink(path)
    file.take_back()
    assert read_running(path) == TEXT * 2
    assert not os.path.exists(f"{path}.oldbin")
    file.remove()


@pytest.mark.parametrize("damage", ["removed", "written"])
def test_what_a_successor_has_done_before_it_failed_is_undone(path: str, damage: str) -> None:
    """It fails between its pid file and the word that it serves, by which that would be lent."""
    file = PidFile(path, TEXT)
    if damage == "removed":
        for each in (path, text_path(path), upgrade_path(path)):
            os.unlink(each)
    else:
        pathlib.Path(text_path(path)).write_text("of the successor")
    file.take_back()
    assert read_running(path) == TEXT
    file.note_upgrade("outcome")
    assert read_upgrade(path, os.getpid()) == "outcome"
    file.remove()
    assert os.listdir(os.path.dirname(path)) == []


def test_a_lent_file_outlives_its_owner_and_one_given_back_its_borrower(path: str) -> None:
    owner = PidFile(path, TEXT)
    owner.lend()
    borrower = PidFile(path, TEXT)
    borrower.give_back(os.getppid())
    assert read_pid(path) == os.getppid()
    borrower.remove()
    owner.remove()
    assert read_pid(path) == os.getppid()
    assert not os.path.exists(f"{path}.oldbin")


def test_a_shorter_id_leaves_nothing_of_a_longer_one(path: str) -> None:
    pathlib.Path(path).write_text("123456789\n")
    file = PidFile(path, TEXT)
    assert pathlib.Path(path).read_text() == f"{os.getpid()}\n"
    file.remove()


def test_only_its_owner_may_read_what_runs(path: str) -> None:
    file = PidFile(path, TEXT)
    assert stat.S_IMODE(os.stat(text_path(path)).st_mode) == 0o600
    file.remove()


@pytest.mark.parametrize("text", ["", "short\n", TEXT * 1000])
def test_a_rewritten_text_replaces_the_old_one_whole(path: str, text: str) -> None:
    file = PidFile(path, TEXT)
    file.rewrite(text)
    assert read_running(path) == text
    file.remove()


def test_a_text_with_a_file_name_that_is_no_text_comes_back(path: str) -> None:
    text = f"path: {os.fsdecode(bytes([0xFF]))}\n"
    file = PidFile(path, text)
    assert read_running(path) == text
    file.remove()


def test_half_a_text_is_not_taken_for_a_whole_one(path: str) -> None:
    file = PidFile(path, TEXT)
    os.truncate(text_path(path), os.path.getsize(text_path(path)) - 3)
    with pytest.raises(NginyError, match="is not what PID"):
        read_running(path)
    file.remove()


def test_a_text_for_which_there_is_half_the_room_is_reported(path: str) -> None:
    """A limit for files stands in for a full disk: the kernel writes what fits."""
    file = PidFile(path, TEXT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OSError, match="No space left"):
            file.rewrite(TEXT * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(NginyError, match="is not what PID"):
        read_running(path)
    file.remove()


def test_another_process_does_not_run_that_text(path: str) -> None:
    file = PidFile(path, TEXT)
    pathlib.Path(path).write_text(f"{os.getppid()}\n")
    with pytest.raises(NginyError, match="is not what PID"):
        read_running(path)
    file.remove()


def test_a_process_that_has_ended_runs_nothing(path: str) -> None:
    file = PidFile(path, TEXT)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    pathlib.Path(path).write_text(f"{process.pid}\n")
    with pytest.raises(NginyError, match="nothing runs as PID"):
        read_running(path)
    file.remove()


@pytest.mark.parametrize("text", ["", "x\n", "-1", "0", "1 2", "9" * 30, "\x01"])
def test_what_is_no_process_id_is_refused(path: str, text: str) -> None:
    pathlib.Path(path).write_text(text)
    with pytest.raises(NginyError, match="invalid PID number"):
        read_pid(path)


def test_a_directory_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    path = f"{tmp_path}/gone/nginy.pid"
    with pytest.raises(NginyError) as caught:
        PidFile(path, TEXT)
    assert str(caught.value) == f'open() "{path}" failed (2: No such file or directory)'


def test_a_text_that_cannot_be_kept_leaves_no_pid_file_either(path: str) -> None:
    os.mkdir(text_path(path))
    with pytest.raises(NginyError, match=r"nginy\.pid\.conf"):
        PidFile(path, TEXT)
    assert not os.path.exists(path)


def test_a_link_in_place_of_the_text_is_not_followed(path: str, tmp_path: pathlib.Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, text_path(path))
    with pytest.raises(NginyError):
        PidFile(path, TEXT)
    assert victim.read_text() == "precious"
