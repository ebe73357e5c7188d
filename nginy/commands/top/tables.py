"""Tables: the columns of each view, and the lines that they show of a snapshot.

A line carries the facts behind it, so a key can act on it. A column says how wide the terminal must
be to show it; with 80 columns the last one still has room.

Pure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nginy.commands.top.cells import Glyphs, count, rate, scaled, span
from nginy.commands.top.snapshot import (
    BACKENDS,
    EVENTS,
    LISTENERS,
    SESSIONS,
    UNKNOWN,
    Facts,
    Rates,
    Snapshot,
    key_of,
)
from nginy.text.counts import counted

STYLES: Final = {
    "up": "good",
    "draining": "blue",
    "maintenance": "blue",
    "ejected": "warn",
    "checking": "warn",
    "down": "bad",
    "unresolved": "dim",
}
WORST: Final = tuple(STYLES)
"""The later, the worse."""
UP_MAX: Final = 10_000
"""From this count on, the column has no room for the word after it."""
SHORT: Final = {"maintenance": "maint"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column. The width of the last one is what is left."""

    title: str
    width: int
    from_width: int = 0
    is_right: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table."""

    key: str
    cells: Sequence[str]
    style: str = ""
    is_group: bool = False
    said: str = ""
    """All facts in words, for the line below the table."""
    facts: Facts = field(default_factory=dict)

    def has(self, words: Sequence[str]) -> bool:
        """Whether the line contains all words, which are in lower case."""
        text = f"{' '.join(self.cells)} {self.said}".lower()
        return all(word in text for word in words)


COLUMNS: Final[Mapping[str, Sequence[Column]]] = {
    BACKENDS: (
        Column("UPSTREAM/BACKEND", 20),
        Column("STATE", 12),
        Column("CONNS", 6, is_right=True),
        Column("MAX", 6, 96, is_right=True),
        Column("NEW/S", 5, is_right=True),
        Column("IN/S", 5, is_right=True),
        Column("OUT/S", 5, is_right=True),
        Column("FAIL", 5, 104, is_right=True),
        Column("CHECK", 9, 114, is_right=True),
        Column("SINCE", 5, is_right=True),
        Column("REASON", 0),
    ),
    LISTENERS: (
        Column("LISTENER", 20),
        Column("PROTO", 5, 96),
        Column("CONNS", 6, is_right=True),
        Column("NEW/S", 5, is_right=True),
        Column("IN/S", 5, is_right=True),
        Column("OUT/S", 5, is_right=True),
        Column("TOTAL", 7, 96, is_right=True),
        Column("TO", 12),
        Column("ENDED, DROPS", 0),
    ),
    SESSIONS: (
        Column("CLIENT", 21),
        Column("ID", 14, 110),
        Column("STATE", 14),
        Column("AGE", 6, is_right=True),
        Column("IDLE", 6, is_right=True),
        Column("IN/S", 5, 90, is_right=True),
        Column("OUT/S", 5, 90, is_right=True),
        Column("BYTES", 6, is_right=True),
        Column("BACKEND", 0),
    ),
    EVENTS: (
        Column("TIME", 8),
        Column("WHERE", 26),
        Column("WHAT", 0),
    ),
}

Order = tuple[str, Callable[[Facts, Rates], float | str] | None]
"""A name, and the key by which the largest comes first; None keeps nginy's order."""


def _new(_row: Facts, rates: Rates) -> float:
    return rates.new or 0


def _bits(_row: Facts, rates: Rates) -> float:
    return (rates.received or 0) + (rates.sent or 0)


ORDERS: Final[Mapping[str, Sequence[Order]]] = {
    BACKENDS: (
        ("file", None),
        ("state", lambda row, _: WORST.index(row["state"]) if row["state"] in WORST else 0),
        ("conns", lambda row, _: row["conns"]),
        ("new/s", _new),
        ("bytes/s", _bits),
        ("fail", lambda row, _: row["failures"]),
    ),
    LISTENERS: (
        ("file", None),
        ("conns", lambda row, _: row["sessions"]),
        ("new/s", _new),
        ("bytes/s", _bits),
    ),
    SESSIONS: (
        ("bytes", lambda row, _: row["received"] + row["sent"]),
        ("age", lambda row, _: row["age_s"]),
        ("idle", lambda row, _: row["idle_s"]),
        ("bytes/s", _bits),
    ),
    EVENTS: (("latest", None),),
}


def words_of(view: str, wanted: str) -> list[str]:
    """Return the words that lines must contain; nginy itself filters sessions by those with =."""
    return [word for word in wanted.lower().split() if view != SESSIONS or "=" not in word]


def lines(shot: Snapshot, glyphs: Glyphs, order: int = 0, wanted: str = "") -> list[Line]:
    """Return the lines of a snapshot that match the filter `wanted`, in an order."""
    choose = ORDERS[shot.view][order % len(ORDERS[shot.view])][1]
    words = words_of(shot.view, wanted)
    if shot.view == BACKENDS:
        return _grouped(shot, glyphs, choose, words)
    rows = list(shot.rows)
    if shot.view == EVENTS:
        rows.reverse()
    if choose is not None:
        key = choose
        rows.sort(key=lambda row: key(row, _rates(shot, row)), reverse=True)
    make = {LISTENERS: _listener, SESSIONS: _session, EVENTS: _event}[shot.view]
    return [line for row in rows if (line := make(shot, row, glyphs)).has(words)]


def _rates(shot: Snapshot, row: Facts) -> Rates:
    return shot.rates.get(key_of(shot.view, row), UNKNOWN)


# Upstreams and their backends.


def _grouped(
    shot: Snapshot,
    glyphs: Glyphs,
    choose: Callable[[Facts, Rates], float | str] | None,
    words: Sequence[str],
) -> list[Line]:
    groups: dict[str, list[Facts]] = {each["name"]: [] for each in shot.overview["upstreams"]}
    told = {each["name"]: each for each in shot.overview["upstreams"]}
    for row in shot.rows:
        groups.setdefault(row["upstream"], []).append(row)
    if choose is not None:
        key = choose
        for rows in groups.values():
            rows.sort(key=lambda row: key(row, _rates(shot, row)), reverse=True)
        firsts = {n: key(r[0], _rates(shot, r[0])) if r else 0 for n, r in groups.items()}
        groups = dict(sorted(groups.items(), key=lambda item: firsts[item[0]], reverse=True))
    found: list[Line] = []
    for name, rows in groups.items():
        inside = [_backend(shot, row, glyphs) for row in rows]
        head = _upstream(shot, name, told.get(name), rows)
        if not head.has(words):
            inside = [line for line in inside if line.has(words)]
            if not inside:
                continue
        found += [head, *inside]
    return found


def _upstream(shot: Snapshot, name: str, told: Facts | None, rows: Sequence[Facts]) -> Line:
    usable = told["usable"] if told else sum(row["usable"] for row in rows)
    total = told["backends"] if told else len(rows)
    conns = told["sessions"] if told else sum(row["conns"] for row in rows)
    together = UNKNOWN
    if len(rows) >= total:
        for row in rows:
            together += _rates(shot, row)
    queue = told["queue"] if told else 0
    why = (told or {}).get("why_none") or ""
    since = shot.age_s((told or {}).get("since"))
    style = "good" if usable == total else "warn" if usable else "bad"
    waiting = f"{queue} wait" if queue else ""
    reason = ", ".join(each for each in (why, waiting) if each)
    said = f"{name}: {usable} of {total} backends usable, {counted(conns, 'session')}"
    up = f"{usable}/{total}"
    cells = (
        name,
        f"{up} up" if total < UP_MAX else up,
        count(conns),
        "-",
        *_flow(together),
        "-",
        "-",
        span(since) if since is not None else "",
        reason,
    )
    facts = {"upstream": name, "conns": conns}
    return Line(name, cells, style, True, f"{said}, {reason}" if reason else said, facts)


def _flow(rates: Rates) -> tuple[str, str, str]:
    bits = (None if each is None else each * 8 for each in (rates.received, rates.sent))
    return (rate(rates.new), *map(scaled, bits))  # type: ignore[return-value]


def state_text(word: str, glyphs: Glyphs) -> str:
    """Return a state with its shape."""
    return f"{glyphs.shapes.get(word, '?')} {SHORT.get(word, word)}"


def why(row: Facts) -> str:
    """Explain the state of a backend."""
    if row["state"] != "up":
        return str(row["reason"] or "")
    reason = str(row["why_not"] or "")
    if row["leaving"]:
        return "left the configuration"
    weight = row["weight"]
    if not reason and weight["now"] != weight["file"]:
        return f"weight {weight['now']}, the file has {weight['file']}"
    return reason


def _backend(shot: Snapshot, row: Facts, glyphs: Glyphs) -> Line:
    since = shot.age_s(row["since"])
    checks = row["checks"]
    passed = checks["total"] - checks["failed"]
    check = f"{passed}/{checks['total']}" if checks["total"] else "-"
    if row["state"] == "up" and row["check_s"] is not None:
        check = f"ok {row['check_s'] * 1000:.0f}ms"
    limit = row["max_conns"]["now"]
    reason = why(row)
    cells = (
        f"  {row['address']}",
        state_text(row["state"], glyphs),
        count(row["conns"]),
        str(limit or "-"),
        *_flow(_rates(shot, row)),
        str(row["failures"]),
        check,
        span(since),
        reason,
    )
    style = STYLES.get(row["state"], "") if row["state"] != "up" or row["usable"] else "warn"
    said = f"{row['upstream']}/{row['address']} {row['state']} for {span(since)}"
    facts = [f"{row['failures']} failures"] if row["failures"] else []
    facts += [f"{passed} of {checks['total']} checks passed"] if checks["total"] else []
    said += f": {reason}" if reason else ""
    said += f"; {', '.join(facts)}" if facts else ""
    return Line(key_of(BACKENDS, row), cells, style, False, said, row)


# The other views.


def _listener(shot: Snapshot, row: Facts, _glyphs: Glyphs) -> Line:
    ended = " ".join(f"{code} {count(n)}" for code, n in sorted(row["ended"].items()) if n)
    drops = " ".join(f"{word} {count(n)}" for word, n in row["drops"].items() if n)
    both = f"{ended}, drops: {drops}" if drops else ended
    cells = (
        row["name"],
        row["protocol"],
        count(row["sessions"]),
        *_flow(_rates(shot, row)),
        count(row["sessions_total"]),
        row["to"] or "text",
        both,
    )
    paused = row["accept_paused_until"]
    said = f"{', '.join(row['addresses'])} {row['protocol']} to {row['to'] or 'a text'}"
    said += ", retiring" if row["retiring"] else ""
    said += f", accepts no clients until {paused[11:19]}" if paused else ""
    style = "blue" if row["retiring"] else "warn" if paused else ""
    said = f"{said}: {both}" if both else said
    return Line(key_of(LISTENERS, row), cells, style, False, said, row)


def _session(shot: Snapshot, row: Facts, _glyphs: Glyphs) -> Line:
    _, received, sent = _flow(_rates(shot, row))
    cells = (
        row["client"],
        row["id"],
        row["state"],
        span(row["age_s"]),
        span(row["idle_s"]),
        received,
        sent,
        scaled(row["received"] + row["sent"]),
        row["backend"] or "-",
    )
    said = (
        f"{row['id']} {row['protocol']} {row['client']} by {row['listener']} to "
        f"{row['upstream'] or '-'}/{row['backend'] or '-'}, {row['state']}, "
        f"{row['received']} bytes received, {row['sent']} sent, {row['unsent']} waiting"
    )
    return Line(key_of(SESSIONS, row), cells, "", False, said, row)


def _event(_shot: Snapshot, row: Facts, _glyphs: Glyphs) -> Line:
    where = "/".join(each for each in (row["upstream"], row["backend"]) if each)
    change = f"{row['before']} to {row['after']}: " if row["after"] else ""
    cells = (row["at"][11:19], where or row["kind"], f"{change}{row['text']}")
    style = STYLES.get(row["after"] or "", "")
    return Line(key_of(EVENTS, row), cells, style, False, f"{row['at']} {cells[2]}", row)


def details(line: Line, more: Facts | None) -> Iterator[str]:
    """Yield all facts of a row, one per line, then its details."""
    yield line.said
    yield ""
    facts = {**(more or {}), **{k: v for k, v in line.facts.items() if k not in (more or {})}}
    yield from _facts({k: v for k, v in facts.items() if k not in ("at", "generation", "pid")})


def _facts(facts: Facts) -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            inside = [f"{key} {'-' if v is None else v}" for key, v in value.items()]
            yield f"{name}: {', '.join(inside) or '-'}"
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{name}:"
            for each in value:
                text = ", ".join(f"{k} {v}" for k, v in each.items() if v not in (None, ""))
                yield f"  {text}"
        elif isinstance(value, list):
            yield f"{name}: {', '.join(map(str, value)) or '-'}"
        else:
            yield f"{name}: {'-' if value in (None, '') else value}"
