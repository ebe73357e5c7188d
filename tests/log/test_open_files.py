"""Files by path: how many are open, and what happens if one cannot be opened."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from nginy.log.file import LogFile
from nginy.log.open_files import MAX_FILES, OpenFiles


def opener(opened: list[str]) -> Callable[[str], LogFile]:
    def open_file(path: str) -> LogFile:
        file = LogFile(path)
        opened.append(os.path.basename(path))
        return file

    return open_file


def test_the_one_that_was_asked_for_longest_ago_is_closed_for_the_next(
    tmp_path: pathlib.Path,
) -> None:
    opened: list[str] = []
    files = OpenFiles(opener(opened), max_files=2)
    for name in "abacab":
        file = files.get(str(tmp_path / name))
        assert file is not None
        file.write(b"x\n")
    # b makes way for c, and c for b.
    assert opened == ["a", "b", "c", "b"]
    assert [os.path.basename(file.path) for file in files.open_now()] == ["a", "b"]
    files.close()
    assert files.open_now() == []
    assert (tmp_path / "a").read_text() == "x\n" * 3


def test_a_client_who_makes_up_names_has_no_more_files_open(tmp_path: pathlib.Path) -> None:
    files = OpenFiles(LogFile)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(MAX_FILES * 3):
        files.get(str(tmp_path / str(number)))
    assert len(os.listdir("/proc/self/fd")) == before + MAX_FILES
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_lines_that_wait_are_written_before_a_file_is_closed(tmp_path: pathlib.Path) -> None:
    files = OpenFiles(LogFile, max_files=1)
    first = files.get(str(tmp_path / "a"))
    assert first is not None
    first.put(b"waiting\n")
    files.get(str(tmp_path / "b"))
    assert (tmp_path / "a").read_text() == "waiting\n"
    files.close()


def test_a_file_that_cannot_be_opened_is_named_and_tried_again(
    tmp_path: pathlib.Path, expect_log: Any
) -> None:
    files = OpenFiles(LogFile)
    path = tmp_path / "none" / "a"
    with expect_log(r'open\(\) ".*/none/a" failed \(No such file or directory\), 1 lines'):
        assert files.get(str(path)) is None
    assert files.lost_lines == 1
    path.parent.mkdir()
    assert files.get(str(path)) is not None
    files.close()


def test_lines_that_a_closed_file_takes_with_it_are_counted(
    tmp_path: pathlib.Path, expect_log: Any
) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    files = OpenFiles(LogFile, max_files=1)
    file = files.get("/dev/full")
    assert file is not None
    file.write(b"x\n")
    with expect_log('write.. to "/dev/full" failed, 1 log line lost: the file had to be closed'):
        files.get(str(tmp_path / "a"))
    assert files.lost() == 1
    files.close()
    assert files.lost() == 1
