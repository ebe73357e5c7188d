"""Possible values of a variable of the configuration, as far as the file tells.

A `proxy_pass: $name` leads to upstreams, each of which must exist before nginy sends a client
there; a limit whose key is empty for everybody limits nobody. So the checks of a configuration go
through the values. One that depends on the client stays a text with variables.

Not here: what follows from a value (checking/targets.py, checking/check.py).

Tested in tests/config/test_variables.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nginy.config.lookups import FILE
from nginy.config.node import NOWHERE, Mark
from nginy.config.variables import VariableSettings
from nginy.proxy.lookups import WHOLE, parse_share
from nginy.proxy.variables import names_in


@dataclass(frozen=True, slots=True)
class Possible:
    """A value that a variable may have."""

    text: str
    """The value; where it depends on the client, a text with variables."""
    mark: Mark
    """Where the configuration says so."""


def possible(name: str, variables: Mapping[str, VariableSettings]) -> Iterator[Possible]:
    """Yield the possible values of `name`; checks end earlier if a circle leads through it."""
    return _possible(name, variables, frozenset())


def is_always_empty(name: str, variables: Mapping[str, VariableSettings]) -> bool:
    """Whether a variable is one of the configuration that is empty for every client."""
    settings = variables.get(name)
    if settings is None or settings.definition is None:
        return False
    return not any(each.text for each in possible(name, variables))


def _possible(
    name: str, variables: Mapping[str, VariableSettings], above: frozenset[str]
) -> Iterator[Possible]:
    settings = variables[name]
    if settings.definition is None:  # which has a message of its own
        return
    for each in (*_listed(settings), *_from_file(settings), *_default(settings)):
        used = names_in(each.text)
        is_other = len(used) == 1 and each.text == f"${used[0]}" and used[0] in variables
        if is_other and used[0] not in above | {name}:
            yield from _possible(used[0], variables, above | {name})
        else:
            yield each


def _listed(settings: VariableSettings) -> Sequence[Possible]:
    values = settings.values
    pairs = zip(values.texts, values.marks, strict=True)
    return [
        Possible(text, mark)
        for (key, text), (_, mark) in pairs
        if settings.geo is None or key != FILE
    ]


def _from_file(settings: VariableSettings) -> Sequence[Possible]:
    """Return what the files of a geo say: their lines are many, so their place is the key's."""
    if settings.definition is None or settings.geo is None:
        return ()
    known = {each.text for each in _listed(settings)}
    pairs = zip(settings.values.texts, settings.values.marks, strict=True)
    mark = next((mark for (key, _), (_, mark) in pairs if key == FILE), NOWHERE)
    *values, _ = settings.definition.values
    return [Possible(text, mark) for text in values if text not in known]


def _default(settings: VariableSettings) -> Sequence[Possible]:
    """Return the default, unless shares leave nobody for it."""
    if settings.split is not None:
        total = sum(parse_share(share) for share, _ in settings.values.texts)
        if total == WHOLE:
            return ()
    return (Possible(settings.default, settings.origin.of("default")),)
