"""The keys of logs: error log, access logs, formats.

The records here are keys of the whole file and of a listener (schema.py). log/ writes the lines;
proxy/variables.py has the variables that a format may use.

Tested in tests/config/test_load.py.
"""

from dataclasses import dataclass
from typing import Final

from nginy.config.record import Entry, Record, Switch, key
from nginy.config.types import Choice, Duration, Flag, LogPath, OrOff, Size, Text

LOG_LEVELS: Final = ("debug", "info", "notice", "warn", "error", "crit")

# Ready-made formats for access_log. A file may give `main` another text; `json` is escaped as JSON.
LOG_FORMATS: Final = {
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

LOG_PATH_ABOUT: Final = "Lines go to a file, a standard stream, or a syslog server over UDP."


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLogSettings(Entry):
    """Where nginy's own messages go."""

    path: str = key(LogPath("level", LOG_LEVELS), "stderr", LOG_PATH_ABOUT)
    level: str = key(
        Choice(*LOG_LEVELS), "notice", "nginy writes messages of this level and above."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogSettings(Entry):
    """Where the line of each session goes when it has ended."""

    path: str = key(LogPath("format", LOG_FORMATS), None, LOG_PATH_ABOUT)
    format: str = key(
        Text("the name of a log format", r"[\w.-]+"),
        "main",
        "`main` and `json` are there already, log_formats adds others.",
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


ACCESS_LOG: Final = Switch(Record(AccessLogSettings, "access_log", shorthand="path"))
