"""Access: which clients may use a listener, by their address.

The first rule that matches a client decides; a client that matches none may come in. A rule names a
network, a file of networks, `all` or `unix:`. Pure: text and addresses in, rules and verdicts out.
config/ reads the files, and the session deals with a denied client.

The one idea: compute the order once. The table paints all networks onto the line of addresses, a
later rule under an earlier one. Seen from above, they are disjoint ranges, in order. A lookup is a
bisection, 1 µs whether there are ten networks or a hundred thousand.

Source: nginx ngx_stream_access_module.c, which compares with one rule after the other.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

from nginy.errors import InvalidValueError

BITS: Final = {AF_INET: 32, AF_INET6: 128}

MAPPED: Final = 0xFFFF << 32
"""::ffff:0:0/96, where a socket for both families shows its IPv4 clients (RFC 4291 §2.5.5.2)."""


@dataclass(frozen=True, slots=True)
class Network:
    """A range of addresses; `first` and `last` are addresses as whole numbers."""

    family: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of `access`, without its networks, which only the table needs."""

    is_allowed: bool
    text: str
    """As configured, for messages: "10.0.0.0/8", "all", or the path of a file."""
    is_for_unix: bool = False
    """Whether it matches the clients of unix sockets."""

    def __str__(self) -> str:
        return f"{'allow' if self.is_allowed else 'deny'} {self.text}"


ALL: Final = (Network(AF_INET, 0, (1 << 32) - 1), Network(AF_INET6, 0, (1 << 128) - 1))


def parse_network(text: str) -> Network:
    """Return the network of "10.0.0.0/8", "2001:db8::/32" or a single address.

    Raises InvalidValueError, also if bits are set beyond the prefix: that is usually a slip.
    """
    address, slash, prefix = text.partition("/")
    family = AF_INET6 if ":" in address else AF_INET
    try:
        packed = inet_pton(family, address)
    except (OSError, ValueError):
        raise InvalidValueError("is neither an IP address nor a network") from None
    bits = BITS[family]
    first = int.from_bytes(packed, "big")
    if not slash:
        return Network(family, first, first)
    if not prefix.isascii() or not prefix.isdecimal() or int(prefix) > bits:
        raise InvalidValueError(f"has no prefix length from /0 to /{bits}")
    rest = (1 << (bits - int(prefix))) - 1
    if first & rest:
        meant = inet_ntop(family, (first & ~rest).to_bytes(bits // 8, "big"))
        raise InvalidValueError("has bits set beyond its prefix", f"{meant}/{prefix}")
    return Network(family, first, first | rest)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a file of networks that names no network."""

    number: int
    text: str
    error: InvalidValueError


def parse_networks(lines: Iterable[str]) -> tuple[list[Network], list[BadLine]]:
    """Return the networks of a file, one a line, and all lines that are wrong; "#" begins a
    comment."""
    networks = []
    wrong = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            networks.append(parse_network(text))
        except InvalidValueError as error:
            wrong.append(BadLine(number, text, error))
    return networks, wrong


class Ranges:
    """Numbered networks of one family; where they overlap, the lowest number counts."""

    __slots__ = ("_owners", "_starts")

    def __init__(self, networks: Iterable[tuple[Network, int]]) -> None:
        """Paint `networks`, each with a number; the lowest number is on top. O(n log n)."""
        waiting = sorted((each.first, each.last, number) for each, number in networks)
        edges = sorted({edge for first, last, _ in waiting for edge in (first, last + 1)})
        self._starts: list[int] = []
        self._owners: list[int] = []
        covering: list[tuple[int, int]] = []  # (number, last) of what covers the present edge
        place = 0
        for edge in edges:
            while place < len(waiting) and waiting[place][0] == edge:
                _, last, number = waiting[place]
                heappush(covering, (number, last))
                place += 1
            while covering and covering[0][1] < edge:
                heappop(covering)
            owner = covering[0][0] if covering else -1
            if not self._owners or self._owners[-1] != owner:
                self._starts.append(edge)
                self._owners.append(owner)

    def owner(self, address: int) -> int:
        """Return the number of the network that `address` is in, -1 if it is in none."""
        place = bisect_right(self._starts, address) - 1
        return self._owners[place] if place >= 0 else -1

    def owners(self) -> set[int]:
        """Return the numbers that can be an answer, -1 among them."""
        return set(self._owners)


class Table:
    """Numbered networks of both families, looked up by a client's address."""

    __slots__ = ("_v4", "_v6")

    def __init__(self, networks: Iterable[tuple[Network, int]]) -> None:
        listed = list(networks)
        self._v4 = Ranges((each, number) for each, number in listed if each.family == AF_INET)
        self._v6 = Ranges((each, number) for each, number in listed if each.family == AF_INET6)

    def owners(self) -> set[int]:
        """Return the numbers that can be an answer, -1 among them."""
        return self._v4.owners() | self._v6.owners()

    def owner(self, host: str) -> int:
        """Return the number of the first network that `host`, an IP address, is in; -1: none.

        An IPv4 address that is mapped into IPv6 counts as the IPv4 address.
        """
        if ":" not in host:
            return self._v4.owner(int.from_bytes(inet_pton(AF_INET, host), "big"))
        packed = inet_pton(AF_INET6, host.partition("%")[0])
        address = int.from_bytes(packed, "big")
        if address >> 32 == MAPPED >> 32:
            return self._v4.owner(address & 0xFFFFFFFF)
        return self._v6.owner(address)


class Access:
    """The rules of a listener, ready for lookups. It forgets networks once it has painted them."""

    __slots__ = ("_for_unix", "_table", "rules")

    def __init__(self, rules: Sequence[tuple[Rule, Sequence[Network]]]) -> None:
        self.rules = tuple(rule for rule, _ in rules)
        self._table = Table(
            (network, number) for number, (_, networks) in enumerate(rules) for network in networks
        )
        self._for_unix = next((n for n, rule in enumerate(self.rules) if rule.is_for_unix), -1)

    def decides(self, host: str) -> int:
        """Return the number, from 0, of the rule that decides on a client; -1 if none matches.

        `host` is its IP address, or "unix:".
        """
        return self._for_unix if host == "unix:" else self._table.owner(host)

    def denies(self, host: str) -> Rule | None:
        """Return the rule that turns a client away, None if the client may come in."""
        number = self.decides(host)
        rule = self.rules[number] if number >= 0 else None
        return None if rule is None or rule.is_allowed else rule

    def idle(self) -> list[int]:
        """Return the numbers of the rules that no client can ever reach."""
        deciding = self._table.owners() | {self._for_unix}
        return [number for number in range(len(self.rules)) if number not in deciding]
