import errno
import logging
import os
import random
import resource
import socket
from contextlib import contextmanager

import pytest
from nginy.log.file import LIMIT_BYTES, LogFile

AT_S = 1795458901.0


class Reader:
    """The other end of a pipe, read by hand."""

    def __init__(self, fd):
        self.fd = fd
        self.data = b""

    def read(self, most=1 << 20):
        try:
            got = os.read(self.fd, most)
        except BlockingIOError:
            got = b""
        self.data += got
        return got

    def read_all(self, log):
        """Read and let the log go on until both sides have nothing left."""
        log.flush()
        while self.read():
            log.flush()
        return self.data.decode().splitlines()

    def close(self):
        os.close(self.fd)


@pytest.fixture
def fifo(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


def open_reader(path):
    return Reader(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


@pytest.fixture
def open_log():
    logs = []

    def make(path, **kwargs):
        logs.append(LogFile(str(path), **kwargs))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


@contextmanager
def file_size_limit(limit_bytes):
    """Let no file of this process grow beyond `limit_bytes`: a full disk without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def numbered(first, last):
    return [f"line {number:06}" for number in range(first, last)]


def write_numbered(log, first, last):
    for number in range(first, last):
        log.write(b"line %06d\n" % number)


def seeded_random():
    seed = random.randrange(1 << 32)
    print("seed", seed)  # to run a failure again
    return random.Random(seed)


# -- files --


def test_a_line_is_written_at_once_and_a_put_one_at_the_flush(tmp_path, open_log):
    log = open_log(tmp_path / "log")
    log.write(b"one\n")
    assert (tmp_path / "log").read_bytes() == b"one\n"
    log.put(b"two\n")
    assert (tmp_path / "log").read_bytes() == b"one\n"
    assert log.pending_bytes == 4
    log.flush()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    assert (log.pending_bytes, log.lost_lines) == (0, 0)


def test_on_a_full_disk_lines_wait_then_are_lost_and_counted(open_log):
    log = open_log("/dev/full", limit_bytes=120)
    write_numbered(log, 0, 27)
    assert log.pending_bytes == 120
    assert log.lost_lines == 17


def test_after_a_full_disk_one_line_says_how_many_are_missing_and_why(tmp_path, open_log):
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    log = open_log(path, limit_bytes=120)
    write_numbered(log, 0, 27)
    path.unlink()
    log.reopen()
    write_numbered(log, 27, 28)
    assert path.read_text().splitlines() == [
        *numbered(0, 10),
        "nginy: 17 log lines lost: No space left on device",
        *numbered(27, 28),
    ]


def test_a_single_lost_line_is_spoken_of_in_the_singular(tmp_path, open_log):
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    log = open_log(path, limit_bytes=12)
    write_numbered(log, 0, 2)
    path.unlink()
    log.reopen()
    assert path.read_text().splitlines()[1] == "nginy: 1 log line lost: No space left on device"


def test_a_line_cut_by_the_end_of_the_disk_is_finished_when_there_is_space(tmp_path, open_log):
    log = open_log(tmp_path / "log", limit_bytes=120)
    with file_size_limit(30):
        write_numbered(log, 0, 30)
    cut = (tmp_path / "log").read_bytes()
    write_numbered(log, 30, 31)
    lines = (tmp_path / "log").read_text().splitlines()
    assert cut == b"line 000000\nline 000001\nline 0"
    lost = log.lost_lines
    written = 30 - lost
    assert lost > 0
    assert lines == [
        *numbered(0, written),
        f"nginy: {lost} log lines lost: File too large",
        *numbered(30, 31),
    ]


def test_a_line_cut_in_the_old_file_is_whole_in_the_new_one(tmp_path, open_log):
    path, old = tmp_path / "log", tmp_path / "log.1"
    log = open_log(path)
    with file_size_limit(30):
        write_numbered(log, 0, 5)
        path.rename(old)
        path.write_bytes(b"")
        path.chmod(0o644)
        log.reopen()
    log.flush()
    assert old.read_bytes().endswith(b"\nline 0")
    new = path.read_text().splitlines()
    assert new == numbered(2, 5)


def test_after_a_rename_reopening_makes_a_new_file(tmp_path, open_log):
    path = tmp_path / "log"
    log = open_log(path)
    log.write(b"one\n")
    path.rename(tmp_path / "log.1")
    log.write(b"two\n")
    assert log.reopen() == ""
    log.write(b"three\n")
    assert (tmp_path / "log.1").read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_when_reopening_fails_the_old_file_stays_in_use_and_it_is_said(tmp_path, open_log, caplog):
    path = tmp_path / "log"
    log = open_log(path)
    path.rename(tmp_path / "log.1")
    path.mkdir()
    with caplog.at_level(logging.ERROR, "nginy.log"):
        why = log.reopen()
    log.write(b"still here\n")
    assert (tmp_path / "log.1").read_bytes() == b"still here\n"
    failed = f'open() "{path}" failed (21: Is a directory) while reopening logs'
    assert why.startswith(failed)
    assert caplog.messages == [f"{failed}, the old file stays in use"]


def test_a_line_longer_than_the_queue_is_lost_alone(tmp_path, open_log):
    log = open_log(tmp_path / "log", limit_bytes=100)
    log.write(b"x" * 100 + b"\n")
    log.write(b"short\n")
    assert (tmp_path / "log").read_text().splitlines() == [
        "nginy: 1 log line lost: Message too long",
        "short",
    ]


def test_lines_that_belong_together_are_lost_together_and_counted_each(open_log):
    log = open_log("/dev/full", limit_bytes=30)
    write_numbered(log, 0, 1)
    for _ in range(3):
        log.write(b"message\n    one\n    two\n")
    assert log.lost_lines == 9


def test_the_words_about_lost_lines_can_be_chosen(tmp_path, open_log):
    log = open_log(
        tmp_path / "log", limit_bytes=30, notice=lambda lines, why: f'{{"lost":{lines}}}'
    )
    log.write(b"x" * 31)
    log.write(b"y" * 30 + b"\n")
    log.flush()
    assert (tmp_path / "log").read_bytes() == b'{"lost":1}\n'


def test_closing_writes_what_waits_and_later_lines_are_lost(tmp_path):
    log = LogFile(str(tmp_path / "log"))
    log.put(b"one\n")
    log.close()
    log.close()
    log.write(b"late\n")
    log.put(b"later\n")
    log.flush()
    assert (tmp_path / "log").read_bytes() == b"one\n"
    assert log.lost_lines == 2


def test_a_closed_log_is_not_opened_again(tmp_path):
    log = LogFile(str(tmp_path / "log"))
    log.close()
    (tmp_path / "log").unlink()
    assert log.reopen() == f'"{tmp_path}/log" is closed'
    assert not (tmp_path / "log").exists()


def test_what_waits_at_the_close_counts_as_lost():
    log = LogFile("/dev/full")
    write_numbered(log, 0, 7)
    log.close()
    assert log.lost_lines == 7


# -- pipes --


def test_a_reader_that_stops_costs_lines_counted_exactly_and_bounded_memory(fifo, open_log):
    reader = open_reader(fifo)
    log = open_log(fifo)
    peak_before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_numbered(log, 0, 100_000)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert log.pending_bytes <= LIMIT_BYTES
    assert peak_kb - peak_before_kb < 8 * LIMIT_BYTES // 1024
    lines = reader.read_all(log)
    reader.close()
    kept = len(lines) - 1
    assert kept + log.lost_lines == 100_000
    assert lines == [
        *numbered(0, kept),
        f"nginy: {log.lost_lines} log lines lost: Resource temporarily unavailable",
    ]


def test_a_slow_reader_gets_whole_lines_in_order_and_every_gap_is_announced(fifo, open_log):
    choose = seeded_random()
    reader = open_reader(fifo)
    log = open_log(fifo, limit_bytes=20_000)
    total = 20_000
    for number in range(total):
        filler = "x" * choose.choice((0, 10, 100, 6000 if choose.random() < 0.01 else 50))
        log.write(f"{number} {filler}\n".encode())
        if choose.random() < 0.3:
            reader.read(choose.randrange(1, 200))
    lines = reader.read_all(log)
    reader.close()
    expected = announced = 0
    for line in lines:
        if line.startswith("nginy: "):
            announced += int(line.split()[1])
            expected += int(line.split()[1])
            continue
        number, filler = line.split(" ")
        assert int(number) == expected
        assert set(filler) <= {"x"}
        expected += 1
    assert expected == total
    assert announced == log.lost_lines > 0


def test_two_writers_of_one_pipe_do_not_mix_their_lines(fifo, open_log):
    choose = seeded_random()
    reader = open_reader(fifo)
    logs = {name: open_log(fifo) for name in "ab"}
    for _ in range(3000):
        name = choose.choice("ab")
        logs[name].write(f"{name * choose.randrange(1, 300)}\n".encode())
        if choose.random() < 0.5:
            reader.read(choose.randrange(1, 500))
    for log in (logs["a"], logs["b"], logs["a"]):
        lines = reader.read_all(log)
    reader.close()
    assert len(lines) == 3000
    assert all(len(set(line)) == 1 for line in lines)


def test_a_fifo_without_reader_keeps_lines_and_delivers_them_to_the_first(fifo, open_log):
    log = open_log(fifo, limit_bytes=120)
    write_numbered(log, 0, 12)
    assert log.lost_lines == 2
    reader = open_reader(fifo)
    log.flush()
    lines = reader.read_all(log)
    reader.close()
    assert lines == [
        *numbered(0, 10),
        "nginy: 2 log lines lost: No such device or address",
    ]


def test_a_reader_that_leaves_in_a_line_leaves_the_whole_line_to_the_next(fifo, open_log):
    log = open_log(fifo)
    first = open_reader(fifo)
    long_line = "x" * 100_000
    log.write(f"{long_line}\n".encode())
    assert 0 < len(first.read(1000)) <= 1000
    first.close()
    log.write(b"short\n")
    second = open_reader(fifo)
    log.flush()
    lines = second.read_all(log)
    second.close()
    assert lines == [long_line, "short"]
    assert log.lost_lines == 0


@contextmanager
def stderr_pipe(fd=2):
    """Put a pipe in the place of standard error, or another descriptor; give its reading end."""
    saved = os.dup(fd)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.dup2(writer, fd)
    os.close(writer)
    try:
        yield Reader(reader)
    finally:
        os.dup2(saved, fd)
        os.close(saved)
        os.close(reader)


def test_standard_error_that_nobody_reads_never_waits_nor_changes_its_mode(open_log):
    with stderr_pipe() as reader:
        log = open_log("stderr", limit_bytes=1200)
        write_numbered(log, 0, 10_000)
        is_blocking = os.get_blocking(2)
        lines = reader.read_all(log)
    kept = len(lines) - 1
    assert is_blocking
    assert lines[:-1] == numbered(0, kept)
    assert lines[-1].startswith(f"nginy: {10_000 - kept} log lines lost: ")


def test_a_log_goes_to_standard_output(open_log):
    with stderr_pipe(1) as reader:
        log = open_log("stdout")
        write_numbered(log, 0, 10)
        assert reader.read_all(log) == numbered(0, 10)


def test_reopening_standard_error_does_not_begin_a_line_again(open_log):
    long_line = "x" * 100_000
    with stderr_pipe() as reader:
        log = open_log("stderr")
        log.write(f"{long_line}\n".encode())
        log.reopen()
        lines = reader.read_all(log)
    assert [len(line) for line in lines] == [len(long_line)]


# -- when the owner is asked to flush --


def test_the_owner_is_asked_to_flush_when_lines_begin_to_wait(tmp_path, open_log):
    log: LogFile
    asked = []
    log = open_log(tmp_path / "log", want_flush=lambda: asked.append(log.pending_bytes))
    log.write(b"at once\n")
    assert asked == []
    log.put(b"one\n")
    log.put(b"two\n")
    assert asked == [4]
    log.flush()
    assert asked == [4]


def test_the_owner_is_asked_again_as_long_as_lines_stay(open_log):
    asked = []
    log = open_log("/dev/full", want_flush=lambda: asked.append(None))
    log.write(b"one\n")
    log.flush()
    assert len(asked) == 2


def test_the_trouble_of_a_log_is_why_its_lines_wait(tmp_path, open_log):
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    log = open_log(path)
    assert log.trouble == ""
    log.write(b"one\n")
    assert log.trouble == "No space left on device"
    path.unlink()
    log.reopen()
    assert (log.trouble, path.read_bytes()) == ("", b"one\n")


def test_a_slow_reader_is_trouble_once_lines_are_lost(tmp_path, open_log):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        log = open_log(path, limit_bytes=LIMIT_BYTES)
        while not log.pending_bytes:
            log.write(b"x" * 1000 + b"\n")
        assert log.trouble == ""
        while not log.lost_lines:
            log.write(b"x" * 1000 + b"\n")
        assert log.trouble == "Resource temporarily unavailable"
    finally:
        os.close(reader)


def test_the_owner_is_asked_when_a_log_begins_to_fail_and_when_it_works_again(tmp_path, open_log):
    asked: list[str] = []

    def want_flush() -> None:
        asked.append(log.trouble)

    path = tmp_path / "log"
    log: LogFile = open_log(f"syslog:unix:{path}", want_flush=want_flush)
    with unix_syslog(str(path)):
        log.write(b"one\n")
    assert asked == []
    log.write(b"two\n")
    assert asked == ["Connection refused"]
    with unix_syslog(str(path)):
        log.flush()
    assert asked == ["Connection refused", ""]


# -- syslog --


@contextmanager
def unix_syslog(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(15)
        yield server
    os.unlink(path)


def texts(server, count):
    return [server.recv(9000).decode().partition(" nginy: ")[2] for _ in range(count)]


def test_a_syslog_daemon_that_restarts_gets_what_came_meanwhile(tmp_path, open_log):
    path = str(tmp_path / "sock")
    log = open_log(f"syslog:unix:{path}", now_s=lambda: AT_S)
    write_numbered(log, 0, 1)
    with unix_syslog(path) as server:
        write_numbered(log, 1, 3)
        assert texts(server, 3) == numbered(0, 3)
    write_numbered(log, 3, 6)
    with unix_syslog(path) as server:
        log.flush()
        assert texts(server, 3) == numbered(3, 6)
    assert log.lost_lines == 0


def test_a_syslog_daemon_that_does_not_read_costs_lines_not_time(tmp_path, open_log):
    path = str(tmp_path / "sock")
    log = open_log(f"syslog:unix:{path}", now_s=lambda: AT_S, limit_bytes=1000)
    with unix_syslog(path) as server:
        write_numbered(log, 0, 5000)
        assert log.lost_lines > 0
        kept = 5000 - log.lost_lines
        received = []
        while len(received) < kept + 1:
            received += texts(server, 1)
            log.flush()
        notice = f"nginy: {log.lost_lines} log lines lost: Resource temporarily unavailable"
        assert received == [*numbered(0, kept), notice]


def test_datagrams_that_a_dead_host_refuses_are_counted_and_told_when_it_is_back(open_log):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        address = server.getsockname()
    log = open_log(f"syslog:127.0.0.1:{address[1]}", now_s=lambda: AT_S)
    write_numbered(log, 0, 100)
    assert 0 < log.lost_lines < 100
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(address)
        server.settimeout(15)
        write_numbered(log, 100, 102)
        assert texts(server, 3) == [
            *numbered(100, 102),
            f"nginy: {log.lost_lines} log lines lost: Connection refused",
        ]


def test_a_line_too_long_for_syslog_is_lost_alone(tmp_path, open_log):
    path = str(tmp_path / "sock")
    log = open_log(f"syslog:unix:{path}", now_s=lambda: AT_S)
    with unix_syslog(path) as server:
        log.write(b"x" * 10_000 + b"\n")
        write_numbered(log, 0, 1)
        assert sorted(texts(server, 2)) == [
            "line 000000",
            f"nginy: 1 log line lost: {os.strerror(errno.EMSGSIZE)}",
        ]
