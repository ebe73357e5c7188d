"""Routes: which way a client takes, by who it is and by its first bytes.

The first route whose conditions all hold decides. Pure: what nginy knows of a client goes in, a
route comes out, or the verdict that it takes more bytes to tell. `proxy/phases/preread.py` looks at
the bytes; `proxy/routing/routed.py` follows the route; `config/routes.py` reads the keys.

A condition has three verdicts (`wire/expect.py::Verdict`), and so has the table. The table passes
over a route that cannot hold, whatever may come; the first undecided one makes the client wait,
since it would take precedence. So no client waits for bytes that its route does not depend on.

The one idea: look names up instead of searching for them. Once a client has said which server it
wants, only routes can hold that list this name or a suffix of it, and those that ask for no name or
by a pattern. The table has the former by name. A thousand routes by `sni` cost as much as one.

nginx: `map` with `$ssl_preread_server_name` and `split_clients`. HAProxy: `use_backend`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import merge

from nginy.proxy.routing.conditions import MORE, NO, YES, ClientFacts, Condition, Ports, ServerName
from nginy.proxy.routing.patterns import NAME_MAX_CHARACTERS
from nginy.wire.expect import Verdict


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """Where a route leads: to an upstream, to a built-in answer, or nowhere."""

    proxy_pass: str | None = None
    answer: str | None = None

    @property
    def is_denied(self) -> bool:
        """Whether it turns clients away."""
        return self.proxy_pass is None and self.answer is None

    def __str__(self) -> str:
        if self.proxy_pass is not None:
            return f"proxy_pass {self.proxy_pass}"
        return "deny" if self.answer is None else "return"


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One route of a listener."""

    number: int
    """Its place in the list of the configuration, from 1."""
    conditions: tuple[Condition, ...]
    target: RouteTarget

    @property
    def needs_bytes(self) -> bool:
        """Whether a condition depends on what the client sends."""
        return any(condition.needs_bytes for condition in self.conditions)

    def judge(self, facts: ClientFacts) -> Verdict:
        """Tell whether all conditions hold: one that does not is enough for a NO."""
        verdict = YES
        for condition in self.conditions:
            judged = condition.judge(facts)
            if judged is NO:
                return NO
            if judged is MORE:
                verdict = MORE
        return verdict

    def fails_at(self, facts: ClientFacts) -> Condition | None:
        """Return the first condition that does not hold, None if all do."""
        return next((each for each in self.conditions if each.judge(facts) is not YES), None)


class RouteTable:
    """The routes of a listener, ready for lookups."""

    __slots__ = ("_by_name", "_by_suffix", "_others", "needs_bytes", "routes", "waits")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self.needs_bytes = any(route.needs_bytes for route in self.routes)
        first = self.routes[0].conditions if self.routes else ()
        self.waits = bool(first) and all(condition.needs_bytes for condition in first)
        """Whether there is certainly no answer without a byte."""
        self._by_name: dict[str, list[int]] = {}
        self._by_suffix: dict[str, list[int]] = {}
        self._others: list[int] = []
        """The places of routes that any name may take."""
        for place, route in enumerate(self.routes):
            self._enter(place, route)

    def _enter(self, place: int, route: Route) -> None:
        names = next((each for each in route.conditions if isinstance(each, ServerName)), None)
        texts = () if names is None else names.patterns.texts
        if not texts or any(text.startswith("~") for text in texts):
            self._others.append(place)
            return
        for text in dict.fromkeys(texts):
            if text.startswith("*."):
                self._by_suffix.setdefault(text[2:], []).append(place)
            else:
                self._by_name.setdefault(text, []).append(place)

    def choose(self, facts: ClientFacts) -> Route | Verdict:
        """Return the first route that holds, NO if none does, MORE if bytes are needed to tell."""
        if facts.hello is None:
            places: Iterable[int] = range(len(self.routes))
        else:
            places = self._possible(facts.hello.server_name)
        for place in places:
            route = self.routes[place]
            verdict = route.judge(facts)
            if verdict is YES:
                return route
            if verdict is MORE:
                return MORE
        return NO

    def _possible(self, name: str) -> Iterable[int]:
        """Return the places of routes that may hold for a name, in their order."""
        found = []
        if name:
            if name in self._by_name:
                found.append(self._by_name[name])
            if self._by_suffix and len(name) <= NAME_MAX_CHARACTERS:
                _, dot, rest = name.partition(".")
                while dot:
                    if rest in self._by_suffix:
                        found.append(self._by_suffix[rest])
                    _, dot, rest = rest.partition(".")
        if not found:
            return self._others
        if self._others:
            found.append(self._others)
        return found[0] if len(found) == 1 else merge(*found)

    def on_port(self, port: int) -> "RouteTable":
        """Return the table of only those routes that may hold on a port."""
        facts = ClientFacts("", port, str)
        routes = [
            route
            for route in self.routes
            if all(each.judge(facts) is YES for each in route.conditions if type(each) is Ports)
        ]
        return self if len(routes) == len(self.routes) else RouteTable(routes)
