"""The page: what nginy serves, by which backends, and whether all is well, in a browser.

Pure: an overview and the rows of backends go in, HTML comes out, complete without a script. The
script (`assets.py`) only asks for the same page again and puts its parts in place, so only one
place knows how things look. All text from outside goes through html.escape, and the policy in
`admin/answer.py` lets the browser load nothing from elsewhere.

Each state is shown by color, shape and a word, never by color alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from nginy.admin.answer import Facts
from nginy.admin.events import Event
from nginy.admin.facts.sampling import Sample
from nginy.admin.page.parts import Points, clock, quoted, rates, scaled, sparkline, thinned, values
from nginy.admin.page.tables import Focus, ShownGroup, listener_table, upstream_section

EVENTS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page is made of."""

    overview: Facts
    listeners: Sequence[Facts]
    backends: Mapping[str, Sequence[Facts]]
    """The backends of each upstream, a limited number."""
    events: Sequence[Event]
    samples: Sequence[Sample] = field(default_factory=tuple)
    focus: Focus = field(default_factory=Focus)
    may_change: bool = False


def verdict(overview: Facts) -> tuple[str, str]:
    """Return good, warn or bad, and one sentence on how things are."""
    if overview["status"] != "serving":
        return "warn", str(overview["draining"] or f"nginy is {overview['status']}")
    problems = overview["problems"]
    errors = [each for each in problems if each["severity"] == "error"]
    if errors:
        return "bad", _worst(overview, str(errors[0]["text"]))
    warnings = [each for each in problems if each["severity"] == "warning"]
    if warnings:
        count = len(warnings) + overview["more"]["problems"]
        return "warn", f"All upstreams serve; {count} backend{'s are' if count > 1 else ' is'} out"
    count = len(overview["upstreams"]) + overview["more"]["upstreams"]
    if not count:
        return "good", "nginy serves, without upstreams"
    return "good", f"All {count} upstreams serve" if count > 1 else "The upstream serves"


def _worst(overview: Facts, text: str) -> str:
    """Return the worst problem in a sentence: what, since when, and why."""
    gone = [each for each in overview["upstreams"] if text.startswith(f"{each['name']}: 0 of ")]
    if not gone:
        return text
    name, at = gone[0]["name"], gone[0]["since"]
    told = f"{name}: no backend usable"
    if at is not None:
        is_today = at[:10] == overview["at"][:10]
        told += f" since {at[11:16] if is_today else f'{at[:10]} {at[11:16]}'}"
    down = [each["text"] for each in overview["problems"] if each["severity"] == "warning"]
    # Of a backend that is down: the upstream, its address, its state, and the reason.
    ours = [each.removeprefix(f"{name}: ") for each in down if each.startswith(f"{name}: ")]
    reason = ours[0].partition(": ")[2] if ours else ""
    return f"{told} - {reason or gone[0]['why_none']}"


def render(shown: Shown) -> Iterator[str]:
    """Yield the page in pieces of some milliseconds at most."""
    overview = shown.overview
    kind, sentence = verdict(overview)
    title = {"good": "nginy", "warn": "nginy !", "bad": "nginy !!"}[kind]
    yield _head(title)
    yield f'<main id="page" data-change="{int(shown.may_change)}">\n'
    yield f'<p id="verdict" class="{kind}" role="status" aria-live="polite">'
    yield f"{quoted(sentence)}</p>\n"
    yield '<p id="stale" hidden></p>\n'
    yield _problems(overview)
    samples = thinned(shown.samples)
    yield from _figures(overview, samples)
    yield "<h1>Upstreams</h1>\n"
    for upstream in overview["upstreams"]:
        yield from upstream_section(_group(upstream, shown))
    if overview["more"]["upstreams"]:
        yield f"<p>and {overview['more']['upstreams']} more upstreams</p>\n"
    yield from listener_table(shown.listeners, _histories(samples))
    yield _events(shown.events)
    yield _footer(overview)
    yield "</main></body></html>\n"


def _group(upstream: Facts, shown: Shown) -> ShownGroup:
    """Return an upstream with its rows: the first ones, unless the visitor pages through it."""
    name, focus = upstream["name"], shown.focus
    if focus.upstream != name:
        focus = Focus(name, matched=upstream["backends"])
    return ShownGroup(upstream, shown.backends.get(name, ()), focus, shown.may_change)


def _histories(samples: Sequence[Sample]) -> dict[str, Points]:
    """Return the bits a second of the listeners that samples have, both ways together."""
    found: dict[str, list[tuple[float, float]]] = {}
    for before, last in pairwise(samples):
        passed_s = max(last.at_s - before.at_s, 0.001)
        for name, count in last.listeners.items():
            grown = max(count - before.listeners.get(name, count), 0)
            found.setdefault(name, []).append((last.at_s, grown * 8 / passed_s))
    return dict(found)


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
"""What a browser without a token gets."""


def _problems(overview: Facts) -> str:
    names = [each["name"] for each in overview["upstreams"]]
    rows = "".join(
        f'<li class="{quoted(each["severity"])}">{_linked(each["text"], names)}'
        f"{_since(each['since'])}</li>"
        for each in overview["problems"]
    )
    return f'<ul id="problems">{rows}</ul>\n' if rows else ""


def _linked(text: str, names: Sequence[str]) -> str:
    """Return a problem, with a link to the upstream that it is about, if there is one."""
    name = next((each for each in names if text.startswith(f"{each}: ")), None)
    return quoted(text) if name is None else f'<a href="#u-{quoted(name)}">{quoted(text)}</a>'


def _since(at: str | None) -> str:
    return "" if at is None else f' <span class="dim">since {clock(at)}</span>'


def _figures(overview: Facts, samples: Sequence[Sample]) -> Iterator[str]:
    sessions, bytes_, loop = overview["sessions"], overview["bytes"], overview["loop"]
    connections = overview["connections"]
    lag_s, busy = loop["lag_p99_s"], loop["busy"]
    received, sent = bytes_["received_rate"], bytes_["sent_rate"]
    used = f"{scaled(connections['now'])} <small>of {scaled(connections['limit'])}</small>"
    late = "-" if lag_s is None else f"{lag_s * 1000:.3g} ms"
    yield '<dl id="figures">'
    yield _figure("sessions", scaled(sessions["now"]), values(samples, "sessions"))
    yield _figure("new a second", scaled(sessions["rate"]), rates(samples, "total"))
    yield _figure("from clients", _bits(received), rates(samples, "received"))
    yield _figure("to clients", _bits(sent), rates(samples, "sent"))
    yield _figure("connections", used, values(samples, "connections"))
    yield _figure("loop late (p99)", late, values(samples, "lag_s"))
    at_work = "-" if busy is None else f"{busy * 100:.1f} %"
    yield _figure('<a href="/loop">loop at work</a>', at_work, rates(samples, "busy_s"))
    yield "</dl>\n"


def _bits(bytes_a_s: float | None) -> str:
    return scaled(None if bytes_a_s is None else bytes_a_s * 8, "bit/s")


def _figure(name: str, value: str, points: Points) -> str:
    return f"<div><dt>{name}</dt><dd>{value}</dd>{sparkline(points)}</div>"


def _events(events: Sequence[Event]) -> str:
    rows = []
    for event in list(reversed(events))[:EVENTS_SHOWN]:
        where = "/".join(quoted(each) for each in (event["upstream"], event["backend"]) if each)
        change = f"{event['before']} → {event['after']}: " if event["after"] else ""
        where = f"<b>{where}</b> " if where and event["kind"] != "operator" else ""
        rows.append(f"<li>{clock(event['at'])} {where}{quoted(change)}{quoted(event['text'])}</li>")
    return f'<h1>Events</h1>\n<ol id="events">{"".join(rows) or "<li>none so far</li>"}</ol>\n'


def _footer(overview: Facts) -> str:
    config, workers = overview["config"], overview.get("workers")
    uptime_s = int(overview["uptime_s"])
    days, rest = divmod(uptime_s, 86_400)
    uptime = f"{days}d " if days else ""
    uptime += f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    last = config["last_reload"]
    told = f", last reload {quoted(last['result'])} {clock(last['at'])}" if last else ""
    changed = " <b>The file has changed since.</b>" if config.get("file_changed") else ""
    asked = f", {workers['answered']} of {workers['asked']} workers" if workers else ""
    return (
        f"<footer>nginy {quoted(overview['version'])}, PID {overview['pid']}{asked}, up {uptime}, "
        f"{quoted(config['file'])}, generation {config['generation']}{told}.{changed} "
        f'<a href="/api/v1/">API</a> <a href="/metrics">metrics</a> '
        f"{clock(overview['at'])} UTC</footer>\n"
    )
