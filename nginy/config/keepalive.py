"""The value of `so_keepalive`.

It is a listener's key (schema.py); event/bind.py sets the options.

Tested in tests/config/test_load.py.
"""

from dataclasses import dataclass
from typing import Final

from nginy.config.node import Findings, Node, ScalarNode
from nginy.config.record import Entry, Record, Switch, key
from nginy.config.types import Duration, Integer, OrOff

SECONDS: Final = Duration(step_ms=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoKeepalive(Entry):
    """TCP keepalive with its own times; None leaves the system's."""

    idle_ms: int | None = key(
        OrOff(SECONDS),
        "75s",
        "The first probe follows this much silence (TCP_KEEPIDLE).",
    )
    interval_ms: int | None = key(
        OrOff(SECONDS), "15s", "The time between two probes (TCP_KEEPINTVL)."
    )
    count: int | None = key(
        OrOff(Integer(1, 127)),
        "4",
        "This many probes without an answer end the connection (TCP_KEEPCNT).",
    )


class Keepalive(Switch[SoKeepalive]):
    """TCP keepalive, where `on` means what it means elsewhere: the system's own times."""

    def __init__(self) -> None:
        super().__init__(Record(SoKeepalive, "so_keepalive"))

    def read(self, node: Node, findings: Findings) -> SoKeepalive | None:
        """Return the times, None for `off`."""
        if isinstance(node, ScalarNode) and node.text == "on":
            return SoKeepalive(idle_ms=None, interval_ms=None, count=None)
        return super().read(node, findings)
