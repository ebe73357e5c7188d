"""The keys of phases: what a client passes before its session goes to its content.

The records here are values of a listener's keys (schema.py). access.py has those of `access`; what
the phases do is in proxy/phases.py.
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

from dataclasses import dataclass
from typing import Final

from nginy.config.access import NetworkList, Networks
from nginy.config.record import Entry, Record, Switch, key
from nginy.config.types import Choice, Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptProxyProtocol(Entry):
    """Proxies in front of nginy, which announce their clients by a header (PROXY protocol)."""

    from_: NetworkList = key(
        Networks(), None, "The proxies that send a header, version 1 or 2, on each connection."
    )
    others: str = key(
        Choice("refuse", "plain"),
        "refuse",
        "Whether nginy refuses other clients, or serves them as clients without a header.",
    )
    timeout_ms: int = key(Duration(), "3s", "A header must be complete after this time.")


ACCEPT_PROXY_PROTOCOL: Final = Switch(Record(AcceptProxyProtocol, "accept_proxy_protocol"))
