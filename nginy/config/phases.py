"""The keys of phases: what a client passes before its session goes to its content.

The records here are values of a listener's keys (schema.py). access.py has those of `access`; what
the phases do is in proxy/phases/phase.py.
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

from dataclasses import dataclass
from typing import Final

from nginy.config.access import NetworkList, Networks
from nginy.config.balance import KEY
from nginy.config.node import Findings, Node, ScalarNode
from nginy.config.record import Entry, ListOf, Record, Switch, key
from nginy.config.types import Choice, Duration, Flag, Integer, Plain, Text

LOG_LEVEL: Final = Choice("info", "notice", "warn", "error")
ZONE: Final = Text("a name for the zone", r"[\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptProxyProtocol(Entry):
    """Proxies in front of nginy, which announce their clients by a header (PROXY protocol)."""

    from_: NetworkList = key(
        Networks(),
        None,
        "The proxies that send a header: on each connection, or version 2 in each datagram.",
    )
    others: str = key(
        Choice("refuse", "plain"),
        "refuse",
        "Whether nginy refuses other clients, or serves them as clients without a header.",
    )
    timeout_ms: int = key(
        Duration(), "3s", "A header must be complete within this time; not for datagrams."
    )
    standalone: bool = key(
        Flag(),
        "off",
        "UDP: a header may also come alone, ahead of the datagrams of its client (Cloudflare).",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitConn(Entry):
    """How many sessions a key may have at a time. Each worker counts its own."""

    key_: str = key(KEY, None, "A text with variables; clients with the same text count as one.")
    max: int = key(Integer(1), None, "nginy refuses sessions beyond this many, with status 503.")
    zone: str = key(ZONE, "", "Listeners that name the same zone share its counts.")
    dry_run: bool = key(Flag(), "off", "nginy logs what it would refuse, and refuses nothing.")
    log_level: str = key(LOG_LEVEL, "warn", "A refused session is logged at this level.")
    max_keys: int = key(Integer(1), "100000", "A zone has at most this many keys.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitConnRate(Entry):
    """How many sessions a key may begin. Each worker counts its own."""

    key_: str = key(KEY, None, "A text with variables; clients with the same text count as one.")
    rate: int = key(Integer(1, 1_000_000), None, "New sessions a second, on average.")
    burst: int = key(Integer(1), "1", "This many may begin at once.")
    zone: str = key(ZONE, "", "Listeners that name the same zone share its counts.")
    dry_run: bool = key(Flag(), "off", "nginy logs what it would refuse, and refuses nothing.")
    log_level: str = key(LOG_LEVEL, "warn", "A refused session is logged at this level.")
    max_keys: int = key(
        Integer(1),
        "100000",
        "A zone has at most this many keys; it forgets the most idle first.",
    )


class Limits(ListOf[LimitConn]):
    """One limit or several, or `off` for none."""

    def __init__(self) -> None:
        super().__init__(Record(LimitConn, "limit_conn"))
        self.expected = f"off, {self.expected}"

    def read(self, node: Node, findings: Findings) -> tuple[LimitConn, ...]:
        """Return the limits in the order written."""
        if isinstance(node, ScalarNode) and node.text == "off":
            return ()
        return super().read(node, findings)

    def write(self, value: tuple[LimitConn, ...]) -> Plain:
        """Return a list, also of one, or the word."""
        return super().write(value) if value else "off"


LIMIT_CONN: Final = Limits()
LIMIT_CONN_RATE: Final = Switch(Record(LimitConnRate, "limit_conn_rate"))
ACCEPT_PROXY_PROTOCOL: Final = Switch(Record(AcceptProxyProtocol, "accept_proxy_protocol"))
