"""The book of changes: what operators have set while nginy runs, who, why, until when.

A change concerns one key of one backend (`state`, `weight`, `max_conns`) and keeps the value that
the file had for it. A reload whose file has another value ends the change: the file always wins,
and the log says so. Otherwise the change stays. A change may be a lease, which ends by itself.

Pure: times are arguments, and `overrides` returns what to tell the backends
(`backend/override.py`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from nginy.backend.override import Override
from nginy.text.times import utc_text
from nginy.wire.agent import Mode

KEYS: Final = ("state", "weight", "max_conns")
WORDS: Final = {"ready": "ready", "drain": "draining", "maint": "in maintenance"}

FileValues = Mapping[str, str | int]
"""What the configuration says about a backend, by key."""
Place = tuple[str, str, str]
"""Upstream, name and address; an address "" stands for all that the name has."""


@dataclass(frozen=True, slots=True)
class Change:
    """One value that an operator has set."""

    number: int
    place: Place
    key: str
    value: str | int
    file_value: str | int
    by: str
    reason: str
    at_ms: int
    """By the wall clock."""
    until_at_ms: int | None = None
    """By the loop's clock: when it goes back by itself; None: it does not."""

    def __str__(self) -> str:
        """Return "web/10.0.0.1:80 draining", as log lines have it."""
        upstream, name, address = self.place
        value = WORDS.get(str(self.value), f"{self.key} {self.value}")
        return f"{upstream}/{address or name} {value}"


class Book:
    """All changes that hold. Belongs to the process that operators deal with."""

    def __init__(self) -> None:
        self._numbers = 0
        self._changes: dict[tuple[Place, str], Change] = {}

    def __iter__(self) -> Iterator[Change]:
        """Yield them, the oldest first."""
        return iter(sorted(self._changes.values(), key=lambda change: change.number))

    def set(self, change: Change) -> Change | None:
        """Take a change, which gets a number; return None if it is what the file says. It ends an
        earlier change of the same key of that backend.
        """
        identity = change.place, change.key
        self._changes.pop(identity, None)
        if change.value == change.file_value:
            return None
        self._numbers += 1
        numbered = self._changes[identity] = replace(change, number=self._numbers)
        return numbered

    def remove(self, wanted: Callable[[Change], bool]) -> list[Change]:
        """End the changes that fit, and return them."""
        gone = [change for change in self if wanted(change)]
        for change in gone:
            del self._changes[change.place, change.key]
        return gone

    def expire(self, now_ms: int) -> list[Change]:
        """End the leases that are over, and return them."""
        return self.remove(lambda c: c.until_at_ms is not None and c.until_at_ms <= now_ms)

    @property
    def next_at_ms(self) -> int | None:
        """When the next lease is over."""
        times = [c.until_at_ms for c in self._changes.values() if c.until_at_ms is not None]
        return min(times, default=None)

    def follow(self, values: Mapping[tuple[str, str], FileValues]) -> list[str]:
        """Take the configuration of a reload, and say which changes have ended with it."""
        told = []
        for change in list(self):
            upstream, name, _ = change.place
            said = values.get((upstream, name))
            if said is None:
                told.append(f"{change} by an operator is dropped: the backend is gone")
            elif said[change.key] != change.file_value:
                now = f"the file now says {change.key} {said[change.key]}"
                told.append(f"{upstream}/{name}: {now}, {change.value} by an operator is dropped")
            else:
                continue
            del self._changes[change.place, change.key]
        return told

    def overrides(self) -> dict[str, dict[tuple[str, str], Override]]:
        """Return what holds for backends, by upstream, name and address.

        What holds for a name holds for each address of it that has no change of its own.
        """
        found: dict[str, dict[tuple[str, str], Override]] = {}
        for change in self:
            upstream, *key = change.place
            name, address = key
            group = found.setdefault(upstream, {})
            before = group.get((name, address)) or group.get((name, "")) or Override()
            by = f"{change.by} at {utc_text(change.at_ms)}"
            if change.key == "state":
                reason = change.reason or f"an operator ({change.by}) wants it"
                mode = Mode(str(change.value))
                group[name, address] = replace(before, mode=mode, reason=reason, by=by)
            elif change.key == "weight":
                group[name, address] = replace(before, weight=int(change.value), by=by)
            else:
                group[name, address] = replace(before, max_conns=int(change.value), by=by)
        return found

    def rows(self, now_ms: int, wall_ms: int) -> list[dict[str, object]]:
        """Return all changes as the interface shows them."""
        return [
            {
                "number": change.number,
                "upstream": change.place[0],
                "name": change.place[1],
                "address": change.place[2] or None,
                "key": change.key,
                "value": change.value,
                "file_value": change.file_value,
                "by": change.by,
                "reason": change.reason or None,
                "at": utc_text(change.at_ms),
                "until": None
                if change.until_at_ms is None
                else utc_text(wall_ms + change.until_at_ms - now_ms),
            }
            for change in self
        ]

    def to_yaml(self) -> str:
        """Return the lines to put into the configuration, so that the changes last."""
        lines = ["upstreams:"]
        upstream = name = ""
        for change in sorted(self, key=lambda each: (each.place, each.number)):
            if change.place[0] != upstream:
                upstream, name = change.place[0], ""
                lines += [f"  {upstream}:", "    backends:"]
            if change.place[1] != name:
                name = change.place[1]
                lines.append(f"      - address: {name}")
            lines += [f"        {line}" for line in _yaml(change)]
        return "\n".join(lines if len(lines) > 1 else ["# nothing has changed"]) + "\n"


def _yaml(change: Change) -> Iterator[str]:
    if change.key != "state":
        yield f"{change.key}: {change.value}"
    elif change.value == "drain":
        yield "# draining has no key; to take the backend out, write down: on"
    else:
        yield f"down: {'on' if change.value == 'maint' else 'off'}"
