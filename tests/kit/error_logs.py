"""An error log in a file, and what a reader of the file sees."""

import logging
import re
from contextlib import contextmanager

from nginy.log.error_log import setup_error_log

LINE = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(?P<level>\w+)\] (?P<pid>\d+)#0: (?P<rest>.*)")


def parts_of(line: str) -> re.Match[str]:
    """Take a line of the log apart."""
    match = LINE.fullmatch(line)
    assert match is not None, line
    return match


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
