"""`nginy status`: asks a running nginy how it is, and shows the answer in a screenful.

It finds the process by its configuration, as `-s` does: the first unix socket of the admin
interface, or else its first address. The question is one request, and `--check` makes of the answer
an exit status for monitoring: 0 all is well, 1 no answer, 2 not ready, which readiness probes and
Nagios plugins understand (a plugin's 2 is CRITICAL).

What is shown is a pure function of the overview, so that a test can read it.
"""

import json
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Final

from nginy.config.admin import AdminListener, admin_listeners
from nginy.config.check_files import read_token
from nginy.config.schema import Config
from nginy.errors import NginyError
from nginy.text.address import Address
from nginy.text.escape import escape_control
from nginy.text.units import format_duration

ANSWER_S: Final = 5.0
"""How long to wait for each piece of an answer."""
ANSWER_MAX_BYTES: Final = 8 << 20
ROWS_MAX: Final = 5
"""Of each list."""

NOT_READY: Final = 2
"""The exit status of --check."""


def status(config: Config, path: str, *, is_json: bool, is_check: bool) -> tuple[int, str]:
    """Return exit status and text; raises NginyError without an answer."""
    entry, address = _admin_of(config, path)
    target = "/readyz" if is_check else "/api/v1/overview"
    code, body = _ask(entry, address, f"{target}{'?pretty' if is_json else ''}")
    text = body.decode("utf-8", "replace")
    if is_check and code in (200, 503):
        return (0 if code == 200 else NOT_READY), "\n".join(map(escape_control, text.splitlines()))
    if code != 200:
        raise NginyError(f"{address} answers {code}: {escape_control(text.strip())}")
    if is_json:
        return 0, text
    try:
        return 0, "\n".join(render(json.loads(text)))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NginyError(f"the answer of {address} is not understood; --json shows it") from None


def _admin_of(config: Config, path: str) -> tuple[AdminListener, Address]:
    """Return where to ask."""
    entries = admin_listeners(config.admin, config.pid)
    places = [(entry, address) for entry in entries for address in entry.listen]
    if not places:
        example = "admin: 127.0.0.1:9180"
        raise NginyError(f'{path} has no admin interface, expected a line such as "{example}"')
    return min(places, key=lambda place: not place[1].is_unix)


def _ask(entry: AdminListener, address: Address, target: str) -> tuple[int, bytes]:
    """Return status and body of the answer to a request; raises NginyError."""
    host = address.host_text or "localhost"
    if address.is_wildcard:
        loopback = "::1" if ":" in address.host else "127.0.0.1"
        address = Address(address.family, loopback, address.port)
        host = address.host_text
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    if entry.token_file is not None:
        lines.append(f"Authorization: Bearer {read_token(entry.token_file).decode()}")
    request = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
    try:
        with socket.socket(address.family) as sock:
            sock.settimeout(ANSWER_S)
            sock.connect(address.sockaddr)
            sock.sendall(request)
            answer = b""
            while len(answer) < ANSWER_MAX_BYTES and (data := sock.recv(65536)):
                answer += data
    except OSError as error:
        reason = "no answer in time" if error.errno is None else f"{error.errno}: {error.strerror}"
        raise NginyError(f"{address} cannot be asked ({reason}); does nginy run?") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 3 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise NginyError(f"{address} does not answer as nginy does")
    return int(words[1]), body


def render(overview: Any) -> Iterator[str]:
    """Yield the lines that show an overview; all text from outside is made safe."""
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
        f"{sessions['now']} sessions now, {sessions['total']} in all;"
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
    queue = f", {row['queue']} clients wait" if row["queue"] else ""
    usable = f"{row['usable']} of {row['backends']} backends usable"
    return f"{row['name']}: {usable} ({states}), {row['sessions']} sessions{queue}"


def _listener(row: Any) -> str:
    name = "" if row["name"] == row["address"] else f"{row['name']}, "
    to = f"to {row['to']}" if row["to"] else "returns text"
    retiring = ", retiring" if row["retiring"] else ""
    counts = f"{row['sessions']} sessions now, {row['sessions_total']} in all"
    return f"{name}{row['address']} {row['protocol']} {to}: {counts}{retiring}"


def _problem(row: Any) -> str:
    since = f" (since {row['since']})" if row["since"] else ""
    return f"{row['severity']}: {row['text']}{since}"
