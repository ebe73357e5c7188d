"""From one configured name and its endpoints to backends: pure, and in a stable order.

The order matters: hash methods must make the same choice on every node, whatever the order of an
answer. `watch` knows the endpoints; `members` takes the backends.

Source: RFC 2782 for priorities and weights; nginx's reading of them in
`ngx_stream_upstream_zone_module.c`.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from math import gcd
from typing import Final

from nginy.backend.backend import BackendSettings
from nginy.backend.names.answers import Endpoint
from nginy.text.address import Address

MAX_SRV_WEIGHT: Final = 100
"""SRV weights have 16 bits and only mean shares, while a ring has 160 points for each unit."""


@dataclass(slots=True)
class _Share:
    """One address, with the sum of all endpoints there."""

    endpoint: Endpoint
    weight: int


def expand(settings: BackendSettings, endpoints: Sequence[Endpoint]) -> list[BackendSettings]:
    """Return the backends that a configured name stands for: one for each address.

    Without endpoints it is one unusable backend, named as configured. Of a service, the
    endpoints of the lowest priority number are primaries and the others backups, and the weights
    are those of the records unless the configuration sets one. Records that lead to one address
    are one backend. It has the best priority among them, and the sum of the weights of that
    priority: RFC 2782 has clients choose each record by its weight.
    """
    if not endpoints:
        return [settings]
    first = min(endpoint.priority for endpoint in endpoints)
    shares = _shares(endpoints)
    weights = _weights(settings, [share.weight for share in shares.values()])
    expanded = []
    for (address, share), weight in zip(shares.items(), weights, strict=True):
        endpoint = share.endpoint
        is_backup = settings.backup or endpoint.priority > first
        name = f"{endpoint.host}:{endpoint.port}" if settings.service else settings.name
        expanded.append(
            replace(settings, name=name, address=address, weight=weight, backup=is_backup)
        )
    return expanded


def _shares(endpoints: Sequence[Endpoint]) -> dict[Address, _Share]:
    shares: dict[Address, _Share] = {}
    for endpoint in sorted(endpoints, key=_order):
        share = shares.setdefault(address_of(endpoint), _Share(endpoint, 0))
        if share.endpoint.priority == endpoint.priority:
            share.weight += endpoint.weight
    return shares


def _order(endpoint: Endpoint) -> tuple[int, str, int, str]:
    return endpoint.priority, endpoint.host, endpoint.port, endpoint.address


def _weights(settings: BackendSettings, weights: Sequence[int]) -> list[int]:
    """Return the weights of the records in their smallest terms, at least 1."""
    # A weight of 1 is the default, and as good as none.
    if not settings.service or settings.weight != 1:
        return [settings.weight] * len(weights)
    raised = [max(weight, 1) for weight in weights]
    divisor = max(gcd(*raised), -(-max(raised) // MAX_SRV_WEIGHT))
    return [max(weight // divisor, 1) for weight in raised]


def address_of(endpoint: Endpoint) -> Address:
    """Return the socket address of an endpoint; its values passed a check when they came in."""
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    return Address(family, endpoint.address, endpoint.port)


def refusal(address: Address) -> str:
    """Return why nginy must send no client to an address that a name has, "" if it may.

    0.0.0.0 and :: lead back to this very machine, and a group of machines serves no session.
    """
    ip = ip_address(address.host.removeprefix("::ffff:"))
    if ip.is_unspecified:
        return "is not the address of a server"
    if ip.is_multicast or address.host == "255.255.255.255":
        return "is the address of a group of machines"
    return ""
