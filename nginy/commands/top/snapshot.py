"""Snapshot: what nginy said in one round of questions, and how fast its counts grow.

Rates are differences between two snapshots of the same process. A count that has fallen, or one of
another process, has no rate. With thousands of sessions, nginy does not count bytes for each
answer. While it has not, counts and rates stay as they were.

Pure: facts and times go in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

Facts = Mapping[str, Any]

BACKENDS: Final = "upstreams"
LISTENERS: Final = "listeners"
SESSIONS: Final = "sessions"
EVENTS: Final = "events"
VIEWS: Final = (BACKENDS, LISTENERS, SESSIONS, EVENTS)
LATER_S: Final = 0.05
"""A moment that is later than another by less may be the same one: nginy has two clocks."""
HISTORY: Final = 60
"""Rates of new sessions that are kept for the small chart."""

COUNTED: Final = {
    BACKENDS: "sessions_total",
    LISTENERS: "sessions_total",
    SESSIONS: "attempts",
}
"""The field that counts begun sessions in a row of each view."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Growth per second; None if unknown."""

    new: float | None = None
    received: float | None = None
    sent: float | None = None

    def __add__(self, other: "Rates") -> "Rates":
        """Return the sum of two rates."""
        return Rates(
            _plus(self.new, other.new),
            _plus(self.received, other.received),
            _plus(self.sent, other.sent),
        )


def _plus(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


UNKNOWN: Final = Rates()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One round."""

    at_s: float
    overview: Facts
    view: str = BACKENDS
    rows: Sequence[Facts] = ()
    """Of the view: backends, listeners, sessions or events."""
    more: int = 0
    """How many more rows nginy has."""
    details: Facts | None = None
    """More about one row."""
    about: str = ""
    """The key of that row."""
    counts: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    rates: Mapping[str, Rates] = field(default_factory=dict)
    """By the keys of rows; "" is nginy as a whole."""
    history: tuple[float, ...] = ()
    counts_of: "Snapshot | None" = None
    """The round that the counts are of; None: of this one."""

    @property
    def pid(self) -> object:
        """The process that answered."""
        return self.overview.get("pid")

    def age_s(self, at: str | None) -> float | None:
        """Return how long ago an instant was, by nginy's own clock."""
        if at is None:
            return None
        try:
            return (_instant(self.overview["at"]) - _instant(at)).total_seconds()
        except (KeyError, TypeError, ValueError):
            return None

    def has_counted_since(self, other: "Snapshot") -> bool:
        """Whether nginy has counted the bytes of open sessions since another round."""
        bytes_ = self.overview["bytes"]
        passed_s = self.age_s(other.overview.get("at"))
        if passed_s is None or "age_s" not in bytes_:  # an older one counts for each answer
            return True
        return bytes_["age_s"] is not None and passed_s - bytes_["age_s"] > LATER_S


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def key_of(view: str, row: Facts) -> str:
    """Return what makes a row the same one in the next snapshot."""
    if view == BACKENDS:
        return f"{row['upstream']}/{row['address']}"
    if view == LISTENERS:
        return f"{row['name']} {row['protocol']}"
    return str(row["id"] if view == SESSIONS else row["seq"])


def take(before: Snapshot | None, taken: Snapshot) -> Snapshot:
    """Return a snapshot with its rates since the one before."""
    counts = _counts(taken)
    rates: dict[str, Rates] = {}
    history: tuple[float, ...] = ()
    if before is not None and before.pid == taken.pid:
        counted = before.counts_of or before
        if not taken.has_counted_since(counted):
            kept = replace(taken, counts=before.counts, rates=before.rates, history=before.history)
            return replace(kept, counts_of=counted)
        passed_s = taken.at_s - counted.at_s
        history = before.history
        for key, now in counts.items():
            known = before.counts.get(key)
            if known is not None and passed_s > 0:
                rates[key] = Rates(
                    *(_rate(a, b, passed_s) for a, b in zip(known, now, strict=True))
                )
        new = rates.get("", UNKNOWN).new
        if new is not None:
            history = (*history, new)[-HISTORY:]
    return replace(taken, counts=counts, rates=rates, history=history)


def _rate(before: int, now: int, passed_s: float) -> float | None:
    return (now - before) / passed_s if now >= before else None


def _counts(taken: Snapshot) -> dict[str, tuple[int, int, int]]:
    overview = taken.overview
    bytes_ = overview["bytes"]
    counts = {"": (int(overview["sessions"]["total"]), bytes_["received"], bytes_["sent"])}
    counted = COUNTED.get(taken.view)
    if counted is not None:
        for row in taken.rows:
            both = row["received"], row["sent"]
            counts[key_of(taken.view, row)] = (int(row[counted]), *both)
    return counts
