"""Limiting: the phases that hold a client to the limits of its key (`limit_conn` and its kin).

A key is a text with variables, such as `$remote_addr`; nginy does not count a session whose key is
empty. Counts belong to a zone: listeners that name one zone share its counts, and a reload keeps
them. Each process counts its own sessions; several workers have a count each.

`proxy/limits.py` has the counts for each key. A session gives back what it holds at its end
(`proxy/phases/arrival.py::Arrival.give_back`), even if a later phase refuses it.

nginx: ngx_stream_limit_conn_module.c.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from nginy.proxy.context import as_bytes
from nginy.proxy.limits import Counts, Rates
from nginy.proxy.phases.phase import Passage, Phase, PhaseResult, Phases, Refusal
from nginy.proxy.session import Reason, Session
from nginy.text.counts import counted

PASSED: Final = "PASSED"
REJECTED: Final = "REJECTED"
REJECTED_DRY_RUN: Final = "REJECTED_DRY_RUN"
"""Values of `$limit_conn_status` (nginx)."""

Key = Callable[[Session], str]
"""Computes the key of a session."""


class Zones:
    """The counts of a process, by zone. They live as long as a listener or a session uses them."""

    __slots__ = ("_counts", "_rates")

    def __init__(self) -> None:
        self._counts: WeakValueDictionary[str, Counts] = WeakValueDictionary()
        self._rates: WeakValueDictionary[tuple[str, int, int], Rates] = WeakValueDictionary()

    def counts(self, zone: str, max_keys: int) -> Counts:
        """Return the counts of a zone's sessions, the existing ones or new ones."""
        counts = self._counts.get(zone)
        if counts is None:
            counts = self._counts[zone] = Counts(max_keys)
        counts.max_keys = max_keys
        return counts

    def zone_of(self, counts: Counts) -> str:
        """Return the zone of these counts; "" if it is gone."""
        return next((zone for zone, each in self._counts.items() if each is counts), "")

    def known(self, zone: str) -> Counts | None:
        """Return the counts of a zone that a listener uses, None if none does."""
        return self._counts.get(zone)

    def tables(self) -> list[tuple[tuple[str, int, int], Rates]]:
        """Return the buckets of all zones, by zone, rate and burst."""
        return list(self._rates.items())

    def rates(self, zone: str, rate: int, burst: int, max_keys: int) -> Rates:
        """Return the buckets of a zone; a changed rate or burst begins with full ones."""
        rates = self._rates.get((zone, rate, burst))
        if rates is None:
            rates = self._rates[zone, rate, burst] = Rates(rate, burst, max_keys)
        rates.max_keys = max_keys
        return rates


@dataclass(frozen=True, slots=True)
class LimitConn(Phase):
    """Refuses a session if its key has `max` of them already (`limit_conn`)."""

    key: Key
    counts: Counts
    max: int
    zone: str
    is_dry_run: bool
    log_level: int = logging.WARNING

    def run(self, session: Session, rest: Phases) -> PhaseResult:
        """Count the session, or refuse it."""
        key = _key_of(self.key, session)
        if not key:
            return Passage.PASS
        arrival = session.arrived()
        if self.counts.take(key, self.max):
            arrival.held += ((self.counts, key),)
            arrival.limit_status = arrival.limit_status or PASSED
            return Passage.PASS
        arrival.limit_status = REJECTED_DRY_RUN if self.is_dry_run else REJECTED
        sessions = counted(self.max, "session")
        text = f'over limit_conn, {sessions} at a time in zone "{self.zone}"'
        return _over(session, text, is_dry_run=self.is_dry_run, level=self.log_level)


@dataclass(frozen=True, slots=True)
class LimitConnRate(Phase):
    """Refuses a session if its key begins too many of them (`limit_conn_rate`)."""

    key: Key
    rates: Rates
    rate: int
    zone: str
    is_dry_run: bool
    log_level: int = logging.WARNING

    def run(self, session: Session, rest: Phases) -> PhaseResult:
        """Take a token of the key's bucket, or refuse the session."""
        key = _key_of(self.key, session)
        if not key or self.rates.take(key, session.client.loop.clock.now_ms):
            return Passage.PASS
        sessions = counted(self.rate, "new session")
        text = f'over limit_conn_rate, {sessions} a second in zone "{self.zone}"'
        return _over(session, text, is_dry_run=self.is_dry_run, level=self.log_level)


def _key_of(key: Key, session: Session) -> bytes:
    return as_bytes(key(session))


def _over(session: Session, text: str, *, is_dry_run: bool, level: int) -> PhaseResult:
    """Refuse a session, or in a dry run log that it would have been refused."""
    if not is_dry_run:
        session.arrived().log_level = level
        return Refusal(Reason.OVER_LIMIT, text, "limit")
    session.log(level, f"{text}, dry run")
    return Passage.PASS
