"""Tally: counters by what they are about, to be added to rows or taken from them.

Two things make a JSON answer differ from what workers report. Dead workers leave their last known
counts behind, so that no sum falls. And an operator may set a line from which counts begin anew;
`/metrics` knows nothing of it, as its counters never go back.

Pure.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

from nginy.admin.answer import Slices
from nginy.admin.facts.merge import forget_firsts, join_times
from nginy.admin.pace import Pace

Row = dict[str, Any]
Key = tuple[str, ...]

TIMES: Final = "drop_times"
"""The one member that does not add up: when datagrams were dropped first and last."""
FIELDS: Final[Mapping[str, tuple[Key, Key]]] = {
    "listeners": (
        ("name", "protocol"),
        ("sessions_total", "received", "sent", "accept_pauses", "ended", "drops", TIMES),
    ),
    "upstreams": (("name",), ("sessions_total", "retries", "no_backend", "connects")),
    "backends": (
        ("upstream", "name", "address"),
        ("sessions_total", "received", "sent", "failures"),
    ),
    "fronts": (("address", "protocol"), ("sessions_total", "received", "sent")),
}
"""What tells rows of a kind apart, and their counters. A front is a listener in the overview."""
ROWS_MAX: Final = 50_000
"""Rows of one kind, some 500 bytes each. The names of backends get new addresses for as long as
nginy runs, so the rows not heard of for the longest time are forgotten."""
ADD_US: Final = 6
"""The cost of adding to a row."""
SUMS: Final = (("sessions", "total"), ("bytes", "received"), ("bytes", "sent"))
"""The counters of the overview itself."""


class Tally:
    """Counters of one process, or of several."""

    def __init__(self) -> None:
        self.rows_of: dict[str, dict[Key, Row]] = {kind: {} for kind in FIELDS}
        self.sums = dict.fromkeys(SUMS, 0)

    def take(self, source: str, facts: Mapping[str, Any]) -> None:
        """Note what a source has collected, in place of what was known of the same rows."""
        if source == "overview":
            self._note("fronts", facts["listeners"])
            for each, name in SUMS:
                self.sums[each, name] = facts[each][name]
        elif source == "totals":
            for kind in FIELDS:
                self._note(kind, facts.get(kind, ()))
            for row in facts.get("process", ()):
                self.sums.update(zip(SUMS, row.values(), strict=True))
        elif source in ("measured", "listeners", "upstreams", "backends"):
            for kind in ("listeners", "upstreams", "backends"):
                self._note(kind, facts.get(kind, ()))

    def _note(self, kind: str, rows: Sequence[Row]) -> None:
        known = self.rows_of[kind]
        found: dict[Key, Row] = {}
        for row in rows:
            identity, counts = _split(kind, row)
            if identity in found:  # one that is retiring, and its successor
                _add(found[identity], counts, 1)
            else:
                found[identity] = counts
        for identity, counts in found.items():
            known.pop(identity, None)
            known[identity] = counts
        _forget_oldest(known)

    def add_row(self, kind: str, row: Row) -> None:
        """Add the counters of a row to what is known of the same one."""
        identity, counts = _split(kind, row)
        _add(self.rows_of[kind].setdefault(identity, {}), counts, 1)

    def add(self, other: "Tally") -> None:
        """Add the counters of another one."""
        for kind, rows in other.rows_of.items():
            known = self.rows_of[kind]
            for identity, counts in rows.items():
                _add(known.setdefault(identity, {}), counts, 1)
            _forget_oldest(known)
        for name, value in other.sums.items():
            self.sums[name] += value

    def add_to(self, kind: str, rows: Sequence[Row], sign: int = 1) -> Slices[None]:
        """Add the counters to rows of a kind, or with -1 subtract them, as far as there are any.

        Of two rows of the same name, only the first one gets them.
        """
        known, pace = self.rows_of[kind], Pace()
        added: set[Key] = set()
        for row in rows if known else ():
            key = tuple(row[name] for name in FIELDS[kind][0])
            if key in known and key not in added:
                added.add(key)
                _add(row, known[key], sign)
            if pace.is_over(ADD_US):
                yield None

    def add_to_overview(self, facts: Row, sign: int = 1) -> Slices[None]:
        """Do the same for an overview."""
        yield from self.add_to("fronts", facts["listeners"], sign)
        for (each, name), value in self.sums.items():
            facts[each][name] = max(facts[each][name] + sign * value, 0)


def forget_firsts_of(tally: Tally) -> None:
    """Forget when datagrams were first dropped, as counts begin anew."""
    for row in tally.rows_of["listeners"].values():
        forget_firsts(row[TIMES])


def _forget_oldest(known: dict[Key, Row]) -> None:
    while len(known) > ROWS_MAX:
        del known[next(iter(known))]


def _split(kind: str, row: Row) -> tuple[Key, Row]:
    names, counters = FIELDS[kind]
    counts = {name: row[name] for name in counters}
    copied = {k: dict(v) if isinstance(v, dict) else v for k, v in counts.items()}
    return tuple(row[name] for name in names), copied


def _add(known: Row, counts: Row, sign: int) -> None:
    """Add counters in place; none falls below 0."""
    for name, value in counts.items():
        if name == TIMES:
            if sign > 0:
                join_times(known.setdefault(name, {}), value)
        elif isinstance(value, dict):
            _add(known.setdefault(name, {}), value, sign)
        elif isinstance(value, list):  # of a histogram
            pairs = zip_longest(known.get(name, ()), value, fillvalue=0)
            known[name] = [max(before + sign * count, 0) for before, count in pairs]
        else:
            known[name] = max(known.get(name, 0) + sign * value, 0)
