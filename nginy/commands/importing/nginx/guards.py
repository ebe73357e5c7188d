"""Which clients may connect: allow and deny, limit_conn, and their PROXY protocol.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from dataclasses import dataclass
from typing import Final

from nginy.commands.importing.model import Block, Value, one_or_list
from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.commands.importing.nginx.listens import Listen
from nginy.commands.importing.nginx.proxying import header_timeout
from nginy.commands.importing.nginx.reading import ConfReader
from nginy.commands.importing.nginx.scope import Scope, argument, named
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.values import network, number
from nginy.proxy.variables import KEY_VARIABLES

EVERYBODY: Final = frozenset({"0.0.0.0/0", "::/0"})
LEVELS: Final = ("info", "notice", "warn", "error")
NO_REALIP: Final = (
    "without set_real_ip_from, nginx keeps using the proxy's address; nginy uses the announced"
    " client's, for access, limits, keys, logs and backends"
)
OTHERS: Final = (
    "nginy refuses clients that are not in set_real_ip_from; nginx serves them, under the address"
    " of their connection"
)


def set_access(reading: ConfReader, scope: Scope, listener: Block) -> None:
    """Set which clients may connect; each rule keeps its comments."""
    rules: list[Value] = []
    for directive in scope.all("allow", "deny"):
        with reading.ledger.judging(directive):
            rule = Block({directive.name: network(argument(directive))})
            if not directive.is_placed:
                rule.comment(directive.above)
                rule.behind[""] = directive.behind
                directive.is_placed = True
            rules.append(rule)
    if rules:
        listener.set("access", rules)


def set_header(scope: Scope, listener: Block, listen: Listen) -> None:
    """Set accept_proxy_protocol for a `listen` with proxy_protocol."""
    trusted = []
    for directive in scope.all("set_real_ip_from"):
        with scope.ledger.judging(directive):
            trusted.append(network(argument(directive)))
    if not listen.has_header:
        return
    if not trusted:
        scope.ledger.close(listen.directive, NO_REALIP)
    elif not set(trusted) >= EVERYBODY:
        scope.ledger.close(listen.directive, OTHERS)
    networks = one_or_list(trusted or ["all"])
    listener.set(
        "accept_proxy_protocol", Block({"from": networks, "timeout": header_timeout(scope)})
    )


@dataclass(frozen=True, slots=True)
class Zone:
    """One limit_conn_zone."""

    directive: Directive
    key: str


def read_zones(reading: ConfReader, stream: list[Directive]) -> dict[str, Zone]:
    """Return the zones by their names."""
    zones = {}
    for directive in named(stream, "limit_conn_zone"):
        with reading.ledger.judging(directive):
            words = directive.arguments
            name = next((word[5:] for word in words[1:] if word.startswith("zone=")), "")
            name = name.partition(":")[0]
            if not name or not words:
                raise LeftOutError("it has no key or no name, so it limits nobody")
            try:
                key = reading.definitions.text(words[0], KEY_VARIABLES)
            except LeftOutError as error:
                raise LeftOutError(f"{error}, so it limits nobody") from None
            zones[name] = Zone(directive, key.replace("$binary_remote_addr", "$remote_addr"))
    return zones


def set_limits(reading: ConfReader, scope: Scope, listener: Block, zones: dict[str, Zone]) -> None:
    """Set how many sessions a key may have."""
    level = scope.word("limit_conn_log_level", "error")
    limits: list[Value] = []
    for directive in scope.all("limit_conn"):
        with scope.ledger.judging(directive):
            words = directive.arguments
            if len(words) != 2 or words[0] not in zones:
                raise LeftOutError("its zone does not exist, so it limits nobody")
            limit = Block({"key": zones[words[0]].key, "max": number(words[1], 1)})
            limit.set("zone", words[0])
            limit.set("log_level", level if level in LEVELS else "error")
            if scope.is_on("limit_conn_dry_run"):
                limit.set("dry_run", "on")
            limits.append(limit)
            if reading.has_workers:
                text = "each worker of nginy counts its own sessions; those of nginx count together"
                scope.ledger.close(directive, text)
    if limits:
        listener.set("limit_conn", one_or_list(limits))
