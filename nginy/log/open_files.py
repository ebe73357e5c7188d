"""Open files: log files whose paths sessions choose, with a limit on how many are open at a time.

The path of an access log may have variables, and a client may have a say in them. So the number of
open files has a bound: the next one takes the place of the one that got its last line longest ago,
which opens again when its turn comes.

`file.LogFile` is one of the files; `access_log` knows which one a session is for.

Source: nginx ngx_stream_log_module.c ngx_stream_log_script_write, with open_log_file_cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from nginy.log.file import LogFile, lost_text

MAX_FILES: Final = 64
"""As many as a machine has listeners, or a site has names; each of them takes a descriptor."""

_logger = logging.getLogger("nginy.access")


class OpenFiles:
    """Log files by path. Its owner closes it."""

    __slots__ = ("_files", "_max_files", "_open", "lost_lines")

    def __init__(self, open_file: Callable[[str], LogFile], max_files: int = MAX_FILES) -> None:
        """Open files by `open_file`, which raises OSError if it cannot."""
        self._open = open_file
        self._max_files = max_files
        self._files: dict[str, LogFile] = {}
        """The most recently used comes last."""
        self.lost_lines = 0
        """Lines lost for files that could not be opened, or are closed by now."""

    def get(self, path: str) -> LogFile | None:
        """Return the file of a path; None if it cannot be opened, and its line is lost."""
        file = self._files.pop(path, None)
        if file is None:
            while len(self._files) >= self._max_files:
                self._close(next(iter(self._files)))
            try:
                file = self._open(path)
            except (OSError, ValueError) as error:
                self.lost_lines += 1
                _logger.error(  # noqa: TRY400 - a traceback would say nothing more
                    'open() "%s" failed (%s), %d lines of access logs lost so far',
                    path,
                    error.strerror if isinstance(error, OSError) else error,
                    self.lost_lines,
                )
                return None
        self._files[path] = file
        return file

    def open_now(self) -> list[LogFile]:
        """Return those that are open."""
        return list(self._files.values())

    def lost(self) -> int:
        """Return how many lines were lost, those of open files among them."""
        return self.lost_lines + sum(file.lost_lines for file in self._files.values())

    def flush(self) -> None:
        """Write what waits."""
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Close all; each is opened again, by its path, when a line for it comes."""
        for path in list(self._files):
            self._close(path)

    def _close(self, path: str) -> None:
        file = self._files.pop(path)
        before = file.lost_lines
        file.close()
        self.lost_lines += file.lost_lines
        if file.lost_lines > before:
            text = lost_text(file.lost_lines - before, "the file had to be closed")
            _logger.error('write() to "%s" failed, %s', path, text)
