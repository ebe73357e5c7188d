"""What can be wrong on the user's side: exceptions that end in a sentence, not in a traceback.

Only errors that a person has to mend live here: a configuration that cannot be used, a signal
that cannot be sent, an address that is taken. What the network does is not an error but a value
(event/connection.py), and how a session ends is a reason (proxy/session.py).

The one idea: an error is text that is ready to print. The command line prints `str(error)` and
returns status 1, a running server logs it and carries on as before. Nothing else is derived from
an exception.

Read next: text/units.py and text/address.py, which raise InvalidValueError; config/load.py, which
raises ConfigError.
"""

from collections.abc import Iterable
from dataclasses import dataclass


class NginyError(Exception):
    """Something the user has to mend; `str()` is the whole message. Exit status 1."""


class InvalidValueError(ValueError):
    """A text that does not say what its type wants.

    `clause` continues a sentence that begins with the quoted text: "has no unit". `hint`, where
    there is one, is the text that was probably meant.
    """

    def __init__(self, clause: str, hint: str | None = None) -> None:
        super().__init__(clause)
        self.clause = clause
        self.hint = hint


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with a configuration, and where. They sort by position.

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
    """A configuration that cannot be used: all that is wrong with it, sorted by position."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
