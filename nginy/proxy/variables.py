"""Variables: what "$remote_addr" and the like stand for, in log formats, hash keys and built-in
answers.

One table, from name to a function of the session. Names and meanings are nginx's
(`ngx_stream_variables.c`, `ngx_stream_upstream.c`), but for nginy's own `$termination`, `$reason`,
`$session_id`, `$requests` and `$responses`. A text with variables is compiled once, when the
configuration is built; rendering it is then a call of the functions that it names.

What is escaped, and how, is the affair of who compiles: see `nginy/text/escape.py`.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Final

from nginy.event.clock import Clock
from nginy.proxy.attempt import Attempt
from nginy.proxy.session import Session
from nginy.text.times import TimeText

Variable = Callable[[Session], str]
"""Works out a variable's value; "" if it has none."""

_REFERENCE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)


def seconds(duration_ms: int) -> str:
    """Return a duration as nginx's variables have it: 0.005."""
    return f"{duration_ms // 1000}.{duration_ms % 1000:03}"


def _session_time(session: Session) -> str:
    client = session.client
    return seconds(client.loop.clock.now_ms - client.start_time_ms)


def _per_attempt(value: Callable[[Attempt], str]) -> Variable:
    """Make a variable that is a comma-separated list over the attempts."""
    return lambda session: ", ".join([value(attempt) for attempt in session.attempts])


def _since_start(end: Callable[[Attempt], int | None]) -> Variable:
    def value(attempt: Attempt) -> str:
        end_ms = end(attempt)
        return "-" if end_ms is None else seconds(end_ms - attempt.started_at_ms)

    return _per_attempt(value)


FIXED: Final[Mapping[str, Variable]] = {
    "bytes_received": lambda s: str(s.bytes_received),
    "bytes_sent": lambda s: str(s.bytes_sent),
    "connection": lambda s: str(s.context.number),
    "listener": lambda s: s.context.listener,
    "pid": lambda _s: str(os.getpid()),
    "protocol": lambda s: s.context.protocol,
    "reason": lambda s: s.reason,
    "remote_addr": lambda s: s.context.remote_addr,
    "remote_port": lambda s: s.context.remote_port,
    "requests": lambda s: str(s.requests),
    "responses": lambda s: str(s.responses),
    "server_addr": lambda s: s.context.server_addr,
    "server_port": lambda s: s.context.server_port,
    "session_id": lambda s: str(s.context.number),
    "session_time": _session_time,
    "status": lambda s: f"{s.status:03}",
    "termination": lambda s: s.termination,
    "upstream_addr": _per_attempt(lambda a: a.address),
    "upstream_bytes_received": _per_attempt(lambda a: str(a.bytes_received)),
    "upstream_bytes_sent": _per_attempt(lambda a: str(a.bytes_sent)),
    "upstream_connect_time": _since_start(lambda a: a.connected_at_ms),
    "upstream_first_byte_time": _since_start(lambda a: a.first_byte_at_ms),
    "upstream_session_time": _since_start(lambda a: a.ended_at_ms),
}
"""Variables that need nothing but the session."""

TIMES: Final = ("msec", "time_iso8601", "time_local")
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

    def compile(self, text: str, escape: Callable[[str], str] | None = None) -> Variable:
        """Return what renders `text` for a session, each value passed through `escape`.

        An empty value shows as "-" if it is escaped, as in nginx's logs. Raises KeyError for a
        name that is not in `VARIABLES`; the configuration has checked that.
        """
        parts: list[Variable] = []
        end = 0
        for match in _REFERENCE.finditer(text):
            if match.start() > end:
                parts.append(_constant(text[end : match.start()]))
            variable = self._variable(match[1] or match[2])
            parts.append(variable if escape is None else _escaped(variable, escape))
            end = match.end()
        if end < len(text):
            parts.append(_constant(text[end:]))
        return lambda session: "".join([part(session) for part in parts])

    def _variable(self, name: str) -> Variable:
        if name == "msec":
            return lambda _session: seconds(self._clock.wall_ms())
        if name == "time_local":
            return lambda _session: self._now().local
        if name == "time_iso8601":
            return lambda _session: self._now().iso8601
        return FIXED[name]

    def _now(self) -> TimeText:
        self._time_text.update(self._clock.wall_ms() // 1000)
        return self._time_text


def _constant(text: str) -> Variable:
    return lambda _session: text


def _escaped(variable: Variable, escape: Callable[[str], str]) -> Variable:
    return lambda session: escape(variable(session)) or "-"
