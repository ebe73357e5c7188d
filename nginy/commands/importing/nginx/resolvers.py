"""`resolver`, which nginy has once for the whole file.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from typing import Final

from nginy.commands.importing.model import Block, Value, one_or_list
from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.commands.importing.nginx.reading import ConfReader
from nginy.commands.importing.nginx.scope import argument
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.values import duration, time_ms
from nginy.config.node import quote
from nginy.errors import InvalidValueError
from nginy.text.address import parse_bind_address
from nginy.text.units import format_duration

TIMEOUT: Final = "30s"
"""nginx's default."""
ONE: Final = "nginy has one resolver for all; the first one counts"


def read_resolvers(reading: ConfReader, stream: list[Directive]) -> None:
    """Set the resolver of the document, if there is one."""
    inner = [each for block in stream if block.block is not None for each in block.block]
    found = [each for each in (*stream, *inner) if each.name == "resolver"]
    times = [each for each in (*stream, *inner) if each.name == "resolver_timeout"]
    for first, *others in filter(None, (found, times)):
        for other in others:
            if other.words != first.words:
                reading.ledger.close(other, ONE)
    if not found:
        return
    with reading.ledger.judging(found[0]):
        resolver = _resolver(reading, found[0])
        resolver.set("timeout", TIMEOUT)
        if times:
            with reading.ledger.judging(times[0]):
                resolver.set("timeout", duration(argument(times[0])))
        reading.document.top.set("resolver", resolver)


def _resolver(reading: ConfReader, directive: Directive) -> Block:
    servers: list[Value] = []
    resolver = Block()
    for word in directive.arguments:
        name, _, value = word.partition("=")
        if name == "valid":
            resolver.set("valid", format_duration(max(1000, time_ms(value) // 1000 * 1000)))
        elif name == "ipv6" and value:
            resolver.set("ipv6", value)
        elif word == "ipv4=off":
            reading.ledger.close(directive, "nginy asks for IPv4 addresses, too")
        elif name not in ("ipv4", "status_zone"):
            servers.append(_server(word))
    if not servers:
        raise LeftOutError("it names no name server, so nginy asks those of the system")
    resolver.set("nameservers", one_or_list(servers))
    return resolver


def _server(text: str) -> str:
    try:
        parse_bind_address(text)
    except InvalidValueError:
        why = "is not an IP address, so nginy asks the system's name servers"
        raise LeftOutError(f"{quote(text)} {why}") from None
    return text
