"""Lookups: how the configuration's own variables get their values: `map`, `geo`, `split`.

A lookup takes the text of another variable and returns the number of the value that it stands for,
-1 for the default. Pure: texts in, numbers out. `proxy/variables.py` fills in both ends, once a
session; `config/variables.py` reads the configuration and refuses mistakes in it.

- `Map`    by the text itself: exact, then the longest `*.suffix` of a host name, then patterns;
- `Geo`    by the longest network that an address is in;
- `Split`  by a hash of the text: the same clients get the same value every time.

The one idea: the same answers as nginx's, so that users who come from there find their clients
where they were. That goes down to the hash, and to the rounding of percentages.

nginx: ngx_stream_map_module.c, ngx_stream_geo_module.c, ngx_stream_split_clients_module.c,
ngx_murmurhash.c.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from nginy.errors import InvalidValueError
from nginy.proxy.access import Network, Table
from nginy.proxy.context import as_bytes
from nginy.wire.expect import NESTED

Found: TypeAlias = "tuple[int, re.Match[str] | None]"
"""The number of a value, -1 for the default, and what a pattern has matched if one did."""

NOT_FOUND: Final = (-1, None)
WHOLE: Final = 10_000
"""All clients, in hundredths of a percent."""
HOSTNAME_MAX_CHARACTERS: Final = 255
"""RFC 1035 §2.3.4. In a longer text, which a client may send, nginy looks for no suffix."""
PATTERN_MAX_CHARACTERS: Final = 1000
"""Patterns are tried on texts of up to this length. A client may send a name of 16,000 letters, and
a pattern that tries each of them as the start of a match would stop the loop for a second."""

_NAMED_GROUP: Final = re.compile(r"\(\?<(?=[A-Za-z_])")
_SHARE: Final = re.compile(r"(\d{0,3})(?:\.(\d{1,2}))?%", re.ASCII)


class Lookup(Protocol):
    """Turns a text into the number of a value."""

    def find(self, text: str) -> Found:
        """Return the number of the value that `text` stands for."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A variable of the configuration."""

    source: str
    """The text with variables to look up."""
    lookup: Lookup
    values: tuple[str, ...]
    """The values, as texts with variables; the last one is the default."""


class Map:
    """Values by a text, in any case, or by a pattern."""

    __slots__ = ("_exact", "_has_hostnames", "_patterns", "_prefixes", "_suffixes")

    def __init__(self, keys: Sequence[str | re.Pattern[str]], *, has_hostnames: bool) -> None:
        """Number the keys as they come; with `has_hostnames` "*.a.b", ".a.b" and "a.*" are masks.

        It tries patterns in their order, after all texts.
        """
        self._has_hostnames = has_hostnames
        self._exact: dict[str, int] = {}
        self._suffixes: dict[str, int] = {}
        self._prefixes: dict[str, int] = {}
        self._patterns: list[tuple[re.Pattern[str], int]] = []
        for number, key in enumerate(keys):
            if isinstance(key, re.Pattern):
                self._patterns.append((key, number))
                continue
            for table, name in self._places(key.lower()):
                table.setdefault(name, number)

    def _places(self, key: str) -> Iterable[tuple[dict[str, int], str]]:
        if self._has_hostnames and key.startswith("*."):
            yield self._suffixes, key[2:]
        elif self._has_hostnames and key.startswith(".") and len(key) > 1:
            yield self._exact, key[1:]
            yield self._suffixes, key[1:]
        elif self._has_hostnames and key.endswith(".*"):
            yield self._prefixes, key[:-2]
        else:
            yield self._exact, key

    def find(self, text: str) -> Found:
        """Return the value of `text`; a dot at the end of a host name does not count."""
        if self._has_hostnames:
            text = text.removesuffix(".")
        low = text.lower()
        number = self._exact.get(low)
        if number is None and (self._suffixes or self._prefixes):
            number = self._by_mask(low)
        if number is not None:
            return number, None
        if 0 < len(text) <= PATTERN_MAX_CHARACTERS:
            for pattern, number in self._patterns:
                match = pattern.search(text)
                if match is not None:
                    return number, match
        return NOT_FOUND

    def _by_mask(self, name: str) -> int | None:
        """Return the value of the longest suffix, or else of the longest prefix."""
        if len(name) > HOSTNAME_MAX_CHARACTERS:
            return None
        _, dot, rest = name.partition(".")
        while dot:
            if rest in self._suffixes:
                return self._suffixes[rest]
            _, dot, rest = rest.partition(".")
        rest, dot, _ = name.rpartition(".")
        while dot:
            if rest in self._prefixes:
                return self._prefixes[rest]
            rest, dot, _ = rest.rpartition(".")
        return None


class Geo:
    """Values by the narrowest network that an address is in."""

    __slots__ = ("_table", "_values")

    def __init__(self, networks: Iterable[tuple[Network, int]]) -> None:
        """Take networks, each with the number of its value; several may share one. O(n log n)."""
        # Where networks overlap, the table has the one with the lowest number on top.
        listed = sorted(networks, key=lambda each: each[0].last - each[0].first)
        self._table = Table((network, place) for place, (network, _) in enumerate(listed))
        self._values = (*(number for _, number in listed), -1)

    def find(self, text: str) -> Found:
        """Return the value of an address; any other text has the default."""
        try:
            return self._values[self._table.owner(text)], None
        except (OSError, ValueError):  # such as "unix:", or ""
            return NOT_FOUND


class Split:
    """Values by shares of all clients, the same for the same text every time."""

    __slots__ = ("_bounds",)

    def __init__(self, shares: Sequence[int]) -> None:
        """Take the shares in hundredths of a percent; together they are 100 % at most."""
        self._bounds: list[int] = []
        total = bound = 0
        for share in shares:
            total += share
            bound += share * 0xFFFFFFFF // WHOLE
            # nginx leaves no rounding error between the last share and 100 %.
            self._bounds.append(1 << 32 if total == WHOLE else bound)

    def find(self, text: str) -> Found:
        """Return the value of the share that `text` falls into."""
        number = bisect_right(self._bounds, murmur_hash2(as_bytes(text)))
        return (number if number < len(self._bounds) else -1), None


def murmur_hash2(data: bytes) -> int:
    """Return Austin Appleby's MurmurHash2, 32 bits, with seed 0 (nginx: `ngx_murmur_hash2`)."""
    size = len(data)
    value = size
    whole = size - size % 4
    for place in range(0, whole, 4):
        word = int.from_bytes(data[place : place + 4], "little") * 0x5BD1E995 & 0xFFFFFFFF
        word = (word ^ word >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        value = value * 0x5BD1E995 & 0xFFFFFFFF ^ word
    if whole < size:
        value = (value ^ int.from_bytes(data[whole:], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return value ^ value >> 15


def parse_share(text: str) -> int:
    """Return the hundredths of a percent in "5%" or "0.25%"; raises InvalidValueError."""
    match = _SHARE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        raise InvalidValueError("is not a share")
    share = int(match[1] or 0) * 100 + int((match[2] or "").ljust(2, "0"))
    if not 0 < share <= WHOLE:
        raise InvalidValueError("is too small" if not share else "is above 100%")
    return share


def parse_pattern(text: str) -> re.Pattern[str]:
    """Return the regular expression in "~..." or, if case does not matter, "~*...".

    Named groups may be written as in PCRE, "(?<name>...)". Raises InvalidValueError.
    """
    flags = re.IGNORECASE if text.startswith("~*") else re.RegexFlag(0)
    body = _NAMED_GROUP.sub("(?P<", text[2 if flags else 1 :])
    if not body:
        raise InvalidValueError("is an empty regular expression")
    if NESTED.search(body):
        clause = "has a repetition within a repetition, which can take for ever to match"
        raise InvalidValueError(clause)
    try:
        return re.compile(body, flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidValueError(f"is not a regular expression ({error})") from None
