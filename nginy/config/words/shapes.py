"""Hints for values of another shape: a list, a mapping or a text where something else belongs.

hints.py has the words inside a text. Here the shape itself tells what was meant: several targets
where one goes, backends by name, a path for a check.

All functions are pure; they return the end of a message that begins with the value.

Tested in tests/config/words/test_hints.py.
"""

import re
from collections.abc import Collection
from typing import Final

from nginy.config.node import MappingNode, Node, ScalarNode, SequenceNode, closest
from nginy.config.words.foreign import BACKEND, LISTENER, UPSTREAM
from nginy.config.words.hints import absent, renamed

_TWO_LISTENERS: Final = "expected two listeners, one with tcp and one with udp"
_LISTS: Final = {
    "protocol": _TWO_LISTENERS,
    "proxy_pass": "expected one upstream with these backends",
}
_MAPPINGS: Final = {
    "proxy_pass": "expected one target, and routes with share where several divide the clients",
}
_NAMED: Final = {
    LISTENER: "expected a list: [{{name: {name}, listen: 0.0.0.0:80, ...}}]",
    BACKEND: "expected a list: [{{address: 10.0.0.1:80, ...}}]",
}
_ADDRESS: Final = re.compile(r"(?:\[[^\]]*\]|[\w.-]+):\d+|\d+(?:\.\d+){3}|unix:/\S+", re.ASCII)


def of_scalar(key: str, node: Node) -> str | None:
    """Return what to write for a list or a mapping where one text belongs; None if unknown."""
    if isinstance(node, SequenceNode) and node.items:
        return _LISTS.get(key)
    return _MAPPINGS.get(key) if isinstance(node, MappingNode) else None


def of_record(noun: str, node: Node) -> str | None:
    """Return what to write for a text or a list where the keys of a record belong."""
    if noun == "limit_conn" and isinstance(node, ScalarNode):
        match = re.fullmatch(r"(?:\S+\s+)?(\d+);?", node.text)
        return f"expected {{key: $remote_addr, max: {match[1]}}}" if match else None
    if isinstance(node, ScalarNode) and re.match(r"[a-z_]+:\S", node.text, re.ASCII):
        return "expected a blank after the colon"
    if noun != UPSTREAM:
        return None
    if isinstance(node, SequenceNode):
        texts = [each.text for each in node.items if isinstance(each, ScalarNode)]
        if len(texts) != len(node.items):
            return "expected {backends: [...]}"
    else:
        texts = re.split(r"[,\s]+", node.text) if isinstance(node, ScalarNode) else []
    if texts and all(map(_ADDRESS.fullmatch, texts)):
        return f"expected {{backends: {_listed(texts)}}}"
    return "expected {backends: [10.0.0.1:80, 10.0.0.2:80]}"


def of_list(noun: str, keys: Collection[str], node: Node) -> str | None:
    """Return what to write for a mapping of names where a list of records belongs.

    `keys` are those of the record; None if the mapping may be one record.
    """
    pairs = node.pairs if isinstance(node, MappingNode) else ()
    if not pairs or any(_is_meant(noun, keys, name.text) for name, _ in pairs):
        return None
    if all(isinstance(value, MappingNode) for _, value in pairs):
        return _NAMED.get(noun, "").format(name=pairs[0][0].text) or None
    texts = [
        value.text if ":" in value.text else f"{name.text}:{value.text}"
        for name, value in pairs
        if isinstance(value, ScalarNode)
    ]
    is_all = len(texts) == len(pairs) and all(map(_ADDRESS.fullmatch, texts))
    return f"expected a list: {_listed(texts)}" if is_all and noun == BACKEND else None


def _is_meant(noun: str, keys: Collection[str], word: str) -> bool:
    """Return whether a word may stand for a key of the record, and not for a name."""
    return word in keys or bool(closest(word, keys) or renamed(noun, word) or absent(noun, word))


def of_map(node: Node) -> str | None:
    """Return what to write for a list of records with a name where a mapping of names belongs."""
    if isinstance(node, SequenceNode) and node.items and isinstance(node.items[0], MappingNode):
        for name, value in node.items[0].pairs:
            if name.text in ("id", "name") and isinstance(value, ScalarNode):
                return f"expected a mapping of names: {{{value.text}: ...}}"
    return None


def _listed(texts: list[str]) -> str:
    quoted = [f'"{text}"' if text.startswith("[") else text for text in texts]
    return f"[{', '.join(quoted)}]"
