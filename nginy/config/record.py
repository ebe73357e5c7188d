"""Lists, mappings and records, the kinds that consist of other kinds, and `key`, a row of the
table.

A record is a frozen dataclass whose fields come from key(). The rest of nginy sees the type of a
field; the reader, the printer and the reference page see its row. A field has the name of its key
plus the unit of its values: `proxy_timeout` is `proxy_timeout_ms`. (Python needs the closing
underscore of `return_`.)

A mistake does not stop the run: it is reported, the default stands in, and checking/check.py skips
the keys in Origin.bad. The resulting configuration is thrown away, but all mistakes have been
found.

Read first: node.py and types.py. Read next: schema.py, the table itself.

Tested in tests/config/test_load.py.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar

from nginy.config.node import (
    NOWHERE,
    Findings,
    MappingNode,
    Mark,
    Node,
    RefusedError,
    ScalarNode,
    SequenceNode,
    closest,
    describe,
    did_you_mean,
    quote,
)
from nginy.config.types import Kind, Plain, alternatives
from nginy.config.words import hints, shapes
from nginy.errors import Problem

T = TypeVar("T")

TOP: Final = "the configuration"
"""The noun of the record of the whole file."""

NAME_PATTERN: Final = re.compile(r"""[^\s"'`$]+""")


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """The places of a record and of its values, and the keys that were refused.

    `warnings` come from reading the files; only the whole configuration has them, and the values of
    the environment in it that may be passwords.
    """

    mark: Mark = NOWHERE
    keys: Mapping[str, Mark] = dataclasses.field(default_factory=dict)
    bad: frozenset[str] = frozenset()
    warnings: tuple[Problem, ...] = ()
    environment: tuple[str, ...] = ()

    def of(self, key: str) -> Mark:
        """Return the place of `key`, or of the record if it does not set the key."""
        return self.keys.get(key, self.mark)

    def has(self, *keys: str) -> bool:
        """Return whether none of these keys was refused."""
        return self.bad.isdisjoint(keys)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record of the configuration. Equality ignores its place."""

    origin: Origin = dataclasses.field(default=Origin(), compare=False, repr=False)


R = TypeVar("R", bound=Entry)


@dataclasses.dataclass(frozen=True, slots=True)
class Key(Generic[T]):
    """One row of the table: the kind of a key, its default and its purpose.

    `default` is YAML text, or None if the key must be set; `udp_default` is the default of UDP
    listeners if it differs. `only` is "tcp" or "udp" for a key that the other protocol lacks.
    """

    kind: Kind[T]
    about: str
    default: str | None
    blank: Callable[[], T] | None
    only: str | None
    udp_default: str | None
    name: str = ""
    field: str = ""


def key(
    kind: Kind[T],
    default: str | None,
    about: str,
    *,
    blank: Callable[[], T] | None = None,
    only: str | None = None,
    udp_default: str | None = None,
) -> T:
    """Declare one key of a record.

    `default` is a scalar in YAML, or None for a key that must be set. `blank` makes an empty list
    or mapping: a default that no scalar expresses, or the stand-in for a refused key that must be
    set.
    """
    row = {"key": Key(kind, about, default, blank, only, udp_default)}
    if blank is not None:
        return dataclasses.field(default_factory=blank, metadata=row)
    if default is None:
        required: T = dataclasses.field(metadata=row)
        return required
    return dataclasses.field(
        default=kind.read(ScalarNode(default, is_plain=False), Findings()), metadata=row
    )


def keys_of(record: type[Entry]) -> dict[str, Key[object]]:
    """Return the rows of a record by name, in the order of its fields."""
    rows = {}
    for field in dataclasses.fields(record):
        if "key" in field.metadata:
            row: Key[object] = field.metadata["key"]
            name = field.name.removesuffix(row.kind.unit).removesuffix("_")
            rows[name] = dataclasses.replace(row, name=name, field=field.name)
    return rows


class Record(Kind[R]):
    """A mapping with known keys.

    A scalar alone is the value of the key `shorthand`, if there is one, and so is a list if that
    key takes lists. With `inherits`, `defaults` comes before the defaults of the table.
    """

    def __init__(
        self,
        record: type[R],
        noun: str,
        *,
        shorthand: str = "",
        inherits: bool = False,
        directives: tuple[str, ...] = (),
    ) -> None:
        self.make: Callable[..., R] = record
        self.keys = keys_of(record)
        self.noun = noun
        self.shorthand = shorthand
        self.inherits = inherits
        self.directives = directives
        self.expected = f"the keys of {noun}"
        if shorthand:
            self.expected += f", or {self.keys[shorthand].kind.expected}"

    def read(self, node: Node, findings: Findings) -> R:
        """Return the record; raise RefusedError if a key has neither a value nor a stand-in."""
        is_short = self._is_short(node)
        if is_short:
            node = MappingNode(((ScalarNode(self.shorthand, node.mark), node),), node.mark)
        if not isinstance(node, MappingNode):
            meaning = shapes.of_record(self.noun, node) or f"expected {self.expected}"
            raise findings.refuse(node.mark, f"{describe(node)}, {meaning}")
        nodes, meant = self._known_keys(node, findings)
        values: dict[str, object] = {}
        bad = meant - nodes.keys()
        for name, row in self.keys.items():
            before = findings.failures
            if name in nodes:
                with findings.under(name, is_typed=not is_short, hide=row.kind.hide):
                    values[row.field] = row.kind.read(nodes[name], findings)
            elif self.inherits and name in findings.inherited and _applies(row, values):
                values[row.field] = findings.inherited[name]
            elif row.udp_default is not None and values.get("protocol") == "udp":
                values[row.field] = row.kind.read(
                    ScalarNode(row.udp_default, is_plain=False), findings
                )
            elif row.default is None and name not in meant:
                text = f'"{name}" is missing, expected {row.kind.expected}'
                findings.report(node.mark, text)
            if findings.failures > before:
                bad.add(name)
        if any(
            row.default is None and row.blank is None and row.field not in values
            for row in self.keys.values()
        ):
            raise RefusedError
        marks = {name: value.mark for name, value in nodes.items()}
        return self.make(**values, origin=Origin(node.mark, marks, frozenset(bad)))

    def _is_short(self, node: Node) -> bool:
        if not self.shorthand:
            return False
        if isinstance(node, ScalarNode):
            return not node.is_missing
        return isinstance(node, SequenceNode) and self.keys[self.shorthand].kind.takes_lists

    def _known_keys(
        self, node: MappingNode, findings: Findings
    ) -> tuple[dict[str, Node], set[str]]:
        """Return the values by key, and the keys that unknown words probably mean.

        Report the words that the table does not know. The value of a foreign word is read under
        nginy's key for it, so that mistakes in the value are found as well.
        """
        nodes = {name.text: value for name, value in node.pairs if name.text in self.keys}
        meant = set()
        for name, value in node.pairs:
            if name.text in self.keys:
                continue
            known = hints.renamed(self.noun, name.text)
            hint, probable = self._hint(name.text, known, nodes, findings)
            findings.report(name.mark, f"unknown key {quote(name.text)} in {self.noun}{hint}")
            if probable is not None:
                meant.add(probable)
            if known is not None:
                nodes.setdefault(known, value)
        return nodes, meant

    def _hint(
        self, word: str, known: str | None, nodes: Mapping[str, Node], findings: Findings
    ) -> tuple[str, str | None]:
        """Return the hint for an unknown key, and the key that it probably means."""
        advice = hints.absent(self.noun, word)
        if advice is not None:
            return f": {advice}", hints.stands_for(self.noun, word)
        if known is None and word in findings.homes:
            return f": it belongs {belongs(findings.homes[word])}", None
        if known is None:
            protocol = nodes.get("protocol")
            is_udp = isinstance(protocol, ScalarNode) and protocol.text == "udp"
            usable = (
                name
                for name, row in self.keys.items()
                if row.only in (None, "udp" if is_udp else "tcp")
            )
            names = (*usable, *self.directives)
            known = closest(word, names) or closest(hints.snake(word), names)
        return did_you_mean(known), known

    def write(self, value: R) -> Plain:
        """Return all keys and values, except the keys of the other protocol."""
        protocol = getattr(value, "protocol", None)
        return {
            name: row.kind.write(getattr(value, row.field))
            for name, row in self.keys.items()
            if row.only is None or row.only == protocol
        }


class Switch(Kind[R | None]):
    """A record, `off` for None, or `on` for the record with its defaults, if all keys have one."""

    def __init__(self, record: Record[R]) -> None:
        self.record = record
        self.has_on = all(row.default is not None for row in record.keys.values())
        self.expected = f"{'on, off' if self.has_on else 'off'}, or {record.expected}"

    def read(self, node: Node, findings: Findings) -> R | None:
        """Return the record or None."""
        if isinstance(node, ScalarNode):
            if node.text == "off":
                return None
            if node.text == "on" and self.has_on:
                return self.record.read(MappingNode((), node.mark), findings)
            if not self.record.shorthand or node.is_missing:
                text = f"{describe(node)}, expected {self.expected}"
                raise findings.refuse(node.mark, text)
        return self.record.read(node, findings)

    def write(self, value: R | None) -> Plain:
        """Return the record or `off`."""
        return "off" if value is None else self.record.write(value)


class ListOf(Kind[tuple[T, ...]]):
    """One or more values of a kind; a single value needs no brackets."""

    def __init__(self, item: Kind[T]) -> None:
        self.item = item
        more = ", or a list of these"  # an item's shorthand may be a list already
        self.expected = f"{item.expected.removesuffix(more)}{more}"

    def read(self, node: Node, findings: Findings) -> tuple[T, ...]:
        """Return the items that could be read; refuse an empty list."""
        if isinstance(node, SequenceNode) and not node.items:
            raise findings.refuse(node.mark, f"an empty list, expected {self.expected}")
        if isinstance(self.item, Record):
            meaning = shapes.of_list(self.item.noun, self.item.keys, node)
            if meaning is not None:
                raise findings.refuse(node.mark, f"{describe(node)} of names, {meaning}")
        items = node.items if isinstance(node, SequenceNode) else (node,)
        values = []
        for item in items:
            with contextlib.suppress(RefusedError):
                values.append(self.item.read(item, findings))
        return tuple(values)

    def write(self, value: tuple[T, ...]) -> Plain:
        """Return a list, also of one."""
        return [self.item.write(item) for item in value]


class OrWords(Kind[tuple[T, ...] | None]):
    """One or more values of a kind, or `off` for none of them; with `auto`, that word is None."""

    def __init__(self, item: Kind[T], *, auto: bool = False) -> None:
        self.items = ListOf(item)
        self.words: dict[str, tuple[T, ...] | None] = {"off": ()}
        if auto:
            self.words["auto"] = None
        self.expected = f"{', '.join(sorted(self.words))}, or {self.items.expected}"

    def read(self, node: Node, findings: Findings) -> tuple[T, ...] | None:
        """Return the values, () for `off`, or None for `auto`."""
        if isinstance(node, ScalarNode) and node.text in self.words and not node.is_missing:
            return self.words[node.text]
        return self.items.read(node, findings)

    def write(self, value: tuple[T, ...] | None) -> Plain:
        """Return a list or a word."""
        if value is None:
            return "auto"
        return self.items.write(value) if value else "off"


class MapOf(Kind[dict[str, T]]):
    """Values of a kind under names that the user chooses.

    `blank()` stands in for a refused value, so that its name is known all the same.
    """

    def __init__(self, item: Kind[T], noun: str, blank: Callable[[], T]) -> None:
        self.item = item
        self.blank = blank
        self.expected = f"a mapping of names to {noun}"

    def read(self, node: Node, findings: Findings) -> dict[str, T]:
        """Return the values that could be read, by name, in the order of the file."""
        if not isinstance(node, MappingNode):
            meaning = shapes.of_map(node) or f"expected {self.expected}"
            raise findings.refuse(node.mark, f"{describe(node)}, {meaning}")
        values: dict[str, T] = {}
        for name, value in node.pairs:
            if not NAME_PATTERN.fullmatch(name.text):
                text = f"{quote(name.text)} is not a name, expected no spaces, quotes or $"
                findings.report(name.mark, text)
            values[name.text] = self.blank()
            with findings.under(name.text):
                values[name.text] = self.item.read(value, findings)
        return values

    def write(self, value: dict[str, T]) -> Plain:
        """Return a mapping by the same names."""
        return {name: self.item.write(item) for name, item in value.items()}


def _applies(row: Key[object], values: Mapping[str, object]) -> bool:
    """Return whether an inherited key applies to the protocol of the record."""
    return row.only is None or row.only == values.get("protocol", "tcp")


def records_of(kind: Kind[T], path: str = "") -> Iterator[tuple[str, Record[Entry]]]:
    """Yield the records in a kind, each with the keys that lead to it, the outer ones first."""
    if isinstance(kind, ListOf | MapOf):
        yield from records_of(kind.item, path)
    elif isinstance(kind, OrWords):
        yield from records_of(kind.items, path)
    elif isinstance(kind, Switch):
        yield from records_of(kind.record, path)
    elif isinstance(kind, Record):
        yield path, kind
        for name, row in kind.keys.items():
            yield from records_of(row.kind, f"{path}.{name}".lstrip("."))


def belongs(nouns: Sequence[str]) -> str:
    """Return where a key is right, as the end of a sentence."""
    places = ["at the top of the file" if noun == TOP else f"in {noun}" for noun in nouns]
    return alternatives(*places)


def homes_of(kind: Kind[T]) -> dict[str, tuple[str, ...]]:
    """Return the records that have each key, by key: where a misplaced key belongs."""
    homes: dict[str, list[str]] = {}
    for _, record in records_of(kind):
        for name in record.keys:
            if record.noun not in homes.setdefault(name, []):
                homes[name].append(record.noun)
    return {name: tuple(nouns) for name, nouns in homes.items()}
