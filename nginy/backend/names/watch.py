"""What a configured name stands for, kept up to date: the link between resolver and pool.

A `NameWatch` asks the resolver for one name, and again at its TTL, and says when the endpoints
behind it have changed. `expand` makes backends of them, `members` brings the pool's list in step,
and `resolver` resolves names.

The one idea: silence changes nothing. A name server that refuses, or that nobody can reach, leaves
the endpoints as they were. Only its word that there is no such name, or no such record, empties
them, and only if it stands by it for a while (`hold`): one wrong answer among good ones must not
leave clients without a backend.

nginy asks for a name without `resolve` until it has an answer, and then no more until a reload. The
absence of `resolve` means the same in nginx, which does not start without an answer.

nginx: `ngx_stream_upstream_zone_module.c` (`resolve`), `ngx_stream_upstream_add_server` in
`ngx_stream_upstream.c` (without). HAProxy: `hold nx`.
"""

import logging
from collections.abc import Callable
from typing import Final

from nginy.backend.backend import BackendSettings
from nginy.backend.names.answers import MAX_ENDPOINTS, Endpoint, Resolution
from nginy.backend.names.expand import address_of, refusal
from nginy.backend.names.resolver import Resolver
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE
from nginy.text.address import Address
from nginy.text.units import format_duration
from nginy.wire.dns import Outcome

logger = logging.getLogger("nginy.backend")

FIRST_RETRY_MS: Final = 1000
"""When to ask again after a failure; twice as long after each further one."""
MAX_RETRY_MS: Final = 16_000
MAX_EMPTY_RETRY_MS: Final = 4000
"""When to ask again at the latest for a name that has no address: clients are turned away."""

Refuse = Callable[[Address], str]
"""Says why no client may be sent to an address, "" if there is no reason."""


class NameWatch:
    """One name of an upstream. Created and closed by the pool's `Members`."""

    __slots__ = (
        "_changed",
        "_empty_since_ms",
        "_is_asking",
        "_is_closed",
        "_loop",
        "_outcome",
        "_refuse",
        "_resolver",
        "_retry_ms",
        "_timer",
        "_upstream",
        "_warned",
        "address",
        "endpoints",
        "is_repeating",
        "service",
    )

    def __init__(
        self,
        loop: Loop,
        resolver: Resolver,
        upstream: str,
        settings: BackendSettings,
        changed: Callable[[], None],
        refuse: Refuse = refusal,
    ) -> None:
        """Ask nothing yet, but take what other uses of the name have found.

        Call `changed` when `endpoints` are others than before, or there certainly are none.
        """
        self._loop = loop
        self._resolver = resolver
        self._upstream = upstream
        self._changed = changed
        self._refuse = refuse
        self._timer = Timer(self._next_question_handler, self)
        self._retry_ms = FIRST_RETRY_MS
        self._is_asking = self._is_closed = False
        self._outcome: Outcome | None = None
        self._empty_since_ms: int | None = None
        """Since when the answer has been that there is no address."""
        self._warned: frozenset[str] = frozenset()
        """What of the last answer could not be used, which is logged once."""
        self.address = settings.address
        self.service = settings.service
        self.is_repeating = settings.resolve
        """Whether to ask again when an answer has expired; a reload may change it."""
        self.endpoints = self._recalled()

    @property
    def is_settled(self) -> bool:
        """Whether the first question has an answer, or has failed."""
        return self._outcome is not None

    @property
    def is_certain(self) -> bool:
        """Whether `endpoints` are what the name stands for, and not empty for want of an answer."""
        since_ms = self._empty_since_ms
        return bool(self.endpoints) or (
            since_ms is not None and self._loop.clock.now_ms >= since_ms + self._hold_ms
        )

    @property
    def _hold_ms(self) -> int:
        return self._resolver.settings.hold_ms

    def ask(self) -> None:
        """Ask, unless a question is under way; an earlier answer may still hold."""
        if self._is_asking:
            return
        self._is_asking = True
        self._loop.timers.cancel(self._timer)
        host = self.address.host
        if self.service:
            port = self.address.port
            self._resolver.resolve_service(self.service, host, port, self._resolved)
        else:
            self._resolver.resolve(host, self._resolved)

    def close(self) -> None:
        """Ask no more, and ignore an answer that may still come."""
        self._is_closed = True
        self._loop.timers.cancel(self._timer)
        del self._timer  # which refers to this watch as well: see `BackendWatch.close`

    def __str__(self) -> str:
        """Return what log lines call it."""
        return self._subject

    def abort(self) -> None:
        """Try again later, after a bug."""
        self._is_asking = False
        self._start(MAX_RETRY_MS)

    def _recalled(self) -> tuple[Endpoint, ...]:
        """Return what the resolver knows already: somebody may have used the name with another
        port, in another upstream or in another spelling."""
        host, port = self.address.host, self.address.port
        if self.service:
            known = self._resolver.recall_service(self.service, host, port)
        else:
            known = self._at_port(self._resolver.recall(host))
        return tuple(endpoint for endpoint in known if not self._refuse(address_of(endpoint)))

    def _at_port(self, addresses: tuple[str, ...]) -> tuple[Endpoint, ...]:
        host, port = self.address.host, self.address.port
        return tuple(Endpoint(host, address, port) for address in addresses)

    # Answers.

    def _resolved(self, resolution: Resolution) -> None:
        self._is_asking = False
        if self._is_closed:
            return
        before, self._outcome = self._outcome, resolution.outcome
        endpoints, reason = self._usable(resolution)
        if resolution.outcome is Outcome.FAILED:
            self._failed(resolution.reason, is_first=before is not Outcome.FAILED)
            if endpoints:
                self._take(endpoints)
        elif endpoints:
            self._retry_ms = FIRST_RETRY_MS
            self._empty_since_ms = None
            if resolution.ttl_ms is not None and self.is_repeating:
                self._start(resolution.ttl_ms)
            self._take(endpoints)
        else:
            self._found_none(resolution, reason)

    def _usable(self, resolution: Resolution) -> tuple[tuple[Endpoint, ...], str]:
        """Return the endpoints that may get clients, and log once why others may not."""
        left_out = list(resolution.left_out)
        endpoints = []
        for endpoint in resolution.endpoints or self._at_port(resolution.addresses):
            why = self._refuse(address_of(endpoint))
            if why:
                left_out.append(f"{endpoint.address} {why}")
            else:
                endpoints.append(endpoint)
        for clause in left_out:
            if clause not in self._warned:
                self._log(logging.WARNING, "%s: %s, so it is left out", clause)
        self._warned = frozenset(left_out)
        return tuple(endpoints), "; ".join(left_out) or resolution.reason

    def _found_none(self, resolution: Resolution, reason: str) -> None:
        """Take an answer that leaves nothing: at once if there is nothing already, else after
        `hold`."""
        now_ms = self._loop.clock.now_ms
        is_first = self._empty_since_ms is None
        if is_first:
            self._empty_since_ms = now_ms
            self._retry_ms = FIRST_RETRY_MS
        self._retry(MAX_EMPTY_RETRY_MS)
        if not self.endpoints:
            if is_first:
                self._log(logging.WARNING, "%s has no address: %s", reason)
            self._changed()
        elif self._empty_since_ms is not None and now_ms >= self._empty_since_ms + self._hold_ms:
            self._log(logging.WARNING, "%s has no address any more: %s", reason)
            self._take(())
        elif is_first:
            self._log(
                logging.WARNING,
                "%s has no address: %s; keeping %d for %s (hold)",
                reason,
                len(self.endpoints),
                format_duration(self._hold_ms),
            )

    def _take(self, endpoints: tuple[Endpoint, ...]) -> None:
        come, gone = set(endpoints) - set(self.endpoints), set(self.endpoints) - set(endpoints)
        if not come and not gone:
            return
        self.endpoints = endpoints
        if endpoints:
            count = f"{len(endpoints)} address{'es' * (len(endpoints) > 1)}"
            if len(endpoints) == MAX_ENDPOINTS:
                count += ", the maximum"
            text = "%s has %s: %d new, %d gone"
            self._log(NOTICE, text, count, len(come), len(gone))
        self._changed()

    def _failed(self, reason: str, *, is_first: bool) -> None:
        kept = f"keeping {len(self.endpoints)}" if self.endpoints else "it has no address yet"
        level = logging.WARNING if is_first else logging.INFO
        self._log(level, "%s cannot be resolved, %s: %s", kept, reason)
        if self.is_repeating or not self.endpoints:
            self._retry(MAX_RETRY_MS)
        if not self.endpoints:
            self._changed()

    def _retry(self, longest_ms: int) -> None:
        """Ask again soon, and each time a bit later."""
        self._start(min(self._retry_ms, longest_ms))
        self._retry_ms = min(2 * self._retry_ms, longest_ms)

    def _log(self, level: int, text: str, *args: object) -> None:
        """Log what begins with the name; in a worker that does not lead, only for debugging.

        All workers hear the same answers, and the leader's line stands for all.
        """
        is_said = self._resolver.queries.is_leading()
        logger.log(level if is_said else logging.DEBUG, text, self._subject, *args)

    @property
    def _subject(self) -> str:
        service = f" service {self.service}" if self.service else ""
        return f'upstream "{self._upstream}": {self.address.name}{service}'

    def _start(self, delay_ms: int) -> None:
        self._loop.timers.start(self._timer, self._loop.clock.now_ms + delay_ms)

    def _next_question_handler(self, _timer: Timer) -> None:
        self.ask()
