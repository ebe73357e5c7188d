"""The keys of a route: its conditions, and where it leads.

The records here are values of a listener's key `routes` (schema.py). What the conditions mean is in
proxy/routing/conditions.py and proxy/routing/patterns.py, which refuse a bad text;
checking/routes.py has the rules that span keys. A key that is not set is no condition, so `-T`
leaves it out: people read lists of five hundred routes.
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from nginy.config.access import NetworkList, Networks
from nginy.config.balance import KEY
from nginy.config.node import (
    Findings,
    MappingNode,
    Mark,
    Node,
    ScalarNode,
    describe,
)
from nginy.config.possible import Possible
from nginy.config.record import Entry, ListOf, Record, Switch, key
from nginy.config.tls import Tls
from nginy.config.types import (
    Duration,
    Flag,
    Kind,
    OrOff,
    Plain,
    ScalarKind,
    Size,
    TargetName,
    Template,
)
from nginy.errors import InvalidValueError
from nginy.proxy.lookups import parse_pattern, parse_share
from nginy.proxy.routing.patterns import check_name, check_protocol
from nginy.proxy.variables import KEY_VARIABLES
from nginy.text.address import PORT_MAX
from nginy.wire.errors import WireError
from nginy.wire.starts import parse_starts

T = TypeVar("T")


class Pattern(ScalarKind[str]):
    """A text that `check` accepts, or refuses with InvalidValueError."""

    def __init__(self, expected: str, check: Callable[[str], str]) -> None:
        self.expected = expected
        self._check = check

    def parse(self, text: str, mark: Mark) -> str:
        """Return the text as it is compared."""
        return self._check(text)

    def write(self, value: str) -> Plain:
        """Return the text."""
        return value


class StartsText(Pattern):
    """First bytes: a literal, or a regular expression."""

    has_bytes = True

    def __init__(self) -> None:
        super().__init__('first bytes such as "SSH-", or ~regular expression', _check_starts)


def _check_starts(text: str) -> str:
    try:
        parse_starts(text)
    except WireError as error:
        raise InvalidValueError(f"cannot be used: {error}") from None
    return text


class PortRange(ScalarKind[tuple[int, int]]):
    """A port, or a range of them."""

    expected = f"a port from 1 to {PORT_MAX}, or a range such as 10000-10004"

    def parse(self, text: str, mark: Mark) -> tuple[int, int]:
        """Return the first and the last port."""
        first, dash, last = text.partition("-")
        low, high = self._port(first), self._port(last if dash else first)
        if high < low:
            raise InvalidValueError("is a range that runs backwards", f"{high}-{low}")
        return low, high

    @staticmethod
    def _port(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:6]) <= PORT_MAX:
            raise InvalidValueError("is not a port")
        return int(text)

    def write(self, value: tuple[int, int]) -> Plain:
        """Return the port or the range."""
        low, high = value
        return str(low) if low == high else f"{low}-{high}"


class ShareOf(ScalarKind[int]):
    """A share of all clients, in hundredths of a percent."""

    expected = "a share from 0.01% to 100%, such as 5%"

    def parse(self, text: str, mark: Mark) -> int:
        """Return hundredths of a percent."""
        if text.isascii() and text.isdecimal():
            raise InvalidValueError("has no unit", f"{text}%")
        return parse_share(text)

    def write(self, value: int) -> Plain:
        """Return percent."""
        return f"{value / 100:g}%"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A variable, and the values that a route asks for."""

    name: str
    values: tuple[str, ...]


class WhenKind(Kind[tuple[Wanted, ...]]):
    """A mapping of variables to the values that are asked for."""

    expected = "a mapping of variables to values, such as {$remote_addr: 192.0.2.1}"

    def __init__(self) -> None:
        self.values = ListOf(Pattern("a value, or ~regular expression", _check_value))
        self.name = Template(KEY_VARIABLES)

    def read(self, node: Node, findings: Findings) -> tuple[Wanted, ...]:
        """Return them in the order written."""
        if not isinstance(node, MappingNode) or not node.pairs:
            what = describe(node) if not isinstance(node, MappingNode) else "an empty mapping"
            raise findings.refuse(node.mark, f"{what}, expected {self.expected}")
        found = []
        for name, value in node.pairs:
            text = name.text if name.text.startswith("$") else f"${name.text}"
            read = self.name.read(ScalarNode(text, name.mark), findings)
            found.append(Wanted(read[1:].strip("{}"), self.values.read(value, findings)))
        return tuple(found)

    def write(self, value: tuple[Wanted, ...]) -> Plain:
        """Return the mapping."""
        return {f"${each.name}": self.values.write(each.values) for each in value}


def _check_value(text: str) -> str:
    if text.startswith("~"):
        parse_pattern(text)
    return text


class WhenOrOff(WhenKind):
    """The same, or `off` for no variable."""

    def read(self, node: Node, findings: Findings) -> tuple[Wanted, ...]:
        """Return them in the order written."""
        if isinstance(node, ScalarNode) and node.text == "off":
            return ()
        return super().read(node, findings)

    def write(self, value: tuple[Wanted, ...]) -> Plain:
        """Return the mapping, or the word."""
        return super().write(value) if value else "off"


class ListOrOff(ListOf[T]):
    """One or more values of a kind, or `off` for none."""

    def __init__(self, item: Kind[T]) -> None:
        super().__init__(item)
        self.expected = f"off, {self.expected}"

    def read(self, node: Node, findings: Findings) -> tuple[T, ...]:
        """Return the values in the order written."""
        if isinstance(node, ScalarNode) and node.text == "off":
            return ()
        return super().read(node, findings)

    def write(self, value: tuple[T, ...]) -> Plain:
        """Return a list, also of one, or the word."""
        return super().write(value) if value else "off"


class NetworksOrOff(Kind[NetworkList | None]):
    """Networks, or `off` for no such condition."""

    def __init__(self) -> None:
        self.networks = Networks()
        self.expected = f"off, or {self.networks.expected}"

    def read(self, node: Node, findings: Findings) -> NetworkList | None:
        """Return the networks or None."""
        if isinstance(node, ScalarNode) and node.text == "off":
            return None
        return self.networks.read(node, findings)

    def write(self, value: NetworkList | None) -> Plain:
        """Return a list, or the word."""
        return "off" if value is None else self.networks.write(value)


NAMES: Final = ListOrOff(
    Pattern("the name of a server, *.suffix or ~regular expression", check_name)
)
PROTOCOLS: Final = ListOrOff(
    Pattern("a protocol such as h2, *.suffix or ~regular expression", check_protocol)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Entry):
    """One way that clients may take; all conditions that it has must hold."""

    from_: NetworkList | None = key(
        NetworksOrOff(), "off", "The client's address is in one of these networks."
    )
    port: tuple[tuple[int, int], ...] = key(
        ListOrOff(PortRange()), "off", "The client connected to one of these ports of the listener."
    )
    sni: tuple[str, ...] = key(
        NAMES,
        "off",
        "A TLS client asks for one of these servers; a client that names none does not match.",
    )
    alpn: tuple[str, ...] = key(
        PROTOCOLS, "off", "A TLS client offers one of these protocols (ALPN)."
    )
    is_tls: bool | None = key(
        OrOff(Flag(), "any"), "any", "Whether the client begins with a TLS ClientHello."
    )
    starts: str | None = key(
        OrOff(StartsText()), "off", "The client's first bytes: a literal, or ~regular expression."
    )
    share: int | None = key(
        OrOff(ShareOf()),
        "off",
        "The client belongs to this share of all clients; shares with one key follow each other.",
    )
    key_: str = key(KEY, "$remote_addr", "What tells clients apart for a share.")
    when: tuple[Wanted, ...] = key(
        WhenOrOff(), "off", "Each variable has one of the values listed for it."
    )
    passthrough: bool = key(
        Flag(),
        "off",
        "nginy does not terminate these clients' TLS, whatever the listener's tls.",
    )
    tls: Tls | None = key(
        Switch(Record(Tls, "tls")),
        "off",
        "nginy terminates their TLS this way; the listener may have no tls, or another one.",
    )
    proxy_pass: str | None = key(OrOff(TargetName()), "off", "Where these clients go.")
    return_: str | None = key(
        OrOff(Template(KEY_VARIABLES, has_bytes=True)),
        "off",
        "nginy answers them with this text.",
    )
    deny: bool = key(Flag(), "off", "nginy turns these clients away, with status 403.")
    choices: tuple[Possible, ...] = field(default=(), compare=False, repr=False)
    """Where a `proxy_pass` by a variable may lead (checking/targets.py)."""


class RouteRecord(Record[Route]):
    """A route; `-T` shows only the conditions that it has."""

    def __init__(self) -> None:
        super().__init__(Route, "a route")

    def write(self, value: Route) -> dict[str, Plain]:
        """Return the keys that differ from their defaults."""
        rows = self.keys.values()
        return {
            row.name: row.kind.write(getattr(value, row.field))
            for row in rows
            if getattr(value, row.field) != getattr(NO_ROUTE, row.field)
        }


NO_ROUTE: Final = Route()
"""A route that asks nothing and leads nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preread(Entry):
    """How much nginy looks at before it knows a client's way, and for how long."""

    size_bytes: int = key(Size(1024, 65536), "16k", "A longer ClientHello ends the session.")
    timeout_ms: int = key(
        Duration(),
        "30s",
        "A client that sends nothing for this long is routed as one without TLS.",
    )


ROUTE: Final = RouteRecord()
ROUTES: Final = key(
    ListOrOff(ROUTE),
    "off",
    "Where clients go instead of proxy_pass or return: the first route that matches decides.",
    blank=tuple,
)
PREREAD: Final = key(
    Record(Preread, "preread", shorthand="size"),
    "16k",
    "How far nginy looks if a route depends on what a client sends first.",
    only="tcp",
)
