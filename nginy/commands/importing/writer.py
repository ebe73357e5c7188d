"""A document as YAML: what a person would write, in the style of nginy's README.

Each listener and each upstream is a block; what they have is in flow style (`{a: b}`) where it is
short and has no comment. A text is in double quotes only where YAML needs them. Nothing is left out
or added here: `tidy.py` has done that.

config/dump.py writes `nginy -T`, which has no comments and no choice of style.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from nginy.commands.importing.model import Block, Document, Value

WIDTH: Final = 100
"""Columns, as in the README."""
STEP: Final = "  "

_RESERVED: Final = frozenset({"", "~", "null", "<<", "...", "---"})
# Of ASCII, all but : # , [ ] { } " ' \ and the backquote; anything beyond it is left to quotes.
_SAFE: Final = "!$%&()*+./0-9;<=>?@A-Z^_a-z|~-"
_PLAIN: Final = re.compile(
    # Neither an indicator at the start, nor ": " or " #" within, nor a blank or ":" at the end
    # (YAML 1.1 §9.1.3).
    rf"(?:[A-Za-z0-9_./$(+^;]|-(?=[A-Za-z0-9_./$]))"
    rf"(?:[{_SAFE}]|:(?=[{_SAFE}])|(?<! )#| (?=[{_SAFE}]))*"
)
_SHORT_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def render(document: Document) -> str:
    """Return the text of a configuration."""
    parts = []
    shared = document.top.values.pop("defaults", None)
    top = list(_mapping(document.top, ""))
    if top:
        parts.append(top)
    if isinstance(shared, Block):
        document.top.values["defaults"] = shared
        parts.append(["defaults:", *_mapping(shared, STEP)])
    for name, section in (("variables", document.variables), ("upstreams", document.upstreams)):
        if section.values or section.above or section.end:
            parts.append(list(_section(name, section)))
    if document.listeners:
        parts.append([*_comments(()), "listeners:", *_listeners(document.listeners)])
    if document.end:
        parts.append(list(_comments(document.end)))
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _section(name: str, section: Block) -> Iterator[str]:
    """Yield a section of names that a user has chosen."""
    yield from _comments(section.above.get("", ()))
    yield f"{name}:"
    for key, value in section.values.items():
        yield from _comments(section.above.get(key, ()), STEP)
        is_block = name == "upstreams" and isinstance(value, Block)
        yield from _pair(key, value, STEP, section.behind.get(key, ""), is_block=is_block)
    yield from _comments(section.end, STEP)


def _listeners(listeners: Iterable[Block]) -> Iterator[str]:
    for listener in listeners:
        yield from _item(listener, STEP, is_block=True)


def _mapping(block: Block, indent: str) -> Iterator[str]:
    """Yield the lines of a block's keys, and the comments among them."""
    for number, (key, value) in enumerate(block.values.items()):
        is_block = not indent and key == "log_formats"
        if is_block and number:
            yield ""
        yield from _comments(block.above.get(key, ()), indent)
        yield from _pair(key, value, indent, block.behind.get(key, ""), is_block=is_block)
    yield from _comments(block.end, indent)


def _pair(key: str, value: Value, indent: str, behind: str, *, is_block: bool) -> Iterator[str]:
    """Yield a key with its value."""
    name = f"{indent}{scalar(key)}:"
    value, above, inner = _shortened(value)
    yield from _comments(above, indent)
    behind = "  ".join(filter(None, (behind, inner)))
    flow = None if is_block and not _is_empty(value) else _flow(value)
    if flow is not None and len(name) + 1 + len(flow) <= WIDTH and not _is_long(value):
        yield _with_remark(f"{name} {flow}", behind)
    elif isinstance(value, str):
        yield _with_remark(f"{name} {scalar(value)}", behind)
    else:
        yield _with_remark(name, behind)
        if isinstance(value, Block):
            yield from _mapping(value, indent + STEP)
        else:
            for item in value:
                yield from _item(item, indent + STEP, is_block=False)


def _item(value: Value, indent: str, *, is_block: bool) -> Iterator[str]:
    """Yield an item of a list."""
    value, above, behind = _shortened(value)
    yield from _comments(above, indent)
    flow = None if is_block else _flow(value)
    if flow is not None and (isinstance(value, str) or len(indent) + 2 + len(flow) <= WIDTH):
        yield _with_remark(f"{indent}- {flow}", behind)
        return
    if not isinstance(value, Block):
        yield f"{indent}- {_flow(value) or '[]'}"
        return
    if behind:
        yield from _comments((behind,), indent)
    first, *_ = value.values or ("",)
    # A comment above the first key would come between the dash and the key.
    yield from _comments(value.above.pop(first, ()), indent)
    lines = list(_mapping(value, indent + STEP)) or [f"{indent}{STEP}{{}}"]
    yield f"{indent}- {lines[0][len(indent) + len(STEP) :]}"
    yield from lines[1:]


def _shortened(value: Value) -> tuple[Value, list[str], str]:
    """Return what stands for a value, and the comments above and behind it."""
    if not isinstance(value, Block):
        return value, [], ""
    above, behind = list(value.above.get("", ())), value.behind.get("", "")
    if not value.values:
        return value.word, [*above, *value.end], behind
    if value.short and set(value.values) == {value.short}:
        inner = value.values[value.short]
        above += value.above.get(value.short, [])
        behind = "  ".join(filter(None, (behind, value.behind.get(value.short, ""))))
        return inner, [*above, *value.end], behind
    return value, above, behind


def _flow(value: Value) -> str | None:
    """Return a value on one line; None if there is a comment within it."""
    if isinstance(value, str):
        return value if value == "{}" else scalar(value)
    if isinstance(value, list):
        items = [_flow_item(each) for each in value]
        return None if None in items else "[" + ", ".join(map(str, items)) + "]"
    has_own = any(key for key in (*value.above, *value.behind) if key)
    if has_own or value.end:
        return None
    pairs = [(scalar(key), _flow_item(each)) for key, each in value.values.items()]
    if any(text is None for _, text in pairs):
        return None
    return "{" + ", ".join(f"{key}: {text}" for key, text in pairs) + "}"


def _flow_item(value: Value) -> str | None:
    """Return a value within another one on one line."""
    value, above, behind = _shortened(value)
    return None if above or behind else _flow(value)


def _is_long(value: Value) -> bool:
    """Whether a list is easier to read with one item a line: of mappings with several keys."""
    return isinstance(value, list) and any(
        isinstance(each, Block) and len(each.values) > 1 for each in value
    )


def _is_empty(value: Value) -> bool:
    return isinstance(value, Block) and not value.values


def _with_remark(line: str, remark: str) -> str:
    return f"{line}  #{_clean(remark)}" if remark else line


def _comments(lines: Iterable[str], indent: str = "") -> Iterator[str]:
    for line in lines:
        yield f"{indent}#{_clean(line)}"


def _clean(text: str) -> str:
    """Return a comment without what YAML refuses even there."""
    text = "".join(c if c.isprintable() or c == "\t" else "?" for c in text)
    return text.rstrip()


def scalar(text: str) -> str:
    """Return `text` as YAML reads it back, in flow style as well."""
    if text not in _RESERVED and _PLAIN.fullmatch(text):
        return text
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    number = ord(letter)
    if 0xDC80 <= number <= 0xDCFF:
        # A lone surrogate stands for a byte (PEP 383), as \xNN does to the reader.
        return f"\\x{number - 0xDC00:02X}"
    if letter in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[letter]
    return f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"
