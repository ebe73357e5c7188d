"""Configuration text as a tree in which every node knows its place in the file.

A node is text, a list or a mapping; nothing has a type yet. nginy makes none of YAML's guesses
(1:30 is 90, 010 is 8, no is false): a scalar stays the text that was typed until a kind of
types.py reads it.

Findings collects problems. Code that cannot go on reports its problem and raises RefusedError,
which carries nothing: the nearest list or mapping catches it and continues with its next item, so
one run finds all mistakes.

Not here: how nodes come from YAML (parse.py) and from several files (files.py).

Tested in tests/config/test_parse.py.
"""

import contextlib
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from nginy.errors import Problem
from nginy.text.mask import without_cut

# How much of a value a message quotes: enough to find it, and still one line.
QUOTED_MAX_CHARACTERS: Final = 60
PATH_MAX_CHARACTERS: Final = 4096  # PATH_MAX of Linux
# How alike two words must be, from 0 to 1. Of three letters, two swapped make 0.67.
CLOSE: Final = 0.7
CLOSE_IF_SHORT: Final = 0.6
SHORT_MAX_CHARACTERS: Final = 5


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file. Lines and columns count from 1; line 0 is the file as a whole."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


_QUOTED: Final = re.compile(r'"(.*)"', re.DOTALL)
"""All from the first quotation mark to the last one."""
_PARTS: Final = re.compile(r"\w{3,}")
"""Parts of a value that tell something about it."""

NOWHERE: Final = Mark("", 0, 0)


@dataclass(frozen=True, slots=True)
class ScalarNode:
    r"""One piece of text. `is_plain` tells whether it was written without quotes.

    `byte_text` is for values that go over a wire: an escape from \x80 to \xff in double quotes is a
    byte in it (a lone surrogate, PEP 383) and not a letter of Latin-1. None if it equals `text`.
    """

    text: str
    mark: Mark = NOWHERE
    is_plain: bool = True
    byte_text: str | None = None

    @property
    def is_missing(self) -> bool:
        """Whether nothing was written after the colon (or YAML's words for nothing)."""
        return self.is_plain and self.text in ("", "~", "null")


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list, in either of YAML's styles."""

    items: tuple["Node", ...]
    mark: Mark = NOWHERE


@dataclass(frozen=True, slots=True)
class MappingNode:
    """Keys and values in the order of the file; no key occurs twice."""

    pairs: tuple[tuple[ScalarNode, "Node"], ...]
    mark: Mark = NOWHERE


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


class RefusedError(Exception):
    """A node could not be read; its problem has been reported."""


class Findings:
    """The problems and warnings of one run over a configuration, and the values of `defaults`.

    `key` is the key whose value is being read. `label` is the key that was typed, and opens each
    message; it differs from `key` where a value alone stands for its record. `failures` counts all
    reports, including those about `refused` places, which already have their message. `homes` maps
    a key to the records that have it, for messages about misplaced keys. `warnings` do not make a
    configuration unusable. `variables` are those that the configuration defines, each with the
    variable that makes it known only when a session ends, or "".

    Who reads the problems may not read the file. `hide` takes out of a quoted value what may be a
    password, if the key that is being read may have one. `filled` are values with ${NAME} in the
    file, by their places, as written there; `environment` are the values of the environment that
    may be passwords.
    """

    __slots__ = (
        "environment",
        "failures",
        "filled",
        "hide",
        "homes",
        "inherited",
        "key",
        "label",
        "problems",
        "refused",
        "variables",
        "warnings",
    )

    def __init__(self, homes: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.homes = homes or {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.failures = 0
        self.refused: set[Mark] = set()
        self.inherited: dict[str, object] = {}
        self.variables: Mapping[str, str] = {}
        self.key = ""
        self.label = ""
        self.hide: Callable[[str], str] | None = None
        self.filled: dict[Mark, str] = {}
        self.environment: set[str] = set()

    @contextlib.contextmanager
    def under(
        self, key: str, *, is_typed: bool = True, hide: Callable[[str], str] | None = None
    ) -> Iterator[None]:
        """Read the value of `key` in this block; a refusal ends the block and nothing more.

        With `is_typed` off, the value was written without its key. `hide` is that of its kind.
        """
        outer, label, hidden = self.key, self.label, self.hide
        self.key, self.hide = key, hide or hidden
        if is_typed:
            self.label = key
        try:
            yield
        except RefusedError:
            pass
        finally:
            self.key, self.label, self.hide = outer, label, hidden

    def report(self, mark: Mark, text: str, *, is_clean: bool = False) -> None:
        """Note one problem and go on. `is_clean`: there are no secrets in it."""
        self.failures += 1
        if mark in self.refused:
            return
        text = text if is_clean else self._cleaned(mark, text)
        text = f"{self.label}: {text}" if self.label else text
        self.problems.append(Problem(mark.file, mark.line, mark.column, text))

    def warn(self, mark: Mark, text: str) -> None:
        """Note something valid that is probably a mistake."""
        text = self._cleaned(mark, text)
        text = f"{self.label}: {text}" if self.label else text
        self.warnings.append(Problem(mark.file, mark.line, mark.column, text))

    def may_quote(self, node: ScalarNode) -> bool:
        """Whether a problem may say all of a value."""
        return self.hide is None and node.mark not in self.filled

    def sentence(self, node: ScalarNode, clause: str) -> str:
        """Return the beginning of a sentence about a value: the value in quotes, and a clause.

        Of a value that may have a password in it, or is one of the environment, it says no more
        than its readers may know. The clause may quote a part of it.
        """
        if self.may_quote(node):
            return f"{quote(node.text)} {clause}"
        filled, hide = self.filled.get(node.mark), self.hide
        shown = node.text if filled is None else filled
        shown = shown if hide is None else hide(shown)
        words = set(_PARTS.findall(clause))
        is_told = shown != node.text and not words.isdisjoint(_PARTS.findall(node.text))
        return f"{quote(shown)} {'is not valid' if is_told else clause}"

    def _cleaned(self, mark: Mark, text: str) -> str:
        """Return the text of a problem without the values that its readers may not know.

        Where they end is not certain, as they may have quotation marks in them.
        """
        if mark in self.filled:
            text = self._as_written(mark, text)
        text = without_cut(text, self.environment)  # as long as they are whole
        hide = self.hide
        if hide is not None:
            text = _QUOTED.sub(lambda match: f'"{hide(match[1])}"', text)
        return text

    def _as_written(self, mark: Mark, text: str) -> str:
        """Return the text of a problem with ${NAME} for its value.

        What follows the value may be a hint, which has parts of it.
        """
        match = _QUOTED.search(text)
        if match is None:
            return text
        rest = text[match.end() :]
        parts = {part for value in self.environment for part in _PARTS.findall(value)}
        if not parts.isdisjoint(_PARTS.findall(rest)):
            rest = " is not valid"
        return f"{text[: match.start()]}{quote(self.filled[mark])}{rest}"

    def refuse(self, mark: Mark, text: str, *, is_clean: bool = False) -> RefusedError:
        """Note one problem; return the exception that the caller raises."""
        self.report(mark, text, is_clean=is_clean)
        return RefusedError()


def describe(node: Node) -> str:
    """Return the name of a value for a message."""
    if isinstance(node, SequenceNode):
        return "a list" if node.items else "an empty list"
    if isinstance(node, MappingNode):
        return "a mapping"
    return "no value" if node.is_missing else quote(node.text)


def quote(text: str, max_characters: int = QUOTED_MAX_CHARACTERS) -> str:
    """Return `text` in double quotes, on one line and not too long."""
    if len(text) > max_characters:
        text = f"{text[:max_characters]}..."
    return '"' + "".join(c if c.isprintable() else _escaped(c) for c in text) + '"'


def _escaped(character: str) -> str:
    """Return a character as an escape, and a byte that is no UTF-8 as such."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1]


def quote_path(path: str) -> str:
    """Return `path` in double quotes, on one line and whole."""
    return quote(path, PATH_MAX_CHARACTERS)


def closest(text: str, names: Iterable[str]) -> str | None:
    """Return the name closest to `text`, or None if none is close."""
    cutoff = CLOSE if len(text) > SHORT_MAX_CHARACTERS else CLOSE_IF_SHORT
    close = difflib.get_close_matches(text, sorted(names), n=1, cutoff=cutoff)
    return close[0] if close else None


def did_you_mean(hint: str | None) -> str:
    """Return the end of a message that offers `hint`; empty without one."""
    return f" (did you mean {quote(hint)}?)" if hint is not None else ""
