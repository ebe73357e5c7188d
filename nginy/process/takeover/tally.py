"""Tally: how many sessions have moved to the new process, how many have not, and why.

Each process that hands over has one; a supervisor adds up those of its workers. It becomes a line
of the log, and what `nginy -s upgrade` prints.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from nginy.process.takeover.messages import MessageMembers

STAYS_MAX: Final = 20
"""Different reasons that are named; the rest are counted together."""


@dataclass(slots=True)
class Moved:
    """The counts of one process, or of several."""

    tcp: int = 0
    udp: int = 0
    """Sessions that have moved."""
    stays: Counter[str] = field(default_factory=Counter)
    """Sessions that have not, by what they are: "that speak TLS with nginy"."""
    pending: int = 0
    """Of those, how many will move in a moment."""
    is_final: bool = False
    """Nothing more will move."""
    problem: str = ""
    """Why the hand-over ended early; "" if it did not."""

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(
            {
                "tcp": self.tcp,
                "udp": self.udp,
                "stays": dict(self.stays.most_common(STAYS_MAX)),
                "pending": self.pending,
                "is_final": self.is_final,
                "problem": self.problem,
            }
        )

    def __str__(self) -> str:
        """Return it in words: "812 sessions moved (800 TCP, 12 UDP), 3 stay: 3 that …"."""
        moved = self.tcp + self.udp
        text = f"{moved} session{'' if moved == 1 else 's'} moved"
        if moved:
            text += f" ({self.tcp} TCP, {self.udp} UDP)"
        staying = sum(self.stays.values())
        if staying:
            text += f", {staying} stay{'s' if staying == 1 else ''}: {self.why}"
        return text

    @property
    def why(self) -> str:
        """Which sessions stay, with their numbers: "3 that speak TLS with nginy"."""
        told = self.stays.most_common(STAYS_MAX)
        parts = [f"{count} {what}" for what, count in told]
        others = sum(self.stays.values()) - sum(count for _, count in told)
        return ", ".join([*parts, f"{others} others"] if others else parts)


def tally_of(text: str) -> Moved:
    """Return what `to_json` has made; raises ValueError or MessageError."""
    members = MessageMembers(json.loads(text))
    return Moved(
        members.count("tcp"),
        members.count("udp"),
        Counter(members.numbers("stays")),
        members.count("pending"),
        members.flag("is_final"),
        members.text("problem"),
    )


def total(tallies: "list[Moved]") -> Moved:
    """Return all tallies as one."""
    whole = Moved(is_final=all(each.is_final for each in tallies))
    for each in tallies:
        whole.tcp += each.tcp
        whole.udp += each.udp
        whole.stays.update(each.stays)
        whole.pending += each.pending
        whole.problem = whole.problem or each.problem
    return whole
