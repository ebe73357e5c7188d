"""The fate of each directive of nginx.conf, while the reader works.

A directive of `stream` is judged once for each server that it applies to. So it begins as exact,
each verdict can only make that worse, and the report has one entry for it.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.report import Entry, Fate, Verdict, shown


class LeftOutError(Exception):
    """A directive that becomes nothing; the text says what that means."""


class CloseError(Exception):
    """A directive that becomes something slightly different; raised when that is done."""


class Ledger:
    """The fates of all directives that were met, in the order of the files."""

    def __init__(self) -> None:
        self._verdicts: dict[Directive, Verdict] = {}

    def meet(self, directive: Directive, fate: Fate = Fate.EXACT, text: str = "") -> None:
        """Add a directive."""
        self._verdicts[directive] = Verdict()
        self._judge(directive, fate, text)

    def close(self, directive: Directive, text: str) -> None:
        """Say that a directive becomes something that is not quite the same."""
        self._judge(directive, Fate.CLOSE, text)

    def left_out(self, directive: Directive, text: str) -> None:
        """Say that a directive becomes nothing."""
        self._judge(directive, Fate.LEFT_OUT, text)

    def _judge(self, directive: Directive, fate: Fate, text: str) -> None:
        self._verdicts.setdefault(directive, Verdict()).judge(fate, text)

    @contextmanager
    def judging(self, directive: Directive) -> Iterator[None]:
        """Note what the block raises about a directive."""
        try:
            yield
        except LeftOutError as error:
            self.left_out(directive, str(error))
        except CloseError as error:
            self.close(directive, str(error))

    def entry(self, directive: Directive) -> Entry:
        """Return what is known about one directive."""
        verdict = self._verdicts[directive]
        words = shown(_quoted(word) for word in directive.words)
        return Entry(directive.file, directive.line, words, verdict.fate, verdict.text)

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries."""
        return tuple(self.entry(directive) for directive in self._verdicts)


def _quoted(word: str) -> str:
    return word if word and not any(letter.isspace() for letter in word) else f'"{word}"'
