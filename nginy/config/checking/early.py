"""Variables that a key needs before they can be known.

A session computes a variable of the configuration when a key first needs it, and keeps the value.
Limits come before the client's first bytes. So if a limit needs them, the value would be that of a
client who has sent nothing, and a `proxy_pass` would get the same wrong value later. nginy refuses
such a configuration. It also chooses a route before its own TLS handshake
(`proxy/phases/phase.py`).

Tested in tests/config/test_variables.py.
"""

from collections.abc import Collection, Iterator, Mapping

from nginy.config.node import Findings, Mark
from nginy.config.schema import Config, Listener
from nginy.config.variables import definitions
from nginy.proxy.lookups import Definition
from nginy.proxy.variables import PREREAD_VARIABLES, TLS_FACTS, names_in, needed


def check_early(config: Config, findings: Findings) -> None:
    """Report keys of limits, and conditions of routes, that cannot be known in time."""
    defined = definitions(config.variables)
    for listener in config.listeners:
        for mark, text in (*_limits(listener, defined), *_routes(listener, defined)):
            findings.report(mark, text)


def _limits(listener: Listener, defined: Mapping[str, Definition]) -> Iterator[tuple[Mark, str]]:
    rate = listener.limit_conn_rate
    for limit in (*listener.limit_conn, *(() if rate is None else (rate,))):
        # Other variables are simply empty, and a session does not keep them.
        own = [name for name in names_in(limit.key_) if name in defined]
        late = _late(own, {*PREREAD_VARIABLES, *TLS_FACTS}, defined)
        if late:
            yield limit.origin.of("key"), f"key: {late} when limits are checked"


def _routes(listener: Listener, defined: Mapping[str, Definition]) -> Iterator[tuple[Mark, str]]:
    for route in listener.routes:
        asked = {"when": [each.name for each in route.when], "key": names_in(route.key_)}
        for key, names in asked.items():
            late = _late(names, TLS_FACTS, defined)
            if late:
                yield route.origin.of(key), f"{key}: {late} when a route is chosen"


def _late(
    names: Collection[str], unknown: Collection[str], defined: Mapping[str, Definition]
) -> str:
    """Return the beginning of a sentence about the first name that needs one of `unknown`."""
    for name in names:
        need = needed(f"${name}", unknown, defined)
        if need == name:
            return f"${name} is not known yet"
        if need:
            return f"${name} needs ${need}, which is not known yet"
    return ""
