"""Where a listener may lead: its own target, and those of its routes, by name or by a variable.

All code that needs the upstreams of a listener asks here: checks, warnings, the plan of a reload,
and `process/`. A way of naming an upstream that is missing here is missing everywhere.

A `proxy_pass: $name` leads to the possible values of the variable. `with_choices` finds them once,
when the whole configuration has been read, and keeps them with the entry.

Not here: whether a target exists (check.py).

Tested in tests/config/test_routes.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from nginy.config.node import Mark
from nginy.config.possible import Possible, possible
from nginy.config.routes import Route
from nginy.config.schema import Config, Listener
from nginy.config.variables import VariableSettings
from nginy.proxy.lookups import Definition
from nginy.proxy.variables import needs_preread

Entry = TypeVar("Entry", Listener, Route)


def entries_of(listener: Listener) -> tuple[Listener | Route, ...]:
    """Return everything that may have a `proxy_pass`: the listener and its routes."""
    return (listener, *listener.routes)


def targets_of(listener: Listener) -> Iterator[tuple[str, Mark]]:
    """Yield each upstream, or address, that a listener names, with its place in the file."""
    for entry in entries_of(listener):
        yield from _targets_of(entry)


def _targets_of(entry: Listener | Route) -> Iterator[tuple[str, Mark]]:
    if entry.proxy_pass is None or not entry.origin.has("proxy_pass"):
        return
    if is_by_variable(entry):
        yield from ((each.text, each.mark) for each in entry.choices)
    else:
        yield entry.proxy_pass, entry.origin.of("proxy_pass")


def is_by_variable(entry: Listener | Route) -> bool:
    """Whether each client of an entry goes where a variable says."""
    return entry.proxy_pass is not None and entry.proxy_pass.startswith("$")


def is_routed(listener: Listener, config: Config, definitions: Mapping[str, Definition]) -> bool:
    """Whether clients of a listener go different ways, or nginy must look at them first."""
    if listener.routes or is_by_variable(listener):
        return True
    return awaits_hello(listener, config, definitions)


def awaits_hello(listener: Listener, config: Config, definitions: Mapping[str, Definition]) -> bool:
    """Whether the way of clients that match no route depends on their first bytes."""
    upstreams = [config.upstreams.get(name) for name, _ in _targets_of(listener)]
    keys = [upstream.balance.key for upstream in upstreams if upstream is not None]
    texts = (listener.proxy_pass or "", listener.return_ or "", *keys)
    return any(needs_preread(text, definitions) for text in texts)


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


def with_choices(config: Config) -> Config:
    """Return the configuration in which each `proxy_pass: $name` knows where it may lead."""
    entries = [entry for each in config.listeners for entry in entries_of(each)]
    if not any(is_by_variable(entry) for entry in entries):
        return config
    variables = config.variables
    listeners = [
        replace(
            _chosen(listener, variables),
            routes=tuple(_chosen(route, variables) for route in listener.routes),
        )
        for listener in config.listeners
    ]
    return replace(config, listeners=tuple(listeners))


def _chosen(entry: Entry, variables: Mapping[str, VariableSettings]) -> Entry:
    name = (entry.proxy_pass or "").removeprefix("$")
    if not is_by_variable(entry) or name not in variables:
        return entry
    choices: dict[str, Possible] = {}
    for each in possible(name, variables):
        choices.setdefault(each.text, each)
    return replace(entry, choices=tuple(choices.values()))
