"""Logs: error_log, access_log and log_format.

Tested in tests/commands/importing/nginx/test_table.py.
"""

import re
from typing import Final

from nginy.commands.importing.model import Block, Value, absolute, one_or_list
from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.commands.importing.nginx.reading import ConfReader
from nginy.commands.importing.nginx.scope import argument, named
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.values import duration, size
from nginy.config.logs import LOG_LEVELS
from nginy.config.node import quote
from nginy.proxy.variables import REFERENCE, VARIABLES

SYSLOG_PORT: Final = 514
PREFIX: Final = "a relative path starts at nginx's prefix, here at the directory of the file"


def log_path(reading: ConfReader, directive: Directive, text: str) -> tuple[str, bool]:
    """Return where a log goes, and whether something of nginx's syslog parameters is lost."""
    if text in ("stderr", "off"):
        return text, False
    if text.startswith("memory:"):
        raise LeftOutError("nginy keeps no log in memory")
    if not text.startswith("syslog:"):
        return from_prefix(reading, directive, text), False
    words = text.removeprefix("syslog:").split(",")
    parameters = dict(word.partition("=")[::2] for word in words)
    server = parameters.pop("server", "")
    if not server or server.startswith("unix:"):
        raise LeftOutError("nginy reaches a syslog server over UDP only")
    host, _, port = server.rpartition(":") if not server.endswith("]") else (server, "", "")
    if not host:
        host, port = server, ""
    return f"syslog:{host}:{port or SYSLOG_PORT}", bool(parameters)


def from_prefix(reading: ConfReader, directive: Directive, text: str) -> str:
    """Return an absolute path; nginx takes one that is relative from a place that is built in."""
    if not text.startswith("/"):
        reading.ledger.close(directive, PREFIX)
    return absolute(text, reading.files)


def error_log(reading: ConfReader, directive: Directive) -> Block:
    """Return the value of error_log; say what is not the same."""
    words = directive.arguments
    if not words:
        raise LeftOutError("it names no file")
    if "$" in words[0]:
        raise LeftOutError("nginy's error log has one path for all sessions")
    path, is_less = log_path(reading, directive, words[0])
    lost = "nginy sets the facility and tag itself" if is_less else ""
    level = words[1] if len(words) > 1 else "error"
    if level in ("alert", "emerg"):
        lost = f"nginy has no level {quote(level)}, so messages of level crit appear, too"
        level = "crit"
    elif level.startswith("debug_"):
        lost = "nginy has only one debug level, so it logs more"
        level = "debug"
    elif level not in LOG_LEVELS:
        raise LeftOutError(f"nginx does not know the level {quote(level)}")
    if lost:
        reading.ledger.close(directive, lost)
    return Block({"path": path, "level": level})


# Access logs.

RESERVED: Final = "json"
"""A ready-made format of nginy's; another one cannot have its name."""


def format_name(name: str) -> str:
    """Return the name of a format."""
    return f"nginx_{name}" if name == RESERVED else name


def read_formats(reading: ConfReader, stream: list[Directive]) -> set[str]:
    """Set the log formats that access logs use; return the names of all."""
    used = {
        words[1]
        for each in (*stream, *(inner for block in stream for inner in block.block or ()))
        if each.name == "access_log" and len(words := each.arguments) > 1
    }
    names, formats = set(), Block()
    for directive in named(stream, "log_format"):
        words = directive.arguments
        if len(words) < 2:
            reading.ledger.left_out(directive, "it has no text")
            continue
        if words[0] not in used:
            names.add(words[0])
            continue
        with reading.ledger.judging(directive):
            formats.set(format_name(words[0]), _format(reading, directive, words[1:]))
            names.add(words[0])
            formats.comment(directive.above, format_name(words[0]))
            formats.behind[format_name(words[0])] = directive.behind
            entry = reading.ledger.entry(directive)
            if not entry.is_exact:
                formats.note(entry, format_name(words[0]))
            directive.is_placed = True
    if formats.values:
        reading.document.top.set("log_formats", formats)
    return names


def _format(reading: ConfReader, directive: Directive, texts: list[str]) -> Value:
    """Return the value of a log format."""
    escape = "default"
    if texts[0].startswith("escape="):
        escape = texts[0][7:]
        texts = texts[1:]
    if escape not in ("default", "json", "none"):
        raise LeftOutError(f"nginy does not know {quote(escape)} as an escape")
    text = _known(reading, directive, "".join(texts))
    return text if escape == "default" else Block({"text": text, "escape": escape})


def _known(reading: ConfReader, directive: Directive, text: str) -> str:
    """Return the text of a format, with "-" for variables that nginy does not have."""
    lost = []

    def replaced(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        try:
            reading.definitions.text(f"${name}", VARIABLES)
        except LeftOutError:
            lost.append(f"${name}")
            return "-"
        return match[0]

    text = REFERENCE.sub(replaced, text)
    if lost:
        names = ", ".join(dict.fromkeys(lost))
        reading.ledger.close(directive, f"nginy has no {names}, so the log shows - instead")
    return reading.definitions.text(text, VARIABLES)


def access_logs(reading: ConfReader, directives: list[Directive], names: set[str]) -> Value:
    """Return the value of access_log."""
    logs: list[Value] = []
    for directive in directives:
        with reading.ledger.judging(directive):
            if argument(directive) == "off":
                return "off"
            logs.append(_access_log(reading, directive, names))
    return one_or_list(logs) if logs else "off"


def _access_log(reading: ConfReader, directive: Directive, names: set[str]) -> Block:
    words = directive.arguments
    if not words or len(words) < 2 or words[1] not in names:
        raise LeftOutError("it names no format, so nothing is written")
    path, is_less = log_path(reading, directive, words[0])
    if "$" in path:
        path = reading.definitions.text(path, VARIABLES)
    if is_less:
        reading.ledger.close(directive, "nginy sets the facility and tag itself")
    log = Block({"path": path, "format": format_name(words[1])})
    for word in words[2:]:
        key, _, value = word.partition("=")
        if key == "buffer":
            log.set("buffer", size(value, 1024, 16 << 20)[0])
        elif key == "flush":
            log.set("flush", duration(value))
        elif key == "if":
            log.set("if", reading.definitions.text(value, VARIABLES))
        elif key == "gzip":
            reading.ledger.close(directive, "nginy writes plain text; let logrotate compress it")
            log.default("buffer", "64k")
        else:
            reading.ledger.close(directive, f"nginy does not know {quote(word)} here")
    if "flush" in log.values:
        log.default("buffer", "64k")
    return log
