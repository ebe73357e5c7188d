"""Where clients go: `proxy_pass` with a name, an address or a variable, and `return`.

A `proxy_pass` with a variable becomes routes where they mean the same: by names (`map` over the
name that TLS clients ask for), by networks (`geo`), by shares (`split_clients`). Any other `map`
stays a variable: `proxy_pass: $name`. A target that could be anything, such as
`$ssl_preread_server_name:443`, has no counterpart, since nginy checks that each target exists.

In nginx the narrowest network and the most exact name decide, in nginy the first route. `grouped`
puts the routes into that order, and groups those that may share a route.

Tested in tests/commands/importing/nginx/test_table.py.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from nginy.commands.importing.model import Block, Value, one_or_list
from nginy.commands.importing.nginx.definitions import (
    Definition,
    Pair,
    constants,
    filled,
    value_of,
)
from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.commands.importing.nginx.reading import ConfReader
from nginy.commands.importing.nginx.scope import Scope, argument
from nginy.commands.importing.nginx.values import names, peer
from nginy.config.node import quote
from nginy.errors import InvalidValueError
from nginy.proxy.lookups import parse_pattern, parse_share
from nginy.proxy.routing.patterns import check_name
from nginy.proxy.variables import KEY_VARIABLES
from nginy.text.address import parse_peer

PREREAD_NAME: Final = "$ssl_preread_server_name"
TLS_NAME: Final = "$ssl_server_name"
SAME_PORT: Final = ":$server_port"
NOWHERE: Final = "it leads nowhere, so nobody can connect"
ANYTHING: Final = "nginy connects only to upstreams and addresses that the configuration lists"


class NoRoutesError(Exception):
    """A definition that routes cannot express."""


@dataclass(slots=True)
class Item:
    """One thing that a route asks for, and where it leads; "" is nowhere."""

    text: str
    target: str
    pair: Pair


def lead(reading: ConfReader, scope: Scope, block: Block) -> None:
    """Set where the clients of a listener go; raise LeftOutError if they can go nowhere."""
    directive = scope.one("proxy_pass")
    if directive is not None:
        try:
            _lead(reading, scope, block, argument(directive))
        except LeftOutError as error:
            reading.ledger.left_out(directive, str(error))
            raise LeftOutError(NOWHERE) from None
        return
    directive = scope.one("return")
    if directive is not None:
        block.set("return", reading.definitions.text(argument(directive), KEY_VARIABLES, scope))
        return
    directive = scope.one("pass")
    if directive is not None:
        text = "nginy hands no client over to another part of nginx, so nobody can connect"
        reading.ledger.left_out(directive, text)
        raise LeftOutError(NOWHERE)
    raise LeftOutError("it has neither proxy_pass nor return, so nobody can connect")


def _lead(reading: ConfReader, scope: Scope, block: Block, text: str) -> None:
    text = filled(text, constants(scope))
    used = names(text)
    if not used:
        block.set("proxy_pass", target(reading, text))
        return
    if text.endswith(SAME_PORT) and len(used) == 1:
        host = text.removesuffix(SAME_PORT)
        block.set("proxy_pass", peer(f"{host}:+0"))
        return
    name = used[0]
    is_alone = len(used) == 1 and text in (f"${name}", f"${{{name}}}")
    definition = reading.definitions.by_name.get(name)
    if not is_alone or definition is None:
        raise LeftOutError(_anything(text))
    if _is_empty(scope, block, definition.source):
        found = next((pair.value for pair in definition.pairs if not pair.key), definition.default)
        if not found:
            raise LeftOutError(f"${name} is empty for every client, so nobody can connect")
        block.set("proxy_pass", target(reading, found))
        return
    try:
        routes = _routes(reading, definition)
    except NoRoutesError:
        _by_variable(reading, definition, block)
        return
    if routes:
        block.set("routes", routes)
    default = definition.default
    if default:
        block.set("proxy_pass", _any_target(reading, default))
    _place_default(definition, block)


def _place_default(definition: Definition, block: Block) -> None:
    """Put the comments of a definition above its routes, and mark its lines as placed."""
    directive, line = definition.directive, definition.default_line
    if not directive.is_placed:
        behind = [directive.behind] if directive.behind else []
        block.comment([*directive.above, *behind], "routes")
        block.comment(directive.end, "proxy_pass")
        if line is not None:
            block.comment(line.above, "proxy_pass")
            block.behind.update({"proxy_pass": line.behind} if line.behind else {})
    directive.is_placed = True
    for pair in definition.pairs:
        pair.line.is_placed = True


def _is_empty(scope: Scope, block: Block, source: str) -> bool:
    """Whether a variable of TLS is empty for all clients, because the listener reads no TLS."""
    is_udp = block.text("protocol") == "udp"
    if source.startswith("$ssl_preread_"):
        return is_udp or not scope.is_on("ssl_preread")
    return source == TLS_NAME and "tls" not in block.values


def target(reading: ConfReader, text: str) -> str:
    """Return the name of an upstream, or an address."""
    if text in reading.document.upstreams.values:
        return text
    if ":" not in text:
        raise LeftOutError(f"there is no upstream {quote(text)}, so nobody can connect")
    return peer(text)


def _any_target(reading: ConfReader, text: str) -> str:
    """Return a target for a value of a variable; nginx also allows a host to resolve later."""
    used = names(text)
    if used:
        if len(used) == 1 and text == f"${used[0]}" and used[0] in reading.definitions.by_name:
            for value in reading.definitions.by_name[used[0]].values:
                if not value:
                    raise NoRoutesError
                _any_target(reading, value)
            reading.definitions.text(text, KEY_VARIABLES)
            return text
        raise LeftOutError(_anything(text))
    found = target(reading, text)
    upstreams = reading.document.upstreams
    if found not in upstreams.values and parse_peer(found).is_name:
        backends: list[Value] = [Block({"address": found, "resolve": "on"})]
        upstreams.set(found, Block({"backends": backends}))
    return found


def _anything(text: str) -> str:
    return f"{quote(text)} may be anything; {ANYTHING}, so nobody can connect"


# Routes.


def _routes(reading: ConfReader, definition: Definition) -> list[Value]:
    """Return the routes for a definition; raise NoRoutesError if routes cannot express it."""
    if definition.method == "split":
        return _by_share(reading, definition)
    items = [_item(reading, pair) for pair in definition.pairs]
    if definition.method == "geo" and definition.source == "$remote_addr":
        items.sort(key=lambda item: -ipaddress.ip_network(item.text).prefixlen)
        return _made("from", grouped(items, _overlap))
    if definition.method == "map" and definition.source in (PREREAD_NAME, TLS_NAME):
        return _made("sni", grouped(_names(definition, items), _may_both))
    raise NoRoutesError


def _item(reading: ConfReader, pair: Pair) -> Item:
    if pair.key.startswith("~") and set(names(pair.value)) - reading.definitions.by_name.keys():
        raise LeftOutError(
            f"{quote(pair.value)} may be anything; {ANYTHING}, so nobody can connect"
        )
    text = _any_target(reading, pair.value) if pair.value else ""
    return Item(pair.key, text, pair)


def _by_share(reading: ConfReader, definition: Definition) -> list[Value]:
    routes: list[Value] = []
    key = reading.definitions.text(definition.source, KEY_VARIABLES)
    for pair in definition.pairs:
        try:
            parse_share(pair.key)
        except InvalidValueError as error:
            raise LeftOutError(f"{quote(pair.key)} {error.clause}") from None
        item = _item(reading, pair)
        route = Block({"share": pair.key, "key": key})
        routes.append(value_of(pair, _leading(route, item.target)))
    return routes


def _names(definition: Definition, items: Iterable[Item]) -> list[Item]:
    """Return names in the order in which nginx prefers them."""
    ranked: list[tuple[tuple[int, int], Item]] = []
    for item in items:
        for rank, text in _forms(definition, item):
            ranked.append((rank, Item(text, item.target, item.pair)))
    ranked.sort(key=lambda each: each[0])
    return [item for _, item in ranked]


def _forms(definition: Definition, item: Item) -> list[tuple[tuple[int, int], str]]:
    """Return the texts of `sni` that stand for a key of a map, each with its rank."""
    key = item.text.lower()
    if item.text.startswith("~"):
        parse_or_leave(item.text)
        return [((3, 0), item.text)]
    if not key:
        if item.target == definition.default:
            return []
        raise NoRoutesError
    if not definition.has_hostnames:
        return [((0, 0), _sni(key))]
    if key.endswith(".*"):
        return [((2, -len(key)), f"~^{re.escape(key[:-1])}")]
    if key.startswith("."):
        return [((0, 0), _sni(key[1:])), ((1, -len(key)), _sni(f"*{key}"))]
    return [((1, -len(key)) if key.startswith("*.") else (0, 0), _sni(key))]


def parse_or_leave(text: str) -> None:
    """Raise LeftOutError for a regular expression that nginy does not take."""
    try:
        parse_pattern(text)
    except InvalidValueError as error:
        raise LeftOutError(f"{quote(text)} {error.clause}") from None


def _sni(text: str) -> str:
    try:
        return check_name(text)
    except InvalidValueError:
        raise NoRoutesError from None


def _made(key: str, groups: list[list[Item]]) -> list[Value]:
    """Return a route for each group."""
    routes: list[Value] = []
    for items in groups:
        route = Block({key: one_or_list(dict.fromkeys(item.text for item in items))})
        _leading(route, items[0].target)
        lines = {id(item.pair): item.pair for item in items}
        comments = [text for each in lines.values() for text in each.line.above]
        behind = [each.line.behind for each in lines.values() if each.line.behind]
        if not items[0].pair.line.is_placed:
            route.comment([*comments, *behind[1:]])
            route.behind[""] = behind[0] if behind else ""
        routes.append(route)
    return routes


def _leading(route: Block, found: str) -> Block:
    if found:
        route.set("proxy_pass", found)
    else:
        route.set("deny", "on")
    return route


def grouped(items: Iterable[Item], conflict: Callable[[Item, Item], bool]) -> list[list[Item]]:
    """Return items, the first of which decides, in as few groups as that allows.

    All of a group lead to one target. An item may join an earlier group of its target if what
    conflicts with it and comes before it is in groups before that one.
    """
    groups: list[list[Item]] = []
    for item in items:
        floor = -1
        for number, group in enumerate(groups):
            if group[0].target != item.target and any(conflict(each, item) for each in group):
                floor = number
        home = next(
            (group for group in groups[floor + 1 :] if group[0].target == item.target), None
        )
        if home is None:
            groups.append([item])
        else:
            home.append(item)
    return groups


def _overlap(first: Item, second: Item) -> bool:
    a, b = ipaddress.ip_network(first.text), ipaddress.ip_network(second.text)
    return a.version == b.version and a.overlaps(b)


def _may_both(first: Item, second: Item) -> bool:
    """Whether one name may match both."""
    a, b = sorted((first.text, second.text), key=len)
    if a.startswith("~") or b.startswith("~"):
        return True
    if not a.startswith("*."):
        return a == b or (b.startswith("*.") and a.endswith(b[1:]))
    return b.removeprefix("*").endswith(a[1:])


# Variables.


def _by_variable(reading: ConfReader, definition: Definition, block: Block) -> None:
    """Let a variable choose: by its name, or by routes where it may be empty."""
    values = list(dict.fromkeys(definition.values))
    reading.definitions.text(f"${definition.name}", KEY_VARIABLES)
    try:
        targets = [_any_target(reading, value) for value in values if value]
    except NoRoutesError:
        text = f"${definition.name} may be empty in a way that nginy cannot express"
        raise LeftOutError(f"{text}, so nobody can connect") from None
    if "" not in values:
        block.set("proxy_pass", f"${definition.name}")
        return
    block.set(
        "routes",
        [
            Block({"when": Block({f"${definition.name}": each}), "proxy_pass": each})
            for each in targets
        ],
    )
