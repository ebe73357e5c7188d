"""Configuration text as a tree whose every node knows where it was written.

A node is text, a list or a mapping; nothing has a type yet. YAML's own guesses (1:30 is 90, 010
is 8, no is false) are never made: scalars stay the text that was typed until a kind of types.py
reads them.

Reading collects what is wrong. A reader that cannot go on reports its problem and raises
RefusedError, which carries nothing: the nearest list or mapping catches it and goes on with its
next item, so that one run finds all mistakes.

Not here: how nodes come from YAML (parse.py) and from several files (files.py).
"""

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from nginy.errors import Problem

# What a message quotes of a value: enough to find it, and still one line.
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


NOWHERE: Final = Mark("", 0, 0)


@dataclass(frozen=True, slots=True)
class ScalarNode:
    r"""One piece of text. `is_plain` says that it was written without quotes.

    `byte_text`, where it differs from `text`, has each \x80 to \xff that was typed in double quotes
    as that byte (a lone surrogate, PEP 383) and not as a letter of Latin-1, for values that go
    over a wire.
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
    """A node could not be read; the problem has been reported already."""


class Findings:
    """One run over a configuration: the problems so far, and what `defaults` holds.

    `key` is the key whose value is being read. `label` opens each message: the key that was typed,
    which is another one where a value alone stands for its record. `failures` counts reports, also
    those about `refused` places, which have had their message already. `homes` says which
    records have a key, for the message about one in the wrong place. `warnings` do not keep the
    configuration from being used.
    """

    __slots__ = (
        "failures",
        "homes",
        "inherited",
        "key",
        "label",
        "problems",
        "refused",
        "warnings",
    )

    def __init__(self, homes: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.homes = homes or {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.failures = 0
        self.refused: set[Mark] = set()
        self.inherited: dict[str, object] = {}
        self.key = ""
        self.label = ""

    @contextlib.contextmanager
    def under(self, key: str, *, is_typed: bool = True) -> Iterator[None]:
        """Read the value of `key` in this block; a refusal ends the block and nothing more.

        With `is_typed` off, the value was written without its key.
        """
        outer, label = self.key, self.label
        self.key = key
        if is_typed:
            self.label = key
        try:
            yield
        except RefusedError:
            pass
        finally:
            self.key, self.label = outer, label

    def report(self, mark: Mark, text: str) -> None:
        """Note one problem and go on."""
        self.failures += 1
        if mark in self.refused:
            return
        text = f"{self.label}: {text}" if self.label else text
        self.problems.append(Problem(mark.file, mark.line, mark.column, text))

    def warn(self, mark: Mark, text: str) -> None:
        """Note something odd that is right all the same."""
        text = f"{self.label}: {text}" if self.label else text
        self.warnings.append(Problem(mark.file, mark.line, mark.column, text))

    def refuse(self, mark: Mark, text: str) -> RefusedError:
        """Note one problem; return what the caller raises, as it has no value to return."""
        self.report(mark, text)
        return RefusedError()


def describe(node: Node) -> str:
    """Return how a message names the value that was found."""
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
    """Return the name that was probably meant by `text`, or None where none is close."""
    cutoff = CLOSE if len(text) > SHORT_MAX_CHARACTERS else CLOSE_IF_SHORT
    close = difflib.get_close_matches(text, sorted(names), n=1, cutoff=cutoff)
    return close[0] if close else None


def did_you_mean(hint: str | None) -> str:
    """Return the end of a message that offers `hint`, or nothing without one."""
    return f" (did you mean {quote(hint)}?)" if hint is not None else ""
