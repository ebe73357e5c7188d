"""`server`, `default-server` and `server-template` as backends.

A server has the options of the `default-server` lines before it, those of `defaults` first, and its
own. Other modules read what belongs to the whole upstream in nginy (checks, TLS, the queue) from
the same `Server`s.

Source: HAProxy's configuration manual, 5.2 "Server and default-server options", "server-template".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.options import OPPOSITES, SERVER, Option, parse_options
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.values import (
    HostOrPath,
    check_port,
    duration,
    number,
    parse_place,
)
from nginy.commands.importing.model import Block, refuse
from nginy.commands.importing.report import Fate
from nginy.config.node import quote
from nginy.errors import InvalidValueError

V2: Final = ("send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn")
TLVS_OF_NGINY: Final = frozenset({"crc32c", "authority", "ssl", "unique-id", "cert-cn"})


@dataclass(slots=True)
class Server:
    """A server with all its options, each with the line that it comes from."""

    line: Line
    name: str
    place: HostOrPath
    options: dict[str, tuple[Option, Line]] = field(default_factory=dict)
    block: Block = field(default_factory=Block)

    def has(self, *names: str) -> bool:
        """Whether it has one of these options."""
        return any(name in self.options for name in names)

    def value(self, name: str) -> str:
        """Return the first word behind an option; "" if it is not there."""
        found = self.options.get(name)
        return found[0].value if found is not None else ""

    def origin(self, name: str) -> Line:
        """Return the line that an option comes from."""
        found = self.options.get(name)
        return found[1] if found is not None else self.line

    @property
    def is_off(self) -> bool:
        """Whether no client ever gets there."""
        return self.has("disabled") or self.value("weight") == "0"

    @property
    def is_backup(self) -> bool:
        """Whether it serves only while no other can."""
        return self.has("backup")


def read_servers(proxy: Proxy, ledger: Ledger) -> list[Server]:
    """Return the servers of a proxy, except those that nginy cannot have."""
    presets: dict[str, tuple[Option, Line]] = {}
    servers = []
    for line in proxy.all("default-server", "server", "server-template"):
        try:
            if line.word(0) == "default-server":
                presets = _options(line, line.words[1:], presets, ledger)
                ledger.exact(line)
            else:
                server = _server(line, presets, ledger)
                if server is not None:
                    servers.append(server)
        except InvalidValueError as error:
            name = f"{line.word(0)} {quote(line.word(1))}"
            raise refuse(line.file, line.number, f"{name} {error.clause}") from None
    for server in servers:
        _write(server, ledger)
    return servers


def _server(line: Line, presets: dict[str, tuple[Option, Line]], ledger: Ledger) -> Server | None:
    """Return the server of a line; judge it and return None if nginy cannot have it."""
    words = line.words
    first = 3 if words[0] == "server" else 4
    if len(words) < first:
        raise InvalidValueError("has no address")
    options = _options(line, words[first:], presets, ledger)
    ledger.exact(line)
    text = words[first - 1]
    try:
        place = _place(text)
    except InvalidValueError as error:
        ledger.left_out(line, f"{quote(text)} {error.clause}: this server gets no clients")
        return None
    server = Server(line, words[1], place, options)
    if words[0] == "server-template":
        _template(server, words[2], ledger)
    return server


def _place(text: str) -> HostOrPath:
    """Return where a server listens. Raise InvalidValueError for what nginy cannot have."""
    place = parse_place(text)
    if place.path or _service(place.host)[0]:
        return place
    if place.host in ("", "0.0.0.0", "::"):
        raise InvalidValueError("leads to where the client wanted to go")
    if place.port.startswith("-"):
        raise InvalidValueError("subtracts a number from the client's port")
    if not place.port.strip("+") and place.is_name:
        raise InvalidValueError("has the client's port, which only IP addresses can have")
    if place.port.startswith("+"):
        number(place.port[1:], 0, 65534)
        if place.is_name:
            raise InvalidValueError("has the client's port, which only IP addresses can have")
    elif place.port:
        check_port(place.port)
    return place


def _template(server: Server, count: str, ledger: Ledger) -> None:
    """A template becomes one backend whose name stands for many."""
    host = server.place.host
    if not server.place.is_name:
        ledger.close(server.line, "one backend instead of several with one address")
        return
    if "resolvers" not in server.options:
        server.options["resolvers"] = (Option("resolvers", ()), server.line)
    ledger.close(
        server.line, f"each address of {host} is a backend, even beyond the {quote(count)} places"
    )


def _options(
    line: Line,
    words: Sequence[str],
    presets: dict[str, tuple[Option, Line]],
    ledger: Ledger,
) -> dict[str, tuple[Option, Line]]:
    """Return the options of a line over those before it; judge those that nginy lacks."""
    options = dict(presets)
    for option in parse_options(words, SERVER):
        for name in OPPOSITES.get(option.name, ()):
            options.pop(name, None)
        if option.name not in OPPOSITES:
            options[option.name] = option, line
        if option.name == "disabled":
            options.pop("enabled", None)
        row = SERVER.get(option.name)
        if row is None:
            ledger.left_out(line, f"{quote(option.name)} is not known")
        elif not row.is_read or row.fate is Fate.CLOSE:
            ledger.judge(line, row.fate, f"{option.name}: {row.text}")
    return options


def _write(server: Server, ledger: Ledger) -> None:
    """Write a backend's own keys."""
    block, place = server.block, server.place
    ledger.place(server.line, block)
    _address(server)
    for name, key, make in _KEYS:
        value = _value(server, name, make) if server.value(name) else ""
        if value and (key, value) != ("weight", "0"):
            block.set(key, value)
    if server.has("backup"):
        block.set("backup", "on")
    if server.is_off:
        block.set("down", "on")
    if server.has(*V2):
        block.set("proxy_protocol", "v2")
    elif server.has("send-proxy"):
        block.set("proxy_protocol", "v1")
    if server.has("resolvers") and place.is_name:
        block.set("resolve", "on")
    wanted = server.value("proxy-v2-options").split(",")
    for option in set(wanted) - TLVS_OF_NGINY - {""}:
        text = f"proxy-v2-options: nginy's header has no {option}"
        ledger.left_out(server.origin("proxy-v2-options"), text)


def _address(server: Server) -> None:
    """Write where a backend listens, by address, by name or by service."""
    block, place = server.block, server.place
    if place.path:
        block.set("address", f"unix:{place.path}")
        return
    service, host = _service(place.host)
    if service:
        block.set("address", host)
        block.set("service", service)
        return
    block.set("address", f"{place.host_text}:{place.port or '+0'}")


def _service(text: str) -> tuple[str, str]:
    """Return service and host of a name of SRV records, such as _http._tcp.example.com."""
    name, dot, host = text.partition("._tcp.")
    return (f"{name}._tcp", host) if dot and name.startswith("_") else ("", text)


def _value(server: Server, name: str, make: Callable[[str], str]) -> str:
    text, line = server.value(name), server.origin(name)
    try:
        return make(text)
    except InvalidValueError as error:
        raise refuse(line.file, line.number, f"{name} {quote(text)} {error.clause}") from None


def _count(text: str) -> str:
    return text if "${" in text else str(number(text))


def _weight(text: str) -> str:
    return text if "${" in text else str(number(text, 0, 256))


_KEYS: Final[Sequence[tuple[str, str, Callable[[str], str]]]] = (
    ("weight", "weight", _weight),
    ("maxconn", "max_conns", _count),
    ("slowstart", "slow_start", duration),
)


def agreed(servers: Iterable[Server], name: str, ledger: Ledger, default: str = "") -> str:
    """Return the value of an option that belongs to the upstream in nginy; judge the others."""
    servers = list(servers)
    values = [server.value(name) or default for server in servers]
    first = next(iter(values), default)
    for server, value in zip(servers, values, strict=True):
        if value != first:
            text = f"{name} {value or 'unset'}: in nginy, {name} {first or 'unset'} applies to all"
            ledger.close(server.line, text)
    return first


def option_lines(servers: Iterable[Server], name: str) -> Iterator[Line]:
    """Yield the lines that an option comes from, each once."""
    yield from dict.fromkeys(server.origin(name) for server in servers if server.has(name))
