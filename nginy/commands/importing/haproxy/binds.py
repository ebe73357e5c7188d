"""`bind` lines: the addresses of a listener, and what their options say.

HAProxy's IPv6 wildcard also accepts IPv4 clients, and nginy's does not: `bind :::80` becomes two
addresses. Lines with the same options share a listener.

Source: HAProxy's configuration manual, "bind", 5.1 "Bind options".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.options import BIND, OPPOSITES, Option, parse_options
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.values import check_port, number, parse_place
from nginy.commands.importing.model import refuse
from nginy.commands.importing.report import Fate
from nginy.config.node import quote
from nginy.errors import InvalidValueError

ADDRESS_ONLY: Final = frozenset({"name", "v4v6", "v6only"})
"""Options that do not need a listener of their own."""


@dataclass(slots=True)
class Bind:
    """Addresses with the same options."""

    lines: list[Line]
    addresses: list[str]
    options: dict[str, list[Option]] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """Return the word behind an option; "" if it is not there."""
        return self.options[name][-1].value if name in self.options else ""

    @property
    def settings(self) -> list[str]:
        """The options that a listener has as a whole, as text."""
        return sorted(
            option.text
            for name, found in self.options.items()
            for option in found
            if name in BIND and BIND[name].is_read and name not in ADDRESS_ONLY
        )


def read_binds(front: Proxy, ledger: Ledger) -> list[Bind]:
    """Return the binds of a frontend; those with the same options are one. Raise ConfigError."""
    binds: list[Bind] = []
    for line in front.all("bind"):
        try:
            bind = _bind(line, ledger)
        except InvalidValueError as error:
            text = f"bind {quote(line.word(1))} {error.clause}"
            raise refuse(line.file, line.number, text) from None
        if bind is None:
            continue
        twin = next((each for each in binds if each.settings == bind.settings), None)
        if twin is None:
            binds.append(bind)
            continue
        twin.lines += bind.lines
        twin.addresses += [each for each in bind.addresses if each not in twin.addresses]
    return binds


def _bind(line: Line, ledger: Ledger) -> Bind | None:
    """Return the bind of a line; None, judged, if nginy can have none of its addresses."""
    if len(line.words) == 1:
        raise InvalidValueError("has no address")
    options: dict[str, list[Option]] = {}
    for option in parse_options(line.words[2:], BIND):
        for name in OPPOSITES.get(option.name, ()):
            options.pop(name, None)
        options.setdefault(option.name, []).append(option)
        row = BIND.get(option.name)
        if row is None:
            ledger.left_out(line, f"{quote(option.name)} is not known")
        elif not row.is_read:
            ledger.judge(line, row.fate, f"{option.name}: {row.text}")
    ledger.exact(line)
    addresses: list[str] = []
    for text in line.word(1).split(","):
        try:
            addresses += _addresses(text, options)
        except InvalidValueError as error:
            if error.clause.startswith("is "):
                what = f"{quote(text)} {error.clause}: nginy does not listen there"
                ledger.judge(line, Fate.LEFT_OUT, what)
                continue
            raise
    return Bind([line], list(dict.fromkeys(addresses)), options) if addresses else None


def _addresses(text: str, options: dict[str, list[Option]]) -> list[str]:
    """Return the addresses of one text."""
    place = parse_place(text)
    if place.path:
        return [f"unix:{place.path}"]
    port = _ports(place.port)
    if place.is_name:
        if place.host != "localhost":
            raise InvalidValueError("is a host name, and nginy listens on addresses")
        return [f"127.0.0.1:{port}"]
    if not place.host or place.host == "0.0.0.0":
        return [f"*:{port}"]
    if place.host == "::":
        return [f"[::]:{port}"] if "v6only" in options else [f"*:{port}", f"[::]:{port}"]
    return [f"{place.host_text}:{port}"]


def _ports(text: str) -> str:
    """Return a port or a range of ports."""
    if not text:
        raise InvalidValueError("has no port")
    low, dash, high = text.partition("-")
    if not dash or "${" in text:
        return check_port(text)
    first = number(low, 1, 65535)
    return f"{first}-{number(high, first, 65535)}"


def proxies(binds: Sequence[Bind]) -> bool:
    """Return whether PROXY headers announce clients on one of these."""
    return any("accept-proxy" in bind.options for bind in binds)
