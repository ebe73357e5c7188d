"""Servers with one address, told apart by the name that TLS clients ask for (`server_name`).

nginx takes an exact name before the longest `*.suffix`, that before the longest `prefix.*`, and all
of these before regular expressions, in the order of the file. The routes stand in that order.

nginx: ngx_stream_core_module.c, since version 1.25.5.

Tested in tests/commands/importing/nginx/test_table.py.
"""

import re
from typing import Final

from nginy.commands.importing.model import Block, Value, one_or_list
from nginy.commands.importing.nginx.reading import ConfReader
from nginy.commands.importing.nginx.scope import Scope
from nginy.commands.importing.nginx.syntax import Directive
from nginy.config.node import quote
from nginy.errors import InvalidValueError
from nginy.proxy.routing.patterns import check_name

OF_LISTENER: Final = frozenset({"listen", "protocol", "proxy_pass", "return", "routes", "tls"})
"""Keys of a server that its route has, or that both servers share."""
NO_NAME: Final = "nginy needs a name to tell it from another server at its address"


def join(reading: ConfReader, scope: Scope, server: Directive, first: Block, block: Block) -> None:
    """Make a server, `block`, a route of the listener `first`, which has its address already."""
    texts = _texts(reading, scope)
    looks = "tls" in first.values or scope.is_on("ssl_preread")
    if not looks or not texts or "routes" in block.values:
        text = NO_NAME if looks else "nginx reads no names here, so no client reaches this server"
        reading.ledger.left_out(server, text)
        return
    route = Block({"sni": one_or_list(texts)})
    if "tls" in block.values and _plain(block.values["tls"]) != _plain(first.values.get("tls")):
        route.set("tls", block.values["tls"])
    for key in ("proxy_pass", "return"):
        if key in block.values:
            route.set(key, block.values[key])
    keys = dict.fromkeys((*first.values, *block.values))
    differing = [key for key in keys if key not in OF_LISTENER and _differs(key, first, block)]
    if differing:
        text = f"all servers of one address have the first one's {', '.join(differing)}"
        reading.ledger.close(server, text)
    if any("default_server" in each.arguments for each in scope.all("listen")):
        reading.ledger.close(server, "clients that match no name reach the first server")
    route.comment(server.above)
    routes = first.values.setdefault("routes", [])
    if isinstance(routes, list):
        routes.append(route)
        routes.sort(key=_rank)
    server.is_placed = True


def _texts(reading: ConfReader, scope: Scope) -> list[Value]:
    texts: list[Value] = []
    for directive in scope.all("server_name"):
        for word in directive.arguments:
            found = forms(word)
            texts += found
            if not found:
                reading.ledger.close(directive, f"no client can ask for {quote(word)}")
    return texts


def _differs(key: str, first: Block, block: Block) -> bool:
    return _plain(first.values.get(key)) != _plain(block.values.get(key))


def _rank(route: Value) -> tuple[int, int]:
    """Return where a route stands: exact names first, regular expressions last."""
    sni = route.values.get("sni", "") if isinstance(route, Block) else ""
    texts = [str(each) for each in (sni if isinstance(sni, list) else [sni])]
    if any(text.startswith("~") for text in texts):
        return (2, 0)
    suffixes = [len(text) for text in texts if text.startswith("*.")]
    return (1, -max(suffixes)) if suffixes else (0, 0)


def forms(word: str) -> list[str]:
    """Return the texts of `sni` for a server_name; none if no client can ask for it."""
    name = word.lower()
    if word.startswith("~"):
        texts = [word]
    elif name.endswith(".*"):
        texts = [f"~^{re.escape(name[:-1])}"]
    elif name.startswith("."):
        texts = [name[1:], f"*{name}"]
    else:
        texts = [name]
    try:
        return [check_name(text) for text in texts]
    except InvalidValueError:
        return []


def _plain(value: "Value | None") -> object:
    if isinstance(value, Block):
        return sorted((key, repr(_plain(each))) for key, each in value.values.items())
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
