"""Paths: the kind of value, and how files that a configuration names are opened and read.

Tested in tests/config/test_errors.py.
"""

import os
import re

from nginy.config.node import Mark
from nginy.config.types import OFF_WORDS, ON_WORDS, Plain, ScalarKind, alternatives
from nginy.errors import InvalidValueError
from nginy.text.address import parse_address


class FilePath(ScalarKind[str]):
    """A path; a relative one starts at the directory of the file that names it, as in nginx.

    `words` (stderr) and texts that begin with one of `schemes` (syslog:) are not paths. A single
    word is refused: `pid: on` and `access_log: main` are slips; ./main is a file.
    """

    def __init__(self, *words: str, schemes: tuple[str, ...] = ()) -> None:
        self.words = words
        self.schemes = schemes
        more = [*words, *(f"{scheme}HOST:PORT" for scheme in schemes)]
        self.expected = alternatives("the path of a file", *more)

    def parse(self, text: str, mark: Mark) -> str:
        """Return an absolute path, a word, or an address after its scheme."""
        if text in self.words:
            return text
        for scheme in self.schemes:
            if text.startswith(scheme):
                return f"{scheme}{parse_address(text.removeprefix(scheme))}"
        if not text or "\0" in text or text.endswith(";"):
            raise InvalidValueError("is not a path")
        if not re.search(r"[/.]", text):
            hint = None if text in ON_WORDS | OFF_WORDS else f"./{text}"
            raise InvalidValueError("is a word, not a path", hint)
        if re.search(r"\s[^\s/.]+$", text):
            raise InvalidValueError("has a word after the path")
        return os.path.abspath(os.path.join(os.path.dirname(mark.file), text))

    def write(self, value: str) -> Plain:
        """Return the absolute path."""
        return value


def at_once(path: str, flags: int) -> int:
    """Open a file for `open`, which closes what it then refuses: a directory.

    Without O_NONBLOCK a FIFO would wait for its writer.
    """
    return os.open(path, flags | os.O_NONBLOCK)


def read_head(path: str, count: int) -> bytes:
    """Return the first `count` bytes of a file; raise InvalidValueError if it cannot be read."""
    try:
        with open(path, "rb", opener=at_once) as file:
            return file.read(count) or b""
    except OSError as error:
        raise InvalidValueError(f"cannot be read ({error.strerror})") from None
