"""What a reader makes of another program's configuration: blocks of keys with their comments.

A `Block` is a mapping that will be written, in the order in which its keys were set. It knows
nothing about the language; `tidy.py` compares it with the table of config/schema.py.

`Files` provides the texts. The readers ask it and open nothing themselves, so a test can give them
a dictionary.

Tested in tests/commands/importing/test_writer.py.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from nginy.commands.importing.report import Entry
from nginy.errors import ConfigError, InvalidValueError, Problem
from nginy.text.escape import escape_control

Value: TypeAlias = "str | list[Value] | Block"
"""What a key may have: a text as nginy.yml has it, a list, or a mapping."""


def one_or_list(values: Iterable[Value]) -> Value:
    """Return a list, or the value alone if there is one, as everything that takes a list allows."""
    values = list(values)
    return values[0] if len(values) == 1 else values


class Files(Protocol):
    """The texts of files.

    `directory`, an absolute path, is where relative paths of the configuration start.
    """

    @property
    def directory(self) -> str:
        """The directory of the configuration."""

    def read(self, path: str) -> str:
        """Return the text of a file, with bytes that are not UTF-8 as lone surrogates (PEP 383).

        Raise InvalidValueError, whose clause says why it cannot be read.
        """

    def match(self, pattern: str) -> Sequence[str]:
        """Return the paths that a pattern with wildcards matches, in alphabetical order."""


class Texts:
    """A dictionary of files, for tests."""

    def __init__(self, texts: Mapping[str, str], directory: str = "/etc") -> None:
        self._texts = texts
        self.directory = directory

    def read(self, path: str) -> str:
        """Return the text of a file."""
        if path not in self._texts:
            raise InvalidValueError("cannot be read: No such file or directory")
        return self._texts[path]

    def match(self, pattern: str) -> Sequence[str]:
        """Return the paths that have the pattern's beginning and end; one star is enough here."""
        head, _, tail = pattern.partition("*")
        return sorted(path for path in self._texts if path.startswith(head) and path.endswith(tail))


class Block:
    """A mapping with comments.

    `above` has the lines of comment above each key, "" for those above the block itself, and
    `behind` the comment at the end of a key's line, likewise. A comment has no "#". `end` has the
    lines after the last key. `short` is the key whose value alone may stand for the block, and
    `word` what an empty block is written as; tidy.py sets both.
    """

    __slots__ = ("above", "behind", "end", "short", "values", "word")

    def __init__(self, values: Mapping[str, Value] | None = None) -> None:
        self.values: dict[str, Value] = dict(values or {})
        self.above: dict[str, list[str]] = {}
        self.behind: dict[str, str] = {}
        self.end: list[str] = []
        self.short = ""
        self.word = "{}"

    def __repr__(self) -> str:
        return f"<Block {self.values}>"

    def set(self, key: str, value: Value, above: Iterable[str] = (), behind: str = "") -> None:
        """Set a key; comments that it has already stay."""
        self.values[key] = value
        self.comment(above, key)
        if behind:
            if key in self.behind:
                self.comment((behind,), key)
            else:
                self.behind[key] = behind

    def default(self, key: str, value: Value) -> None:
        """Set a key that is not set."""
        self.values.setdefault(key, value)

    def comment(self, lines: Iterable[str], key: str = "") -> None:
        """Put lines of comment above a key, or above the block."""
        lines = list(lines)
        if lines:
            self.above.setdefault(key, []).extend(lines)

    def note(self, entry: Entry, key: str = "") -> None:
        """Say in a line of comment, above a key or the block, what differs."""
        self.comment([f" {entry.directive}: {entry.text}"], key)

    def text(self, key: str) -> str:
        """Return the value of a key that has a text; "" if it has none."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def remove(self, key: str) -> None:
        """Take a key out; its comments go to the next one, or to the end."""
        keys = list(self.values)
        after = keys[keys.index(key) + 1 :]
        del self.values[key]
        lines = self.above.pop(key, [])
        behind = self.behind.pop(key, "")
        if behind:
            lines.append(behind)
        if not lines:
            return
        if after:
            self.above[after[0]] = [*lines, *self.above.get(after[0], ())]
        else:
            self.end[:0] = lines

    @property
    def has_comments(self) -> bool:
        """Whether there is a comment within it, above it or after it."""
        if any(self.above.values()) or any(self.behind.values()) or self.end:
            return True
        return any(_has_comments(value) for value in self.values.values())


def _has_comments(value: Value) -> bool:
    if isinstance(value, list):
        return any(_has_comments(each) for each in value)
    return isinstance(value, Block) and value.has_comments


@dataclass(slots=True)
class Document:
    """A configuration that will be written: its keys by their section.

    `top` has the keys at the top of the file, except those of the other fields.
    """

    top: Block = field(default_factory=Block)
    variables: Block = field(default_factory=Block)
    upstreams: Block = field(default_factory=Block)
    listeners: list[Block] = field(default_factory=list)
    end: list[str] = field(default_factory=list)
    """Comments after everything else."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a reader returns."""

    document: Document
    entries: tuple[Entry, ...]


def refuse(file: str, line: int, text: str) -> ConfigError:
    """Return the error for a configuration that cannot be read, to be raised."""
    return ConfigError([Problem(file, line, 1, escape_control(text))])


def absolute(path: str, files: Files) -> str:
    """Return a path of the configuration as an absolute one, since OUT may be anywhere."""
    return posixpath.normpath(posixpath.join(files.directory, path))
