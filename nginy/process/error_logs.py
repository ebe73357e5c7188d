"""The error logs of one process: the one at the top of the file, and those of listeners.

The log at the top gets everything that nginy logs. A listener may have another log for its
sessions, or another level of the same one; each file is open only once. A session keeps the log
that it began with, so a file stays open as long as a handler refers to one of its loggers.

`log/error_log.py` makes the lines. Only `logs.py` uses this module.

Tested in tests/run/test_logs.py.
"""

import logging
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from nginy.config import schema
from nginy.config.logs import SILENT, ErrorLogSettings
from nginy.log.error_log import ErrorLog
from nginy.log.levels import LEVELS

SESSIONS: Final = "nginy.proxy"
"""The name of the loggers that sessions use."""

LogKey = tuple[str, str]
"""A path and a level."""


class ErrorLogs:
    """Error logs by path. Created, changed and closed by the `LogSet`."""

    def __init__(self, want_flush: Callable[[], None]) -> None:
        """Call `want_flush` when lines wait."""
        self._want_flush = want_flush
        self._logs: dict[str, ErrorLog] = {}
        self._main: ErrorLog | None = None
        """The one at the top of the file; None before a start."""
        self._level: str | None = None
        """The level that operators have set in place of the configured one."""
        self._configured = "notice"
        self._wanted: set[str] = set()
        """The paths that are configured, or about to be."""
        self._loggers: dict[LogKey, weakref.ref[logging.Logger]] = {}
        """The loggers of listeners, as long as a handler refers to them."""
        self._silent = logging.Logger(SESSIONS, logging.CRITICAL + 1)

    def __iter__(self) -> Iterator[ErrorLog]:
        """Yield those that are open."""
        return iter(list(self._logs.values()))

    def open(self, config: schema.Config) -> None:
        """Open what `config` names, or change nothing and raise OSError or ValueError with a
        `path`.
        """
        opened: dict[str, ErrorLog] = {}
        for path in paths_of(config):
            if path not in self._logs and path not in opened:
                try:
                    opened[path] = ErrorLog(path, want_flush=self._want_flush)
                except (OSError, ValueError) as error:
                    for log in opened.values():
                        log.close()
                    raise CannotOpenError(path, error) from error
        self._logs.update(opened)
        self._wanted |= set(paths_of(config))
        main = self._logs[config.error_log.path]
        if main is not self._main:
            before, self._main = self._main, main
            main.attach()
            if before is not None:
                before.detach()
        self._configured = config.error_log.level
        main.set_level(self._level or self._configured)

    def set_level(self, level: str | None) -> None:
        """Set the level of the log at the top; None is the configured one."""
        self._level = level
        if self._main is not None:
            self._main.set_level(level or self._configured)

    def logger(self, settings: ErrorLogSettings | None) -> logging.Logger:
        """Return the logger that a listener's sessions write to; None stands for the log at the
        top.
        """
        if settings is None:
            return logging.getLogger(SESSIONS)
        if settings == SILENT:
            return self._silent
        place = (settings.path, settings.level)
        known = self._loggers.get(place)
        logger = None if known is None else known()
        if logger is None:
            # Not by getLogger(), which would keep it forever.
            logger = logging.Logger(SESSIONS, LEVELS[settings.level])
            logger.addHandler(self._logs[settings.path])
            self._loggers[place] = weakref.ref(logger, partial(self._logger_gone, place))
        return logger

    def close_unused(self, config: schema.Config) -> None:
        """Close what `config` does not name, once no session writes to it."""
        self._wanted = set(paths_of(config))
        self._close_unused()

    def _logger_gone(self, place: LogKey, logger: "weakref.ref[logging.Logger]") -> None:
        if self._loggers.get(place) is logger:
            del self._loggers[place]
        self._close_unused()

    def _close_unused(self) -> None:
        used = self._wanted | {path for path, _ in self._loggers}
        for path in [path for path in self._logs if path not in used]:
            self._logs.pop(path).close()

    def close(self) -> None:
        """Flush and close all."""
        logs, self._logs, self._main = self._logs, {}, None
        for log in logs.values():
            log.close()


class CannotOpenError(Exception):
    """A log cannot be opened; `error` says why."""

    def __init__(self, path: str, error: OSError | ValueError) -> None:
        super().__init__(path)
        self.path = path
        self.error = error


def paths_of(config: schema.Config) -> list[str]:
    """Return the paths of all error logs that a configuration names."""
    logs = [each.error_log for each in config.listeners]
    return [config.error_log.path, *(each.path for each in logs if each not in (None, SILENT))]
