"""From the `routes` of a checked configuration to the table in which nginy looks up each client.

Like build.py, of which it is a part, it binds nothing and opens nothing. All addresses of a
listener share one table, unless routes ask for a port; then each port has those that it may need.

nginx: `ngx_stream_map_block` and its like.

Tested in tests/config/test_routes.py.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from nginy.config.routes import Route, Wanted
from nginy.config.schema import Listener
from nginy.config.shares import Part, parts_of
from nginy.proxy.lookups import Definition, parse_pattern
from nginy.proxy.phases.preread import ChooseRoute
from nginy.proxy.routing import conditions, routes
from nginy.proxy.routing.conditions import Condition
from nginy.proxy.routing.routes import RouteTable, RouteTarget
from nginy.proxy.session import Session
from nginy.proxy.variables import needs_preread
from nginy.wire.starts import parse_starts

Compile = Callable[[str], Callable[[Session], str]]
"""Turns a text with variables into what fills it in."""


class RouteTables:
    """The tables of one listener, each made once."""

    def __init__(
        self, listener: Listener, definitions: Mapping[str, Definition], *, is_late: bool = False
    ) -> None:
        """Take the variables of the configuration as well, which may depend on first bytes.

        `is_late` says whether they do for clients that take no route.
        """
        self._listener = listener
        self._is_late = is_late
        self.whole = RouteTable(
            routes.Route(number, tuple(_conditions(route, part, definitions)), target_of(route))
            for number, (route, part) in enumerate(
                zip(listener.routes, parts_of(listener.routes), strict=True), 1
            )
        )
        self._by_numbers: dict[tuple[int, ...], RouteTable] = {}

    def of(self, port: int) -> RouteTable:
        """Return the table for clients of a port, 0 on a unix socket."""
        table = self.whole.on_port(port)
        if self._is_late:
            target = default_of(self._listener)
            assert target is not None  # or nothing could depend on it
            last = routes.Route(len(self.whole.routes) + 1, (conditions.Known(),), target)
            table = RouteTable((*table.routes, last))
        numbers = tuple(route.number for route in table.routes)
        return self._by_numbers.setdefault(numbers, table)

    def phase(self, port: int, compile_text: Compile) -> ChooseRoute:
        """Return the phase that chooses a route of the listener on a port."""
        listener, table = self._listener, self.of(port)
        texts = {
            text
            for route in table.routes
            for condition in route.conditions
            for text in condition.texts
        }
        return ChooseRoute(
            table,
            port,
            {text: compile_text(text) for text in texts},
            has_default=default_of(listener) is not None,
            size_bytes=listener.preread.size_bytes,
            timeout_ms=listener.preread.timeout_ms,
        )


def target_of(route: Route) -> RouteTarget:
    """Return where a route leads."""
    return RouteTarget(route.proxy_pass, route.return_)


def default_of(listener: Listener) -> RouteTarget | None:
    """Return where a listener leads clients that no route matches; None turns them away."""
    target = RouteTarget(listener.proxy_pass, listener.return_)
    return None if target.is_denied else target


def _conditions(
    route: Route, part: Part | None, definitions: Mapping[str, Definition]
) -> Iterator[Condition]:
    """Yield the conditions of a route, the cheapest first."""
    if route.from_ is not None:
        yield conditions.From(route.from_.table)
    if route.port:
        yield conditions.Ports(route.port)
    if route.is_tls is not None:
        yield conditions.IsTls(route.is_tls)
    if route.sni:
        yield conditions.ServerName(route.sni)
    if route.alpn:
        yield conditions.Protocols(route.alpn)
    if route.starts is not None:
        yield conditions.StartsWith(parse_starts(route.starts))
    if part is not None:
        is_late = needs_preread(route.key_, definitions)
        yield conditions.Share(route.key_, part.low, part.high, is_late)
    for wanted in route.when:
        yield _when(wanted, needs_preread(f"${wanted.name}", definitions))


def _when(wanted: Wanted, is_late: bool) -> Condition:
    patterns: list[re.Pattern[str]] = []
    exact = set()
    for value in wanted.values:
        if value.startswith("~"):
            patterns.append(parse_pattern(value))
        else:
            exact.add(value)
    return conditions.When(wanted.name, frozenset(exact), tuple(patterns), is_late)
