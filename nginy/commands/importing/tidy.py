"""Shortens a document: drops keys at their defaults, and moves shared ones to `defaults`.

The table of config/schema.py has the defaults, so a new key needs nothing here. Kinds that name a
file are not read: two texts of such a kind are equal if they are the same.

- A key with the same value in more than half of the listeners (or upstreams), and in at least two,
  moves to `defaults`; the others keep their own.
- Then every key at its default is dropped, in all records down to the innermost.

A `proxy_pass` with an address makes an upstream that inherits from `defaults`, too. If there are
any, keys of upstreams stay where they are.

Tested in tests/commands/importing/test_writer.py.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from nginy.commands.importing.model import Block, Document, Value
from nginy.config.node import Findings, RefusedError, ScalarNode
from nginy.config.record import Entry, Key, ListOf, MapOf, OrWords, Record, Switch
from nginy.config.schema import CONFIG, LISTENER, NOT_FOR_DEFAULTS
from nginy.config.types import Choice, Duration, Flag, Integer, Kind, OrOff, Size
from nginy.config.upstream import UPSTREAM
from nginy.config.variables import VARIABLES_KIND

T = TypeVar("T")
R = TypeVar("R", bound=Entry)
Rows: TypeAlias = Mapping[str, Key[object]]
Plain: TypeAlias = "str | tuple[object, ...]"

# These stay where they are: a listener's routes, and keys that are inherited in another way.
NOT_SHARED: Final = NOT_FOR_DEFAULTS | {"access_log", "protocol", "routes"}
COMPARABLE: Final = (Choice, Duration, Flag, Integer, Size)
"""Kinds whose different texts may mean the same, and that need no file to tell."""


def tidy(document: Document) -> Document:
    """Shorten a document, and return it; it is the same object."""
    log = document.top.text("access_log") or "off"
    if "access_log" in document.top.values and log != document.top.values["access_log"]:
        log = ""  # equals no value of a listener
    shared = Block()
    upstreams = [each for each in document.upstreams.values.values() if isinstance(each, Block)]
    for blocks, rows in ((document.listeners, LISTENER.keys), (upstreams, UPSTREAM.keys)):
        for block in blocks:
            _drop_inner(block, rows)
    _share(document.listeners, LISTENER.keys, shared)
    if not _has_addresses(document):
        _share(upstreams, UPSTREAM.keys, shared)
    for listener in document.listeners:
        inherited = {**shared.values, "access_log": log}
        _drop(listener, LISTENER, inherited)
    for upstream in upstreams:
        _drop(upstream, UPSTREAM, shared.values)
    for name, variable in document.variables.values.items():
        _drop_in(variable, VARIABLES_KIND.item, name)
    _drop(document.top, CONFIG, {})
    if shared.values:
        document.top.set("defaults", shared)
    return document


def _has_addresses(document: Document) -> bool:
    """Whether a `proxy_pass` names no upstream, and so makes one."""
    routes = [
        route
        for listener in document.listeners
        for route in _items(listener.values.get("routes", []))
    ]
    entries = [*document.listeners, *(each for each in routes if isinstance(each, Block))]
    named = [entry.text("proxy_pass") for entry in entries]
    named += [text for each in document.variables.values.values() for text in _texts(each)]
    return any(name and ":" in name and name not in document.upstreams.values for name in named)


def _texts(value: Value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    else:
        for each in value.values.values():
            yield from _texts(each)


def _items(value: Value) -> Sequence[Value]:
    return value if isinstance(value, list) else [value]


# What is shared.


def _share(blocks: Sequence[Block], rows: Rows, shared: Block) -> None:
    """Move keys with the same value in most of the blocks to `shared`."""
    for name, row in rows.items():
        if name in NOT_SHARED or row.default is None:
            continue
        own = [block for block in blocks if row.only in (None, _protocol(block))]
        counted = Counter(_effective(block, name, row) for block in own)
        if not counted:
            continue
        common, count = counted.most_common(1)[0]
        are_at_default = all(_at_default(block, name, row) for block in own)
        if count < 2 or count * 2 <= len(own) or are_at_default:
            continue
        same = [block for block in own if _effective(block, name, row) == common]
        first = next((block for block in same if name in block.values), None)
        if first is None:  # the default itself; the others have set their own
            continue
        shared.set(name, first.values[name])
        for block in own:
            if block in same:
                _move_comments(block, name, shared)
            elif name not in block.values:
                block.set(name, _default(row, block))


def _move_comments(block: Block, name: str, shared: Block) -> None:
    known = shared.above.get(name, [])
    shared.comment((line for line in block.above.pop(name, ()) if line not in known), name)
    behind = block.behind.pop(name, "")
    if behind and behind != shared.behind.setdefault(name, behind):
        shared.comment((behind,), name)


def _protocol(block: Block) -> str:
    return block.text("protocol") or "tcp"


def _default(row: Key[object], block: Block) -> str:
    """Return the text of a key's default."""
    if row.udp_default is not None and _protocol(block) == "udp":
        return row.udp_default
    return row.default or ""


def _effective(block: Block, name: str, row: Key[object]) -> Plain:
    return _plain(block.values.get(name, _default(row, block)), row.kind)


def _at_default(block: Block, name: str, row: Key[object]) -> bool:
    return _effective(block, name, row) == _plain(_default(row, block), row.kind)


# What is at its default.


def _drop(block: Block, record: Record[R], inherited: Mapping[str, Value]) -> None:
    """Take out the keys of a record that are at their defaults, in the records within it, too."""
    rows: Rows = record.keys
    _drop_inner(block, rows)
    for name in list(block.values):
        row = rows.get(name)
        if row is None or name == "protocol":
            continue
        value = block.values[name]
        if isinstance(row.kind, Record) and isinstance(value, Block) and not value.values:
            block.remove(name)
            continue
        base = inherited.get(name, _default(row, block))
        if base and _plain(value, row.kind) == _plain(base, row.kind):
            block.remove(name)
    if block.text("protocol") == "tcp":
        block.remove("protocol")
    block.short = record.shorthand


def _drop_inner(block: Block, rows: Rows) -> None:
    for name, value in block.values.items():
        if name in rows:
            _drop_in(value, rows[name].kind, name)


def _drop_in(value: Value, kind: Kind[T], name: str) -> None:
    """Take out keys at their defaults in the records of a value."""
    if isinstance(kind, MapOf):
        if isinstance(value, Block):
            for key, each in value.values.items():
                _drop_in(each, kind.item, key)
    elif isinstance(kind, OrWords):
        _drop_in(value, kind.items, name)
    elif isinstance(kind, ListOf):
        for each in _items(value):
            _drop_in(each, kind.item, name)
    elif isinstance(kind, Switch) and isinstance(value, Block):
        _drop(value, kind.record, {})
        if kind.has_on:
            value.word = "on"
    elif isinstance(kind, Record) and isinstance(value, Block):
        _drop(value, kind, {})


# Comparing.


def _plain(value: Value, kind: Kind[object] | None = None) -> Plain:
    """Return a value that equals another one if both mean the same."""
    if isinstance(value, str):
        return _canonical(value, kind)
    if isinstance(value, list):
        texts = tuple(_plain(each) for each in value)
        return texts[0] if len(texts) == 1 and isinstance(texts[0], str) else texts
    if not value.values:
        return value.word
    return tuple((key, _plain(each)) for key, each in sorted(value.values.items()))


def _canonical(text: str, kind: Kind[object] | None) -> str:
    inner = kind.kind if isinstance(kind, OrOff) else kind
    if kind is None or not isinstance(inner, COMPARABLE):
        return text
    try:
        return str(kind.write(kind.read(ScalarNode(text, is_plain=False), Findings())))
    except RefusedError:
        return text
