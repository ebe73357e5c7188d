"""The book of changes: what operators have set while nginy runs, with who, why and until when.

A change concerns one key of one backend (`state`, `weight`, `max_conns`) and keeps the value that
the file had for it. A reload whose file has another value ends the change: the file always wins,
and the log says so. Otherwise the change stays. A change may be a lease, which ends by itself.

Whether a backend exists is a key as well, `backend`: its value is added if the file lacks the
backend, and removed if the file has it. A file that agrees with the operator ends the change. So
does the loss of all other backends: removed ones return before an upstream is left with none.

Pure: times are arguments. `overrides` returns what to tell the backends (`backend/override.py`),
`listings` what to tell their lists (`backend/listing.py`).
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from nginy.backend.backend import BackendSettings
from nginy.backend.listing import Listing
from nginy.backend.override import Override
from nginy.text.times import utc_text
from nginy.wire.agent import Mode

KEYS: Final = ("state", "weight", "max_conns")
BOUNDS: Final = {"weight": (1, 65535), "max_conns": (0, 10**9)}
"""Bounds of the numeric keys, as in the configuration."""
PRESENCE: Final = "backend"
"""The key whose values are added and removed."""
CHANGES_MAX: Final = 1000
PLAIN: Final = re.compile(r"[A-Za-z0-9_./+][A-Za-z0-9_./+:-]*[A-Za-z0-9_./+-]|[A-Za-z0-9]")
"""Text that needs no quotes in YAML."""
WORDS: Final = {"ready": "ready", "drain": "draining", "maint": "in maintenance"}

FileValues = Mapping[str, str | int]
"""What the configuration says about a backend, by key."""
Values = Mapping[tuple[str, str], FileValues]
"""The same for all backends, by upstream and name."""
ChangeKey = tuple[str, str, str]
"""Upstream, name and address; an address "" stands for all addresses of the name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One value that an operator has set."""

    number: int
    place: ChangeKey
    key: str
    value: str | int
    file_value: str | int
    by: str
    reason: str
    at_ms: int
    """By the wall clock."""
    until_at_ms: int | None = None
    """When it ends by itself, by the loop's clock; None: never."""
    keys: Mapping[str, object] = field(default_factory=dict)
    """The keys of an added backend, as in YAML."""
    settings: BackendSettings | None = None
    """The same as settings, for its upstream."""

    def __str__(self) -> str:
        """Return "web/10.0.0.1:80 draining", as log lines have it."""
        upstream, name, address = self.place
        value = self.value if self.key == PRESENCE else f"{self.key} {self.value}"
        return f"{upstream}/{address or name} {WORDS.get(str(self.value), value)}"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A backend that an operator wants to add, or what is wrong with it."""

    problems: tuple[Mapping[str, object], ...] = ()
    """Each with `key` and `text`."""
    keys: Mapping[str, object] = field(default_factory=dict)
    """Those that were set, as in YAML."""
    settings: BackendSettings | None = None
    moved_percent: float | None = None
    """How many keys of a hash method go to another backend; None for other methods."""


class Book:
    """All changes that hold. Owned by the process that operators talk to."""

    def __init__(self) -> None:
        self._numbers = 0
        self.level: tuple[str, int] | None = None
        """The level that the error log has instead of its configured one, and until when."""
        self._changes: dict[tuple[ChangeKey, str], Change] = {}

    def __iter__(self) -> Iterator[Change]:
        """Yield them, the oldest first."""
        return iter(sorted(self._changes.values(), key=lambda change: change.number))

    def __len__(self) -> int:
        """Return how many there are; `CHANGES_MAX` bounds it."""
        return len(self._changes)

    def set(self, change: Change) -> Change | None:
        """Enter a change, and number it; return None if the file says the same. It ends an earlier
        change of the same key of that backend.
        """
        identity = change.place, change.key
        self._changes.pop(identity, None)
        if change.value == change.file_value:
            return None
        self._numbers += 1
        numbered = self._changes[identity] = replace(change, number=self._numbers)
        return numbered

    def remove(self, wanted: Callable[[Change], bool]) -> list[Change]:
        """End the changes that match, and return them."""
        gone = [change for change in self if wanted(change)]
        for change in gone:
            del self._changes[change.place, change.key]
        return gone

    def remove_all_of(self, place: ChangeKey) -> list[Change]:
        """End the changes of a backend, and return them."""
        return self.remove(lambda change: change.place[:2] == place[:2])

    def expire(self, now_ms: int) -> list[Change]:
        """End the leases that have expired, and return them."""
        return self.remove(lambda c: c.until_at_ms is not None and c.until_at_ms <= now_ms)

    @property
    def next_at_ms(self) -> int | None:
        """When the next lease expires."""
        times = [c.until_at_ms for c in self._changes.values() if c.until_at_ms is not None]
        times += [] if self.level is None else [self.level[1]]
        return min(times, default=None)

    def expire_level(self, now_ms: int) -> bool:
        """Restore the configured level of the error log if its lease is over; return whether it
        was.
        """
        if self.level is None or self.level[1] > now_ms:
            return False
        self.level = None
        return True

    def values(self, file_values: Values) -> dict[tuple[str, str], FileValues]:
        """Return the values of each backend before changes of its keys; added backends are among
        them, removed ones are not.
        """
        found = dict(file_values)
        for change in self:
            if change.settings is not None:
                found.setdefault(change.place[:2], values_of(change.settings))
            elif change.key == PRESENCE:
                found.pop(change.place[:2], None)
        return found

    def follow(self, file_values: Values, upstreams: Collection[str]) -> list[str]:
        """Follow the configuration of a reload, and return a sentence for each change that it
        ends.
        """
        told = []
        for change in [each for each in self if each.key == PRESENCE]:
            is_there = change.place[:2] in file_values
            if change.place[0] not in upstreams:
                told.append(f"{change} by an operator is dropped: the upstream is gone")
            elif change.settings is not None and is_there:
                told.append(f"{change} by an operator: the file now has it too, and the file wins")
            elif change.settings is None and not is_there:
                told.append(f"{change} by an operator: the file no longer has it either")
            else:
                continue
            del self._changes[change.place, change.key]
        return told + self._return_last(file_values) + self._follow_keys(self.values(file_values))

    def _return_last(self, file_values: Values) -> list[str]:
        """End the removals that leave an upstream without a backend."""
        present = {upstream for upstream, _ in self.values(file_values)}
        gone = self.remove(lambda c: c.key == PRESENCE and c.place[0] not in present)
        return [f"{each} by an operator is dropped: the upstream has no other" for each in gone]

    def _follow_keys(self, values: Values) -> list[str]:
        told = []
        for change in [each for each in self if each.key != PRESENCE]:
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

    def listings(self) -> dict[str, Listing]:
        """Return what holds for the lists of upstreams."""
        found: dict[str, Listing] = {}
        for change in self:
            if change.key != PRESENCE:
                continue
            before = found.get(change.place[0], Listing())
            if change.settings is not None:
                after = replace(before, added=(*before.added, change.settings))
            else:
                after = replace(before, removed=before.removed | {change.place[1]})
            found[change.place[0]] = after
        return found

    def overrides(self) -> dict[str, dict[tuple[str, str], Override]]:
        """Return what holds for backends, by upstream, name and address.

        A change of a name applies to each of its addresses that has no change of its own.
        """
        found: dict[str, dict[tuple[str, str], Override]] = {}
        for change in self:
            if change.key == PRESENCE:
                continue
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
                **({"keys": dict(change.keys)} if change.keys else {}),
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
        """Return the lines that would make the changes permanent, for the configuration."""
        lines = ["upstreams:"]
        upstream = name = ""
        added = {each.place[:2]: each for each in self if each.settings is not None}
        held_by: dict[tuple[str, str], set[str]] = {}
        for each in self:
            held_by.setdefault(each.place[:2], set()).add(each.key)
        for change in sorted(self, key=lambda each: (each.place, each.number)):
            if change.place[0] != upstream:
                upstream, name = change.place[0], ""
                lines += [f"  {_scalar(upstream)}:", "    backends:"]
            if change.key == PRESENCE and change.settings is None:
                lines.append(f"      # without {change.place[1]}")
                continue
            if change.place[1] != name:
                name = change.place[1]
                lines.append(f"      - address: {_scalar(name)}")
                keys = dict(added[upstream, name].keys) if (upstream, name) in added else {}
                held = held_by[upstream, name]
                left_out = {"address", *held, *({"down"} if "state" in held else ())}
                lines += [
                    f"        {key}: {_scalar(str(value))}"
                    for key, value in keys.items()
                    if key not in left_out
                ]
            if change.key != PRESENCE:
                lines.append(f"        {_yaml(change)}")
        return "\n".join(lines if len(lines) > 1 else ["# nothing has changed"]) + "\n"


def _scalar(text: str) -> str:
    """Return a text as YAML reads it back: as it is, or in double quotes as in JSON."""
    return text if PLAIN.fullmatch(text) else json.dumps(text)


def _yaml(change: Change) -> str:
    if change.key != "state":
        return f"{change.key}: {change.value}"
    if change.value == "drain":
        return "# draining has no key; to take the backend out, write down: on"
    return f"down: {'on' if change.value == 'maint' else 'off'}"


def values_of(settings: BackendSettings) -> FileValues:
    """Return the values of a backend that changes are compared with."""
    return {
        "state": "maint" if settings.down else "ready",
        "weight": settings.weight,
        "max_conns": settings.max_conns,
    }
