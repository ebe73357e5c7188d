"""/etc/hosts and resolv.conf as they are now: when they are read again, and what stays."""

import os
import pathlib

import pytest
from nginy.backend.names.files import LOOK_MS, SystemFiles

from conftest import ExpectLog


class Files:
    """Both files in a directory of the test's, and their reader."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.hosts = directory / "hosts"
        self.conf = directory / "resolv.conf"
        self.now_ms = 0
        self.read = SystemFiles(str(self.hosts), str(self.conf))

    def refresh(self) -> bool:
        self.now_ms += LOOK_MS
        return self.read.refresh(self.now_ms)


@pytest.fixture
def files(tmp_path: pathlib.Path) -> Files:
    made = Files(tmp_path)
    made.hosts.write_text("10.0.0.1 web\n")
    made.conf.write_text("search example\n")
    made.read.read(0)
    return made


def test_both_are_read_once_and_not_again_without_a_change(files: Files) -> None:
    assert files.read.hosts == {"web": ("10.0.0.1",)}
    assert files.read.conf.search == ("example",)
    assert not files.refresh()


def test_a_change_is_seen_after_a_second_and_not_before(files: Files) -> None:
    files.hosts.write_text("10.0.0.2 web\n10.0.0.3 api\n")
    assert not files.read.refresh(LOOK_MS - 1)
    assert files.refresh()
    assert files.read.hosts == {"web": ("10.0.0.2",), "api": ("10.0.0.3",)}
    assert not files.refresh()


def test_a_file_of_the_same_size_and_time_is_told_by_its_inode(files: Files) -> None:
    status = files.hosts.stat()
    other = files.hosts.with_name("new")
    other.write_text("10.0.0.9 web\n")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(files.hosts)
    assert files.refresh()
    assert files.read.hosts == {"web": ("10.0.0.9",)}


def test_a_file_that_disappears_stays_what_it_was_until_a_reload(files: Files) -> None:
    files.hosts.unlink()
    assert not files.refresh()
    assert files.read.hosts == {"web": ("10.0.0.1",)}
    files.read.read(files.now_ms)
    assert files.read.hosts == {}


def test_a_file_that_comes_later_is_read(tmp_path: pathlib.Path) -> None:
    files = Files(tmp_path)
    files.read.read(0)
    assert files.read.hosts == {}
    files.hosts.write_text("10.0.0.1 web\n")
    assert files.refresh()
    assert files.read.hosts == {"web": ("10.0.0.1",)}


def test_what_cannot_be_read_is_warned_of(tmp_path: pathlib.Path, expect_log: ExpectLog) -> None:
    files = Files(tmp_path)
    files.hosts.mkdir()
    with expect_log(r'open\(\) ".*/hosts" failed \(21: Is a directory\)', count=1):
        files.read.read(0)
    assert files.read.hosts == {}
