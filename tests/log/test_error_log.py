import linecache
import logging
import os
import re
import socket
import zlib

import pytest
from nginy.log.error_log import BURST, MESSAGE_MAX_CHARACTERS
from nginy.log.levels import EMERG, LEVELS, NOTICE
from nginy.log.limit import RateLimited, similar
from nginy.text.times import TimeText

from kit.error_logs import ErrorLogFile, error_log_in, parts_of, setup_error_log


@pytest.mark.parametrize("level", LEVELS)
def test_a_line_has_nginx_form_and_level_names(error_log, level):
    error_log.logger.log(LEVELS[level], "bind() failed (%d: %s)", 98, "Address already in use")
    (line,) = error_log.lines()
    match = parts_of(line)
    assert match["level"] == level
    assert int(match["pid"]) == os.getpid()
    assert match["rest"] == "bind() failed (98: Address already in use)"


def test_a_line_carries_the_time_of_its_record(error_log):
    at_s = 1795458901.9
    record = logging.makeLogRecord({"msg": "hello", "levelno": logging.INFO, "created": at_s})
    assert error_log.log.format(record).startswith(f"{TimeText(at_s).error_log} [info] ")


def test_a_line_is_in_the_file_as_soon_as_it_is_logged(error_log):
    error_log.logger.info("one")
    assert error_log.messages() == ["one"]
    error_log.logger.info("two")
    assert error_log.messages() == ["one", "two"]


def test_the_number_of_the_connection_stands_before_the_message(error_log):
    error_log.logger.error("reset", extra={"number": 12})
    error_log.logger.error("reset", extra={"number": None})
    assert error_log.messages() == ["*12 reset", "reset"]


@pytest.mark.parametrize("level", LEVELS)
def test_only_lines_from_the_level_upward_are_written(tmp_path, level):
    opened = ErrorLogFile(tmp_path / "log", level)
    for number in LEVELS.values():
        opened.logger.log(number, "line")
    opened.log.close()
    assert len(opened.lines()) == sum(number >= LEVELS[level] for number in LEVELS.values())


def test_the_level_can_be_changed_while_it_runs(error_log):
    error_log.log.set_level("crit")
    error_log.logger.error("hidden")
    error_log.log.set_level("error")
    error_log.logger.error("shown")
    assert error_log.messages() == ["shown"]


@pytest.mark.parametrize("area", ["event", "proxy", "backend", "config", "access"])
def test_each_logger_of_nginy_ends_up_here(error_log, area):
    logging.getLogger(f"nginy.{area}").log(NOTICE, "hello")
    assert error_log.messages() == ["hello"]


def test_nothing_reaches_the_handlers_of_the_root_logger(tmp_path, caplog):
    with error_log_in(tmp_path) as error_log:
        error_log.logger.error("ours alone")
    assert caplog.records == []


def test_a_peer_cannot_forge_a_line_nor_command_the_terminal(error_log):
    error_log.logger.info("name %s", "x\n2026/11/23 00:00:00 [crit] 1#0: forged\x1b[2J")
    assert error_log.messages() == [r"name x\x0A2026/11/23 00:00:00 [crit] 1#0: forged\x1B[2J"]


def test_a_peer_cannot_make_a_line_long(error_log):
    error_log.logger.info("unknown name %s", "a" * 60_000)
    error_log.logger.info("%s", "b" * MESSAGE_MAX_CHARACTERS)
    long, whole = error_log.messages()
    assert long == f"unknown name {'a' * (MESSAGE_MAX_CHARACTERS - 13)}... (57965 characters more)"
    assert whole == "b" * MESSAGE_MAX_CHARACTERS


def test_bytes_that_are_no_text_are_written_as_hexadecimal(error_log):
    error_log.logger.info("name %s", b"\xff\xfe".decode("utf-8", "surrogateescape"))
    assert error_log.messages() == [r"name \xFF\xFE"]


def test_a_traceback_follows_its_message_indented(error_log):
    bug = ValueError("first\n2026/11/23 00:00:00 [crit] 1#0: forged")
    try:
        raise bug
    except ValueError:
        error_log.logger.exception("session failed")
    first, *below = error_log.lines()
    assert first.endswith(": session failed")
    assert below[0] == "    Traceback (most recent call last):"
    assert below[-2:] == [
        "    ValueError: first",
        "    2026/11/23 00:00:00 [crit] 1#0: forged",
    ]
    assert all(line.startswith("    ") for line in below)


class ReplacedArchive:
    def get_source(self, _name):
        raise zlib.error("invalid distances set")


def test_a_traceback_goes_without_source_lines_that_cannot_be_read(error_log):
    names: dict = {"__name__": "replaced", "__loader__": ReplacedArchive()}
    exec(compile("def fail():\n    1 / 0\n", "nginy.pyz/replaced.py", "exec"), names)
    try:
        names["fail"]()
    except ZeroDivisionError as error:
        attributes = {"msg": "failed", "levelno": logging.ERROR, "exc_info": (None, error, None)}
        record = logging.makeLogRecord(attributes)
    text = error_log.log.format(record)
    # pytest would look for the lines as well, if this failed
    linecache.clearcache()
    names["__loader__"] = None
    first, *below = text.splitlines()
    assert first.endswith(": failed")
    assert '      File "nginy.pyz/replaced.py", line 2, in fail' in below
    assert below[-1] == "    ZeroDivisionError: division by zero"


def test_exception_information_without_an_exception_adds_nothing(error_log):
    error_log.logger.error("no exception", exc_info=True)
    assert error_log.messages() == ["no exception"]


class Unprintable:
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("message", "args", "said"),
    [("%d sessions", ("many",), "%d sessions"), ("%s", (Unprintable(),), "%s")],
)
def test_a_message_that_cannot_be_formatted_is_said_with_its_place(
    tmp_path, capfd, message, args, said
):
    with error_log_in(tmp_path) as error_log:
        error_log.logger.info(message, *args)
    (line,) = error_log.messages()
    place, _, message = line.partition(" cannot be formatted: ")
    assert re.fullmatch(r"log message at test_error_log\.py:\d+", place)
    assert message == said
    assert capfd.readouterr().err == ""


def test_a_message_that_is_no_text_at_all_is_named_by_its_type(tmp_path):
    with error_log_in(tmp_path) as error_log:
        error_log.logger.info(Unprintable())
    assert error_log.messages()[0].endswith("cannot be formatted: Unprintable")


def test_closing_leaves_the_logger_as_it_was(tmp_path):
    logger = logging.getLogger("nginy")
    before = (list(logger.handlers), logger.level, logger.propagate)
    log = setup_error_log(str(tmp_path / "log"), "debug")
    assert (logger.handlers, logger.propagate) == ([log], False)
    log.close()
    log.close()
    assert (logger.handlers, logger.level, logger.propagate) == before


def test_a_new_log_takes_over_before_the_old_is_closed(tmp_path, error_log):
    new = ErrorLogFile(tmp_path / "new.log", "info")
    error_log.log.close()
    new.logger.debug("too fine")
    new.logger.info("new")
    assert new.messages() == ["new"]
    assert error_log.lines() == []
    new.log.close()


def test_a_log_that_cannot_be_opened_changes_nothing(tmp_path, error_log):
    with pytest.raises(IsADirectoryError):
        setup_error_log(str(tmp_path), "crit")
    error_log.logger.debug("still here")
    assert error_log.messages() == ["still here"]


def test_a_descriptor_is_given_back(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    setup_error_log(str(tmp_path / "log"), "info").close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_after_a_full_disk_the_error_log_says_in_its_own_form_what_is_missing(tmp_path):
    path = tmp_path / "error.log"
    path.symlink_to("/dev/full")
    opened = ErrorLogFile(path, "info")
    for _ in range(10_000):
        opened.logger.info("x" * 100)
    lost = opened.log.sink.lost_lines
    path.unlink()
    opened.log.sink.reopen()
    opened.logger.info("back")
    opened.log.close()
    assert lost > 0
    assert len(opened.lines()) == 10_000 - lost + 2
    match = parts_of(opened.lines()[-2])
    assert match["level"] == "warn"
    assert match["rest"] == f"{lost} log lines lost: No space left on device"


def test_a_failed_reopen_is_said_in_the_error_log_itself(tmp_path, error_log):
    error_log.path.rename(tmp_path / "error.log.1")
    error_log.path.mkdir()
    assert "(21: Is a directory)" in error_log.log.sink.reopen()
    said = (tmp_path / "error.log.1").read_text()
    assert said.endswith("(21: Is a directory) while reopening logs, the old file stays in use\n")


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        ("debug", 7),
        ("info", 6),
        ("notice", 5),
        ("warn", 4),
        ("error", 3),
        ("crit", 2),
        ("emerg", 0),
    ],
)
def test_syslog_gets_the_severity_of_the_level(tmp_path, level, severity):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "sock"))
        server.settimeout(15)
        log = setup_error_log(f"syslog:unix:{tmp_path}/sock", "debug")
        logging.getLogger("nginy.proxy").log(LEVELS[level], "hello")
        log.close()
        datagram = server.recv(1000).decode()
    head, _, line = datagram.partition(" nginy: ")
    assert head.startswith(f"<{23 * 8 + severity}>")
    assert parts_of(line)["rest"] == "hello"


def test_a_storm_of_one_message_leaves_a_line_a_second(error_log):
    limited = RateLimited()
    for now_ms in range(0, 3000, 10):
        suppressed = limited.admit("accept", now_ms)
        if suppressed is not None:
            error_log.logger.critical("accept4() failed%s", similar(suppressed))
    assert error_log.messages() == [
        "accept4() failed",
        "accept4() failed (99 similar messages suppressed)",
        "accept4() failed (99 similar messages suppressed)",
    ]


def test_flushing_the_handler_writes_what_waits(error_log):
    error_log.log.sink.put(b"waits\n")
    error_log.log.flush()
    assert error_log.lines() == ["waits"]


def test_emerg_is_above_every_level_of_logging():
    assert max(logging.CRITICAL, logging.FATAL) < EMERG


def test_warnings_of_one_kind_are_braked_and_counted(error_log):
    for number in range(BURST + 5):
        error_log.logger.error("client %d refused", number)
        error_log.logger.error("%s", f"refused {number}", extra={"kind": "refused"})
        error_log.logger.info("client %d connected", number)
    said = error_log.messages()
    assert len([line for line in said if line.endswith(" refused")]) == BURST
    assert len([line for line in said if line.startswith("refused")]) == BURST
    assert len([line for line in said if line.endswith(" connected")]) == BURST + 5


def test_the_next_warning_after_a_second_says_how_many_were_left_out(error_log):
    record = logging.makeLogRecord(
        {"msg": "refused", "levelno": logging.WARNING, "name": "nginy.proxy", "created": 1000.0}
    )
    for _ in range(BURST + 5):
        error_log.log.emit(record)
    record.created += 1.0
    error_log.log.emit(record)
    assert error_log.messages()[-1] == "refused (5 similar messages suppressed)"
    assert len(error_log.messages()) == BURST + 1


def test_every_backend_that_goes_down_is_named(error_log):
    logger = logging.getLogger("nginy.backend")
    for number in range(3 * BURST):
        logger.warning("backend 10.0.0.%d: up -> down", number)
    assert len(error_log.messages()) == 3 * BURST


def test_tracebacks_are_not_braked(error_log):
    for _ in range(BURST + 5):
        try:
            int("")
        except ValueError:
            error_log.logger.exception("bug")
    assert len([line for line in error_log.lines() if line.endswith(": bug")]) == BURST + 5
