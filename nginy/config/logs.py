"""The keys of logs: error log, access logs, formats.

The records here are keys of the whole file and of a listener (schema.py). log/ writes the lines;
proxy/variables.py has the variables that a format and the path of an access log may use.

Tested in tests/config/test_load.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from nginy.config.node import Findings, Mark, Node, ScalarNode
from nginy.config.paths import FilePath
from nginy.config.record import Entry, ListOf, Record, Switch, key
from nginy.config.types import Choice, Duration, Flag, OrOff, Plain, Size, Template, Text
from nginy.config.words.hints import log_hint
from nginy.errors import InvalidValueError
from nginy.proxy.variables import VARIABLES


class LogPath(FilePath):
    """The path of a log. `option`, format or level, is the key beside it that takes `values`."""

    def __init__(self, option: str, values: Iterable[str]) -> None:
        super().__init__("stderr", "stdout", schemes=("syslog:",))
        self.option = option
        self.values = frozenset(values)

    def parse(self, text: str, mark: Mark) -> str:
        """Refuse a level or a format before the path, which would make one path of both."""
        first, *rest = text.split() or [""]
        if rest and first in self.values:
            raise InvalidValueError(f"begins with a {self.option}")
        return super().parse(text, mark)

    def advice(self, key: str, text: str) -> str | None:
        """Explain where nginx's option after the path goes."""
        return log_hint(text, self.option, self.values) or super().advice(key, text)


class ErrorLogPath(LogPath):
    """The same for an error log, whose messages are about no session or about many."""

    def parse(self, text: str, mark: Mark) -> str:
        """Refuse variables, which nobody would fill in."""
        if "$" in text:
            raise InvalidValueError("has a variable, which only the path of an access log may have")
        return super().parse(text, mark)


class AccessLogPath(LogPath):
    """The same for an access log: the path of a file may have variables."""

    def parse_among(self, text: str, mark: Mark, findings: Findings) -> str:
        """Refuse unknown variables, and those of an address."""
        if "$" in text:
            Template(VARIABLES).check(text, findings.variables)
            if text.startswith(self.schemes):
                raise InvalidValueError("has a variable, which only the path of a file may have")
        return self.parse(text, mark)


LOG_LEVELS: Final = ("debug", "info", "notice", "warn", "error", "crit")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFormat(Entry):
    """What a line of an access log says."""

    text: str = key(Template(VARIABLES), None, "The line, with variables.")
    escape: str = key(
        Choice("default", "json", "none"),
        "default",
        "How to escape values: \\xNN for what is not plain text, as in JSON, or not at all; default"
        " shows an empty value as -.",
    )


class LogFormatKind(Record[LogFormat]):
    """A text, or a mapping of it and its escape."""

    def __init__(self) -> None:
        super().__init__(LogFormat, "a log format", shorthand="text")

    def write(self, value: LogFormat) -> Plain:
        """Return only the text if it says everything."""
        return value.text if value.escape == "default" else super().write(value)


def blank_format() -> LogFormat:
    """Return the stand-in for one that could not be read."""
    return LogFormat(text="")


def format_of(name: str, formats: Mapping[str, LogFormat]) -> LogFormat:
    """Return a format by its name: one of the configuration's own, or a ready-made one."""
    return formats.get(name) or LOG_FORMATS[name]


# Ready-made formats for access_log. A file may give `main` another text.
_TEXTS: Final = {
    "main": (
        "$remote_addr:$remote_port [$time_iso8601] $protocol $status $termination"
        ' $bytes_received/$bytes_sent $session_time $upstream_addr "$reason"'
    ),
    "json": (
        '{"time":"$time_iso8601","session":"$session_id","listener":"$listener",'
        '"remote_addr":"$remote_addr",'
        '"remote_port":"$remote_port","server_addr":"$server_addr","server_port":"$server_port",'
        '"protocol":"$protocol","status":"$status","termination":"$termination","reason":"$reason",'
        '"bytes_received":$bytes_received,"bytes_sent":$bytes_sent,"session_time":$session_time,'
        '"requests":$requests,"responses":$responses,'
        '"upstream_addr":"$upstream_addr","upstream_connect_time":"$upstream_connect_time",'
        '"upstream_bytes_sent":"$upstream_bytes_sent",'
        '"upstream_bytes_received":"$upstream_bytes_received"}'
    ),
}
LOG_FORMATS: Final = {
    "main": LogFormat(text=_TEXTS["main"]),
    "json": LogFormat(text=_TEXTS["json"], escape="json"),
}

LOG_PATH_ABOUT: Final = "Lines go to a file, a standard stream, or a syslog server over UDP."


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLogSettings(Entry):
    """Where nginy's own messages go."""

    path: str = key(ErrorLogPath("level", LOG_LEVELS), "stderr", LOG_PATH_ABOUT)
    level: str = key(
        Choice(*LOG_LEVELS), "notice", "nginy writes messages of this level and above."
    )


SILENT: Final = ErrorLogSettings(path="off")
"""The error log of a listener whose sessions log nothing."""


class ListenerErrorLog(Switch[ErrorLogSettings]):
    """An error log, `off` for none, or `auto` for the one at the top of the file, which is None."""

    def __init__(self) -> None:
        super().__init__(Record(ErrorLogSettings, "error_log", shorthand="path"))
        self.expected = f"auto, off, or {self.record.expected}"

    def read(self, node: Node, findings: Findings) -> ErrorLogSettings | None:
        """Return the log."""
        if isinstance(node, ScalarNode) and node.text in ("auto", "off"):
            return None if node.text == "auto" else SILENT
        return self.record.read(node, findings)  # "on" is not a path

    def write(self, value: ErrorLogSettings | None) -> Plain:
        """Return the log, or a word."""
        if value is None:
            return "auto"
        return "off" if value == SILENT else super().write(value)


ERROR_LOG: Final = ListenerErrorLog()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogSettings(Entry):
    """Where the line of each session goes when it has ended."""

    path: str = key(
        AccessLogPath("format", LOG_FORMATS),
        "stderr",
        f"{LOG_PATH_ABOUT} The path of a file may have variables.",
    )
    format: str = key(
        Text("the name of a log format", r"[\w.-]+"),
        "main",
        "`main` and `json` are built in; log_formats adds others.",
    )
    buffer_bytes: int | None = key(
        OrOff(Size(1024, 16 << 20)), "off", "nginy collects this much before it writes."
    )
    flush_ms: int | None = key(
        OrOff(Duration()), "off", "A line waits in the buffer for at most this long."
    )
    empty: bool = key(
        Flag(),
        "on",
        "Whether to log a session that its client ended before any byte moved.",
    )
    if_: str | None = key(
        OrOff(Template(VARIABLES)),
        "off",
        "A session is not logged if this text is empty or 0 when it ends.",
    )


class AccessLogs(ListOf[AccessLogSettings]):
    """One access log or several, or `off` for none."""

    def __init__(self) -> None:
        super().__init__(Record(AccessLogSettings, "access_log", shorthand="path"))
        self.expected = f"off, {self.expected}"

    def read(self, node: Node, findings: Findings) -> tuple[AccessLogSettings, ...]:
        """Return the logs in the order written."""
        if isinstance(node, ScalarNode) and node.text == "off":
            return ()
        return super().read(node, findings)

    def write(self, value: tuple[AccessLogSettings, ...]) -> Plain:
        """Return a log, a list of several, or the word."""
        if not value:
            return "off"
        return self.item.write(value[0]) if len(value) == 1 else super().write(value)


ACCESS_LOG: Final = AccessLogs()
