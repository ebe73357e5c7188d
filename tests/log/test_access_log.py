import pytest
from nginy.log.access_log import AccessLog, AccessLogByPath
from nginy.log.file import LogFile
from nginy.log.open_files import OpenFiles


@pytest.fixture
def sink(tmp_path):
    opened = LogFile(str(tmp_path / "access.log"))
    yield opened
    opened.close()


def written(sink):
    with open(sink.path, encoding="utf-8") as file:
        return file.read().splitlines()


def test_without_a_buffer_each_line_is_written_at_once(sink):
    log = AccessLog(sink, str, buffer_bytes=0, flush_ms=1000)
    log.log(1)
    assert written(sink) == ["1"]
    assert not log.sink.pending_bytes


def test_with_a_buffer_lines_wait_for_the_flush(sink):
    log = AccessLog(sink, str, buffer_bytes=1000, flush_ms=1000)
    log.log(1)
    log.log(2)
    assert written(sink) == []
    assert log.sink.pending_bytes
    log.flush()
    assert written(sink) == ["1", "2"]
    assert not log.sink.pending_bytes


def test_a_session_that_is_not_wanted_leaves_no_line(sink):
    log = AccessLog(sink, str, buffer_bytes=0, flush_ms=1000, is_wanted=lambda n: n != 2)
    for number in (1, 2, 3):
        log.log(number)
    assert written(sink) == ["1", "3"]


def test_a_full_buffer_is_written(sink):
    log = AccessLog(sink, str, buffer_bytes=10, flush_ms=1000)
    for number in range(100, 103):
        log.log(number)
        if number < 102:
            assert written(sink) == []
    assert written(sink) == ["100", "101", "102"]


def test_logs_of_one_file_keep_the_order_of_their_sessions(sink):
    buffered = AccessLog(sink, str, buffer_bytes=1000, flush_ms=1000)
    unbuffered = AccessLog(sink, "<{}>".format, buffer_bytes=0, flush_ms=1000)
    buffered.log(1)
    unbuffered.log(2)
    assert written(sink) == ["1", "<2>"]


def test_a_line_of_any_text_can_be_written(sink):
    log = AccessLog(sink, str, buffer_bytes=0, flush_ms=1000)
    log.log("größer \udcff")
    assert written(sink) == ["größer \\udcff"]


def test_a_bug_in_a_variable_costs_that_line_and_nothing_else(sink, error_log):
    def render(number):
        return f"{10 // number}"

    log = AccessLog(sink, render, buffer_bytes=0, flush_ms=1000)
    for number in (0, 1, 0, 0, 2, 0, 0):
        log.log(number)
    assert written(sink) == ["10", "5"]
    assert log.failed_lines == 5
    said = [line for line in error_log.lines() if "access log line failed" in line]
    assert [line.rpartition("failed, ")[2] for line in said] == ["1 so far", "2 so far", "4 so far"]
    # the words after it depend on Python's version
    assert sum(line.startswith("    ZeroDivisionError: ") for line in error_log.lines()) == 3


def test_the_owner_is_asked_once_for_the_lines_that_wait_together(tmp_path):
    asked = []
    sink = LogFile(str(tmp_path / "log"), want_flush=lambda: asked.append(None))
    log = AccessLog(sink, str, buffer_bytes=1000, flush_ms=1000)
    for number in range(10):
        log.log(number)
    assert len(asked) == 1
    log.flush()
    log.log(10)
    assert len(asked) == 2
    sink.close()


def test_a_dead_destination_costs_lines_and_never_raises():
    sink = LogFile("/dev/full", limit_bytes=50)
    log = AccessLog(sink, str, buffer_bytes=0, flush_ms=1000)
    for number in range(100):
        log.log(number)
    sink.close()
    assert sink.lost_lines == 100


# Files that sessions decide.


@pytest.fixture
def files():
    opened = OpenFiles(LogFile, max_files=2)
    yield opened
    opened.close()


def test_each_session_has_its_line_in_its_file(tmp_path, files):
    log = AccessLogByPath[int](
        lambda n: files.get(str(tmp_path / f"{n % 3}.log")), str, 0, 1000, lambda n: n != 4
    )
    for number in range(7):
        log.log(number)
    lines = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
    assert lines == {"0.log": ["0", "3", "6"], "1.log": ["1"], "2.log": ["2", "5"]}


def test_no_file_is_made_for_a_session_that_is_not_wanted(tmp_path, files):
    log = AccessLogByPath(
        lambda n: files.get(str(tmp_path / str(n))), str, 0, 1000, lambda n: n != 1
    )
    log.log(1)
    assert list(tmp_path.iterdir()) == []


def test_a_bug_in_a_condition_or_a_path_costs_its_line(tmp_path, files, sink, expect_log):
    log = AccessLogByPath[int](lambda n: files.get(str(tmp_path / str(1 // n))), str, 0, 1000)
    with expect_log("access log line failed, 1 so far"):
        log.log(0)
    log.log(1)
    assert (tmp_path / "1").read_text() == "1\n"
    plain = AccessLog[int](sink, str, 0, 1000, lambda n: bool(1 // n))
    with expect_log("access log line failed, 1 so far"):
        plain.log(0)
    plain.log(1)
    assert written(sink) == ["1"]


def test_bytes_that_are_no_text_are_written_as_asked(sink):
    text = b"a\xff".decode("utf-8", "surrogateescape")
    AccessLog(sink, str, 0, 1000).log(text)
    AccessLog(sink, str, 0, 1000, errors="surrogateescape").log(text)
    with open(sink.path, "rb") as file:
        assert file.read() == b"a\\udcff\na\xff\n"
