"""The two logs as the server sees them: what a line looks like and when it leaves.

- `ErrorLog`   a `logging.Handler` for the logger ``nginy`` and all below it, with nginx's line:
  ``2026/11/23 19:35:01 [error] 4711#0: *12 connect() failed (111: Connection refused) while …``
- `AccessLog`  a line a session, rendered by a template of the proxy, buffered or not.

Both write into a `logfile.LogFile`, which never waits and never raises, so that a full disk or a
dead syslog server costs lines and nothing else. Levels and `RateLimited` are in `logtools`, the
variables and formats of access lines in `nginy.proxy`, the escaping of values in `escape`.

Only the server imports this module: it opens the logs, calls `flush` from its timers and
`reopen` on USR1. Everybody else calls ``logging.getLogger("nginy.proxy")`` and the like.

Source: nginx ngx_log.c ngx_log_error_core, ngx_stream_log_module.c ngx_stream_log_handler.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from nginy.escape import escape_control
from nginy.logfile import LogFile, lost_text
from nginy.logtools import EMERG, LEVELS, NOTICE, level_name
from nginy.timetext import TimeText

T = TypeVar("T")

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

_logger = logging.getLogger("nginy.access")


class ErrorLog(logging.Handler):
    """Writes log records as nginx writes its error log; made by `setup_error_log`.

    A record's extra ``number`` is the connection's: ``logger.error(..., extra={"number": 12})``.
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
        self.sink = LogFile(path, want_flush=want_flush, notice=self._lost_notice)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, at once if the sink takes it. Never raises."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - logging's contract for emit: the caller is not to suffer
            self.handleError(record)
        else:
            self._write(line, record.levelno)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text: one line, and a traceback's lines, indented, below it.

        Whatever the message contains cannot start a line: control characters are escaped, and the
        indent tells a traceback's line from the log's own.
        """
        self._time.update(record.created)
        number = getattr(record, "number", None)
        connection = f"*{number} " if number is not None else ""
        message = escape_control(record.getMessage())
        line = f"{self._prefix(record.levelno)}{connection}{message}"
        if record.exc_info and record.exc_info[1] is not None:
            below = "".join(traceback.format_exception(record.exc_info[1])).splitlines()
            line = "\n    ".join([line, *map(escape_control, below)])
        return line

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say where a message could not be formatted; logging would print to standard error."""
        place = f"{os.path.basename(record.pathname)}:{record.lineno}"
        message = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        text = f"log message at {place} cannot be formatted: {escape_control(message)}"
        self._write(f"{self._prefix(logging.ERROR)}{text}", logging.ERROR)

    def set_level(self, level: str) -> None:
        """Log from `level`, one of `logtools.LEVELS`, upward."""
        logging.getLogger(ROOT_LOGGER).setLevel(LEVELS[level])

    def flush(self) -> None:
        """Write what waits, as far as it goes."""
        self.sink.flush()

    def close(self) -> None:
        """Detach from the logger and close the sink. A second call does nothing.

        With the last error log gone the logger is as it was before `setup_error_log`.
        """
        logger = logging.getLogger(ROOT_LOGGER)
        if self in logger.handlers:
            logger.removeHandler(self)
            if not any(isinstance(handler, ErrorLog) for handler in logger.handlers):
                logger.propagate = True
                logger.setLevel(logging.NOTSET)
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


def setup_error_log(
    path: str,
    level: str,
    *,
    want_flush: Callable[[], None] | None = None,
) -> ErrorLog:
    """Open `path` and attach it to the logger ``nginy``; the caller closes the result.

    `level` is one of `logtools.LEVELS`. For another file after a reload: set up the new one, then
    close the old. Raises what `LogFile` raises, before anything changed.
    """
    error_log = ErrorLog(path, want_flush=want_flush)
    logger = logging.getLogger(ROOT_LOGGER)
    logger.propagate = False
    logger.addHandler(error_log)
    error_log.set_level(level)
    return error_log


class AccessLog(Generic[T]):
    """One access log of one format. Its owner closes the `sink`, which several may share.

    `render` makes the line's text, without a newline, from what ended: a session. With
    `buffer_bytes` of 0 each line is written at once; otherwise lines wait until so many bytes are
    together, or until the owner's timer of `flush_ms` calls `flush`; the sink's `want_flush` says
    when to start it.
    """

    __slots__ = ("_buffer_bytes", "_render", "failed_lines", "flush_ms", "sink")

    def __init__(
        self,
        sink: LogFile,
        render: Callable[[T], str],
        buffer_bytes: int,
        flush_ms: int,
    ) -> None:
        self.sink = sink
        self.flush_ms = flush_ms
        self.failed_lines = 0
        self._render = render
        self._buffer_bytes = buffer_bytes

    @property
    def flush_due(self) -> bool:
        """Whether lines wait, so that `flush` has something to do."""
        return self.sink.pending_bytes > 0

    def log(self, session: T) -> None:
        """Render a line for `session` and write it or let it wait."""
        try:
            line = f"{self._render(session)}\n".encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001 - a bug in a variable costs its line, nothing else
            self._count_failure()
            return
        if not self._buffer_bytes:
            self.sink.write(line)
            return
        if self.sink.put(line) and self.sink.pending_bytes >= self._buffer_bytes:
            self.sink.flush()

    def flush(self) -> None:
        """Write what waits, as far as it goes."""
        self.sink.flush()

    def _count_failure(self) -> None:
        """Log the 1st, 2nd, 4th, 8th … failure with its traceback: a bug may hit every session."""
        self.failed_lines += 1
        if self.failed_lines & (self.failed_lines - 1) == 0:
            _logger.exception("access log line failed, %d so far", self.failed_lines)
