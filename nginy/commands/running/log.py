"""`nginy log`: the last lines of the running nginy's error log, and another level for a while.

The lines come from memory, so this works wherever the log goes, and for all workers at once.

Tested in tests/run/test_admin_log.py.
"""

from typing import Any

from nginy.commands.running.asking import Message, ask_json
from nginy.commands.running.interface import Interface
from nginy.errors import NginyError
from nginy.log.levels import LEVELS
from nginy.text.escape import escape_control


def log(interface: Interface, level: str | None, last: str | None) -> str:
    """Return the last lines of a level and above; raises NginyError."""
    query = "?level=" + (_checked(level) if level is not None else "notice")
    if last is not None:
        if not last.isascii() or not last.isdecimal() or not 0 < int(last[:9]) <= 1000:
            raise NginyError(f'--last "{last}" is not a whole number from 1 to 1000')
        query += f"&last={last}"
    found = ask_json(interface, Message("GET", f"/api/v1/log{query}"))
    lines = [_line(each) for each in found["lines"]]
    return "\n".join(lines or ["nothing has been logged"])


def set_level(interface: Interface, level: str, lease: str | None) -> str:
    """Set the level of the error log, or with "file" the configured one; return it as text."""
    wanted = None if level == "file" else _checked(level)
    body = {"level": wanted, **({} if lease is None else {"for": lease})}
    found = ask_json(interface, Message("PATCH", "/api/v1/log", body))
    if found["level"] is None:
        return "the error log has its configured level"
    return escape_control(f"the error log has level {found['level']} until {found['until']}")


def _checked(level: str) -> str:
    known = [name for name in LEVELS if name != "emerg"]
    if level not in known:
        raise NginyError(f'level "{level}" is not one of {", ".join(known)}')
    return level


def _line(row: dict[str, Any]) -> str:
    """Return a line as in the file, but with the time in UTC."""
    number = "" if row["number"] is None else f"*{row['number']} "
    more = f" ({row['suppressed']} similar messages suppressed)" if row["suppressed"] else ""
    return escape_control(
        f"{row['at']} [{row['level']}] {row['pid']}#0: {number}{row['text']}{more}"
    )
