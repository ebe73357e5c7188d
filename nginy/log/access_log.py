"""The access log: a line a session, rendered by a template of the proxy, buffered or not.

Lines go into a `file.LogFile`, which several access logs may share, or into one whose path the
session decides (`open_files.py`). `proxy/variables.py` has the variables of a line,
`text/escape.py` the escaping of values. `process/logs.py` opens access logs and starts the timer of
a buffered one.

Source: nginx ngx_stream_log_module.c ngx_stream_log_handler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from nginy.log.file import LogFile

T = TypeVar("T")

_logger = logging.getLogger("nginy.access")


class AccessLog(Generic[T]):
    """One access log in one format. Its owner closes the `sink`, which several may share.

    `render` makes the text of a line, without a newline, from a session. `is_wanted` says which
    sessions get a line; None is all. With `buffer_bytes` of 0 it writes each line at once.
    Otherwise lines wait until they fill the buffer, or until the owner's timer of `flush_ms` calls
    `flush`; the sink's `want_flush` says when to start that timer. `errors` says what to do with
    characters that have no UTF-8, as in str.encode.
    """

    __slots__ = (
        "__weakref__",
        "_buffer_bytes",
        "_errors",
        "_is_wanted",
        "_render",
        "failed_lines",
        "flush_ms",
        "sink",
    )

    def __init__(
        self,
        sink: LogFile,
        render: Callable[[T], str],
        buffer_bytes: int,
        flush_ms: int,
        is_wanted: Callable[[T], bool] | None = None,
        errors: str = "backslashreplace",
    ) -> None:
        self.sink = sink
        self.flush_ms = flush_ms
        self.failed_lines = 0
        self._render = render
        self._is_wanted = is_wanted
        self._buffer_bytes = buffer_bytes
        self._errors = errors

    def log(self, session: T) -> None:
        """Render a line for `session`, and write it or let it wait in the buffer."""
        try:
            if self._is_wanted is not None and not self._is_wanted(session):
                return
            line = f"{self._render(session)}\n".encode("utf-8", self._errors)
        except Exception:  # noqa: BLE001 - a bug in a variable costs its line, nothing else
            self._count_failure()
            return
        if not self._buffer_bytes:
            self.sink.write(line)
            return
        if self.sink.put(line) and self.sink.pending_bytes >= self._buffer_bytes:
            self.sink.flush()

    def flush(self) -> None:
        """Write as many of the waiting lines as the sink accepts."""
        self.sink.flush()

    def _count_failure(self) -> None:
        """Log the 1st, 2nd, 4th, 8th … failure with its traceback: a bug may hit every session."""
        self.failed_lines += 1
        if self.failed_lines & (self.failed_lines - 1) == 0:
            _logger.exception("access log line failed, %d so far", self.failed_lines)


class AccessLogByPath(AccessLog[T]):
    """An access log whose file each session decides: `file_of` opens it, or returns None."""

    __slots__ = ("_file_of", "_wants")

    def __init__(
        self,
        file_of: Callable[[T], LogFile | None],
        render: Callable[[T], str],
        buffer_bytes: int,
        flush_ms: int,
        is_wanted: Callable[[T], bool] | None = None,
        errors: str = "backslashreplace",
    ) -> None:
        self.flush_ms = flush_ms
        self.failed_lines = 0
        self._file_of = file_of
        self._render = render
        self._wants = is_wanted
        self._is_wanted = None
        self._buffer_bytes = buffer_bytes
        self._errors = errors

    def log(self, session: T) -> None:
        """Write a line into the file of `session`, unless it is not wanted or there is none."""
        try:
            if self._wants is not None and not self._wants(session):
                return
            sink = self._file_of(session)
        except Exception:  # noqa: BLE001 - a bug in a variable costs its line, nothing else
            self._count_failure()
            return
        if sink is not None:
            self.sink = sink
            super().log(session)
