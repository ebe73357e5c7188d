"""A bounded queue of log lines in front of an output that may not accept them.

The error log and each access log write into a `LogFile`. It never waits, never raises for failures
of the destination, and never cuts a line: it finishes a line that was written in part before
anything else, or writes it again whole for a new reader that has not seen its beginning. Lines that
do not fit the queue are lost whole, newest first, and counted. Once the destination works again, a
line says how many are missing, at the place where they are missing.

`output` writes bytes without waiting; `error_log` and `access_log` make the lines.

The one idea: a full disk, a stopped reader and a dead syslog server are the same thing, bytes that
cannot leave now. So there is one queue and one retry, and no state but "what is left".
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Final

from nginy.log.output import DatagramReturnedError, open_output

LIMIT_BYTES: Final = 262144
"""The limit of what waits in one log: four of the usual 64k buffers, some 2,000 lines."""

INFO: Final = 6
"""syslog's severity of an access log line, as in nginx."""

WARN: Final = 4

_SLOW: Final = os.strerror(errno.EAGAIN)

_logger = logging.getLogger("nginy.log")


def lost_notice(lines: int, why: str) -> str:
    """Return the line that stands for `lines` lost ones, without its newline."""
    return f"nginy: {lost_text(lines, why)}"


def lost_text(lines: int, why: str) -> str:
    """Return ``17 log lines lost: No space left on device``."""
    return f"{lines} log line{'' if lines == 1 else 's'} lost: {why}"


class LogFile:
    """One open log. Its creator closes it; access logs of one path share one.

    `path` is ``stderr``, ``stdout``, ``syslog:HOST:PORT``, ``syslog:unix:/path`` or a file.
    `limit_bytes` bounds what waits. It calls `want_flush` when bytes stay behind: the owner then
    calls `flush` a little later (the access log's `flush` time, or a second), and may hear
    `want_flush` again before that. It also calls `want_flush` when writing begins to fail and when
    it works again, so that the owner looks at `trouble`. `notice` renders the line about lost
    lines.

    Raises OSError when the destination cannot be opened, ValueError for a malformed syslog server.
    """

    __slots__ = (
        "_failing",
        "_is_closed",
        "_limit_bytes",
        "_notice",
        "_output",
        "_pending",
        "_sent_bytes",
        "_unreported_lines",
        "_want_flush",
        "_why",
        "lost_lines",
        "path",
    )

    def __init__(
        self,
        path: str,
        *,
        limit_bytes: int = LIMIT_BYTES,
        want_flush: Callable[[], None] | None = None,
        notice: Callable[[int, str], str] = lost_notice,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.lost_lines = 0
        self._output = open_output(path, now_s)
        self._limit_bytes = limit_bytes
        self._want_flush = want_flush
        self._notice = notice
        self._pending = bytearray()  # whole lines, each with its newline
        self._sent_bytes = 0  # of the first pending line, already written
        self._unreported_lines = 0  # lost since the last notice
        self._why = ""  # the reason of the last failure
        self._failing = False  # whether the last attempt to write met a failure
        self._is_closed = False

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait to be written."""
        return len(self._pending) - self._sent_bytes

    @property
    def trouble(self) -> str:
        """Why lines cannot leave, "" if they can or if a slow reader loses none."""
        if self._failing and (self._unreported_lines or self._why != _SLOW):
            return self._why
        return ""

    def write(self, line: bytes, severity: int = INFO) -> None:
        """Write as much of `line` as the output accepts; the rest waits.

        `line` may be several lines that belong together; each ends with a newline. `severity` is
        syslog's number; other outputs ignore it.
        """
        if self._append(self._output.frame(line, severity)):
            self.flush()

    def put(self, line: bytes, severity: int = INFO) -> bool:
        """Let `line` wait for the next `flush`; otherwise as `write`. False: it is lost."""
        is_first = not self._pending
        if not self._append(self._output.frame(line, severity)):
            return False
        if is_first and self._want_flush:
            self._want_flush()
        return True

    def flush(self) -> None:
        """Write as many waiting lines as the output accepts, then the notice about lost ones."""
        was_failing = self._failing
        self._drain()
        if self._unreported_lines and not (self._pending or self._failing or self._is_closed):
            notice = self._notice(self._unreported_lines, self._why) + "\n"
            self._unreported_lines = 0
            self._pending += self._output.frame(notice.encode("utf-8", "backslashreplace"), WARN)
            self._drain()
        if self._want_flush and (self._pending or self._failing != was_failing):
            self._want_flush()

    def reopen(self) -> str:
        """Open the path again, as after a rotation; waiting lines go to the new file.

        Returns "", or why that failed: then the old file stays in use, and the error log says so.
        """
        if self._is_closed:
            return f'"{self.path}" is closed'
        self.flush()
        try:
            is_new = self._output.reopen()
        except OSError as error:
            why = f'open() "{self.path}" failed ({error.errno}: {error.strerror})'
            why += " while reopening logs, the old file stays in use"
            _logger.error("%s", why)  # noqa: TRY400 - a traceback would say nothing more
            return why
        if is_new:
            self._sent_bytes = 0
        self.flush()
        return ""

    def close(self) -> None:
        """Write what the output still accepts, and close it.

        What is left counts as lost, and so does every later line. A second call does nothing.
        """
        if self._is_closed:
            return
        self._want_flush = None
        self.flush()
        self._notice = lost_notice  # the owner's would refer back to it
        self._is_closed = True
        self.lost_lines += self._pending.count(b"\n")
        self._pending.clear()
        self._limit_bytes = 0
        self._output.close()

    def _append(self, line: bytes) -> bool:
        """Append `line` to the queue, or lose it; return whether it waits there now."""
        if self._unreported_lines or len(self._pending) + len(line) > self._limit_bytes:
            # Room may have come since. After a loss the queue opens again only when it is empty:
            # so the notice stands where the lines are missing, and a reader that is a little too
            # slow gets long runs of lines with few notices between.
            self.flush()
            if self._unreported_lines and self._pending:
                self._lose(line.count(b"\n"), self._why)
                return False
            if len(self._pending) + len(line) > self._limit_bytes:
                self._lose(line.count(b"\n"), self._why or os.strerror(errno.EMSGSIZE))
                return False
        self._pending += line
        return True

    def _lose(self, lines: int, why: str) -> None:
        self.lost_lines += lines
        self._unreported_lines += lines
        self._why = why

    def _drain(self) -> None:
        """Write from the queue until it is empty or the output takes no more."""
        if not self._pending or self._is_closed:
            return  # and `_failing` stays: nothing was learned
        self._failing = False
        while self._pending:
            try:
                written = self._output.write(self._first_chunk())
            except OSError as error:
                self._failing = True
                self._why = error.strerror or str(error)
                if not self._can_go_on(error):
                    return
                continue
            if not written:
                self._failing = True
                self._why = _SLOW
                return
            self._advance(written)

    def _can_go_on(self, error: OSError) -> bool:
        """Drop or keep the first line after `error`; return whether to try the next one."""
        if isinstance(error, DatagramReturnedError):
            self._lose(1, self._why)
            return True
        if error.errno == errno.EMSGSIZE:
            del self._pending[: self._pending.find(b"\n") + 1]
            self._lose(1, self._why)
            return True
        if error.errno == errno.EPIPE:
            self._sent_bytes = 0
        return False

    def _first_chunk(self) -> bytearray:
        """Return the next bytes to write: whole lines, unless the first is longer than a chunk.

        Writers that share a pipe, or a file opened for appending, then never mix their lines.
        """
        start = self._sent_bytes
        end = start + self._output.chunk_bytes
        if end < len(self._pending):
            line_end = self._pending.rfind(b"\n", start, end) + 1
            end = line_end or end
        return self._pending[start:end]

    def _advance(self, written_bytes: int) -> None:
        """Remove the written lines; of a line in progress, remember how much is written."""
        end = self._sent_bytes + written_bytes
        if end == len(self._pending):
            self._pending.clear()
            self._sent_bytes = 0
            return
        done = self._pending.rfind(b"\n", 0, end) + 1
        del self._pending[:done]
        self._sent_bytes = end - done
