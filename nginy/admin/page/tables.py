"""The tables of the page: upstreams with their backends, and listeners.

Pure. A group of more than 200 backends comes in pages, with a box for words to look for; both work
without a script, as a link and as a form.

Tested in tests/admin/page/test_document.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from nginy.admin.answer import Facts
from nginy.admin.page.parts import Points, clock, quoted, scaled, sparkline
from nginy.text.counts import counted

PAGE_ROWS: Final = 200
"""Backends of an upstream that are shown at once."""
SHAPES: Final = {
    "up": "●",
    "draining": "◆",
    "maintenance": "◆",
    "ejected": "▲",
    "checking": "▲",
    "down": "■",
    "unresolved": "○",
}
SENTENCES: Final = {
    "--": "completed",
    "CC": "client went away while connecting",
    "CD": "client reset the connection",
    "cD": "idle, client was silent",
    "sC": "connecting to upstream timed out",
    "SC": "connecting failed, or no usable backend",
    "SD": "backend reset the connection",
    "sD": "idle, or datagrams unanswered",
    "DD": "backend went down",
    "CQ": "client went away while waiting",
    "sQ": "no backend was free in time",
    "CR": "the first bytes make no sense",
    "cR": "the first bytes came too late",
    "PR": "denied by access",
    "PC": "over a limit",
    "RC": "no descriptor, port or memory",
    "LD": "max_session_time reached",
    "KD": "closed by an operator, or because nginy stopped",
    "ID": "internal error",
}
"""What a termination code stands for, in short; `proxy/session.py` has the sentences."""


@dataclass(frozen=True, slots=True)
class Focus:
    """The upstream whose backends the visitor pages through."""

    upstream: str = ""
    match: str = ""
    """Words that the backends contain."""
    after: int = 0
    """How many matching backends come before the first one shown."""
    matched: int = 0
    """How many backends match."""


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """An upstream, and those of its backends that are shown."""

    upstream: Facts
    rows: Sequence[Facts]
    focus: Focus
    may_change: bool = False


def _state(word: str) -> str:
    return f'<span class="state {quoted(word)}">{SHAPES.get(word, "○")} {quoted(word)}</span>'


HEADINGS: Final = (
    "Backend",
    "State",
    "Sessions",
    "Share",
    "Failures",
    "Checks",
    "Since",
    "Reason",
)


def upstream_section(group: ShownGroup) -> Iterator[str]:
    """Yield the section of an upstream."""
    upstream, rows = group.upstream, group.rows
    name = upstream["name"]
    queue = f", {counted(upstream['queue'], 'client')} waiting" if upstream["queue"] else ""
    kind = "good" if upstream["usable"] == upstream["backends"] else "warn"
    kind = kind if upstream["usable"] else "bad"
    yield (
        f'<section id="u-{quoted(name)}"><h2>{quoted(name)} <span class="{kind}">'
        f"{upstream['usable']} of {upstream['backends']} usable</span> "
        f"<small>{counted(upstream['sessions'], 'session')}{queue}</small></h2>\n"
    )
    is_long = upstream["backends"] > PAGE_ROWS
    if is_long:
        yield _search(name, group.focus)
    change = '<th scope="col">Change</th>' if group.may_change else ""
    heads = "".join(f'<th scope="col">{each}</th>' for each in HEADINGS)
    yield f'<div class="scroll"><table><thead><tr>{heads}{change}</tr></thead><tbody>\n'
    total = sum(row["sessions_total"] for row in rows)
    for row in rows:
        yield _backend(row, total, name if group.may_change else None)
    yield "</tbody></table></div>\n"
    if is_long or len(rows) < upstream["backends"]:
        yield _pages(group)
    yield "</section>\n"


def _search(name: str, focus: Focus) -> str:
    """Return the box for words."""
    return (
        f'<form action="/#u-{quoted(name)}" method="get" role="search">'
        f'<input type="hidden" name="upstream" value="{quoted(name)}">'
        f'<label>Backends with <input type="search" name="match" maxlength="100" '
        f'value="{quoted(focus.match)}"></label> <button>Show</button></form>\n'
    )


def _pages(group: ShownGroup) -> str:
    """Return which backends are shown, and links to those before and behind."""
    focus, name = group.focus, group.upstream["name"]
    first, end = focus.after + 1, focus.after + len(group.rows)
    told = f"{first} to {end} of {focus.matched}" if group.rows else "none"
    told += " that fit" if focus.match else ""

    def link(after: int, text: str) -> str:
        words = {"match": focus.match} if focus.match else {}
        query = urlencode({"upstream": name, **words, **({"after": after} if after else {})})
        return f' <a class="go" href="/?{quoted(query)}#u-{quoted(name)}">{text}</a>'

    before = link(max(focus.after - PAGE_ROWS, 0), "before") if focus.after else ""
    behind = link(end, "next") if end < focus.matched and group.rows else ""
    return f'<p class="dim">{told}{before}{behind}</p>\n'


def _backend(row: Facts, total: int, upstream: str | None) -> str:
    limit = row["max_conns"]["now"]
    sessions = f"{row['conns']}{f' of {limit}' if limit else ''}"
    share = f"{100 * row['sessions_total'] / total:.0f} %" if total else "-"
    checks = row["checks"]
    checked = (
        f"{checks['total'] - checks['failed']} of {checks['total']}" if checks["total"] else "-"
    )
    reason = row["reason"] or ""
    if row["state"] == "up":
        reason = row["why_not"] or ""
    until = f" until {clock(row['failed_until'])}" if row["failed_until"] else ""
    weight = row["weight"]
    note = "" if weight["now"] == weight["file"] else f" <small>weight {weight['now']}</small>"
    backup = " <small>backup</small>" if row["backup"] else ""
    cells = (
        ("Sessions", sessions),
        ("Share", share),
        ("Failures", row["failures"]),
        ("Checks", checked),
        ("Since", clock(row["since"])),
        ("Reason", f"{quoted(reason)}{until}"),
    )
    text = "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in cells)
    return (
        f'<tr><th scope="row">{quoted(row["address"])}{backup}{note}</th>'
        f'<td data-head="State">{_state(row["state"])}</td>{text}{_buttons(row, upstream)}</tr>\n'
    )


def _buttons(row: Facts, upstream: str | None) -> str:
    if upstream is None:
        return ""
    buttons = "".join(
        f'<button hidden data-state="{state}" data-upstream="{quoted(upstream)}" '
        f'data-backend="{quoted(row["address"])}" data-conns="{row["conns"]}">{state}</button>'
        for state in ("drain", "maint", "ready", "kill")
    )
    return f'<td data-head="Change">{buttons}</td>'


def listener_table(rows: Sequence[Facts], history: Mapping[str, Points]) -> Iterator[str]:
    """Yield the table of listeners; `history` has the bits a second of some, by name."""
    heads = ("Listener", "To", "Sessions", "In all", "Received", "Sent", "bit/s", "Ended", "Drops")
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    yield '<h1>Listeners</h1>\n<div class="scroll"><table><thead><tr>'
    yield f"{head}</tr></thead><tbody>"
    for row in rows:
        yield _listener(row, history.get(f"{row['name']} {row['protocol']}", ()))
    yield "</tbody></table></div>\n"


def _listener(row: Facts, points: Points) -> str:
    ended = " ".join(
        f'<abbr title="{quoted(SENTENCES.get(code, code))}">{quoted(code)}</abbr>&nbsp;{count}'
        for code, count in sorted(row["ended"].items())
        if count
    )
    drops = " ".join(f"{quoted(r)}&nbsp;{count}" for r, count in row["drops"].items() if count)
    places = [each for each in row["addresses"] if each != row["name"]]
    where = f" <small>{quoted(', '.join(places))}</small>" if places else ""
    retiring = " <small>retiring</small>" if row["retiring"] else ""
    cells: Iterable[tuple[str, object]] = (
        ("To", quoted(row["to"] or "returns text")),
        ("Sessions", row["sessions"]),
        ("In all", scaled(row["sessions_total"])),
        ("Received", scaled(row["received"], "B")),
        ("Sent", scaled(row["sent"], "B")),
        ("bit/s", f"{scaled(points[-1][1])}{sparkline(points)}" if points else "-"),
        ("Ended", ended or "-"),
        ("Drops", drops or "-"),
    )
    text = "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in cells)
    return (
        f'<tr><th scope="row">{quoted(row["name"])} <small>{quoted(row["protocol"])}</small>'
        f"{where}{retiring}</th>{text}</tr>\n"
    )
