"""Kinds of values, such as flags, numbers and durations: how each is read and printed.

A Kind turns a node into a value, and a value back into YAML. Its `expected` ends every refusal, so
a message says what to write and not only what was wrong. Kinds that consist of other kinds (lists,
mappings, records) are in record.py; `balance` and paths have modules of their own, balance.py and
paths.py.

A scalar is read from its text alone, so YAML's ideas about unquoted words do not matter.

Tested in tests/config/test_errors.py.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeAlias, TypeVar

from nginy.config.node import (
    Findings,
    Mark,
    Node,
    ScalarNode,
    closest,
    describe,
    did_you_mean,
    quote,
)
from nginy.config.words.hints import value_hint
from nginy.config.words.shapes import of_scalar
from nginy.errors import InvalidValueError
from nginy.proxy.variables import KEY_VARIABLES, VARIABLES, is_variable, names_in
from nginy.text.units import format_duration, format_size, parse_duration_ms, parse_size_bytes

T = TypeVar("T")

# The values that dump.py prints: YAML's three shapes, with scalars as text.
Plain: TypeAlias = str | list["Plain"] | dict[str, "Plain"]

INTEGER_MAX: Final = (1 << 31) - 1  # nginx's ngx_int_t on 32 bits; more is a slip of the finger

ON_WORDS: Final = frozenset({"on", "yes", "true"})
OFF_WORDS: Final = frozenset({"off", "no", "false"})
FOREIGN_FLAGS: Final = {
    **dict.fromkeys(("1", "enable", "enabled", "y"), "on"),
    **dict.fromkeys(("0", "disable", "disabled", "n", "none", "never"), "off"),
}

_SURROGATE = re.compile("[\ud800-\udfff]")


def alternatives(*words: str) -> str:
    """Return "a, b or c"."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


class Kind(ABC, Generic[T]):
    """One type of value. The names of such values end in `unit` in nginy's code."""

    unit = ""
    expected = ""
    takes_lists = False
    """Whether read() takes a list for the whole value."""
    is_secret = False
    """Whether values may hold passwords, which a running nginy never shows."""
    hide: Callable[[str], str] | None = None
    """Returns the text of a value without what may be a password in it."""

    @abstractmethod
    def read(self, node: Node, findings: Findings) -> T:
        """Return the value of `node`; report all problems, raise RefusedError without a value."""

    @abstractmethod
    def write(self, value: T) -> Plain:
        """Return the YAML that read() turns back into `value`."""


class ScalarKind(Kind[T]):
    """A value that is one piece of text.

    With `has_bytes` the text goes over a wire and may hold bytes that are not UTF-8, as lone
    surrogates (PEP 383).
    """

    has_bytes = False

    @abstractmethod
    def parse(self, text: str, mark: Mark) -> T:
        """Return the value of `text`, written at `mark`; raise InvalidValueError."""

    def parse_among(self, text: str, mark: Mark, findings: Findings) -> T:
        """As `parse`, for kinds that must know which variables the configuration defines."""
        return self.parse(text, mark)

    def read(self, node: Node, findings: Findings) -> T:
        """Read a scalar; refuse lists and mappings."""
        if not isinstance(node, ScalarNode) or node.is_missing:
            meaning = of_scalar(findings.key, node) or f"expected {self.expected}"
            raise findings.refuse(node.mark, f"{describe(node)}, {meaning}")
        text = node.text
        if self.has_bytes:
            text = text if node.byte_text is None else node.byte_text
        elif not text.isascii() and _SURROGATE.search(text):  # of the environment; no file has them
            raise findings.refuse(node.mark, f"{quote(text)} has a byte that is not UTF-8")
        try:
            return self.parse_among(text, node.mark, findings)
        except InvalidValueError as error:
            advice = self.advice(findings.key, node.text)
            text = findings.sentence(node, error.clause if advice is None else advice)
            if advice is None:
                text += f", expected {self.expected}{self._hint(error, node, findings)}"
            raise findings.refuse(node.mark, text, is_clean=True) from None

    def advice(self, key: str, text: str) -> str | None:
        """Return a better message than the error for a refused value of `key`, or None."""
        return value_hint(key, text)

    def _hint(self, error: InvalidValueError, node: ScalarNode, findings: Findings) -> str:
        """Offer the error's hint if this kind accepts it, and it tells nothing secret."""
        try:
            self.parse_among(error.hint or "", node.mark, findings)
        except InvalidValueError:
            return ""
        return did_you_mean(error.hint) if findings.may_quote(node) else ""


class OrOff(ScalarKind[T | None]):
    """Another scalar kind, or `off`, which is None."""

    def __init__(self, kind: ScalarKind[T], off: str = "off") -> None:
        self.kind = kind
        self.off = off
        self.unit = kind.unit
        self.has_bytes = kind.has_bytes
        self.expected = f"{kind.expected}, or {off}"

    def parse(self, text: str, mark: Mark) -> T | None:
        """Return None for the word `off`."""
        return None if text == self.off else self.kind.parse(text, mark)

    def parse_among(self, text: str, mark: Mark, findings: Findings) -> T | None:
        """Return None for the word `off`."""
        return None if text == self.off else self.kind.parse_among(text, mark, findings)

    def advice(self, key: str, text: str) -> str | None:
        """Return the advice of the kind."""
        return self.kind.advice(key, text)

    def write(self, value: T | None) -> Plain:
        """Return the word for None."""
        return self.off if value is None else self.kind.write(value)


class Flag(ScalarKind[bool]):
    """On or off; YAML's other words for them work, too."""

    expected = "on or off"

    def parse(self, text: str, mark: Mark) -> bool:
        """Return True for on, yes and true, in any case."""
        word = text.lower()
        if word not in ON_WORDS | OFF_WORDS:
            raise InvalidValueError("is not valid", FOREIGN_FLAGS.get(word))
        return word in ON_WORDS

    def write(self, value: bool) -> Plain:
        """Return nginx's words."""
        return "on" if value else "off"


class Integer(ScalarKind[int]):
    """A whole number within bounds, both of them included."""

    def __init__(self, low: int, high: int = INTEGER_MAX) -> None:
        self.low = low
        self.high = high
        bound = f"from {low}" if high == INTEGER_MAX else f"from {low} to {high}"
        self.expected = f"a whole number {bound}"

    def parse(self, text: str, mark: Mark) -> int:
        """Return the decimal number; a leading zero is refused, as YAML would read it as octal."""
        # The length is limited, as a text of a million digits takes long to become a number.
        if not re.fullmatch(r"-?[0-9]{1,40}", text):
            raise InvalidValueError("is not a whole number")
        if re.fullmatch(r"-?0[0-9]+", text):
            raise InvalidValueError("begins with a zero", text.lstrip("-0") or "0")
        number = int(text)
        if number < self.low:
            raise InvalidValueError("is too small")
        if number > self.high:
            raise InvalidValueError(
                "is too large" if self.high != INTEGER_MAX else f"is above {INTEGER_MAX}"
            )
        return number

    def write(self, value: int) -> Plain:
        """Return the decimal number."""
        return str(value)


class Duration(ScalarKind[int]):
    """A duration in milliseconds, a multiple of `step_ms`."""

    unit = "_ms"

    def __init__(self, step_ms: int = 1) -> None:
        self.step_ms = step_ms
        self.expected = (
            "a duration such as 500ms, 10s or 1m30s"
            if step_ms == 1
            else "a duration in whole seconds such as 10s or 1m30s"
        )

    def parse(self, text: str, mark: Mark) -> int:
        """Return milliseconds."""
        duration_ms = parse_duration_ms(text)
        if duration_ms % self.step_ms:
            raise InvalidValueError("has a fraction of a second")
        return duration_ms

    def write(self, value: int) -> Plain:
        """Return the shortest text."""
        return format_duration(value)


class Size(ScalarKind[int]):
    """A size in bytes within bounds."""

    unit = "_bytes"

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self.expected = f"a size from {format_size(low)} to {format_size(high)}, such as 16k"

    def parse(self, text: str, mark: Mark) -> int:
        """Return bytes."""
        size_bytes = parse_size_bytes(text)
        if size_bytes < self.low:
            raise InvalidValueError("is too small")
        if size_bytes > self.high:
            raise InvalidValueError("is too large")
        return size_bytes

    def write(self, value: int) -> Plain:
        """Return the shortest text."""
        return format_size(value)


class Choice(ScalarKind[str]):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.expected = alternatives(*words)

    def parse(self, text: str, mark: Mark) -> str:
        """Return the word itself."""
        if text not in self.words:
            raise InvalidValueError("is not known", closest(text, self.words))
        return text

    def write(self, value: str) -> Plain:
        """Return the word itself."""
        return value


class Text(ScalarKind[str]):
    """Any text that matches a pattern."""

    def __init__(self, expected: str, pattern: str = r"(?s:.*)") -> None:
        self.expected = expected
        self._pattern = re.compile(pattern)

    def parse(self, text: str, mark: Mark) -> str:
        """Return the text itself if the pattern allows it."""
        if not self._pattern.fullmatch(text):
            raise InvalidValueError("is not valid")
        return text

    def write(self, value: str) -> Plain:
        """Return the text itself."""
        return value


class Template(ScalarKind[str]):
    """Text with variables, as nginx's complex values; files.py has replaced `${NAME}` already."""

    expected = "text with variables such as $remote_addr"

    def __init__(self, variables: frozenset[str], *, has_bytes: bool = False) -> None:
        self.variables = variables
        self.has_bytes = has_bytes

    def parse(self, text: str, mark: Mark) -> str:
        """Return the text itself if it names only variables of nginy's own."""
        self.check(text, {})
        return text

    def parse_among(self, text: str, mark: Mark, findings: Findings) -> str:
        """Return the text itself if it names only known variables."""
        self.check(text, findings.variables)
        return text

    def check(self, text: str, defined: Mapping[str, str]) -> None:
        """Raise InvalidValueError for a name that is neither nginy's nor `defined`.

        `defined` says for each name what makes it known late, as `Findings.variables` does.
        """
        names = names_in(text)
        known = (*self.variables, *defined)
        unknown = [
            name for name in names if name not in defined and not is_variable(name, VARIABLES)
        ]
        if unknown:
            shown = ", ".join(f"${name}" for name in unknown)
            hint = closest(unknown[0], known)
            raise InvalidValueError(f"names unknown variables ({shown})", hint and f"${hint}")
        for name in names:
            late = defined.get(name, name)
            if late and not is_variable(late, self.variables):
                clause = "is known only when a session ends"
                if late != name:
                    clause = f"needs ${late}, which {clause}"
                raise InvalidValueError(f"names ${name}, which {clause}")

    def write(self, value: str) -> Plain:
        """Return the text itself."""
        return value


class TargetName(Template):
    """Where sessions go, by name, or by a variable of the configuration."""

    expected = "an upstream's name, an address or a variable such as $site"

    def __init__(self) -> None:
        super().__init__(KEY_VARIABLES)

    def check(self, text: str, defined: Mapping[str, str]) -> None:
        """Raise InvalidValueError for more than one variable, and for one that may be anything."""
        if "$" not in text:
            return
        super().check(text, defined)
        name, *others = names_in(text)
        if others or text != f"${name}":
            raise InvalidValueError("is not a single variable")
        if name not in defined:
            raise InvalidValueError("could be anything, not only what `variables` lists")
