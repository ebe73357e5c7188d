"""The rules of `routes` that span keys: targets, keys that do not go together, and routes that no
client can ever take.

The last ones are warnings: such a configuration does what it says. One route *covers* another if it
takes every client that the other asks for; this module compares them key by key, as written. It
does not find two routes that take everything only together, nor a pattern that another pattern
covers.

It does not compare a thousand routes by name with each other: a route can be covered only by one
that asks for no name, for a pattern, or for a name or suffix that it lists.

Not here: single values (routes.py), and whether a target exists (check.py).

Tested in tests/config/test_routes.py.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final

from nginy.config.node import Findings, Mark, quote
from nginy.config.routes import Route
from nginy.config.schema import Listener
from nginy.config.shares import parts_of
from nginy.proxy.access import parse_network
from nginy.proxy.lookups import WHOLE
from nginy.proxy.routing.patterns import Patterns
from nginy.wire.expect import Verdict
from nginy.wire.starts import parse_starts

TLS_ONLY: Final = ("sni", "alpn", "is_tls")
WORDS: Final = ("all", "unix:")
COMPARED_MAX: Final = 256
"""At most this many routes without a name are each compared with all that follow."""


def check_routes(listener: Listener, findings: Findings) -> None:
    """Report routes that cannot be followed."""
    _check_shares(listener, findings)
    for route in listener.routes:
        _check_target(route, findings)
        if listener.protocol == "udp" and listener.origin.has("protocol"):
            for name in TLS_ONLY:
                if name in route.origin.keys:
                    text = f"{name}: is for tcp listeners, this one is udp"
                    findings.report(route.origin.of(name), text)


def _check_shares(listener: Listener, findings: Findings) -> None:
    """Report shares above 100 % in sum, and keys without a share."""
    for route, part in zip(listener.routes, parts_of(listener.routes), strict=True):
        if part is None and "key" in route.origin.keys and route.origin.has("share"):
            findings.report(route.origin.of("key"), "key: needs share")
        if part is not None and part.total > WHOLE:
            text = f"share: with those before it, it makes {part.total / 100:g}%, expected 100% or"
            findings.report(route.origin.of("share"), f"{text} less")


def _check_target(route: Route, findings: Findings) -> None:
    """Report a route without exactly one target."""
    origin = route.origin
    if not origin.has("proxy_pass", "return", "deny"):
        return
    targets = {
        "proxy_pass": route.proxy_pass is not None,
        "return": route.return_ is not None,
        "deny": route.deny,
    }
    first, *others = [name for name, is_set in targets.items() if is_set] or [""]
    if not first:
        text = 'a route leads nowhere, expected "proxy_pass", "return" or "deny: on"'
        findings.report(origin.mark, text)
    for name in others:
        text = f"{name}: {first} is set at {origin.of(first)}, expected one of the two"
        findings.report(origin.of(name), text)


# Routes that nobody can take.


def idle_routes(listener: Listener) -> Iterator[tuple[Mark, str]]:
    """Yield the place of each route that no client can take, and why."""
    known = _Known()
    for route, part in zip(listener.routes, parts_of(listener.routes), strict=True):
        why = _contradiction(route, listener)
        if not why:
            cover = known.cover_of(route)
            if cover is not None:
                why = f"the route at {cover.origin.mark} takes all its clients"
        if why:
            yield route.origin.mark, f"no client can take this route: {why}"
        elif part is None or part.is_last:
            # The last share and those before it take everybody that it asks for.
            known.add(replace(route, share=None))
    everybody = known.cover_of(Route())
    target = "proxy_pass" if listener.proxy_pass is not None else "return"
    if everybody is not None and (listener.proxy_pass or listener.return_ is not None):
        text = f"no client reaches {target}: the route at {everybody.origin.mark} takes all of them"
        yield listener.origin.of(target), text


def _contradiction(route: Route, listener: Listener) -> str:
    """Return why no client can have all that a route asks for; "" if one can."""
    ports = [address.port for address in listener.listen if not address.is_unix]
    if route.port and not any(low <= port <= high for port in ports for low, high in route.port):
        return "the listener has none of its ports"
    asked = next((name for name in ("sni", "alpn") if getattr(route, name)), "")
    if asked and route.is_tls is False:
        return f"{asked} is a part of TLS, and is_tls is off"
    is_text = route.starts is not None and _is_no_tls(route.starts)
    if is_text and (asked or route.is_tls):
        text = quote(route.starts or "")
        return f"{asked or 'is_tls'} asks for TLS, which does not start with {text}"
    return ""


def _is_no_tls(starts: str) -> bool:
    """Whether no ClientHello starts with this."""
    parsed = parse_starts(starts)
    return not any(
        parsed.judge(head, is_complete=False) is not Verdict.NO
        for head in (b"\x16\x03", *(bytes((first,)) for first in range(0x80, 0x100)))
    )


class _Known:
    """Earlier routes, by the names that they ask for."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[Route]] = {}
        self._others: list[Route] = []

    def add(self, route: Route) -> None:
        if not route.sni or any(text.startswith("~") for text in route.sni):
            self._others.append(route)
            del self._others[COMPARED_MAX:]
        for text in route.sni:
            self._by_name.setdefault(text, []).append(route)

    def cover_of(self, route: Route) -> Route | None:
        """Return an earlier route that takes all clients of `route`."""
        texts = [text for name in route.sni[:1] for text in _and_suffixes(name)]
        by_name = [each for text in texts for each in self._by_name.get(text, ())]
        return next((each for each in (*self._others, *by_name) if _covers(each, route)), None)


def _and_suffixes(name: str) -> Iterator[str]:
    yield name
    _, dot, rest = name.removeprefix("*.").partition(".")
    if name.startswith("*."):
        rest, dot = name[2:], "."
    while dot:
        yield f"*.{rest}"
        _, dot, rest = rest.partition(".")


def _covers(first: Route, second: Route) -> bool:
    """Whether `first` takes every client that `second` asks for."""
    asked_from = ("all",) if second.from_ is None else second.from_.texts
    if first.from_ is not None and not _has_all(first.from_.texts, asked_from):
        return False
    if first.port and not (second.port and _within(first.port, second.port)):
        return False
    if not _all_fit(first.sni, second.sni) or not _all_fit(first.alpn, second.alpn):
        return False
    is_tls = True if second.sni or second.alpn else second.is_tls
    if first.is_tls is not None and first.is_tls is not is_tls:
        return False
    if first.starts is not None and not _starts_within(first.starts, second.starts):
        return False
    asked = {each.name: set(each.values) for each in second.when}
    return all(asked.get(each.name, {""}) <= set(each.values) for each in first.when)


def _has_all(outer: tuple[str, ...], inner: tuple[str, ...]) -> bool:
    """Whether each network of `inner` lies in one of `outer`."""
    if "all" in outer:
        return True
    return all(
        text in outer or (text not in WORDS and any(_lies_in(text, each) for each in outer))
        for text in inner
    )


def _lies_in(inner: str, outer: str) -> bool:
    if outer in WORDS:
        return False
    a, b = _network(outer), _network(inner)
    return a.family == b.family and a.first <= b.first and b.last <= a.last


_network = lru_cache(maxsize=4096)(parse_network)


def _within(outer: tuple[tuple[int, int], ...], inner: tuple[tuple[int, int], ...]) -> bool:
    return all(any(a <= low and high <= b for a, b in outer) for low, high in inner)


def _all_fit(outer: tuple[str, ...], inner: tuple[str, ...]) -> bool:
    """Whether every name that fits one of `inner` fits one of `outer`, which is any if empty."""
    if not outer:
        return True
    patterns = Patterns([text for text in outer if not text.startswith("~")])
    return bool(inner) and all(
        text in outer or (not text.startswith("~") and patterns.fit(text)) for text in inner
    )


def _starts_within(outer: str, inner: str | None) -> bool:
    if inner is None:
        return False
    if outer.startswith("~") or inner.startswith("~"):
        return outer == inner
    return parse_starts(inner).prefix.startswith(parse_starts(outer).prefix)
