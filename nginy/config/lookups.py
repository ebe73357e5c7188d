"""The values of a variable: what `map`, `geo` and `split` look up, read from the configuration.

Each method reads the keys of its values in its own way: texts and patterns, networks, shares. The
result is ready for lookups; networks from a file are read with the configuration, as those of
`access` are.

Not here: the other keys of a variable (variables.py), and how a value is found (proxy/lookups.py).

Tested in tests/config/test_variables.py.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from nginy.config.access import read_lines
from nginy.config.node import (
    Findings,
    MappingNode,
    Mark,
    Node,
    RefusedError,
    ScalarNode,
    describe,
    did_you_mean,
    quote,
    quote_path,
)
from nginy.config.paths import FilePath
from nginy.config.types import Kind, Plain, Template
from nginy.errors import InvalidValueError
from nginy.proxy.access import Network, parse_network
from nginy.proxy.lookups import WHOLE, Geo, Lookup, Map, Split, parse_pattern, parse_share
from nginy.proxy.variables import VARIABLES, is_variable

FILE: Final = "file"
SOURCE: Final = Template(VARIABLES)
BAD_LINES_MAX: Final = 20
"""At most this many bad lines of a file are reported: a file of another format has no good ones."""


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a variable as configured, by the text to look up."""

    texts: tuple[tuple[str, str], ...] = ()
    digest: bytes = b""
    """A hash of the bytes of a file: values whose file has changed are different ones."""
    marks: tuple[tuple[Mark, Mark], ...] = field(default=(), compare=False, repr=False)
    """The places of `texts`."""


class ValuesKind(Kind[Values]):
    """A mapping of texts to look up to values, in the order of the file."""

    expected = "a mapping of texts to values"

    def read(self, node: Node, findings: Findings) -> Values:
        """Return the values as texts; each method of a variable reads them in its own way."""
        if not isinstance(node, MappingNode):
            raise findings.refuse(node.mark, f"{describe(node)}, expected {self.expected}")
        texts, marks = [], []
        for name, value in node.pairs:
            if not isinstance(value, ScalarNode) or value.is_missing:
                text = f"{describe(value)} for {quote(name.text)}, expected a text"
                findings.report(value.mark, text)
                continue
            texts.append((name.text, value.text))
            marks.append((name.mark, value.mark))
        return Values(tuple(texts), marks=tuple(marks))

    def write(self, value: Values) -> Plain:
        """Return the mapping as configured."""
        return dict(value.texts)


def check_text(text: str, mark: Mark, groups: tuple[str, ...], findings: Findings) -> None:
    """Report names in a value that are neither variables nor groups of its pattern."""
    try:
        SOURCE.check(text, {**findings.variables, **dict.fromkeys(groups, "")})
    except InvalidValueError as error:
        hint = did_you_mean(error.hint)
        findings.report(mark, f"{quote(text)} {error.clause}, expected {SOURCE.expected}{hint}")


Read: TypeAlias = tuple[Lookup, tuple[str, ...], Values]
"""A lookup, the values that it numbers, and the values as `nginy -T` shows them."""


def read_map(values: Values, findings: Findings, *, has_hostnames: bool) -> Read:
    """Read texts and patterns; a value may name the groups of its pattern."""
    keys: list[str | re.Pattern[str]] = []
    seen: dict[str, Mark] = {}
    for (name, value), (mark, value_mark) in zip(values.texts, values.marks, strict=True):
        groups: tuple[str, ...] = ()
        if name.startswith("~"):
            try:
                pattern = parse_pattern(name)
            except InvalidValueError as error:
                findings.report(mark, f"{quote(name)} {error.clause}")
                continue
            keys.append(pattern)
            groups = (*pattern.groupindex, *map(str, range(pattern.groups + 1)))
            for group in pattern.groupindex:
                if is_variable(group, VARIABLES) or group in findings.variables:
                    text = f"the group {quote(group)} has the name of a variable"
                    findings.report(mark, f"{text}, expected another one")
        else:
            keys.append(name)
            first = seen.setdefault(name.lower(), mark)
            if first is not mark:
                text = f"{quote(name)} is already listed at {first}; case makes no difference"
                findings.report(mark, text)
        check_text(value, value_mark, groups, findings)
    lookup = Map(keys, has_hostnames=has_hostnames)
    return lookup, tuple(value for _, value in values.texts), values


def read_split(values: Values, findings: Findings) -> Read:
    """Read shares of all clients."""
    shares = []
    for (name, value), (mark, value_mark) in zip(values.texts, values.marks, strict=True):
        check_text(value, value_mark, (), findings)
        if name == "*":
            findings.report(mark, '"*" is not a share, expected the rest in default')
            continue
        try:
            shares.append(parse_share(name))
        except InvalidValueError as error:
            text = f"{quote(name)} {error.clause}, expected a share such as 5% or 0.25%"
            findings.report(mark, text)
    if sum(shares) > WHOLE:
        text = f"the shares add up to {sum(shares) / 100:g}%, expected 100% at most"
        findings.report(values.marks[0][0], text)
    return Split(shares), tuple(value for _, value in values.texts), values


def read_geo(values: Values, findings: Findings) -> Read:
    """Read networks, and files of networks."""
    networks = _Networks(findings)
    texts = []
    digest = b""
    for (name, value), (mark, value_mark) in zip(values.texts, values.marks, strict=True):
        if name != FILE:
            networks.add(name, value, mark, value_mark)
            texts.append((name, value))
            continue
        try:
            path = FilePath().parse(value, value_mark)
        except InvalidValueError as error:
            text = f"{quote(value)} {error.clause}, expected the path of a file"
            findings.report(value_mark, f"{text}{did_you_mean(error.hint)}")
            continue
        texts.append((FILE, path))
        try:
            lines, digest = read_lines(path, value_mark, findings)
        except RefusedError:
            continue
        networks.add_lines(lines, path)
        networks.bad_lines(path, value_mark)
    shown = Values(tuple(texts), digest, values.marks)
    return networks.lookup(), tuple(networks.values), shown


class _Networks:
    """The networks of a geo and their values, from the configuration and from a file."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._places: dict[Network, tuple[int, Mark]] = {}
        self.values: dict[str, int] = {}
        """Each value once, with its number."""
        self._bad_lines = 0

    def lookup(self) -> Geo:
        """Return the lookup of all that were added."""
        return Geo((network, number) for network, (number, _) in self._places.items())

    def add(self, text: str, value: str, mark: Mark, value_mark: Mark) -> None:
        """Take one from the configuration."""
        check_text(value, value_mark, (), self._findings)
        problem = self._taken(text, value, mark)
        if problem:
            self._findings.report(mark, problem)

    def add_lines(self, lines: Iterable[str], path: str) -> None:
        """Take those in a file: "NETWORK VALUE", with or without nginx's semicolon."""
        for number, line in enumerate(lines, 1):
            text, _, value = line.partition("#")[0].strip().removesuffix(";").partition(" ")
            if not text:
                continue
            mark = Mark(path, number, 1)
            value = value.strip()
            problem = self._taken(text, value, mark)
            if not value:
                problem = f"{quote(text)} has no value after it, expected NETWORK VALUE"
            elif "$" in value:
                problem = f"{quote(value)} names a variable, expected plain text in a file"
            if problem:
                self._bad_lines += 1
                if self._bad_lines <= BAD_LINES_MAX:
                    self._findings.report(mark, problem)

    def bad_lines(self, path: str, mark: Mark) -> None:
        """Report how many lines of a file were wrong beyond those that were reported."""
        if self._bad_lines > BAD_LINES_MAX:
            more = f"{self._bad_lines - BAD_LINES_MAX} more lines of {quote_path(path)} are wrong"
            self._findings.report(mark, more)

    def _taken(self, text: str, value: str, mark: Mark) -> str:
        """Take a network; return what is wrong with it, or ""."""
        try:
            network = parse_network(text)
        except InvalidValueError as error:
            expected = "expected a network such as 10.0.0.0/8 or an address"
            return f"{quote(text)} {error.clause}, {expected}{did_you_mean(error.hint)}"
        number = self.values.setdefault(value, len(self.values))
        first, where = self._places.setdefault(network, (number, mark))
        return "" if first == number else f"{quote(text)} has another value at {where}"
