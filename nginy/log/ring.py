"""LogRing: the last lines of the error log, in memory, for the admin interface.

It hears what the error log hears, from notice upward, and keeps the last lines of trouble apart, so
that a busy day of notices does not push them out. Messages that repeat meet the same brake as in
the error log; each line says how many like it were left out before it.

Sessions of listeners with an error log of their own write only there.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

from nginy.log.error_log import BURST, ROOT_LOGGER, admit
from nginy.log.levels import NOTICE
from nginy.log.limit import RateLimited
from nginy.text.escape import escape_control

TROUBLE_KEPT: Final = 500
NOTICES_KEPT: Final = 100
LINE_MAX_CHARACTERS: Final = 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the error log."""

    at_ms: int
    """By the wall clock."""
    level: int
    number: int | None
    """The connection's."""
    text: str
    suppressed: int
    """How many like it were left out before it."""
    order: int
    """Many lines may have one time."""


class LogRing(logging.Handler):
    """The last lines. The owner of a `Subject` creates, attaches and detaches it."""

    def __init__(self) -> None:
        super().__init__(NOTICE)
        self.suppressed = 0
        """Lines left out so far."""
        self._count = 0
        self._limited = RateLimited(burst=BURST)
        self._trouble: deque[Line] = deque(maxlen=TROUBLE_KEPT)
        self._notices: deque[Line] = deque(maxlen=NOTICES_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record. Never raises."""
        suppressed = admit(self._limited, record)
        if suppressed is None:
            self.suppressed += 1
            return
        try:
            text = escape_control(record.getMessage()[:LINE_MAX_CHARACTERS])
        except Exception:  # noqa: BLE001 - the error log says which call has such a message
            return
        number = getattr(record, "number", None)
        cut = text[:LINE_MAX_CHARACTERS]
        at_ms, self._count = int(record.created * 1000), self._count + 1
        line = Line(at_ms, record.levelno, number, cut, suppressed, self._count)
        (self._trouble if record.levelno >= logging.WARNING else self._notices).append(line)

    def lines(self, level: int, most: int) -> list[Line]:
        """Return the last lines of a level and above, the oldest first."""
        found = [each for each in (*self._notices, *self._trouble) if each.level >= level]
        return sorted(found, key=lambda line: line.order)[-most:]

    def attach(self) -> None:
        """Begin to listen."""
        logging.getLogger(ROOT_LOGGER).addHandler(self)

    def detach(self) -> None:
        """Listen no more; a second call does nothing."""
        logging.getLogger(ROOT_LOGGER).removeHandler(self)
