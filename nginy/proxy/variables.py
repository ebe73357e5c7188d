"""Variables: what "$remote_addr" and the like stand for, in log formats, hash keys and built-in
answers.

One table, from a name to a Python expression about the session `s`. Names and meanings are nginx's
(`ngx_stream_variables.c`, `ngx_stream_upstream.c`), but for nginy's own `$termination`, `$reason`,
`$session_id`, `$requests` and `$responses`.

The one idea: a text with variables becomes a single f-string when the configuration is built, so
that a line of the access log is one expression and not a call for each of its parts. It is put
together as a syntax tree, from the table's expressions and the text's constants: nothing in a
configuration is ever read as code. (A line of the format `main` takes 1.6 µs so; a list of
functions, called and joined, took 4.7.)

What is escaped, and how, is decided by the caller that compiles: see `nginy/text/escape.py`.
"""

import ast
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from nginy.event.clock import Clock
from nginy.proxy.context import host_of, port_of
from nginy.proxy.session import Session
from nginy.text.times import TimeText

Render = Callable[[Session], str]
"""Fills in a text's variables for a session."""

_REFERENCE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Variable:
    """How to work out a value: an expression about the session `s`, of any type."""

    expression: str
    is_foreign: bool = False
    """Whether others choose its letters, so that they have to be escaped."""
    may_be_empty: bool = False


def seconds(duration_ms: int) -> str:
    """Return a duration as nginx's variables have it: 0.005."""
    return f"{duration_ms // 1000}.{duration_ms % 1000:03}"


def _since(start_ms: int, end_ms: int | None) -> str:
    return "-" if end_ms is None else seconds(end_ms - start_ms)


def _listed(value: str) -> Variable:
    """Make a variable that is a comma-separated list of `value`, over the attempts `a`.

    Nearly always there is one attempt; the loop is for the others.
    """
    first = f"(lambda a: {value})(s.attempts[0])"
    every = f"', '.join([str({value}) for a in s.attempts])"
    return Variable(f"{first} if len(s.attempts) == 1 else {every}", may_be_empty=True)


FIXED: Final[Mapping[str, Variable]] = {
    "bytes_received": Variable("s.bytes_received"),
    "bytes_sent": Variable("s.bytes_sent"),
    "connection": Variable("s.number"),
    "listener": Variable("s.handler.name", is_foreign=True),
    "pid": Variable("getpid()"),
    "protocol": Variable("s.handler.protocol"),
    "reason": Variable("s.reason", is_foreign=True, may_be_empty=True),
    "remote_addr": Variable("host_of(s.client.sockaddr)"),
    "remote_port": Variable("port_of(s.client.sockaddr)", may_be_empty=True),
    "requests": Variable("s.requests"),
    "responses": Variable("s.responses"),
    "server_addr": Variable("s.context.server_addr", is_foreign=True),
    "server_port": Variable("s.context.server_port", may_be_empty=True),
    "session_id": Variable("s.number"),
    "session_time": Variable("seconds(s.client.loop.clock.now_ms - s.client.start_time_ms)"),
    "status": Variable("f'{s.status:03}'"),
    "termination": Variable("s.termination", may_be_empty=True),
    "upstream_addr": Variable(
        "', '.join([a.address for a in s.attempts])", is_foreign=True, may_be_empty=True
    ),
    "upstream_bytes_received": _listed("a.bytes_received"),
    "upstream_bytes_sent": _listed("a.bytes_sent"),
    "upstream_connect_time": _listed("since(a.started_at_ms, a.connected_at_ms)"),
    "upstream_first_byte_time": _listed("since(a.started_at_ms, a.first_byte_at_ms)"),
    "upstream_session_time": _listed("since(a.started_at_ms, a.ended_at_ms)"),
}
"""Variables that need nothing but the session."""

TIMES: Final[Mapping[str, Variable]] = {
    "msec": Variable("seconds(wall_ms())"),
    "time_iso8601": Variable("now().iso8601"),
    "time_local": Variable("now().local"),
}
"""Variables that need the time of day."""

VARIABLES: Final = frozenset((*FIXED, *TIMES))
"""All names that a text may use."""

KEY_VARIABLES: Final = frozenset(
    ("protocol", "remote_addr", "remote_port", "server_addr", "server_port", "listener")
)
"""Names that a hash key or an answer may use: those that are known when a session begins."""


class Variables:
    """Compiles texts with variables; holds the time of day they share."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._time_text = TimeText(clock.wall_ms() // 1000)

    def compile(self, text: str, escape: Callable[[str], str] | None = None) -> Render:
        """Return what renders `text` for a session, foreign values passed through `escape`.

        An empty value shows as "-" if there is an `escape`, as in nginx's logs. Raises KeyError for
        a name that is not in `VARIABLES`; the configuration has checked that.
        """
        parts: list[ast.expr] = []
        end = 0
        for match in _REFERENCE.finditer(text):
            parts.append(ast.Constant(text[end : match.start()]))
            parts.append(_formatted(match[1] or match[2], with_escape=escape is not None))
            end = match.end()
        parts.append(ast.Constant(text[end:]))
        tree = ast.parse("lambda s: None", mode="eval")
        assert isinstance(tree.body, ast.Lambda)
        tree.body.body = ast.JoinedStr(parts)
        names = {
            "escape": escape,
            "getpid": os.getpid,
            "host_of": host_of,
            "now": self._now,
            "port_of": port_of,
            "seconds": seconds,
            "since": _since,
            "wall_ms": self._clock.wall_ms,
        }
        code = compile(ast.fix_missing_locations(tree), "<text with variables>", "eval")
        render: Render = eval(code, names)
        return render

    def _now(self) -> TimeText:
        self._time_text.update(self._clock.wall_ms() // 1000)
        return self._time_text


def _formatted(name: str, *, with_escape: bool) -> ast.FormattedValue:
    """Return a variable's place in an f-string."""
    variable = FIXED.get(name) or TIMES[name]
    expression = variable.expression
    if with_escape and variable.is_foreign:
        expression = f"escape({expression})"
    if with_escape and variable.may_be_empty:
        expression = f"({expression}) or '-'"
    return ast.FormattedValue(ast.parse(expression, mode="eval").body, -1)
