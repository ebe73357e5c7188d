"""Logs: error_log, access_log and log_format.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from typing import Final

from nginy.commands.importing.model import Block, absolute
from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.commands.importing.nginx.reading import Reading
from nginy.commands.importing.nginx.syntax import Directive
from nginy.config.logs import LOG_LEVELS
from nginy.config.node import quote

SYSLOG_PORT: Final = 514


def log_path(reading: Reading, text: str) -> tuple[str, bool]:
    """Return where a log goes, and whether something of nginx's syslog parameters is lost."""
    if text in ("stderr", "off"):
        return text, False
    if text.startswith("memory:"):
        raise LeftOutError("nginy keeps no log in memory")
    if not text.startswith("syslog:"):
        return absolute(text, reading.files), False
    words = text.removeprefix("syslog:").split(",")
    parameters = dict(word.partition("=")[::2] for word in words)
    server = parameters.pop("server", "")
    if not server or server.startswith("unix:"):
        raise LeftOutError("nginy reaches a syslog server over UDP only")
    host, _, port = server.rpartition(":") if not server.endswith("]") else (server, "", "")
    if not host:
        host, port = server, ""
    return f"syslog:{host}:{port or SYSLOG_PORT}", bool(parameters)


def error_log(reading: Reading, directive: Directive) -> Block:
    """Return the value of error_log; say what is not the same."""
    words = directive.arguments
    if not words:
        raise LeftOutError("it names no file")
    path, is_less = log_path(reading, words[0])
    lost = "nginy sets the facility and tag itself" if is_less else ""
    level = words[1] if len(words) > 1 else "error"
    if level in ("alert", "emerg"):
        lost = f"nginy has no level {quote(level)}, so messages of crit come, too"
        level = "crit"
    elif level.startswith("debug_"):
        lost = "nginy has one level debug, so more comes"
        level = "debug"
    elif level not in LOG_LEVELS:
        raise LeftOutError(f"nginx does not know the level {quote(level)}")
    if lost:
        reading.ledger.close(directive, lost)
    return Block({"path": path, "level": level})
