"""The text of `/metrics`: the exposition format of Prometheus, or OpenMetrics 1.0.

Pure: facts go in, lines come out. Here, a family is a line of a table: its name, type, help, and
what it shows of a row. Labels come from the configuration alone, so the number of series is
limited.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4); OpenMetrics
1.0, https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from nginy.admin.answer import Facts, Slices
from nginy.admin.facts.backends import WORST
from nginy.admin.pace import Pace
from nginy.event.histogram import CONNECT_BOUNDS_MS, TURN_BOUNDS_MS

TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LABEL_US: Final = 2.5
LINE_US: Final = 1.5

CLASHES: Final = frozenset({"nginy_listener_sessions", "nginy_backend_sessions"})
"""Gauges that share their name with a counter, except for its _total. OpenMetrics allows one family
of a name, so there the counter's family has no type."""

SampleLine = tuple[str, str, float | None]
"""What follows the name, the labels as text, and the value."""
LEFT_OUT: Final[SampleLine] = ("", "", None)
"""A sample that is not shown, but took time to make."""


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one name."""

    name: str
    """A counter's is without _total."""
    kind: str
    help: str
    samples: Iterable[SampleLine]


Column = tuple[str, str, str, Callable[[Facts], Any]]
"""Name, type, help, and the value of a row; None leaves it out."""

PROCESS: Final[Sequence[Column]] = (
    ("process_start_time_seconds", "gauge", "When the process started", lambda r: r["started_s"]),
    ("process_cpu_seconds", "counter", "Time on a processor", lambda r: r["cpu_s"]),
    ("process_resident_memory_bytes", "gauge", "Memory in use", lambda r: r["resident_bytes"]),
    ("process_open_fds", "gauge", "Open descriptors", lambda r: r["open_fds"]),
    ("process_max_fds", "gauge", "Most descriptors that may be open", lambda r: r["max_fds"]),
)
LOOP: Final[Sequence[Column]] = (
    ("nginy_connections", "gauge", "Open connections, both sides", lambda r: r["connections"]),
    ("nginy_connections_limit", "gauge", "worker_connections", lambda r: r["connections_limit"]),
    (
        "nginy_loop_busy_seconds",
        "counter",
        "Time between the selector's return and its next call, since first asked",
        lambda r: r["turns"]["sum_ms"] / 1000,
    ),
    ("nginy_buffered_bytes", "gauge", "Bytes received and not sent", lambda r: r["buffered_bytes"]),
    ("nginy_admin_seconds", "counter", "Time that answers like this took", lambda r: r["admin_s"]),
)
LISTENER: Final[Sequence[Column]] = (
    ("nginy_listener_sessions", "gauge", "Sessions now", lambda r: r["sessions"]),
    ("nginy_listener_sessions", "counter", "Sessions so far", lambda r: r["sessions_total"]),
    ("nginy_listener_received_bytes", "counter", "Bytes from clients", lambda r: r["received"]),
    ("nginy_listener_sent_bytes", "counter", "Bytes to clients", lambda r: r["sent"]),
    (
        "nginy_listener_accept_pauses",
        "counter",
        "Times that accepting had to stop",
        lambda r: r["accept_pauses"],
    ),
)
UPSTREAM: Final[Sequence[Column]] = (
    ("nginy_upstream_usable_backends", "gauge", "Backends that serve", lambda r: r["usable"]),
    ("nginy_upstream_sessions", "gauge", "Sessions now", lambda r: r["sessions"]),
    (
        "nginy_upstream_fail_open",
        "gauge",
        "Whether health is ignored, since too few are up",
        lambda r: int(r["fail_open_active"]),
    ),
    ("nginy_upstream_queue", "gauge", "Clients waiting for a backend", lambda r: r["queue"]["now"]),
    (
        "nginy_upstream_queue_limit",
        "gauge",
        "Most clients that may wait",
        lambda r: r["queue"]["limit"],
    ),
    ("nginy_upstream_retries", "counter", "Further attempts", lambda r: r["retries"]),
)
BACKEND: Final[Sequence[Column]] = (
    ("nginy_backend_usable", "gauge", "Whether the backend serves", lambda r: int(r["usable"])),
    (
        "nginy_backend_state",
        "gauge",
        ", ".join(f"{number} {word}" for word, number in WORST.items()),
        lambda r: WORST.get(r["state"]),
    ),
    ("nginy_backend_sessions", "gauge", "Sessions now", lambda r: r["conns"]),
    (
        "nginy_backend_sessions_limit",
        "gauge",
        "max_conns, 0 for none",
        lambda r: r["max_conns"]["now"],
    ),
    ("nginy_backend_weight", "gauge", "Weight now", lambda r: r["weight"]["now"]),
    (
        "nginy_backend_effective_weight",
        "gauge",
        "Weight, less what failures have taken off",
        lambda r: r["weight"]["effective"],
    ),
    (
        "nginy_backend_check_duration_seconds",
        "gauge",
        "How long the last check took",
        lambda r: r["check_s"],
    ),
    (
        "nginy_backend_last_change_timestamp_seconds",
        "gauge",
        "When it entered its state",
        lambda r: _timestamp(r["since"]),
    ),
    ("nginy_backend_sessions", "counter", "Sessions so far", lambda r: r["sessions_total"]),
    ("nginy_backend_received_bytes", "counter", "Bytes from clients", lambda r: r["received"]),
    ("nginy_backend_sent_bytes", "counter", "Bytes to clients", lambda r: r["sent"]),
    ("nginy_backend_failures", "counter", "Failed attempts", lambda r: r["failures"]),
    ("nginy_backend_checks", "counter", "Checks so far", lambda r: r["checks"]["total"]),
    (
        "nginy_backend_checks_failed",
        "counter",
        "Checks that failed",
        lambda r: r["checks"]["failed"],
    ),
    ("nginy_backend_state_changes", "counter", "Changes of state", lambda r: r["changes"]),
    ("nginy_backend_unusable_seconds", "counter", "Time not in state up", lambda r: r["down_s"]),
)


def _timestamp(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def labels(**values: str) -> str:
    """Return labels as text."""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in values.items())
    return f"{{{','.join(pairs)}}}" if values else ""


def _escaped(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _with(text: str, name: str, value: str) -> str:
    """Return labels with one more."""
    return f'{text[:-1]},{name}="{_escaped(value)}"}}'


def _columns(columns: Sequence[Column], rows: Sequence[Facts]) -> Iterator[Family]:
    for name, kind, about, value_of in columns:
        suffix = "_total" if kind == "counter" else ""
        samples = ((suffix, row["labels"], value_of(row)) for row in rows)
        yield Family(name, kind, about, samples)


@dataclass(frozen=True, slots=True)
class Words:
    """Counts by the words of an enum, from a member of each row."""

    name: str
    kind: str
    help: str
    member: str
    label: str

    def family(self, rows: Sequence[Facts]) -> Family:
        """Return a series for each word that has been counted."""
        suffix = "_total" if self.kind == "counter" else ""
        samples = (
            (suffix, _with(row["labels"], self.label, word), count)
            if count or word == "--"
            else LEFT_OUT
            for row in rows
            for word, count in row[self.member].items()
        )
        return Family(self.name, self.kind, self.help, samples)


def _histogram(
    name: str, about: str, bounds_ms: Sequence[float], rows: Sequence[Facts], member: str
) -> Family:
    def samples() -> Iterator[SampleLine]:
        for row in rows:
            text, found = row["labels"], row[member]
            count = 0
            for bound_ms, each in zip((*bounds_ms, None), found["counts"], strict=False):
                count += each
                le = "+Inf" if bound_ms is None else repr(bound_ms / 1000)
                yield "_bucket", f'{text[:-1]},le="{le}"}}', count
            yield "_sum", text, found["sum_ms"] / 1000
            yield "_count", text, count

    return Family(name, "histogram", about, samples())


def prepare(facts: Facts) -> Slices[None]:
    """Work out the labels of all rows; a backend that occurs twice is one series."""
    seen: set[str] = set()
    pace = Pace()
    for row in reversed(facts["backends"]):  # of two equal rows, the last one counts
        row["labels"] = labels(upstream=row["upstream"], backend=row["address"])
        if row["labels"] in seen:
            row["labels"] = ""
        seen.add(row["labels"])
        if pace.is_over(LABEL_US):
            yield None
    if "" in seen:
        facts["backends"] = [row for row in facts["backends"] if row["labels"]]
    for row in facts["processes"]:
        row["labels"] = labels(worker=row["worker"])
    for row in facts["listeners"]:
        row["labels"] = labels(listener=row["name"], protocol=row["protocol"])
        row["ended"] = {"--": 0, **row["ended"]}
        if pace.is_over(LABEL_US):
            yield None
    for row in facts["upstreams"]:
        row["labels"] = labels(upstream=row["name"])
        if pace.is_over(LABEL_US):
            yield None


def families(facts: Facts, general: Iterable[Family]) -> Iterator[Family]:
    """Yield all families of prepared facts; `general` are those of nginy as a whole."""
    yield from general
    processes = facts["processes"]
    yield from _columns(PROCESS, processes)
    loops = [each for each in processes if each["connections_limit"]]
    yield from _columns(LOOP, loops)
    yield LOST.family(loops)
    turns = "From the selector's return to its next call"
    yield _histogram("nginy_loop_turn_seconds", turns, TURN_BOUNDS_MS, loops, "turns")
    late = "How late timers ran"
    yield _histogram("nginy_loop_timer_lag_seconds", late, TURN_BOUNDS_MS, loops, "lags")
    listeners, upstreams = facts["listeners"], facts["upstreams"]
    yield from _columns(LISTENER, listeners)
    yield ENDED.family(listeners)
    yield DROPPED.family(listeners)
    yield from _columns(UPSTREAM, upstreams)
    yield STATES.family(upstreams)
    yield NO_BACKEND.family(upstreams)
    about = "How long connecting took"
    name = "nginy_upstream_connect_seconds"
    yield _histogram(name, about, CONNECT_BOUNDS_MS, upstreams, "connects")
    yield from _columns(BACKEND, facts["backends"])
    omitted = ("", "", facts["omitted"])
    about = "Backends without series of their own"
    yield Family("nginy_metrics_backends_omitted", "gauge", about, [omitted])


LOST: Final = Words(
    "nginy_log_lines_lost", "counter", "Lines that could not be written", "lost_lines", "log"
)
ENDED: Final = Words(
    "nginy_listener_ended",
    "counter",
    "Sessions that have ended, by termination code",
    "ended",
    "code",
)
DROPPED: Final = Words(
    "nginy_listener_dropped",
    "counter",
    "Datagrams and connections that were refused",
    "drops",
    "reason",
)
STATES: Final = Words("nginy_upstream_backends", "gauge", "Backends by state", "states", "state")
NO_BACKEND: Final = Words(
    "nginy_upstream_no_backend",
    "counter",
    "Clients that no backend could serve",
    "no_backend",
    "why",
)


def render(found: Iterable[Family], *, is_openmetrics: bool) -> Slices[list[bytes]]:
    """Return the text in pieces, each made in a slice."""
    pieces: list[bytes] = []
    lines: list[str] = []
    pace = Pace()
    for family in found:
        name, kind = family.name, family.kind
        # OpenMetrics names a counter's family without _total, the older format like its samples.
        if kind == "counter" and (not is_openmetrics or name in CLASHES):
            kind = "unknown" if is_openmetrics else kind
            told = f"{name}_total"
        else:
            told = name
        lines.append(f"# HELP {told} {family.help}.\n")
        lines.append(f"# TYPE {told} {kind}\n")
        for suffix, text, value in family.samples:
            if value is not None:
                lines.append(f"{name}{suffix}{text} {value!r}\n")
            if pace.is_over(LINE_US):
                if lines:
                    pieces.append("".join(lines).encode())
                    lines.clear()
                yield None
    if is_openmetrics:
        lines.append("# EOF\n")
    pieces.append("".join(lines).encode())
    return pieces
