"""`use_backend %[req.ssl_sni,lower,map(FILE,DEFAULT)]` as a variable that `proxy_pass` names.

HAProxy reads the file when it starts; its lines are in the configuration afterwards.

Source: HAProxy's configuration manual, "use_backend", 7.3.1 "map".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from nginy.commands.importing.haproxy.acls import NAME_PATTERNS, Conditions
from nginy.commands.importing.haproxy.values import network
from nginy.commands.importing.model import Block
from nginy.errors import InvalidValueError

SOURCES: Final = {
    "req.ssl_sni": "$ssl_preread_server_name",
    "req_ssl_sni": "$ssl_preread_server_name",
    "ssl_fc_sni": "$ssl_preread_server_name",
    "src": "$remote_addr",
}
_DYNAMIC: Final = re.compile(
    r"%\[(?P<fetch>[\w.]+)(?:,lower)?,map(?:_(?P<method>str|beg|end|sub|reg|dom|ip))?"
    r"\((?P<file>[^,()]+)(?:,(?P<default>[^,()]*))?\)\]"
)


def lookup(name: str, conditions: Conditions, choose: Callable[[str], str], default: str) -> Block:
    """Return the variable of a dynamic name. Raise InvalidValueError for another kind of name.

    `choose` returns the upstream for a backend's name, `default` if there is none.
    """
    match = _DYNAMIC.fullmatch(name)
    source = SOURCES.get(match["fetch"]) if match else None
    if match is None or source is None:
        raise InvalidValueError("computes its backend for each client")
    method = match["method"] or "str"
    pairs = (line.partition(" ") for line in conditions.patterns(match["file"]))
    found = {key: choose(value.strip()) for key, _, value in pairs}
    block = Block({"geo" if source == "$remote_addr" else "map": source})
    values = _values(found, method, is_address=source == "$remote_addr")
    if any(value.startswith("*") for value in values):
        block.set("hostnames", "on")
    block.set("values", Block(dict(values)))
    block.set("default", choose(match["default"]) if match["default"] else default)
    return block


def _values(found: Mapping[str, str], method: str, *, is_address: bool) -> dict[str, str]:
    """Return the text to look up, in nginy's form."""
    if is_address:
        return {network(key): value for key, value in found.items()}
    make = NAME_PATTERNS.get(method)
    if make is None:
        raise InvalidValueError(f"looks up a name with map_{method}")
    values = ((make(key), value) for key, value in found.items())
    return {f"~*{k[1:]}" if k.startswith("~") else k: value for k, value in values}
