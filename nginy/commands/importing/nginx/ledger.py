"""What becomes of each directive of nginx.conf, while the reader finds out.

A directive of `stream` is judged once for each server that it holds for. So it begins as exact, and
each judgement can only make that worse; the report has one entry for it in the end.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.report import Entry, Fate, shown

_ORDER = (Fate.EXACT, Fate.CLOSE, Fate.LEFT_OUT)


class LeftOutError(Exception):
    """A directive that becomes nothing; the text says what that means."""


class CloseError(Exception):
    """A directive that becomes something else than it was; raised once that has been done."""


class Ledger:
    """The fates of all directives that were met, in the order of the files."""

    def __init__(self) -> None:
        self._fates: dict[Directive, tuple[Fate, list[str]]] = {}

    def meet(self, directive: Directive, fate: Fate = Fate.EXACT, text: str = "") -> None:
        """Add a directive."""
        self._fates[directive] = (fate, [text] if text else [])

    def close(self, directive: Directive, text: str) -> None:
        """Say that a directive becomes something that is not quite the same."""
        self._judge(directive, Fate.CLOSE, text)

    def left_out(self, directive: Directive, text: str) -> None:
        """Say that a directive becomes nothing."""
        self._judge(directive, Fate.LEFT_OUT, text)

    def _judge(self, directive: Directive, fate: Fate, text: str) -> None:
        old, texts = self._fates.get(directive, (Fate.EXACT, []))
        if _ORDER.index(fate) > _ORDER.index(old):
            # What was fine for one server is left out for another: both belong into the sentence.
            texts = [] if old is Fate.EXACT else texts
        if text not in texts:
            texts = [*texts, text]
        self._fates[directive] = (max(old, fate, key=_ORDER.index), texts)

    @contextmanager
    def judging(self, directive: Directive) -> Iterator[None]:
        """Take down what the block raises about a directive."""
        try:
            yield
        except LeftOutError as error:
            self.left_out(directive, str(error))
        except CloseError as error:
            self.close(directive, str(error))

    def entry(self, directive: Directive) -> Entry:
        """Return what is known of one directive."""
        fate, texts = self._fates[directive]
        words = shown(_quoted(word) for word in directive.words)
        text = "; ".join(texts)
        return Entry(directive.file, directive.line, words, fate, text)

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries."""
        return tuple(self.entry(directive) for directive in self._fates)


def _quoted(word: str) -> str:
    return word if word and not any(letter.isspace() for letter in word) else f'"{word}"'
