"""Variables for what a route cannot express by itself: a network that a client is *not* in, or two
conditions on one thing.

Each is a `geo` or a `map` with the values `in` and `out`. Equal ones are shared.

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

import re
from collections.abc import Sequence
from typing import Final

from nginy.commands.importing.haproxy.formula import Atom
from nginy.commands.importing.model import Block, Document
from nginy.errors import InvalidValueError

SOURCES: Final = {
    "from": ("geo", "$remote_addr"),
    "real_from": ("geo", "$realip_remote_addr"),
    "server_addr": ("geo", "$server_addr"),
    "sni": ("map", "$ssl_preread_server_name"),
    "alpn": ("map", "$ssl_preread_alpn_protocols"),
}
INSIDE: Final = "in"
OUTSIDE: Final = "out"


class Variables:
    """The variables of a document, by what they look up."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._names: dict[object, str] = {}

    def of(self, atom: Atom) -> str:
        """Return the name, with its dollar, of the variable that is `in` where the atom holds."""
        source = SOURCES.get(atom.kind)
        if source is None:
            what = {"starts": "first bytes", "share": "a share"}.get(atom.kind, atom.kind)
            raise InvalidValueError(f"asks for {what} in a way that nginy routes cannot")
        if atom not in self._names:
            method, text = source
            block = Block({method: text})
            values = [_pattern(atom.kind, value) for value in atom.values]
            if any(value.startswith("*") for value in values):
                block.set("hostnames", "on")
            block.set("values", Block(dict.fromkeys(values, INSIDE)))
            block.set("default", OUTSIDE)
            self._names[atom] = self._add("matches", block)
        return self._names[atom]

    def exempt(self, networks: Sequence[str]) -> str:
        """Return a variable that is the client's address, and empty for those in networks."""
        key = ("exempt", tuple(networks))
        if key not in self._names:
            block = Block({"geo": "$remote_addr"})
            block.set("values", Block(dict.fromkeys(networks, "")))
            block.set("default", "$remote_addr")
            self._names[key] = self._add("limited", block)
        return self._names[key]

    def abnormal(self) -> str:
        """Return a variable that is 0 for sessions that ended well."""
        if "abnormal" not in self._names:
            block = Block({"map": "$termination"})
            block.set("values", Block({"--": "0"}))
            block.set("default", "1")
            self._names["abnormal"] = self._add("abnormal", block)
        return self._names["abnormal"]

    def add(self, name: str, block: Block) -> str:
        """Add a variable; return its name with its dollar."""
        return self._add(name, block)

    def _add(self, stem: str, block: Block) -> str:
        taken = self._document.variables.values
        number = 1
        name = stem
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        self._document.variables.set(name, block)
        return f"${name}"


def _pattern(kind: str, value: str) -> str:
    """Return a value of a route as `map` has it."""
    if kind == "alpn":
        return f"~(^|,){re.escape(value)}(,|$)"
    if kind == "sni" and value.startswith("~"):
        return f"~*{value[1:]}"
    return value
