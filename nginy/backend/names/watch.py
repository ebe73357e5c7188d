"""What a configured name stands for, kept up to date: the link between resolver and pool.

A `NameWatch` asks the resolver for one name, and again at its TTL, and says when the places behind
it have changed. `expand` makes of one configured backend as many as it has places. What that does
to a pool is in `members`; how names are resolved is in `resolver`.

The one idea: silence changes nothing. A name server that cannot be reached, or refuses, leaves the
places as they were; only its word that there is no such name, or no such record, empties them.

A name without `resolve` is asked for until it has an answer, and then no more until a reload:
nginx's meaning, but nginx does not start before.

nginx: `ngx_stream_upstream_zone_module.c` (`resolve`), `ngx_stream_upstream_add_server` in
`ngx_stream_upstream.c` (without).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import gcd
from typing import Final

from nginy.backend.backend import BackendSettings
from nginy.backend.names.resolver import MAX_PLACES, Place, Resolution, Resolver
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE
from nginy.text.address import Address, parse_address
from nginy.wire.dns import Outcome

logger = logging.getLogger("nginy.backend")

RETRY_MS: Final = 1000
"""When to ask again after a failure; twice as long after each further one."""
MAX_RETRY_MS: Final = 16_000
MAX_SRV_WEIGHT: Final = 100
"""SRV weights have 16 bits and say only shares, while a ring has 160 points for a unit."""


class NameWatch:
    """One name of an upstream. Created and closed by the pool's `Members`."""

    __slots__ = (
        "_changed",
        "_is_asking",
        "_is_closed",
        "_loop",
        "_outcome",
        "_resolver",
        "_retry_ms",
        "_timer",
        "_upstream",
        "address",
        "is_repeating",
        "places",
        "service",
    )

    def __init__(
        self,
        loop: Loop,
        resolver: Resolver,
        upstream: str,
        settings: BackendSettings,
        changed: Callable[[], None],
    ) -> None:
        """Ask nothing yet; `changed` is called when `places` are others than before."""
        self._loop = loop
        self._resolver = resolver
        self._upstream = upstream
        self._changed = changed
        self._timer = Timer(self._timer_handler, self)
        self._retry_ms = RETRY_MS
        self._is_asking = self._is_closed = False
        self._outcome: Outcome | None = None
        self.address = settings.address
        self.service = settings.service
        self.is_repeating = settings.resolve
        """Whether to ask again when an answer has expired; a reload may change it."""
        self.places: tuple[Place, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether the first question has been answered, or has failed."""
        return self._outcome is not None

    def ask(self) -> None:
        """Ask, unless that is under way; what is known may be the answer at once."""
        if self._is_asking:
            return
        self._is_asking = True
        self._loop.timers.cancel(self._timer)
        if self.service:
            self._resolver.resolve_service(self.service, self.address.host, self._resolved)
        else:
            self._resolver.resolve(self.address.host, self._resolved)

    def close(self) -> None:
        """Ask no more, and ignore an answer that is still to come."""
        self._is_closed = True
        self._loop.timers.cancel(self._timer)
        del self._timer  # which refers to this watch as well: see `BackendWatch.close`

    def abort(self) -> None:
        """Try again later, after a bug."""
        self._is_asking = False
        self._start(MAX_RETRY_MS)

    def _resolved(self, resolution: Resolution) -> None:
        self._is_asking = False
        if self._is_closed:
            return
        before, self._outcome = self._outcome, resolution.outcome
        if resolution.outcome is Outcome.FAILED:
            self._failed(resolution.reason, is_first=before is not Outcome.FAILED)
            return
        self._retry_ms = RETRY_MS
        places = resolution.places or tuple(
            Place(self.address.host, address, self.address.port, 0, 0)
            for address in resolution.addresses
        )
        if not places and before is not resolution.outcome:
            logger.warning("%s has no address: %s", self._subject, resolution.reason)
        if resolution.ttl_ms is not None and (self.is_repeating or not places):
            self._start(resolution.ttl_ms)
        if set(places) != set(self.places):
            self._take(places)

    def _take(self, places: tuple[Place, ...]) -> None:
        come, gone = set(places) - set(self.places), set(self.places) - set(places)
        self.places = places
        if places:
            count = f"{len(places)} address{'es' * (len(places) > 1)}"
            if len(places) == MAX_PLACES:
                count += ", the most that are used"
            text = "%s has %s: %d new, %d gone"
            logger.log(NOTICE, text, self._subject, count, len(come), len(gone))
        self._changed()

    def _failed(self, reason: str, *, is_first: bool) -> None:
        kept = f"keeping {len(self.places)}" if self.places else "it has no address yet"
        level = logging.WARNING if is_first else logging.INFO
        logger.log(level, "%s cannot be resolved, %s: %s", self._subject, kept, reason)
        if self.is_repeating or not self.places:
            self._start(self._retry_ms)
            self._retry_ms = min(2 * self._retry_ms, MAX_RETRY_MS)

    @property
    def _subject(self) -> str:
        service = f" service {self.service}" if self.service else ""
        return f'upstream "{self._upstream}": {self.address.name}{service}'

    def _start(self, delay_ms: int) -> None:
        self._loop.timers.start(self._timer, self._loop.clock.now_ms + delay_ms)

    def _timer_handler(self, _timer: Timer) -> None:
        self.ask()


def expand(settings: BackendSettings, places: Sequence[Place]) -> list[BackendSettings]:
    """Return the backends that a configured name stands for: one a place, in a lasting order.

    Without places it is one that cannot be used, named as configured. Of a service, the places of
    the lowest priority number are primaries and the others backups (RFC 2782, nginx's reading of
    it), and the weights are those of the records unless the configuration sets one.
    """
    if not places:
        return [settings]
    first = min(place.priority for place in places)
    weights = _weights(settings, places)
    expanded: dict[Address, BackendSettings] = {}
    for place, weight in sorted(zip(places, weights, strict=True), key=_order):
        address = _address(place)
        is_backup = settings.backup or place.priority > first
        name = f"{place.host}:{place.port}" if settings.service else settings.name
        expanded.setdefault(
            address,
            replace(settings, name=name, address=address, weight=weight, backup=is_backup),
        )
    return list(expanded.values())


def _order(weighted: tuple[Place, int]) -> tuple[int, str, int, str]:
    place = weighted[0]
    return place.priority, place.host, place.port, place.address


def _weights(settings: BackendSettings, places: Sequence[Place]) -> list[int]:
    """Return the places' weights, brought down to their smallest terms, at least 1."""
    # A weight of 1 is the default, and as good as none.
    if not settings.service or settings.weight != 1:
        return [settings.weight] * len(places)
    weights = [max(place.weight, 1) for place in places]
    divisor = max(gcd(*weights), -(-max(weights) // MAX_SRV_WEIGHT))
    return [max(weight // divisor, 1) for weight in weights]


def _address(place: Place) -> Address:
    host = f"[{place.address}]" if ":" in place.address else place.address
    return parse_address(f"{host}:{place.port}")
