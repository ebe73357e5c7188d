"""The value of `resolver`.

It is a key of the whole file (schema.py); backend/names/ asks the name servers.
"""

from dataclasses import dataclass

from nginy.config.addresses import NameServers
from nginy.config.record import Entry, key
from nginy.config.types import Duration, Flag, OrOff
from nginy.text.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver(Entry):
    """How the names of backends become addresses. /etc/hosts always comes first."""

    nameservers: tuple[Address, ...] = key(
        NameServers(), "auto", "The name servers to ask; auto is those in /etc/resolv.conf."
    )
    timeout_ms: int = key(Duration(), "5s", "A lookup may take this long, retries included.")
    valid_ms: int | None = key(
        OrOff(Duration(step_ms=1000)),
        "off",
        "nginy keeps an answer for this long; off uses the answer's TTL.",
    )
    hold_ms: int = key(
        Duration(), "30s", "A name must have no address for this long before it loses its backends."
    )
    ipv6: bool = key(Flag(), "on", "Whether nginy also asks for IPv6 addresses.")
