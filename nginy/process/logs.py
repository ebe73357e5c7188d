"""The open logs of one process: which are open, when to flush them, how to reopen them.

The configuration names an error log and any number of access logs; several of those may write to
one file, in one format or in several. `LogSet` opens each file once, hands out what a listener
needs in order to log its sessions, and starts a timer whenever lines wait to be written, so that
an idle process has no timer and no wakeup for its logs.

A session writes to the access log it was accepted with. So a file that a reload no longer names
stays open until the last such session has ended, and reopens with the others.

`log/error_log.py` and `proxy/variables.py` make the lines, and `log/file.py` writes them without
waiting. Only the server uses this module.

Tested in tests/run/test_logs.py.
"""

import json
import logging
import os
import stat
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from nginy.config import schema
from nginy.config.logs import AccessLogSettings, ErrorLogSettings, LogFormat, format_of
from nginy.config.variables import VariableSettings, definitions
from nginy.errors import NginyError
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.log.access_log import AccessLog, AccessLogByPath
from nginy.log.file import LIMIT_BYTES, LogFile, lost_notice, lost_text
from nginy.log.levels import NOTICE
from nginy.log.open_files import OpenFiles
from nginy.process.error_logs import CannotOpenError, ErrorLogs
from nginy.proxy.session import Reason, Session
from nginy.proxy.texts import Variables
from nginy.text.escape import escape_default, escape_json, escape_path

FLUSH_AGAIN_MS = 1000
"""When to try again if a log could not take its lines and the configuration sets no time."""

FALSE = ("", "0")
"""Values of `if` for which a session gets no line (nginx)."""

_logger = logging.getLogger("nginy.log")


class LogSet:
    """All logs of a process. Created, changed and closed by the server."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._variables = Variables(loop.clock)
        self._defined: Mapping[str, VariableSettings] = {}
        self._error_logs = ErrorLogs(self._want_flush)
        self._files: dict[str, LogFile] = {}
        self._troubled: set[str] = set()
        """The paths that the error log has reported as failing."""
        self._wanted: set[str] = set()
        """The paths that are configured, or about to be."""
        self._access_logs: dict[tuple[AccessLogSettings, LogFormat], AccessLog[Session]] = {}
        """The configured access logs, each with its format."""
        self._used: dict[weakref.ref[AccessLog[Session]], str] = {}
        """The access logs in use, each with its path: a handler refers to its log while it
        lives."""
        self._varied = OpenFiles(partial(LogFile, want_flush=self._want_flush))
        """The files of those whose paths have variables."""
        self._timer = Timer(self._flush_handler, self)
        self._flush_ms = FLUSH_AGAIN_MS

    def open(self, config: schema.Config) -> None:
        """Open what `config` names and is not open yet; raises NginyError, with nothing changed."""
        opened: dict[str, LogFile] = {}
        try:
            for log in access_logs(config):
                is_known = log.path in self._files or log.path in opened
                if not is_known and "$" not in log.path:
                    notice = _notice(format_of(log.format, config.log_formats))
                    opened[log.path] = self._open_file(log.path, notice)
            self._open_error_logs(config)
        except NginyError:
            for file in opened.values():
                file.close()
            raise
        self._files.update(opened)
        self._wanted |= {log.path for log in access_logs(config)}
        flush_times = [log.flush_ms for log in access_logs(config) if log.flush_ms]
        self._flush_ms = min(flush_times, default=FLUSH_AGAIN_MS)

    def set_level(self, level: str | None) -> None:
        """Have the error log at the top take another level; None is the configured one."""
        self._error_logs.set_level(level)

    def close_unused(self, config: schema.Config) -> None:
        """Close the access logs that `config` does not name, once no session writes to them."""
        wanted = access_logs(config)
        self._wanted = {log.path for log in wanted}
        self._error_logs.close_unused(config)
        self._access_logs = {key: log for key, log in self._access_logs.items() if key[0] in wanted}
        self._close_files()

    def _log_gone(self, log: "weakref.ref[AccessLog[Session]]") -> None:
        self._used.pop(log, None)
        self._close_files()

    def _close_files(self) -> None:
        """Close the files that are neither configured nor written to."""
        used = {*self._wanted, *self._used.values()}
        for path in [path for path in self._files if path not in used]:
            self._files.pop(path).close()
            self._troubled.discard(path)
        if not any("$" in path for path in used):
            self._varied.close()

    def define(self, variables: Mapping[str, VariableSettings]) -> None:
        """Make the variables of a configuration known to all texts compiled from now on."""
        if variables != self._defined:
            self._defined = variables
            self._variables = Variables(self._loop.clock, definitions(variables))
            # Sessions keep the logs that they began with, and those keep their variables.
            self._access_logs.clear()

    def session_logger(
        self, access_logs: Sequence[AccessLogSettings], formats: Mapping[str, LogFormat]
    ) -> Callable[[Session], None] | None:
        """Return a function that logs a listener's sessions, None if it has no access log."""
        logs = [self._session_logger(each, formats) for each in access_logs]
        if len(logs) <= 1:
            return logs[0] if logs else None

        def log_to_all(session: Session) -> None:
            for log in logs:
                log(session)

        return log_to_all

    def _session_logger(
        self, settings: AccessLogSettings, formats: Mapping[str, LogFormat]
    ) -> Callable[[Session], None]:
        log_format = format_of(settings.format, formats)
        log = self._access_logs.get((settings, log_format))
        if log is None:
            log = self._access_logs[settings, log_format] = self._access_log(settings, log_format)
            self._used[weakref.ref(log, self._log_gone)] = settings.path
        return log.log

    def _access_log(self, settings: AccessLogSettings, log_format: LogFormat) -> AccessLog[Session]:
        buffer_bytes = settings.buffer_bytes or 0
        flush_ms = settings.flush_ms or FLUSH_AGAIN_MS
        render = self._renderer(log_format)
        wanted = self._condition(settings)
        # Bytes of a value that are not UTF-8 stay as they are only without escaping.
        errors = "surrogateescape" if log_format.escape == "none" else "backslashreplace"
        if "$" in settings.path:
            path = self._variables.compile(settings.path, escape_path, "_")
            get = self._varied.get
            return AccessLogByPath(
                lambda session: get(path(session)), render, buffer_bytes, flush_ms, wanted, errors
            )
        sink = self._files[settings.path]
        return AccessLog(sink, render, buffer_bytes, flush_ms, wanted, errors)

    def _condition(self, settings: AccessLogSettings) -> Callable[[Session], bool] | None:
        """Return a test for which sessions get a line, None for all."""
        if settings.if_ is None:
            return None if settings.empty else is_worth_a_line
        value = self._variables.compile(settings.if_)
        if settings.empty:
            return lambda session: value(session) not in FALSE
        return lambda session: is_worth_a_line(session) and value(session) not in FALSE

    def session_errors(self, error_log: ErrorLogSettings | None) -> logging.Logger:
        """Return the logger that a listener's sessions write to."""
        return self._error_logs.logger(error_log)

    @property
    def compiler(self) -> Callable[[str], Callable[[Session], str]]:
        """A function that compiles texts as `compile` does now, whatever a reload changes."""
        return self._variables.compile

    def compile(self, text: str) -> Callable[[Session], str]:
        """Return a function that fills in a text's variables, without escaping."""
        return self._variables.compile(text)

    def reopen(self) -> list[str]:
        """Open all files again, as after a rotation; return why some could not be opened."""
        _logger.log(NOTICE, "reopening logs")
        files = [*(error_log.sink for error_log in self._error_logs), *self._files.values()]
        problems = [file.reopen() for file in files]
        self._varied.close()
        return [problem for problem in problems if problem]

    def lost(self) -> dict[str, int]:
        """Return how many lines of access logs and of error logs were lost."""
        access = sum(file.lost_lines for file in self._files.values()) + self._varied.lost()
        return {"access": access, "error": sum(log.sink.lost_lines for log in self._error_logs)}

    def flush(self) -> None:
        """Write the lines that wait."""
        for error_log in self._error_logs:
            error_log.flush()
        for file in self._files.values():
            file.flush()
        self._varied.flush()

    def give_to(self, uid: int, gid: int) -> None:
        """Make the log files the property of the user that nginy becomes, so it can reopen them."""
        for path in (*self._files, *(error_log.sink.path for error_log in self._error_logs)):
            try:
                if stat.S_ISREG(os.stat(path).st_mode):
                    os.chown(path, uid, gid)
            except OSError:
                # Not a file (stderr, syslog:), or one that stays writable only through its
                # descriptor.
                continue

    def close(self) -> None:
        """Flush and close everything."""
        self._loop.timers.cancel(self._timer)
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._varied.close()
        self._used.clear()
        self._error_logs.close()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the access logs"

    def abort(self) -> None:
        """Go on: a bug in one flush does not end the logs."""

    def _open_file(self, path: str, notice: Callable[[int, str], str]) -> LogFile:
        try:
            return LogFile(path, want_flush=self._want_flush, notice=notice)
        except (OSError, ValueError) as error:
            raise _cannot_open(path, error) from error

    def _open_error_logs(self, config: schema.Config) -> None:
        try:
            self._error_logs.open(config)
        except CannotOpenError as failure:
            raise _cannot_open(failure.path, failure.error) from failure.error

    def _want_flush(self) -> None:
        if not self._timer.is_running:
            self._loop.timers.start(self._timer, self._loop.clock.now_ms + self._flush_ms)

    def _flush_handler(self, _timer: Timer) -> None:
        self.flush()
        files = (*self._files.values(), *self._varied.open_now())
        for file in files:
            if bool(file.trouble) != (file.path in self._troubled):
                self._tell(file)
        # Clients may choose paths, and on a full disk they all fail: keep no closed one.
        self._troubled.intersection_update([file.path for file in files])

    def _tell(self, file: LogFile) -> None:
        """Log that an access log fails, or that it works again.

        The flush timer bounds how often. nginx says it once a minute while it lasts
        (ngx_http_log_write).
        """
        if file.trouble:
            self._troubled.add(file.path)
            _logger.error(
                'write() to "%s" failed (%s), up to %dk of lines wait, %d log lines lost so far',
                file.path,
                file.trouble,
                LIMIT_BYTES >> 10,
                file.lost_lines,
            )
        else:
            self._troubled.remove(file.path)
            text = 'write() to "%s" works again, %d log lines lost so far'
            _logger.log(NOTICE, text, file.path, file.lost_lines)

    def _renderer(self, log_format: LogFormat) -> Callable[[Session], str]:
        """Return a function that makes a line (nginx: ngx_stream_log_compile_format)."""
        if log_format.escape == "none":
            return self._variables.compile(log_format.text)
        if log_format.escape == "json":
            return self._variables.compile(log_format.text, escape_json, "")
        return self._variables.compile(log_format.text, escape_default)


def is_worth_a_line(session: Session) -> bool:
    """Return whether a session moved a byte, or ended by anything but the client's wish.

    Port scans and the checks of an outer balancer connect, send nothing and close or reset.
    """
    if session.bytes_received or session.bytes_sent:
        return True
    return session.termination not in (Reason.COMPLETED.code, Reason.CLIENT_RESET.code)


def access_logs(config: schema.Config) -> list[AccessLogSettings]:
    """Return the access logs that listeners of `config` write to."""
    return [log for listener in config.listeners for log in listener.access_log]


def _notice(log_format: LogFormat) -> Callable[[int, str], str]:
    return _json_notice if log_format.escape == "json" else lost_notice


def _json_notice(lines: int, why: str) -> str:
    return json.dumps({"reason": lost_text(lines, why)})


def _cannot_open(path: str, error: OSError | ValueError) -> NginyError:
    if isinstance(error, OSError):
        return NginyError(f'open() "{path}" failed ({error.errno}: {error.strerror})')
    return NginyError(f'log "{path}": {error}')
