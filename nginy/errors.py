"""Errors that a person has to fix: exceptions that end in a sentence, not in a traceback.

Examples are a configuration that cannot be used, a signal that cannot be sent, an address in use.
The network's failures are values, not errors (event/connection.py), and a session ends with a
reason (proxy/session.py).

The one idea: an error is text that is ready to print. The command line prints `str(error)` and
returns status 1; a running server logs it and goes on as before. Nothing else depends on the
contents of an exception.

Read next: text/units.py and text/address.py, which raise InvalidValueError; config/load.py, which
raises ConfigError.

Tested in tests/test_cli.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass


class NginyError(Exception):
    """Something the user has to fix; `str()` is the whole message. Exit status 1."""


class InvalidValueError(ValueError):
    """A text that is not a value of its type.

    `clause` continues a sentence that begins with the quoted text: "has no unit". `hint` is the
    text that was probably meant, if one is known.
    """

    def __init__(self, clause: str, hint: str | None = None) -> None:
        super().__init__(clause)
        self.clause = clause
        self.hint = hint


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake of a configuration, and its place. Problems sort by position.

    Lines and columns count from 1; line 0 means the file as a whole (it cannot be read, say).
    """

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        if self.line == 0:
            return f"{self.file}: {self.text}"
        return f"{self.file}:{self.line}:{self.column}: {self.text}"


class ConfigError(NginyError):
    """A configuration that cannot be used, with all its problems, sorted by position."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
