"""Which route a client would take, and why not another: the part of `nginy explain` on `routes`.

The command line says what a client would send first: `sni=www.example.com alpn=h2,http/1.1`,
`starts=SSH-2.0` or `is_tls=on`. Without these words, the client waits for the server. The real
table and the real conditions decide (`proxy/routing/routes.py`); this module puts them into words.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nginy.commands.flow import flow
from nginy.commands.visitor import Visitor
from nginy.config.building.routes import RouteTables, default_of
from nginy.config.building.tls import is_passed_through, terminations
from nginy.config.checking.targets import awaits_hello
from nginy.config.node import closest, did_you_mean, quote
from nginy.config.routes import ROUTE, Route
from nginy.config.schema import Config, Listener
from nginy.config.variables import definitions
from nginy.errors import NginyError
from nginy.proxy.routing.conditions import ClientFacts, knows
from nginy.proxy.routing.routes import RouteTarget
from nginy.wire.client_hello import NOT_TLS, Hello, parse
from nginy.wire.errors import WireError
from nginy.wire.expect import unescape
from nginy.wire.shown import shown

TLS_HEAD = b"\x16\x03\x01"
"""The first bytes of a ClientHello of which the command line gives only the contents."""
ASKED = ("from", "port", "is_tls", "sni", "alpn", "starts", "share", "key", "when")
WORDS = ("sni", "alpn", "starts", "is_tls")


@dataclass(frozen=True, slots=True)
class FirstBytes:
    """What a client sends first."""

    head: bytes = b""
    hello: Hello = NOT_TLS

    def __str__(self) -> str:
        if not self.hello.is_tls:
            return shown(self.head) if self.head else "nothing: the client waits for the server"
        name = f"for {self.hello.server_name}" if self.hello.server_name else "without a name"
        offered = f", offering {', '.join(self.hello.alpn)}" if self.hello.alpn else ""
        return f"a ClientHello {name}{offered}"


def parse_first_bytes(words: Sequence[str]) -> FirstBytes:
    """Return what words such as "sni=a.example" say about a client. Raises NginyError."""
    said: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in WORDS or not equals:
            hint = did_you_mean(closest(name, WORDS))
            text = f"{quote(word)} does not describe a client{hint}, expected"
            raise NginyError(f"{text} {', '.join(f'{each}=...' for each in WORDS)}")
        said[name] = value
    if said.get("is_tls", "on") not in ("on", "off"):
        raise NginyError(f"is_tls: {quote(said['is_tls'])} is not valid, expected on or off")
    is_tls = said.get("is_tls") == "on" or "sni" in said or "alpn" in said
    if is_tls and ("starts" in said or said.get("is_tls") == "off"):
        other = "starts" if "starts" in said else "is_tls=off"
        raise NginyError(f"{other} cannot be combined with sni, alpn or is_tls=on")
    if is_tls:
        alpn = tuple(filter(None, said.get("alpn", "").split(",")))
        return FirstBytes(TLS_HEAD, Hello(True, said.get("sni", "").lower(), alpn))
    try:
        head = unescape(said.get("starts", ""))
        return FirstBytes(head, parse(head) or NOT_TLS)
    except WireError as error:
        raise NginyError(f"starts: {quote(said['starts'])}: {error}") from None


def tls_lines(listener: Listener, route: Route | None) -> Iterator[str]:
    """Say whether a client's TLS is terminated, if the listener terminates any."""
    tls = listener.tls if route is None else route.tls or listener.tls
    if route is not None and is_passed_through(route) and any(terminations(listener)):
        yield "tls       passed through"
    elif tls is not None:
        yield f"tls       terminated, at {tls.origin.mark}"
    elif any(terminations(listener)):
        yield "tls       passed through"


def route_lines(
    config: Config, listener: Listener, port: int, visitor: Visitor, first: FirstBytes
) -> Iterator[str | RouteTarget]:
    """Yield a line for each route up to the one that is taken, then its `RouteTarget`.

    If no route is taken and there is no default, the target denies.
    """
    defined = definitions(config.variables)
    is_late = awaits_hello(listener, config, defined)
    table = RouteTables(listener, defined, is_late=is_late).whole
    facts = ClientFacts(visitor.context.remote_addr, port, visitor.filled_in)
    knows(facts, first.head, first.hello, is_complete=True)
    if (table.needs_bytes or is_late) and listener.protocol == "tcp":
        yield f"preread   {first}"
    for route, entry in zip(table.routes, listener.routes, strict=True):
        failed = route.fails_at(facts)
        asked = ROUTE.write(entry)
        head = f"route {route.number:<3}"
        if failed is None:
            conditions = [name for name in asked if name in ASKED]
            why = ", ".join(f"{name} {flow(asked[name])}" for name in conditions)
            yield f"{head} taken: {why or 'it has no conditions'}, at {entry.origin.mark}"
            yield from tls_lines(listener, entry)
            if route.target.is_denied:
                end = "its datagrams are dropped" if listener.protocol == "udp" else "status 403"
                yield f"choice    none: {end}, denied by this route"
            yield route.target
            return
        yield f"{head} no: {failed.key} {flow(asked[failed.key])}, but {failed.said(facts)}"
    yield from tls_lines(listener, None)
    default = default_of(listener)
    if default is None:
        end = "its datagrams are dropped" if listener.protocol == "udp" else "status 403"
        yield f"choice    none: {end}, no route matches"
    yield default or RouteTarget()
