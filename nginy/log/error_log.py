"""The error log: a `logging.Handler` for the logger ``nginy`` and all below it, with nginx's line.

``2026/11/23 19:35:01 [error] 4711#0: *12 connect() failed (111: Connection refused) while …``

Lines go into a `file.LogFile`, which never waits and never raises, so that a full disk or a dead
syslog server costs lines and nothing else. Levels are in `levels`, the brake for messages that
repeat in `limit`, the log of sessions in `access_log`.

Only `process/logs.py` opens error logs: it calls `flush` from its timers and `reopen` on USR1. All
others call ``logging.getLogger("nginy.proxy")`` and the like; a session writes to the logger of its
listener.

Source: nginx ngx_log.c ngx_log_error_core.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from typing import Final

from nginy.log.file import LogFile, lost_text
from nginy.log.levels import EMERG, LEVELS, NOTICE, level_name
from nginy.log.limit import RateLimited, similar
from nginy.text.escape import escape_control
from nginy.text.times import TimeText

ROOT_LOGGER: Final = "nginy"

# From the highest: the first whose level the record reaches gives syslog's severity (RFC 3164).
_SEVERITIES: Final = (
    (EMERG, 0),
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (NOTICE, 5),
    (logging.INFO, 6),
)


BURST: Final = 10
"""Warnings and errors of one kind that get through in a second. A backend that refuses thousands
of clients a second would fill the disk with one sentence."""
MESSAGE_MAX_CHARACTERS: Final = 2048
"""A name or a list that a client has sent may be part of a message. nginx: NGX_MAX_ERROR_STR."""


UNBRAKED: Final = frozenset({"nginy.server", "nginy.log", "nginy.backend"})
"""Loggers whose messages answer an operator, or concern one backend each: when a network fails, the
log must name every backend that is down."""


class ErrorLog(logging.Handler):
    """Writes log records as nginx writes its error log; made by `process/error_logs.py`.

    A record's extra ``number`` is the connection's: ``logger.error(..., extra={"number": 12})``.
    Its ``kind`` says what repeats, where the message does not.
    The `sink` is public for `flush`, `reopen` and `lost_lines`; `close` closes it.
    """

    def __init__(
        self,
        path: str,
        *,
        want_flush: Callable[[], None] | None = None,
    ) -> None:
        """Open `path`; arguments and errors are those of `LogFile`."""
        super().__init__()
        self._time = TimeText(0)
        self._limited = RateLimited(burst=BURST)
        self.sink = LogFile(path, want_flush=want_flush, notice=self._lost_notice)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, at once if the sink accepts it. Never raises."""
        suppressed = admit(self._limited, record)
        if suppressed is None:
            return
        try:
            line = self.format(record) + similar(suppressed)
        except Exception:  # noqa: BLE001 - logging's contract for emit: the caller must not suffer
            self.handleError(record)
        else:
            self._write(line, record.levelno)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text: one line, and a traceback's lines, indented, below it.

        A message cannot begin a line of its own: control characters are escaped, and the lines of
        a traceback are indented.
        """
        self._time.update(record.created)
        number = getattr(record, "number", None)
        connection = f"*{number} " if number is not None else ""
        message = escape_control(_cut(record.getMessage()))
        line = f"{self._prefix(record.levelno)}{connection}{message}"
        if record.exc_info and record.exc_info[1] is not None:
            below = _traceback(record.exc_info[1]).splitlines()
            line = "\n    ".join([line, *map(escape_control, below)])
        return line

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Log which call has a message that does not format; logging would print to standard
        error."""
        place = f"{os.path.basename(record.pathname)}:{record.lineno}"
        message = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        text = f"log message at {place} cannot be formatted: {escape_control(message)}"
        self._write(f"{self._prefix(logging.ERROR)}{text}", logging.ERROR)

    def set_level(self, level: str) -> None:
        """Log from `level`, one of `levels.LEVELS`, upward."""
        logging.getLogger(ROOT_LOGGER).setLevel(LEVELS[level])

    def flush(self) -> None:
        """Write as many of the waiting lines as the sink accepts."""
        self.sink.flush()

    def attach(self) -> None:
        """Write the messages of all of nginy; a listener's error log gets those of its sessions."""
        logger = logging.getLogger(ROOT_LOGGER)
        logger.propagate = False
        logger.addHandler(self)

    def detach(self) -> None:
        """Write only the messages of a listener's sessions from now on.

        With the last error log gone the logger is as it was before `attach`.
        """
        logger = logging.getLogger(ROOT_LOGGER)
        if self in logger.handlers:
            logger.removeHandler(self)
            if not any(isinstance(handler, ErrorLog) for handler in logger.handlers):
                logger.propagate = True
                logger.setLevel(logging.NOTSET)

    def close(self) -> None:
        """Detach from the logger and close the sink. A second call does nothing."""
        self.detach()
        self.sink.close()
        super().close()

    def _write(self, text: str, level: int) -> None:
        severity = next((number for least, number in _SEVERITIES if level >= least), 7)
        self.sink.write(f"{text}\n".encode("utf-8", "backslashreplace"), severity)

    def _prefix(self, level: int) -> str:
        # os.getpid each time: after a fork the child's lines carry the child's number. The 0 is
        # where nginx has its thread.
        return f"{self._time.error_log} [{level_name(level)}] {os.getpid()}#0: "

    def _lost_notice(self, lines: int, why: str) -> str:
        return f"{self._prefix(logging.WARNING)}{lost_text(lines, why)}"


def admit(limited: RateLimited, record: logging.LogRecord) -> int | None:
    """Return None to leave a record out, or how many like it were left out before it."""
    is_trouble = logging.WARNING <= record.levelno < EMERG and not record.exc_info
    if not is_trouble or record.name in UNBRAKED:
        return 0
    kind = getattr(record, "kind", record.msg)
    return limited.admit(kind, int(record.created * 1000))


def _traceback(error: BaseException) -> str:
    """Return the traceback as text, without source lines where the source cannot be read.

    A program that runs from an archive reads them anew each time, and an upgrade may have put
    another archive in its place: then zlib fails, or the bytes are not text.
    """
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - this failure must not hide the reported one
        frames = [
            f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}\n'
            for frame, line in traceback.walk_tb(error.__traceback__)
        ]
        kind = f"{type(error).__name__}: {error}"
        return f"Traceback (most recent call last):\n{''.join(frames)}{kind}"


def _cut(message: str) -> str:
    """Return a message, without its end if it is long."""
    more = len(message) - MESSAGE_MAX_CHARACTERS
    return message if more <= 0 else f"{message[:-more]}... ({more} characters more)"
