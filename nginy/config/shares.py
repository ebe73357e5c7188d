"""Which part of all clients each `share` of a listener's routes stands for.

As with nginx's split_clients, the shares of one key lie side by side: of two routes with 5 %, the
second takes the next 5 %, not those that the first has already taken. A route counts as taking them
if the later route has all its other conditions, too.

Not here: the hash (proxy/lookups.py), and what a client's key is (proxy/routing/conditions.py).

Tested in tests/config/test_routes.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nginy.config.record import keys_of
from nginy.config.routes import NO_ROUTE, Route
from nginy.proxy.lookups import WHOLE

ASKED = tuple(
    row.field
    for name, row in keys_of(Route).items()
    if name not in ("share", "key", "proxy_pass", "return", "deny")
)
"""The other conditions that a route may have."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of all clients: of their hashes, those from `low` and below `high`."""

    low: int
    high: int
    total: int
    """The share with those before it, in hundredths of a percent."""

    @property
    def is_last(self) -> bool:
        """Whether no client is left for a part after it."""
        return self.total == WHOLE


def parts_of(routes: Sequence[Route]) -> list[Part | None]:
    """Return the part of each route that has a share."""
    parts: list[Part | None] = []
    for number, route in enumerate(routes):
        if route.share is None:
            parts.append(None)
            continue
        total = low = 0
        for before in routes[:number]:
            if before.share is not None and before.key_ == route.key_ and _asks_less(before, route):
                total += before.share
                low += _hashes(before.share)
        total += route.share
        # nginx leaves no rounding error between the last share and 100 %.
        high = 1 << 32 if total == WHOLE else low + _hashes(route.share)
        parts.append(Part(low, high, total))
    return parts


def _hashes(share: int) -> int:
    return share * 0xFFFFFFFF // WHOLE


def _asks_less(first: Route, second: Route) -> bool:
    """Whether `second` has all conditions of `first`, apart from shares."""
    return all(
        getattr(first, name) in (getattr(NO_ROUTE, name), getattr(second, name)) for name in ASKED
    )
