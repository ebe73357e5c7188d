"""The outcome of an upgrade, for the log and for whoever typed `nginy -s upgrade`.

The old process writes it into a file beside the pid file (`process/pidfile.py`), as the outcome of
a reload (`process/report.py`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from nginy.process.takeover.messages import MessageError
from nginy.process.takeover.tally import Moved, tally_of
from nginy.text.counts import counted


@dataclass(frozen=True, slots=True)
class UpgradeOutcome:
    """The outcome of an upgrade."""

    began_ms: int
    """When USR2 came, by the machine's monotonic clock."""
    took_ms: int
    pid: int
    """The new process; 0 if there is none."""
    is_serving: bool
    """Whether it serves. If not, the old process goes on as before."""
    tally: Moved
    problems: tuple[str, ...] = ()
    is_beside: bool = False
    """Whether the old process serves as well, since the new one takes no sessions over."""

    def to_json(self) -> str:
        """Return the outcome as one line of JSON."""
        return json.dumps(
            {
                "began_ms": self.began_ms,
                "took_ms": self.took_ms,
                "pid": self.pid,
                "is_serving": self.is_serving,
                "tally": self.tally.to_json(),
                "problems": list(self.problems),
                "is_beside": self.is_beside,
            }
        )

    def lines(self, old_pid: int) -> Iterator[str]:
        """Yield what to print."""
        yield from self.problems
        if not self.is_serving:
            yield f"process {old_pid} goes on as before"
            return
        yield f"process {self.pid} serves, {self.took_ms / 1000:.1f} s after the signal"
        if self.is_beside:
            yield f"process {old_pid} serves as well, until one of the two gets QUIT"
            return
        moved = self.tally.tcp + self.tally.udp
        yield f"moved: {counted(moved, 'session')}, {self.tally.tcp} TCP and {self.tally.udp} UDP"
        for what, count in self.tally.stays.most_common():
            yield f"stay with process {old_pid} until they end: {count} {what}"
        if not self.tally.stays:
            yield f"process {old_pid} ends"


def upgrade_outcome_of(text: str) -> UpgradeOutcome | None:
    """Return what `to_json` has written; None if it is not whole, or there is none."""
    try:
        fields = json.loads(text)
        return UpgradeOutcome(
            int(fields["began_ms"]),
            int(fields["took_ms"]),
            int(fields["pid"]),
            bool(fields["is_serving"]),
            tally_of(fields["tally"]),
            tuple(map(str, fields["problems"])),
            fields.get("is_beside") is True,
        )
    except (ValueError, TypeError, KeyError, MessageError):
        return None
