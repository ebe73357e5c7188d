"""The page: what nginy serves, by which backends, and whether all is well, in a browser.

Pure: an overview and the rows of backends go in, HTML comes out, complete without a script. The
script (`page_assets.py`) only asks for the same page again and puts its parts in place, so there
is one place that knows how things look. All text from outside goes through html.escape, and the
policy in `answer.py` lets the browser load nothing from elsewhere.

Color, shape and a word show each state, never color alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Final

from nginy.admin.answer import Facts
from nginy.admin.events import Event
from nginy.admin.sampling import Sample

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
    "KD": "closed by an operator, or as nginy stopped",
    "ID": "internal error",
}
"""What a termination code stands for, in short; `proxy/session.py` has the sentences."""
EVENTS_SHOWN: Final = 10
SPARK_WIDTH: Final = 120
SPARK_HEIGHT: Final = 24
KILO: Final = 1000


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page is made of."""

    overview: Facts
    listeners: Sequence[Facts]
    backends: Mapping[str, Sequence[Facts]]
    """Those of each upstream; a limited number."""
    more: Mapping[str, int]
    """How many backends of an upstream are not among them."""
    events: Sequence[Event]
    samples: Sequence[Sample] = field(default_factory=tuple)
    may_change: bool = False


def verdict(overview: Facts) -> tuple[str, str]:
    """Return good, warn or bad, and one sentence on how things are."""
    if overview["status"] != "serving":
        return "warn", str(overview["draining"] or f"nginy is {overview['status']}")
    problems = overview["problems"]
    errors = [each for each in problems if each["severity"] == "error"]
    if errors:
        return "bad", str(errors[0]["text"])
    warnings = [each for each in problems if each["severity"] == "warning"]
    if warnings:
        count = len(warnings) + overview["more"]["problems"]
        return "warn", f"All upstreams serve; {count} backend{'s are' if count > 1 else ' is'} out"
    count = len(overview["upstreams"]) + overview["more"]["upstreams"]
    if not count:
        return "good", "nginy serves, without upstreams"
    return "good", f"All {count} upstreams serve" if count > 1 else "The upstream serves"


def render(shown: Shown) -> Iterator[str]:
    """Yield the page in pieces of some milliseconds at most."""
    overview = shown.overview
    kind, sentence = verdict(overview)
    title = {"good": "nginy", "warn": "nginy !", "bad": "nginy !!"}[kind]
    yield _head(title)
    yield f'<main id="page" data-change="{int(shown.may_change)}">\n'
    yield f'<p id="verdict" class="{kind}" role="status" aria-live="polite">{_t(sentence)}</p>\n'
    yield '<p id="stale" hidden></p>\n'
    yield _problems(overview)
    yield _figures(overview, shown.samples)
    yield "<h1>Upstreams</h1>\n"
    for upstream in overview["upstreams"]:
        yield from _upstream(upstream, shown)
    if overview["more"]["upstreams"]:
        yield f"<p>and {overview['more']['upstreams']} more upstreams</p>\n"
    yield _listeners(shown.listeners)
    yield _events(shown.events)
    yield _footer(overview)
    yield "</main></body></html>\n"


def _head(title: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<noscript><meta http-equiv="refresh" content="5"></noscript>'
        f"<title>{title}</title>"
        '<link rel="stylesheet" href="/page.css">'
        '<script src="/page.js" defer></script></head><body>\n'
    )


LOCKED: Final = (
    f'{_head("nginy")}<main id="page" data-locked="1"><p id="verdict" class="warn" role="status" '
    'aria-live="polite">This page needs the token of token_file, and a script to ask for it.</p>'
    '<p id="stale" hidden></p></main></body></html>\n'
)
"""What a browser gets that has no token yet."""


def _t(text: object) -> str:
    return escape(str(text))


def _problems(overview: Facts) -> str:
    rows = "".join(
        f'<li class="{_t(each["severity"])}"><a href="#{_anchor(each["text"])}">{_t(each["text"])}'
        f"</a>{_since(each['since'])}</li>"
        for each in overview["problems"]
    )
    return f'<ul id="problems">{rows}</ul>\n' if rows else ""


def _anchor(text: str) -> str:
    """Return the id of the upstream that a problem is about."""
    return f"u-{_t(text.partition(':')[0])}"


def _since(at: str | None) -> str:
    return "" if at is None else f' <span class="dim">since {_clock(at)}</span>'


def _clock(at: str | None) -> str:
    """Return the time of day of an instant, with its full text as the title."""
    return "" if not at else f'<time datetime="{_t(at)}" title="{_t(at)}">{_t(at[11:19])}</time>'


def scaled(value: float | None, unit: str = "") -> str:
    """Return a number with three digits or so: 8.4 k, 91 M."""
    if value is None:
        return "-"
    for letter in ("", "k", "M", "G", "T"):
        if value < KILO or letter == "T":
            digits = f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
            return f"{digits}{' ' if letter or unit else ''}{letter}{unit}"
        value /= KILO
    return ""


def _figures(overview: Facts, samples: Sequence[Sample]) -> str:
    sessions, bytes_, loop = overview["sessions"], overview["bytes"], overview["loop"]
    connections = overview["connections"]
    lag_s, busy = loop["lag_p99_s"], loop["busy"]
    received, sent = bytes_["received_rate"], bytes_["sent_rate"]
    figures: tuple[tuple[str, str, Sequence[float]], ...] = (
        ("sessions", scaled(sessions["now"]), [s.sessions for s in samples]),
        ("new a second", scaled(sessions["rate"]), _rates(samples, "total")),
        (
            "from clients",
            scaled(None if received is None else received * 8, "bit/s"),
            _rates(samples, "received"),
        ),
        (
            "to clients",
            scaled(None if sent is None else sent * 8, "bit/s"),
            _rates(samples, "sent"),
        ),
        (
            "connections",
            f"{scaled(connections['now'])} <small>of {scaled(connections['limit'])}</small>",
            [s.connections for s in samples],
        ),
        (
            "loop late (p99)",
            "-" if lag_s is None else f"{lag_s * 1000:.3g} ms",
            [],
        ),
        (
            '<a href="/loop">loop at work</a>',
            "-" if busy is None else f"{busy * 100:.1f} %",
            _rates(samples, "busy_s"),
        ),
    )
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd>{sparkline(points)}</div>"
        for name, value, points in figures
    )
    return f'<dl id="figures">{cells}</dl>\n'


def _rates(samples: Sequence[Sample], name: str) -> list[float]:
    """Return the growth of a count per second, from one sample to the next."""
    return [
        max(getattr(b, name) - getattr(a, name), 0) / max(b.at_s - a.at_s, 0.001)
        for a, b in pairwise(samples)
    ]


def sparkline(points: Sequence[float]) -> str:
    """Return a line through points, as SVG; nothing for fewer than two."""
    if len(points) < 2:
        return f'<svg viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" aria-hidden="true"></svg>'
    top = max(points) or 1
    step = SPARK_WIDTH / (len(points) - 1)
    places = " ".join(
        f"{i * step:.1f},{SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 4) * point / top:.1f}"
        for i, point in enumerate(points)
    )
    return (
        f'<svg viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" preserveAspectRatio="none" '
        f'aria-hidden="true"><polyline points="{places}"/></svg>'
    )


def _state(word: str) -> str:
    return f'<span class="state {_t(word)}">{SHAPES.get(word, "○")} {_t(word)}</span>'


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


def _upstream(upstream: Facts, shown: Shown) -> Iterator[str]:
    name = upstream["name"]
    rows = shown.backends.get(name, ())
    queue = f", {upstream['queue']} clients wait" if upstream["queue"] else ""
    kind = "good" if upstream["usable"] == upstream["backends"] else "warn"
    kind = kind if upstream["usable"] else "bad"
    yield (
        f'<section id="u-{_t(name)}"><h2>{_t(name)} <span class="{kind}">{upstream["usable"]} of '
        f"{upstream['backends']} usable</span> <small>{upstream['sessions']} sessions{queue}"
        "</small></h2>\n"
    )
    change = '<th scope="col">Change</th>' if shown.may_change else ""
    heads = "".join(f'<th scope="col">{each}</th>' for each in HEADINGS)
    yield f'<div class="scroll"><table><thead><tr>{heads}{change}</tr></thead><tbody>\n'
    total = sum(row["sessions_total"] for row in rows)
    for row in rows:
        yield _backend(row, total, name if shown.may_change else None)
    yield "</tbody></table></div>\n"
    if shown.more.get(name):
        yield (
            f'<p class="dim">and {shown.more[name]} more: '
            f"/api/v1/upstreams/{_t(name)}/backends</p>\n"
        )
    yield "</section>\n"


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
    until = f" until {_clock(row['failed_until'])}" if row["failed_until"] else ""
    weight = row["weight"]
    note = "" if weight["now"] == weight["file"] else f" <small>weight {weight['now']}</small>"
    backup = " <small>backup</small>" if row["backup"] else ""
    cells = (
        ("Sessions", sessions),
        ("Share", share),
        ("Failures", row["failures"]),
        ("Checks", checked),
        ("Since", _clock(row["since"])),
        ("Reason", f"{_t(reason)}{until}"),
    )
    text = "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in cells)
    return (
        f'<tr><th scope="row">{_t(row["address"])}{backup}{note}</th>'
        f'<td data-head="State">{_state(row["state"])}</td>{text}{_buttons(row, upstream)}</tr>\n'
    )


def _buttons(row: Facts, upstream: str | None) -> str:
    if upstream is None:
        return ""
    buttons = "".join(
        f'<button hidden data-state="{state}" data-upstream="{_t(upstream)}" '
        f'data-backend="{_t(row["address"])}" data-conns="{row["conns"]}">{state}</button>'
        for state in ("drain", "maint", "ready")
    )
    return f'<td data-head="Change">{buttons}</td>'


def _listeners(rows: Sequence[Facts]) -> str:
    heads = ("Listener", "To", "Sessions", "In all", "Received", "Sent", "Ended", "Drops")
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    return (
        '<h1>Listeners</h1>\n<div class="scroll"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{''.join(map(_listener, rows))}</tbody></table></div>\n"
    )


def _listener(row: Facts) -> str:
    ended = " ".join(
        f'<abbr title="{_t(SENTENCES.get(code, code))}">{_t(code)}</abbr>&nbsp;{count}'
        for code, count in sorted(row["ended"].items())
        if count
    )
    drops = " ".join(f"{_t(r)}&nbsp;{count}" for r, count in row["drops"].items() if count)
    places = [each for each in row["addresses"] if each != row["name"]]
    where = f" <small>{_t(', '.join(places))}</small>" if places else ""
    retiring = " <small>retiring</small>" if row["retiring"] else ""
    cells: Iterable[tuple[str, object]] = (
        ("To", _t(row["to"] or "returns text")),
        ("Sessions", row["sessions"]),
        ("In all", scaled(row["sessions_total"])),
        ("Received", scaled(row["received"], "B")),
        ("Sent", scaled(row["sent"], "B")),
        ("Ended", ended or "-"),
        ("Drops", drops or "-"),
    )
    text = "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in cells)
    return (
        f'<tr><th scope="row">{_t(row["name"])} <small>{_t(row["protocol"])}</small>'
        f"{where}{retiring}</th>{text}</tr>\n"
    )


def _events(events: Sequence[Event]) -> str:
    rows = []
    for event in list(reversed(events))[:EVENTS_SHOWN]:
        where = "/".join(_t(each) for each in (event["upstream"], event["backend"]) if each)
        change = f"{event['before']} → {event['after']}: " if event["after"] else ""
        where = f"<b>{where}</b> " if where and event["kind"] != "operator" else ""
        rows.append(f"<li>{_clock(event['at'])} {where}{_t(change)}{_t(event['text'])}</li>")
    return f'<h1>Events</h1>\n<ol id="events">{"".join(rows) or "<li>none so far</li>"}</ol>\n'


def _footer(overview: Facts) -> str:
    config, workers = overview["config"], overview.get("workers")
    uptime_s = int(overview["uptime_s"])
    days, rest = divmod(uptime_s, 86_400)
    uptime = f"{days}d " if days else ""
    uptime += f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    last = config["last_reload"]
    told = f", last reload {_t(last['result'])} {_clock(last['at'])}" if last else ""
    changed = " <b>The file has changed since.</b>" if config.get("file_changed") else ""
    asked = f", {workers['answered']} of {workers['asked']} workers" if workers else ""
    return (
        f"<footer>nginy {_t(overview['version'])}, PID {overview['pid']}{asked}, up {uptime}, "
        f"{_t(config['file'])}, generation {config['generation']}{told}.{changed} "
        f'<a href="/api/v1/">API</a> <a href="/metrics">metrics</a> '
        f"{_clock(overview['at'])} UTC</footer>\n"
    )
