"""Where a listener may lead: its own target, and those of its routes.

Everybody who asks which upstreams a listener uses asks here: checks, warnings, the plan of a
reload, and `process/`. A way of naming an upstream that is missing here is missing everywhere.

Not here: whether a target exists (check.py).

Tested in tests/config/test_routes.py.
"""

from collections.abc import Iterable, Iterator

from nginy.config.node import Mark
from nginy.config.schema import Listener


def targets_of(listener: Listener) -> Iterator[tuple[str, Mark]]:
    """Yield each upstream, or address, that a listener names, with its place in the file."""
    if listener.proxy_pass is not None and listener.origin.has("proxy_pass"):
        yield listener.proxy_pass, listener.origin.of("proxy_pass")
    for route in listener.routes:
        if route.proxy_pass is not None and route.origin.has("proxy_pass"):
            yield route.proxy_pass, route.origin.of("proxy_pass")


def upstreams_of(listener: Listener) -> list[str]:
    """Return the names of a listener's upstreams, each once."""
    return list(dict.fromkeys(name for name, _ in targets_of(listener)))


def by_upstream(listeners: Iterable[Listener]) -> dict[str, list[Listener]]:
    """Return the listeners that may lead to each upstream, by its name."""
    found: dict[str, list[Listener]] = {}
    for listener in listeners:
        for name in upstreams_of(listener):
            found.setdefault(name, []).append(listener)
    return found
