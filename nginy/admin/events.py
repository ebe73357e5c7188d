"""Events: what has happened lately, numbered, for all who ask.

One ring holds changes of backends, reloads, changes by operators and ends of workers, each with its
time by the wall clock. A client that has read up to some number asks for the events after it.

Pure: the caller of `add` says what time it is.
"""

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from nginy.admin.facts.shape import optional, row, text
from nginy.text.times import utc_text

KEPT: Final = 1000
HISTORY_KEPT: Final = 8000
"""Changes of backends that are kept for their histories, 250 bytes each."""
HISTORY_MAX: Final = 32
"""Changes in the history of one backend."""

EVENT: Final = row(
    upstream=optional(text),
    backend=optional(text),
    kind=text,
    text=text,
    before=optional(text),
    after=optional(text),
    cause=optional(text),
)
"""What a supervisor takes of a worker's event."""

Event = dict[str, Any]


class Events:
    """The ring, and the changes of backends, which it keeps for longer."""

    def __init__(self) -> None:
        self.last = 0
        """The number of the last one."""
        self._ring: deque[Event] = deque(maxlen=KEPT)
        self._changes: deque[Event] = deque(maxlen=HISTORY_KEPT)

    def add(self, wall_ms: int, event: Mapping[str, object]) -> None:
        """Add an event with members as in `EVENT`, or fewer."""
        self.last += 1
        added = {"seq": self.last, "at": utc_text(wall_ms), **EVENT(event)}
        self._ring.append(added)
        if added["backend"] is not None and added["kind"] != "operator":
            self._changes.append(added)

    def after(self, number: int, most: int = KEPT) -> list[Event]:
        """Return the first events with greater numbers, as far as they are still there."""
        missing = len(self._ring) - (self.last - number)
        return list(islice(self._ring, max(missing, 0), max(missing, 0) + most))

    def history(self, upstream: str, backend: str) -> list[Event]:
        """Return the last changes of a backend, the latest first."""
        found = (
            each
            for each in reversed(self._changes)
            if each["backend"] == backend and each["upstream"] == upstream
        )
        return list(islice(found, HISTORY_MAX))
