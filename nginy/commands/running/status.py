"""`nginy status`: asks a running nginy how it is, and shows the answer in a screenful.

The question is one request (`asking.py`), and `--check` turns the answer into an exit status for
monitoring: 0 all is well, 1 no answer, 2 not ready, which readiness probes and Nagios plugins
understand (a plugin's 2 is CRITICAL).

The text is a pure function of the overview, so a test can read it.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from nginy.commands.running.asking import Message, ask, refusal
from nginy.commands.running.interface import Interface
from nginy.errors import NginyError
from nginy.text.counts import counted
from nginy.text.escape import escape_control
from nginy.text.units import format_duration

ROWS_MAX: Final = 5
"""How many lines of each list are shown."""

NOT_READY: Final = 2
"""The exit status of --check."""


def status(interface: Interface, *, is_json: bool, is_check: bool) -> tuple[int, str]:
    """Return exit status and text; raises NginyError without an answer."""
    target = "/readyz" if is_check else "/api/v1/overview"
    code, text = ask(interface, Message("GET", f"{target}{'?pretty' if is_json else ''}"))
    if is_check and code in (200, 503):
        return (0 if code == 200 else NOT_READY), "\n".join(map(escape_control, text.splitlines()))
    if code != 200:
        raise refusal(code, text)
    if is_json:
        return 0, text
    try:
        return 0, "\n".join(render(json.loads(text)))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NginyError("the answer is malformed; --json shows it") from None


def render(overview: Any) -> Iterator[str]:
    """Yield the lines that show an overview, with control characters escaped."""
    config, sessions, connections = (
        overview[name] for name in ("config", "sessions", "connections")
    )
    uptime = format_duration(int(overview["uptime_s"]) * 1000)
    process = f"nginy {overview['version']}, PID {overview['pid']}, {overview['status']}"
    file = f"{config['file']}, generation {config['generation']}"
    yield escape_control(f"{process}, up for {uptime}, {file}")
    if overview["draining"]:
        yield escape_control(overview["draining"])
    yield (
        f"{counted(sessions['now'], 'session')} now, {sessions['total']} in all;"
        f" {connections['now']} of {connections['limit']} connections"
    )
    if overview.get("workers"):
        workers = overview["workers"]
        yield f"{workers['answered']} of {workers['asked']} workers have answered"
    more = overview["more"]
    yield from _section("upstreams", map(_upstream, overview["upstreams"]), more["upstreams"])
    yield from _section("listeners", map(_listener, overview["listeners"]), more["listeners"])
    yield from _section("problems", map(_problem, overview["problems"]), more["problems"])
    if not overview["problems"]:
        yield "no problems"


def _section(title: str, rows: Iterator[str], more: int) -> Iterator[str]:
    lines: Sequence[str] = list(rows)
    if not lines:
        return
    yield f"{title}:"
    yield from (f"  {escape_control(line)}" for line in lines[:ROWS_MAX])
    rest = max(len(lines) - ROWS_MAX, 0) + more
    if rest > 0:
        yield f"  and {rest} more"


def _upstream(row: Any) -> str:
    states = ", ".join(f"{count} {word}" for word, count in row["states"].items())
    queue = f", {counted(row['queue'], 'client')} waiting" if row["queue"] else ""
    usable = f"{row['usable']} of {row['backends']} backends usable"
    return f"{row['name']}: {usable} ({states}), {counted(row['sessions'], 'session')}{queue}"


def _listener(row: Any) -> str:
    name = "" if row["name"] == row["address"] else f"{row['name']}, "
    to = f"to {row['to']}" if row["to"] else "returns text"
    retiring = ", retiring" if row["retiring"] else ""
    counts = f"{counted(row['sessions'], 'session')} now, {row['sessions_total']} in all"
    return f"{name}{row['address']} {row['protocol']} {to}: {counts}{retiring}"


def _problem(row: Any) -> str:
    since = f" (since {row['since']})" if row["since"] else ""
    return f"{row['severity']}: {row['text']}{since}"
