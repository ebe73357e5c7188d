"""Command lines, as of the program that checks a backend.

Tested in tests/config/test_health.py.
"""

import shlex

from nginy.config.node import Findings, Mark, Node, SequenceNode, quote
from nginy.config.types import Kind, OrOff, Plain, ScalarKind, Text
from nginy.errors import InvalidValueError


class CommandLine(ScalarKind[tuple[str, ...]]):
    """A program and its arguments in one text, quoted as for a shell; no shell reads it."""

    expected = "the absolute path of a program and its arguments, as one text or a list"

    def parse(self, text: str, mark: Mark) -> tuple[str, ...]:
        """Return the words."""
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise InvalidValueError(f"cannot be split ({error})".lower()) from None
        if not words or not words[0].startswith("/") or "\0" in text:
            raise InvalidValueError("is not valid")
        return words

    def write(self, value: tuple[str, ...]) -> Plain:
        """Return the words, quoted where they need it."""
        return shlex.join(value)


class Command(Kind[tuple[str, ...] | None]):
    """A program and its arguments: one text, or a list of words, none of them split further."""

    expected = f"{CommandLine.expected}, or off"

    def __init__(self) -> None:
        self.line = OrOff(CommandLine())
        self.word = Text("a word of the command", r"[^\0]*")

    def read(self, node: Node, findings: Findings) -> tuple[str, ...] | None:
        """Return the words, None for `off`."""
        if not isinstance(node, SequenceNode):
            return self.line.read(node, findings)
        words = tuple(self.word.read(item, findings) for item in node.items)
        if not words or not words[0].startswith("/"):
            found = quote(words[0]) if words else "an empty list"
            raise findings.refuse(node.mark, f"{found}, expected {self.expected}")
        return words

    def write(self, value: tuple[str, ...] | None) -> Plain:
        """Return the words as one text, quoted where they need it."""
        return self.line.write(value)
