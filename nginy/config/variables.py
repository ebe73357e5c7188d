"""The key `variables`: texts computed from other variables, by `map`, `geo` or `split`.

`declare` runs first: readers of texts with variables must know which names exist, and which of them
are unknown until a session ends (`types.py::Template`).

Not here: what is looked up (lookups.py), and how a session asks (proxy/variables.py).
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from nginy.config.lookups import (
    SOURCE,
    Read,
    Values,
    ValuesKind,
    check_text,
    read_geo,
    read_map,
    read_split,
)
from nginy.config.node import (
    Findings,
    MappingNode,
    Node,
    RefusedError,
    ScalarNode,
    SequenceNode,
    quote,
)
from nginy.config.record import Entry, MapOf, Record, key
from nginy.config.types import Flag, OrOff, Plain, Text
from nginy.proxy.lookups import Definition
from nginy.proxy.variables import KEY_VARIABLES, VARIABLES, is_variable, names_in

METHODS: Final = ("map", "geo", "split")
NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableSettings(Entry):
    """A variable of the configuration; exactly one of the first three keys is set."""

    map: str | None = key(
        OrOff(SOURCE),
        "off",
        "Looks up this text: exact matches first, then ~regular expressions in order (~* ignores"
        " case), which match no text of more than 1,000 characters; a value may name their groups"
        " as $1 or $name.",
    )
    geo: str | None = key(
        OrOff(SOURCE),
        "off",
        "Looks up this address: the smallest network that contains it counts; {file: PATH} among"
        " the values names a file with a network and its value on each line.",
    )
    split: str | None = key(
        OrOff(SOURCE),
        "off",
        "Chooses by shares such as 5%: the same text always gets the same value, as in nginx.",
    )
    hostnames: bool = key(
        Flag(),
        "off",
        "With map, *.suffix, .suffix (also the name itself) and prefix.* match host names; the"
        " longest match counts.",
    )
    values: Values = key(ValuesKind(), "{}", "The values and what they match.", blank=Values)
    default: str = key(Text("a text with variables"), "", "The value if nothing matches.")
    definition: Definition | None = field(default=None, compare=False, repr=False)
    """Ready for lookups; None if something is wrong."""

    @property
    def method(self) -> str:
        """Which of map, geo and split it is."""
        return next((name for name in METHODS if getattr(self, name) is not None), "")


class VariableKind(Record[VariableSettings]):
    """One variable."""

    def __init__(self) -> None:
        super().__init__(VariableSettings, "a variable")

    def read(self, node: Node, findings: Findings) -> VariableSettings:
        """Return the variable with its definition, unless something is wrong with it."""
        before = findings.failures
        settings = super().read(node, findings)
        origin = settings.origin
        methods = [name for name in METHODS if name in origin.keys]
        if not methods and findings.failures > before:
            raise RefusedError
        if len(methods) != 1:
            what = " and ".join(methods) or "no method"
            text = f"{what}, expected one of {', '.join(METHODS[:-1])} and {METHODS[-1]}"
            raise findings.refuse(origin.mark, text)
        method = methods[0]
        if settings.hostnames and method != "map":
            findings.report(origin.of("hostnames"), f"hostnames: cannot be combined with {method}")
        if not settings.values.texts and origin.has("values"):
            text = '"values" is missing, expected a mapping'
            findings.report(origin.mark, f"{text} of texts to values")
        with findings.under("values"):
            lookup, values, shown = self._lookup(method, settings, findings)
        with findings.under("default"):
            check_text(settings.default, origin.of("default"), (), findings)
        if findings.failures > before:
            return settings
        source = getattr(settings, method)
        definition = Definition(source, lookup, (*values, settings.default))
        return replace(settings, values=shown, definition=definition)

    def _lookup(self, method: str, settings: VariableSettings, findings: Findings) -> Read:
        if method == "geo":
            return read_geo(settings.values, findings)
        if method == "split":
            return read_split(settings.values, findings)
        return read_map(settings.values, findings, has_hostnames=settings.hostnames)

    def write(self, value: VariableSettings) -> Plain:
        """Return the keys of its method."""
        written = super().write(value)
        if not isinstance(written, dict):
            return written
        absent = [name for name in METHODS if name != value.method]
        if value.method != "map":
            absent.append("hostnames")
        return {name: text for name, text in written.items() if name not in absent}


class VariablesKind(MapOf[VariableSettings]):
    """All variables by name."""

    def __init__(self) -> None:
        super().__init__(VariableKind(), "variables", VariableSettings)

    def read(self, node: Node, findings: Findings) -> dict[str, VariableSettings]:
        """Return the variables; refuse names that are taken, and variables that need themselves."""
        values = super().read(node, findings)
        if isinstance(node, MappingNode):
            uses = _uses(node)
            for name, _ in node.pairs:
                if not NAME.fullmatch(name.text):
                    text = f"{quote(name.text)} is not a name, expected letters, digits and _"
                    findings.report(name.mark, text)
                elif is_variable(name.text, VARIABLES):
                    text = f"${name.text} is a variable of nginy's own, expected another name"
                    findings.report(name.mark, text)
                circle = _circle(name.text, uses)
                if circle:
                    way = " -> ".join(f"${each}" for each in circle)
                    findings.report(name.mark, f"${name.text} refers to itself: {way}")
        return values


VARIABLES_KIND: Final = VariablesKind()


def definitions(variables: Mapping[str, VariableSettings]) -> dict[str, Definition]:
    """Return what `proxy/variables.py` needs to know of them."""
    return {
        name: each.definition for name, each in variables.items() if each.definition is not None
    }


# What is defined, before anything is read.


def declare(node: Node) -> dict[str, str]:
    """Return the names that `variables` defines, each with what makes it known late.

    That is the name of a variable which is known only when a session ends, "" if it needs none.
    """
    if not isinstance(node, MappingNode):
        return {}
    uses = _uses(node)
    return {name: _late(name, uses, set()) for name in uses}


def _uses(node: MappingNode) -> dict[str, list[str]]:
    return {
        name.text: [used for text in _texts(value) for used in names_in(text)]
        for name, value in node.pairs
    }


def _texts(node: Node) -> Iterator[str]:
    if isinstance(node, ScalarNode):
        yield node.text
    elif isinstance(node, SequenceNode):
        for item in node.items:
            yield from _texts(item)
    else:
        for _, value in node.pairs:
            yield from _texts(value)


def _late(name: str, uses: Mapping[str, list[str]], seen: set[str]) -> str:
    """Return the first variable on the way from `name` that is known only at the end, or ""."""
    if name not in uses:
        is_late = name in VARIABLES and not is_variable(name, KEY_VARIABLES)
        return name if is_late else ""
    if name in seen:
        return ""
    seen.add(name)
    return next(filter(None, (_late(used, uses, seen) for used in uses[name])), "")


def _circle(start: str, uses: Mapping[str, list[str]]) -> list[str]:
    """Return a way from a variable to itself, [] if there is none."""
    ways = [[start]]
    seen = set()
    while ways:
        way = ways.pop(0)
        for used in uses.get(way[-1], ()):
            if used == start:
                return [*way, used]
            if used in uses and used not in seen:
                seen.add(used)
                ways.append([*way, used])
    return []
