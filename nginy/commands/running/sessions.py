"""`nginy sessions`: lists the current sessions, or ends them with `--kill`.

Filters are those of the admin interface: `client=10.0.0.0/8`, `backend=10.0.0.1:80`,
`state=established`, `min_age=10m`. With --follow, it asks for the list every second and shows the
sessions that have begun or ended since, until Ctrl-C.

The text is a pure function of the answers.

Tested in tests/run/test_admin_sessions.py.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from nginy.commands.running.asking import Message, ask_json
from nginy.commands.running.interface import Interface
from nginy.errors import NginyError
from nginy.text.escape import escape_control
from nginy.text.units import format_duration

PAGES_MAX: Final = 100
FOLLOW_S: Final = 1.0
HEADINGS: Final = (
    "ID",
    "PROTO",
    "LISTENER",
    "CLIENT",
    "BACKEND",
    "STATE",
    "AGE",
    "IDLE",
    "RECEIVED",
    "SENT",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which sessions are meant, and what to do with them."""

    filters: Sequence[str]
    top: str | None = None
    """bytes, age or idle: only the twenty sessions with the most of it."""
    is_kill: bool = False
    is_follow: bool = False


def sessions(interface: Interface, choice: Choice) -> Iterator[str]:
    """Yield lines that show sessions, or how many have ended; raises NginyError."""
    chosen = _pairs(choice.filters)
    if choice.is_kill:
        yield _kill(interface, chosen)
    elif choice.is_follow:
        yield from _follow(interface, chosen)
    else:
        yield from render(_all(interface, chosen, choice.top))


def _pairs(filters: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in filters:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise NginyError(f'"{text}" is not a filter, expected one such as client=10.0.0.0/8')
        found[name] = value
    return found


def _all(interface: Interface, chosen: Mapping[str, str], top: str | None) -> list[dict[str, Any]]:
    """Return the sessions of all pages."""
    found: list[dict[str, Any]] = []
    query: dict[str, str] = {**chosen, **({"top": "20", "by": top} if top else {"limit": "1000"})}
    for _ in range(PAGES_MAX):
        answer = ask_json(interface, Message("GET", f"/api/v1/sessions?{urlencode(query)}"))
        found += answer["sessions"]
        if answer["next"] is None:
            break
        query["after"] = answer["next"]
    return found


def _kill(interface: Interface, chosen: Mapping[str, str]) -> str:
    if not chosen:
        raise NginyError("--kill needs a filter, such as client=10.0.0.0/8")
    message = Message("POST", "/api/v1/sessions/kill", {"filter": dict(chosen)})
    answer = ask_json(interface, message)
    rest = f", {answer['pending']} more are about to end" if answer["pending"] else ""
    return f"{answer['killed']} of {answer['matched']} sessions ended{rest}"


def _follow(interface: Interface, chosen: Mapping[str, str]) -> Iterator[str]:
    """Yield sessions that begin and end, until it is interrupted."""
    before: dict[str, dict[str, Any]] = {}
    while True:
        now = {each["id"]: each for each in _all(interface, chosen, None)}
        yield from news(before, now)
        before = now
        time.sleep(FOLLOW_S)


def news(
    before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a line for each session that has begun or ended."""
    for identity, session in before.items():
        if identity not in now:
            yield f"- {_line(session)}"
    for identity, session in now.items():
        if identity not in before:
            yield f"+ {_line(session)}"


def _line(session: Mapping[str, Any]) -> str:
    return "  ".join(_cells(session))


def _cells(session: Mapping[str, Any]) -> list[str]:
    cells = [
        session["id"],
        session["protocol"],
        session["listener"],
        session["client"],
        session["backend"] or "-",
        session["state"],
        format_duration(int(session["age_s"]) * 1000),
        format_duration(int(session["idle_s"]) * 1000),
        str(session["received"]),
        str(session["sent"]),
    ]
    return [escape_control(cell) for cell in cells]


def render(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table."""
    if not found:
        yield "no sessions"
        return
    table = [list(HEADINGS), *(_cells(session) for session in found)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
