"""An error log in a file, and what a reader of the file sees."""

import logging
import re
from contextlib import contextmanager

from nginy.log.error_log import ErrorLog

LINE = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(?P<level>\w+)\] (?P<pid>\d+)#0: (?P<rest>.*)")


def parts_of(line: str) -> re.Match[str]:
    """Take a line of the log apart."""
    match = LINE.fullmatch(line)
    assert match is not None, line
    return match


def setup_error_log(path: str, level: str) -> ErrorLog:
    """Open `path` and attach it to the logger ``nginy``; the caller closes the result."""
    error_log = ErrorLog(path)
    error_log.attach()
    error_log.set_level(level)
    return error_log


class ErrorLogFile:
    """An error log in a file, and what a reader of the file sees."""

    def __init__(self, path, level):
        self.path = path
        self.log = setup_error_log(str(path), level)
        self.logger = logging.getLogger("nginy.proxy")

    def lines(self):
        return self.path.read_text().splitlines()

    def messages(self):
        return [parts_of(line)["rest"] for line in self.lines()]


@contextmanager
def error_log_in(directory):
    opened = ErrorLogFile(directory / "error.log", "debug")
    try:
        yield opened
    finally:
        opened.log.close()
