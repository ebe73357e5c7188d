"""The value of `balance`: which method chooses a backend, and what it chooses by.

A method is a word (`least_conn`) or a mapping of the word to its argument, with options beside it
(`{hash: $remote_addr, consistent: true}`). METHODS lists the methods, each with its argument and
its options. The algorithms are in the package balancer/; building/build.py creates them.

nginx's methods hash and random pick from one list, so they refuse backups.

Tested in tests/config/test_load.py.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from nginy.config.node import (
    Findings,
    MappingNode,
    Mark,
    Node,
    ScalarNode,
    closest,
    describe,
    did_you_mean,
    quote,
)
from nginy.config.types import Choice, Flag, Kind, OrOff, Plain, ScalarKind, Template
from nginy.config.words.hints import hash_options, value_hint
from nginy.errors import InvalidValueError
from nginy.proxy.variables import KEY_VARIABLES

FACTOR_MAX: Final = 100
"""More would bound nothing."""


@dataclass(frozen=True, slots=True)
class Balance:
    """A balancing method with its argument and options.

    `argument` is the template of the key for hash methods, "two" for the better of two random
    picks, the measured time for least_time, otherwise "". With `bounded_load`, no backend exceeds
    that multiple of its fair share.
    """

    method: str
    argument: str = ""
    consistent: bool = False
    bounded_load: float | None = None

    @property
    def key(self) -> str:
        """The text with variables that the method hashes; "" for methods that hash nothing."""
        return self.argument if METHODS[self.method].hashes else ""

    @property
    def measured(self) -> str:
        """The time that the method chooses by; "" for methods that measure nothing."""
        return self.argument if self.method == "least_time" else ""


@dataclass(frozen=True, slots=True)
class MethodSyntax:
    """The syntax of one method. Without a kind of argument, the method is only a word.

    `example` is the argument that a message shows, for methods that need one.
    """

    argument: ScalarKind[str] | None = None
    example: str = ""
    options: tuple[str, ...] = ()
    allows_backup: bool = True
    hashes: bool = False


class Factor(ScalarKind[float]):
    """A decimal number of at least 1."""

    expected = "a number from 1 to 100 such as 1.25"

    def parse(self, text: str, mark: Mark) -> float:
        """Return the number."""
        if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text):
            raise InvalidValueError("is not a number")
        factor = float(text)
        if not 1 <= factor <= FACTOR_MAX:
            raise InvalidValueError("is too small" if factor < 1 else "is too large")
        return factor

    def write(self, value: float) -> Plain:
        """Return the shortest decimal text."""
        return f"{value:g}"


class HashKey(Template):
    """A text with variables, without blanks: nginx's "$remote_addr consistent" is not a key."""

    expected = "a key such as $remote_addr or $remote_addr:$remote_port"

    def check(self, text: str, defined: Mapping[str, str]) -> None:
        """Raise InvalidValueError for blanks as well."""
        if re.search(r"\s", text):
            raise InvalidValueError("has a blank")
        if text.endswith(";"):
            raise InvalidValueError("is not a key")
        super().check(text, defined)

    def advice(self, key: str, text: str) -> str | None:
        """Explain where nginx's option after the key goes."""
        words = text.split()
        if "consistent" in words[1:]:
            return f'has "consistent" after the key, expected {hash_options(words)} in the braces'
        return super().advice("", text)


KEY: Final = HashKey(KEY_VARIABLES)
KEY_EXAMPLE: Final = "$remote_addr"

METHODS: Final[Mapping[str, MethodSyntax]] = {
    "round_robin": MethodSyntax(),
    "least_conn": MethodSyntax(),
    "least_time": MethodSyntax(Choice("connect", "first_byte", "last_byte"), "first_byte"),
    "random": MethodSyntax(Choice("two"), allows_backup=False),
    "hash": MethodSyntax(
        KEY, KEY_EXAMPLE, ("consistent", "bounded_load"), allows_backup=False, hashes=True
    ),
    "maglev": MethodSyntax(KEY, KEY_EXAMPLE, hashes=True),
    "rendezvous": MethodSyntax(KEY, KEY_EXAMPLE, hashes=True),
}
OPTIONS: Final[Mapping[str, Flag | OrOff[float]]] = {
    "consistent": Flag(),
    "bounded_load": OrOff(Factor()),
}


class BalanceKind(Kind[Balance]):
    """The kind of `balance`."""

    expected = f"{', '.join(METHODS)}, or a mapping such as {{hash: $remote_addr}}"

    def read(self, node: Node, findings: Findings) -> Balance:
        """Return the method with its argument and options."""
        name, argument, options = self._parts(node, findings)
        method = METHODS.get(name.text)
        if method is None:
            raise findings.refuse(name.mark, self._unknown(name.text))
        values: dict[str, object] = {"method": name.text}
        if argument is not None and method.argument is not None:
            values["argument"] = method.argument.read(argument, findings)
        elif argument is not None:
            raise findings.refuse(argument.mark, f"{name.text} takes no value, expected the word")
        elif method.example:
            what = "a key" if method.hashes else "a time"
            text = f"{name.text} needs {what}, expected {{{name.text}: {method.example}}}"
            raise findings.refuse(name.mark, text)
        for option, value in options:
            if option.text not in method.options:
                text = f"{option.text} cannot be combined with {name.text}"
                raise findings.refuse(option.mark, text)
            values[option.text] = OPTIONS[option.text].read(value, findings)
        make: Callable[..., Balance] = Balance
        balance = make(**values)
        if balance.bounded_load is not None and not balance.consistent:
            raise findings.refuse(node.mark, "bounded_load needs consistent: true")
        return balance

    def write(self, value: Balance) -> Plain:
        """Return only the word if it says everything."""
        method = METHODS[value.method]
        if not value.argument:
            return value.method
        written: dict[str, Plain] = {value.method: value.argument}
        for option in method.options:
            written[option] = OPTIONS[option].write(getattr(value, option))
        return written

    def _unknown(self, name: str) -> str:
        advice = value_hint("balance", name)
        if advice is not None:
            return f"{quote(name)} {advice}"
        hint = did_you_mean(closest(name, METHODS))
        return f"{quote(name)} is not known, expected {self.expected}{hint}"

    def _parts(
        self, node: Node, findings: Findings
    ) -> tuple[ScalarNode, Node | None, list[tuple[ScalarNode, Node]]]:
        """Return the method's name, its argument if it has one, and the options."""
        if isinstance(node, ScalarNode) and not node.is_missing:
            return node, None, []
        if not isinstance(node, MappingNode):
            raise findings.refuse(node.mark, f"{describe(node)}, expected {self.expected}")
        options = [pair for pair in node.pairs if pair[0].text in OPTIONS]
        methods = [pair for pair in node.pairs if pair[0].text not in OPTIONS]
        if len(methods) != 1:
            names = " and ".join(name.text for name, _ in methods) or "no method"
            raise findings.refuse(node.mark, f"{names}, expected one method")
        return *methods[0], options
