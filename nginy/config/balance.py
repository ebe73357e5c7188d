"""The value of `balance`: which method chooses a backend, and what it chooses by.

A method is a word (`least_conn`) or a mapping of the word to its argument, with options beside it
(`{hash: $remote_addr, consistent: true}`). METHODS is the list of them: a row says what the
argument is and which options go with it. The algorithms themselves are the package balancer/;
build.py brings both together.

Not every method can have backups: nginx's methods hash and random refuse them, as they pick from
one list.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from nginy.config.node import (
    MappingNode,
    Node,
    Reading,
    ScalarNode,
    closest,
    describe,
    did_you_mean,
    quote,
)
from nginy.config.types import Choice, Flag, Kind, Plain, ScalarKind, Template
from nginy.proxy.variables import KEY_VARIABLES


@dataclass(frozen=True, slots=True)
class Balance:
    """A balancing method with all that it was told.

    `argument` is the key's template for hash methods, "two" for the better of two random picks,
    otherwise "".
    """

    method: str
    argument: str = ""
    consistent: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """What may be written about one method; without an argument's kind, it is a word alone."""

    argument: ScalarKind[str] | None = None
    needs_argument: bool = False
    options: tuple[str, ...] = ()
    allows_backup: bool = True


METHODS: Final[Mapping[str, Method]] = {
    "round_robin": Method(),
    "least_conn": Method(),
    "random": Method(Choice("two"), allows_backup=False),
    "hash": Method(
        Template(KEY_VARIABLES), needs_argument=True, options=("consistent",), allows_backup=False
    ),
}
OPTIONS: Final[Mapping[str, Flag]] = {"consistent": Flag()}


class BalanceKind(Kind[Balance]):
    """The kind of `balance`."""

    expected = f"{', '.join(METHODS)}, or a mapping such as {{hash: $remote_addr}}"

    def read(self, node: Node, reading: Reading) -> Balance:
        """Return the method with its argument and options."""
        name, argument, options = self._parts(node, reading)
        method = METHODS.get(name.text)
        if method is None:
            hint = did_you_mean(closest(name.text, METHODS))
            text = f"{quote(name.text)} is not known, expected {self.expected}{hint}"
            raise reading.refuse(name.mark, text)
        values: dict[str, object] = {"method": name.text}
        if argument is not None and method.argument is not None:
            values["argument"] = method.argument.read(argument, reading)
        elif argument is not None:
            raise reading.refuse(argument.mark, f"{name.text} takes no value, expected it alone")
        elif method.needs_argument:
            text = f"{name.text} needs a key, expected {{{name.text}: $remote_addr}}"
            raise reading.refuse(name.mark, text)
        for option, value in options:
            if option.text not in method.options:
                text = f"{option.text} does not go with {name.text}"
                raise reading.refuse(option.mark, text)
            values[option.text] = OPTIONS[option.text].read(value, reading)
        make: Callable[..., Balance] = Balance
        return make(**values)

    def write(self, value: Balance) -> Plain:
        """Return the word alone where it says everything."""
        method = METHODS[value.method]
        if not value.argument:
            return value.method
        written: dict[str, Plain] = {value.method: value.argument}
        for option in method.options:
            written[option] = OPTIONS[option].write(getattr(value, option))
        return written

    def _parts(
        self, node: Node, reading: Reading
    ) -> tuple[ScalarNode, Node | None, list[tuple[ScalarNode, Node]]]:
        """Return the method's name, its argument if it has one, and the options."""
        if isinstance(node, ScalarNode) and not node.is_missing:
            return node, None, []
        if not isinstance(node, MappingNode):
            raise reading.refuse(node.mark, f"{describe(node)}, expected {self.expected}")
        options = [pair for pair in node.pairs if pair[0].text in OPTIONS]
        methods = [pair for pair in node.pairs if pair[0].text not in OPTIONS]
        if len(methods) != 1:
            names = " and ".join(name.text for name, _ in methods) or "no method"
            raise reading.refuse(node.mark, f"{names}, expected one method")
        return *methods[0], options
