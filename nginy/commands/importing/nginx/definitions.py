"""Variables that nginx.conf defines: `map`, `geo` and `split_clients`, and `set` with a constant.

They become `variables` where something that is imported needs them; where `proxy_pass` is one, they
become routes if they can (targets.py).

nginx: ngx_stream_map_module.c, ngx_stream_geo_module.c, ngx_stream_split_clients_module.c.

Tested in tests/commands/importing/nginx/test_table.py.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from nginy.commands.importing.model import Block, Value
from nginy.commands.importing.nginx.ledger import Ledger, LeftOutError
from nginy.commands.importing.nginx.scope import Scope, argument
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.values import names, network, variables
from nginy.config.node import quote
from nginy.config.variables import NAME
from nginy.errors import InvalidValueError
from nginy.proxy.lookups import parse_pattern, parse_share
from nginy.proxy.variables import VARIABLES, is_variable

METHODS: Final = {"geo": "geo", "map": "map", "split_clients": "split"}
"""nginx's directives, and nginy's words for them."""
OF_MAP: Final = frozenset({"default", "hostnames", "include", "volatile"})
ATTACHED: Final = re.compile(r"\$\{(\w+)\}(\w+)", re.ASCII)
"""A variable in braces, and the letters that would belong to its name without them."""
CHAIN_MAX: Final = 32
"""How many variables may depend on one another; this keeps the recursion over them shallow."""
CATCH_ALL: Final = {"map": "", "geo": "0.0.0.0/0", "split": "100%"}
"""Looked up where a block has nothing but a default, because nginy needs at least one value."""
RANGE: Final = re.compile(r"([0-9.]+)-([0-9.]+)")


@dataclass(slots=True)
class Pair:
    """One line of a definition: what is looked up, and the value."""

    key: str
    value: str
    line: Directive


@dataclass(slots=True, eq=False)
class Definition:
    """A variable that a block defines."""

    name: str
    method: str
    source: str
    directive: Directive
    pairs: list[Pair] = field(default_factory=list)
    default: str = ""
    default_line: Directive | None = None
    has_hostnames: bool = False

    @property
    def values(self) -> Iterator[str]:
        """All values that it may have."""
        yield from (pair.value for pair in self.pairs)
        yield self.default


class Definitions:
    """All of them by their names, and which ones something needs."""

    def __init__(self, stream: Iterable[Directive] = (), ledger: Ledger | None = None) -> None:
        self.ledger = ledger or Ledger()
        self.by_name: dict[str, Definition] = {}
        self._blocks: dict[str, Block | LeftOutError] = {}
        self._needed: dict[str, None] = {}
        self._depth = 0
        for directive in stream:
            if directive.name in METHODS and directive.block is not None:
                with self.ledger.judging(directive):
                    made = _read(directive, self.ledger)
                    self.by_name[made.name] = made

    def text(self, text: str, allowed: frozenset[str], scope: Scope | None = None) -> str:
        """Return a text with variables as nginy has it; the definitions that it names are needed.

        In the texts of a server, `scope`, constants of `set` are filled in.
        """
        text = self._separated(filled(text, {} if scope is None else constants(scope)))
        return variables(text, self._usable(text), allowed)

    def _usable(self, text: str) -> list[str]:
        return [name for name in names(text) if name in self.by_name and self._use(name)]

    def _separated(self, text: str) -> str:
        """Return a text without letters right behind "${name}": nginy has no such braces.

        They become a variable with that text.
        """

        def replaced(match: re.Match[str]) -> str:
            letters = match[2]
            name = f"text_{letters}"
            if name not in self.by_name:
                line = Directive([letters, letters], "", 0)
                made = Definition(name, "map", "$protocol", line, default=letters)
                made.pairs.append(Pair("", letters, line))
                self.by_name[name] = made
            return f"${match[1]}${name}"

        return ATTACHED.sub(replaced, text)

    def _use(self, name: str) -> bool:
        """Note that something needs a definition; raise LeftOutError if nginy cannot have it."""
        block = self._block(name)
        if isinstance(block, LeftOutError):
            raise LeftOutError(f"${name} is not there: {block}")
        return True

    def _block(self, name: str) -> Block | LeftOutError:
        if name in self._blocks:
            return self._blocks[name]
        self._blocks[name] = LeftOutError(f"${name} refers to itself")
        definition = self.by_name[name]
        self._depth += 1
        try:
            block: Block | LeftOutError = self._made(definition)
        except LeftOutError as error:
            self.ledger.left_out(definition.directive, f"{error}; what depends on it is left out")
            block = error
        finally:
            self._depth -= 1
        self._blocks[name] = block
        if isinstance(block, Block):
            self._needed[name] = None
        return block

    def _made(self, definition: Definition) -> Block:
        """Return the value of a key of `variables`."""
        if self._depth > CHAIN_MAX:
            raise LeftOutError(f"more than {CHAIN_MAX} variables depend on one another")
        if not NAME.fullmatch(definition.name) or is_variable(definition.name, VARIABLES):
            raise LeftOutError(f"${definition.name} is a variable of nginy's own")
        block = Block({definition.method: self.text(definition.source, VARIABLES)})
        if definition.has_hostnames:
            block.set("hostnames", "on")
        values = Block()
        for pair in definition.pairs:
            groups: tuple[str, ...] = ()
            if definition.method == "map" and pair.key.startswith("~"):
                groups = _groups(pair.key)
            values.set(_key(definition, pair), self._value(pair.value, groups))
            if not pair.line.is_placed:
                values.comment(pair.line.above, pair.key)
                if pair.line.behind:
                    values.behind[pair.key] = pair.line.behind
        default = self._value(definition.default, ())
        if not values.values:
            values.set(CATCH_ALL[definition.method], default)
        block.set("values", values)
        block.set("default", default)
        return block

    def _value(self, text: str, groups: tuple[str, ...]) -> str:
        text = self._separated(text)
        return variables(text, (*self._usable(text), *groups), VARIABLES)

    def write(self, section: Block) -> None:
        """Set the definitions that something needs."""
        for name in self.by_name:
            block = self._blocks.get(name)
            if name in self._needed and isinstance(block, Block):
                section.set(name, block)
                directive = self.by_name[name].directive
                if not directive.is_placed:
                    section.comment(directive.above, name)
                    if directive.behind:
                        section.behind[name] = directive.behind
                    directive.is_placed = True


def _groups(key: str) -> tuple[str, ...]:
    """Return the names of the groups of a regular expression; raise LeftOutError for a bad one."""
    try:
        pattern = parse_pattern(key)
    except InvalidValueError as error:
        raise LeftOutError(f"{quote(key)} {error.clause}") from None
    return (*pattern.groupindex, *map(str, range(pattern.groups + 1)))


def _key(definition: Definition, pair: Pair) -> str:
    """Return what is looked up, as nginy has it."""
    if definition.method == "split":
        try:
            parse_share(pair.key)
        except InvalidValueError as error:
            raise LeftOutError(f"{quote(pair.key)} {error.clause}") from None
    return pair.key


# Reading them.


def _read(directive: Directive, ledger: Ledger) -> Definition:
    words = directive.arguments
    name = words[-1] if words else ""
    if not name.startswith("$") or len(words) > 2 or (directive.name != "geo" and len(words) != 2):
        raise LeftOutError("it defines no variable")
    source = words[0] if len(words) == 2 else "$remote_addr"
    method = METHODS[directive.name]
    definition = Definition(name[1:], method, source, directive)
    if method == "map":
        _read_map(definition, directive.block or [], ledger)
    elif method == "geo":
        _read_geo(definition, directive.block or [])
    else:
        _read_split(definition, directive.block or [])
    return definition


def _read_map(definition: Definition, lines: list[Directive], ledger: Ledger) -> None:
    seen = set()
    for line in lines:
        if line.name == "hostnames" and not line.arguments:
            definition.has_hostnames = True
        elif line.name == "volatile" and not line.arguments:
            ledger.close(definition.directive, "nginy computes it once a session")
        elif len(line.words) != 2:
            raise LeftOutError(f"{quote(' '.join(line.words))} is not a pair of key and value")
        elif line.name == "default":
            definition.default, definition.default_line = argument(line), line
        else:
            key = line.name[1:] if line.name.startswith("\\") else line.name
            if not key.startswith("~"):
                if key.lower() in seen:
                    raise LeftOutError(f"{quote(key)} appears twice")
                seen.add(key.lower())
            definition.pairs.append(Pair(key, argument(line), line))


def _read_split(definition: Definition, lines: list[Directive]) -> None:
    for line in lines:
        if len(line.words) != 2:
            raise LeftOutError(f"{quote(' '.join(line.words))} is not a share with a value")
        if line.name == "*":
            definition.default, definition.default_line = argument(line), line
        else:
            definition.pairs.append(Pair(line.name, argument(line), line))


def _read_geo(definition: Definition, lines: list[Directive]) -> None:
    pairs: dict[str, Pair] = {}
    for line in lines:
        if line.name in ("ranges", "proxy_recursive", "volatile") and not line.arguments:
            continue
        if line.name in ("proxy", "proxy_recursive"):
            raise LeftOutError(f'nginy knows no "{line.name}" in it')
        if len(line.words) != 2:
            raise LeftOutError(f"{quote(' '.join(line.words))} is not a network with a value")
        if line.name == "default":
            definition.default, definition.default_line = argument(line), line
        elif line.name == "delete":
            pairs.pop(network(argument(line)), None)
        else:
            for key in _networks(line.name):
                pairs[key] = Pair(key, argument(line), line)
    definition.pairs += pairs.values()


def _networks(text: str) -> list[str]:
    """Return the networks of a network, an address, or a range of addresses."""
    match = RANGE.fullmatch(text)
    if match is None:
        return [network(text)]
    try:
        first, last = (ipaddress.IPv4Address(part) for part in match.groups())
        found = list(ipaddress.summarize_address_range(first, last))
    except ValueError:
        raise LeftOutError(f"{quote(text)} is not a range of addresses") from None
    return [str(each).removesuffix("/32") for each in found]


# Constants.


def constants(scope: Scope) -> dict[str, str]:
    """Return the values of `set`, those that are the same for every client."""
    found = {}
    for directive in scope.all("set"):
        words = directive.arguments
        if len(words) == 2 and words[0].startswith("$") and "$" not in words[1]:
            found[words[0][1:]] = words[1]
    return found


def filled(text: str, values: dict[str, str]) -> str:
    """Return a text with variables replaced by their constants."""
    for name in sorted(values, key=len, reverse=True):
        text = re.sub(
            rf"\$(?:{re.escape(name)}\b|\{{{re.escape(name)}\}})",
            lambda _, value=values[name]: value,  # type: ignore[misc]
            text,
        )
    return text


def value_of(pair: Pair, value: Value) -> Value:
    """Return the value with the comments of its line, if a block can have them."""
    if isinstance(value, Block) and not pair.line.is_placed:
        value.comment(pair.line.above)
        if pair.line.behind:
            value.behind[""] = pair.line.behind
    return value
