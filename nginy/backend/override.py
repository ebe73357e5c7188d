"""Override: what an operator has set for a backend while nginy runs, in place of the file's values.

The admin interface keeps the book of changes: who, why, until when (`admin/changes/book.py`). This
module has what a backend sees of it. Each worker has the same overrides, so the supervisor sends
them as JSON, and `parse` takes only what it knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nginy.wire.agent import Mode


@dataclass(frozen=True, slots=True)
class Override:
    """Values for a backend; None leaves that of the configuration."""

    mode: Mode | None = None
    weight: int | None = None
    max_conns: int | None = None
    reason: str = ""
    """Why the mode is what it is, for logs and answers."""
    by: str = ""
    """Who set it, and when."""

    def to_json(self) -> dict[str, object]:
        """Return plain values, leaving out those that are None."""
        found = {
            "mode": None if self.mode is None else self.mode.value,
            "weight": self.weight,
            "max_conns": self.max_conns,
            "reason": self.reason,
            "by": self.by,
        }
        return {name: value for name, value in found.items() if value is not None}


NOTHING: Override = Override()


def parse(members: Mapping[str, object]) -> Override:
    """Return what `to_json` has made; raises ValueError."""
    mode = members.get("mode")
    return Override(
        None if mode is None else Mode(mode),
        _number(members.get("weight")),
        _number(members.get("max_conns")),
        str(members.get("reason", "")),
        str(members.get("by", "")),
    )


def _number(value: object) -> int | None:
    if value is not None and not isinstance(value, int):
        raise ValueError(f"{value!r} is not a number")
    return value
