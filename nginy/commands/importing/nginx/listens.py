"""From `listen` to the addresses of listeners, and what its parameters ask for.

nginx has the parameters for each address, nginy for each listener. So addresses of one server with
different parameters become several listeners.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from dataclasses import dataclass
from typing import Final

from nginy.commands.importing.model import Block, Value, refuse
from nginy.commands.importing.nginx.ledger import Ledger, LeftOutError
from nginy.commands.importing.nginx.scope import argument
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.table import STREAMS
from nginy.commands.importing.nginx.values import number, time_ms
from nginy.config.node import quote
from nginy.errors import InvalidValueError
from nginy.text.address import parse_listen
from nginy.text.units import format_duration

BUFFERS: Final = "the system sizes socket buffers by itself"
CLOSE_PARAMETERS: Final = {
    "accept_filter": "Linux has no accept filters",
    "deferred": "nginy accepts a client at once, and not with its first bytes",
    "fastopen": "nginy has no TCP Fast Open, so such clients need one round trip more",
    "multipath": "nginy has no Multipath TCP, so such clients use plain TCP",
    "rcvbuf": BUFFERS,
    "setfib": "Linux has no routing tables by socket",
    "sndbuf": BUFFERS,
}
"""Parameters whose loss clients may notice, though it changes no byte."""
NOTHING: Final = frozenset({"bind", "default_server", "reuseport", "ssl", "udp", "proxy_protocol"})
"""Parameters that need no key, or one that is set elsewhere."""


@dataclass(slots=True)
class Listen:
    """One `listen`."""

    directive: Directive
    addresses: list[str]
    is_udp: bool = False
    is_ssl: bool = False
    has_header: bool = False
    """Whether clients send a PROXY header."""
    backlog: str = ""
    keepalive: Value = "off"

    @property
    def options(self) -> tuple[object, ...]:
        """What all addresses of one listener have in common."""
        keepalive = self.keepalive
        times = tuple(keepalive.values.items()) if isinstance(keepalive, Block) else keepalive
        return (self.is_udp, self.is_ssl, self.has_header, self.backlog, times)

    @property
    def protocol(self) -> str:
        """The protocol by nginy's name."""
        return "udp" if self.is_udp else "tcp"


def read_listen(directive: Directive, ledger: Ledger) -> Listen:
    """Return what a `listen` says; raise LeftOutError if nothing can listen there."""
    addresses = _addresses(argument(directive))
    listen = Listen(directive, addresses)
    for word in directive.arguments[1:]:
        name, _, value = word.partition("=")
        if name in CLOSE_PARAMETERS:
            ledger.close(directive, CLOSE_PARAMETERS[name])
        elif name == "backlog":
            with ledger.judging(directive):
                listen.backlog = number(value, 1) if value != "-1" else ""
        elif name == "so_keepalive":
            with ledger.judging(directive):
                listen.keepalive = _keepalive(value)
        elif name == "ipv6only":
            if value == "off" and addresses[0].startswith("[::]:"):
                listen.addresses.append(f"0.0.0.0:{addresses[0].removeprefix('[::]:')}")
        elif word in STREAMS and "=" not in word and word not in NOTHING:
            text = f'"{word}" within "listen", expected ";" before it'
            raise refuse(directive.file, directive.line, text)
        elif word not in NOTHING:
            ledger.close(directive, f"nginy does not know {quote(word)} here")
    words = directive.arguments
    listen.is_udp, listen.is_ssl = "udp" in words, "ssl" in words
    listen.has_header = "proxy_protocol" in words
    return listen


def _addresses(text: str) -> list[str]:
    """Return an address as nginy has it."""
    written = text
    if text.isdigit():
        written = f"0.0.0.0:{text}"
    elif text.startswith("*:"):
        written = f"0.0.0.0:{text[2:]}"
    elif text.startswith("localhost:"):
        written = f"127.0.0.1:{text[10:]}"
    try:
        parse_listen(written)
    except InvalidValueError as error:
        raise LeftOutError(f"{quote(text)} {error.clause}, so nothing listens there") from None
    return [written]


def _keepalive(text: str) -> Value:
    """Return the value of so_keepalive: on, off, or idle:interval:count."""
    if text in ("on", "off"):
        return text
    parts = text.split(":")
    if len(parts) != 3:
        raise LeftOutError(f"{quote(text)} is not a value of so_keepalive, so it is off")
    keepalive = Block()
    for key, part in zip(("idle", "interval", "count"), parts, strict=True):
        if not part:
            keepalive.set(key, "off")
        elif key == "count":
            keepalive.set(key, number(part, 1))
        else:
            keepalive.set(key, format_duration(max(1000, time_ms(part) // 1000 * 1000)))
    return keepalive
