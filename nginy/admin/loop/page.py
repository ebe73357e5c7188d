"""The page `/loop`: the turns of the event loop, as a picture of the visitor's own requests.

The HTML is complete without a script, with all turns in a table. The script (`script.py`)
draws the picture from `/api/v1/loop`, which is what the table is made of, too.

Pure but for the routes at the end. All text from outside goes through html.escape.
"""

from collections.abc import Iterator
from html import escape
from typing import Final

from nginy.admin.answer import Answer, Facts, Slices
from nginy.admin.asked import Asked
from nginy.admin.loop.script import JS
from nginy.admin.loop.style import CSS
from nginy.admin.loop.view import STEPS, forget, look
from nginy.admin.pace import Pace
from nginy.admin.page.front import HTML
from nginy.admin.subject import Subject
from nginy.event.trace import KEPT_TURNS, KINDS

ROW_US: Final = 12
"""The cost of a row of the table, and of each handler in it."""

MEANINGS: Final = {
    "accept": "a new client",
    "client read": "bytes from a client, passed on",
    "upstream read": "bytes from a backend, passed on",
    "write": "room to send, or connected",
    "timer": "a deadline",
    "posted": "put off until now",
    "admin": "this page",
    "other": "checks, names, signals",
}

HEAD: Final = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<title>nginy: the loop</title>
<link rel="stylesheet" href="/loop.css">
<script src="/loop.js" defer></script></head><body>
"""
INTRODUCTION: Final = """\
<nav><a href="/">nginy</a> &rsaquo; the event loop</nav>
<h1>One loop serves everybody, in turns.</h1>
<p class="lead">It <b>sleeps</b> until something happens, <b>serves</b> all that is ready, one \
after the other, and sleeps again. Each pass is a <b>turn</b>. This page shows the last ones, as \
they really were.</p>
<p id="stale" role="status" hidden></p>
"""
NUMBERS: Final = """\
<div class="live" hidden>
<dl id="figures" aria-label="The turns shown here, in numbers"></dl>
<section aria-labelledby="h-time"><h2 id="h-time">Real time</h2>
<p class="say" id="time-say"></p><div id="time" class="chart"></div></section>
</div>
"""
PICTURE: Final = """\
<div class="live" hidden>
<section aria-labelledby="h-turns"><h2 id="h-turns">Turn by turn</h2>
<p class="say">Each line is a turn, the newest at the bottom: first how long it slept, then its \
work, each handler a box as wide as it took, above the steps of the turn. Point at a box, or \
choose one to follow its session.</p>
<div id="controls">
<button type="button" id="hold" aria-pressed="false">Hold still</button>
<button type="button" id="more" aria-pressed="false">All turns</button>
<label><input type="checkbox" id="own"> with turns that served no client</label>
<label>session <input type="number" id="follow" min="1" inputmode="numeric"></label>
<label id="workers" hidden>worker <select id="worker"></select></label>
</div>
<p id="quiet" class="card" hidden>No client has kept the loop busy so far. Send a \
request, such as <code>curl http://<span id="address">ADDRESS</span>/</code>, or show the \
other turns.</p>
<div id="turns" class="chart"></div><svg id="blank" hidden></svg>
<p id="told" role="status" aria-live="polite"></p>
</section>
<section id="story" aria-labelledby="h-story"><h2 id="h-story"></h2><ol id="steps"></ol></section>
<section aria-labelledby="h-block"><h2 id="h-block">Why nothing may block</h2>
<p id="block"></p></section>
<section aria-labelledby="h-beside"><h2 id="h-beside">Beside the turns</h2>
<div id="beside"></div></section>
</div>
"""


def legend() -> str:
    """Return the six steps, and the kinds of handlers with their colors."""
    steps = "".join(
        f'<li class="s{number}"><b>{number}</b> {escape(step)}</li>'
        for number, step in enumerate(STEPS, 1)
    )
    kinds = "".join(
        f'<li><i class="{css_class(kind)}"></i><b>{kind}</b> {escape(MEANINGS[kind])}</li>'
        for kind in KINDS
    )
    return (
        '<section aria-labelledby="h-steps"><h2 id="h-steps">A turn has six steps</h2>'
        f'<ol id="six">{steps}</ol><ul id="kinds" aria-label="Kinds of handlers">{kinds}</ul>'
        "</section>\n"
    )


def css_class(kind: str) -> str:
    """Return the class of a kind of handler."""
    return f"k-{kind.replace(' ', '-')}"


LOCKED: Final = (
    f'{HEAD}<main data-locked="1">{INTRODUCTION}<p>This page needs the token of token_file, and a '
    f"script to ask for it.</p>{NUMBERS}{legend()}{PICTURE}</main></body></html>\n"
)


def time_text(duration_s: float) -> str:
    """Return a duration with three digits or so: 85 µs, 12.3 ms, 4 s."""
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if duration_s * factor >= 1:
            return f"{duration_s * factor:.3g} {unit}"
    return f"{duration_s * 1e6:.3g} µs"


def box_text(box: Facts) -> str:
    """Return in words what a handler did."""
    parts = [box["kind"]]
    if box["sessions"] > 1:
        last = (box["session"] or 0) + box["sessions"] - 1
        parts.append(f"*{box['session']} to *{last}")
    elif box["session"]:
        parts.append(f"*{box['session']}")
    if box["what"]:
        parts.append(f"({box['what']})")
    if box["bytes"]:
        parts.append(f"{box['bytes']} bytes")
    if box["outcome"] != "done":
        parts.append(box["outcome"])
    return f"{' '.join(parts)} {time_text(box['took_s'])}"


def table(facts: Facts) -> Iterator[str]:
    """Yield the turns as a table, the latest first."""
    heads = ("Turn", "Slept", "Ready", "Worked", "Handlers, one after the other")
    cells = "".join(f'<th scope="col">{each}</th>' for each in heads)
    yield (
        f'<details id="table" open><summary>The last turns as a table</summary><div class="scroll">'
        f"<table><thead><tr>{cells}</tr></thead><tbody>\n"
    )
    for turn in reversed(facts["turns"]):
        boxes = "".join(f"<li>{escape(box_text(each))}</li>" for each in turn["boxes"])
        more = f"<li>and {turn['more_boxes']} more</li>" if turn["more_boxes"] else ""
        yield (
            f'<tr><th scope="row">{turn["turn"]}</th><td>{time_text(turn["steps_s"][1])}</td>'
            f"<td>{turn['ready']}</td><td>{time_text(turn['took_s'])}</td>"
            f"<td><ol>{boxes}{more}</ol></td></tr>\n"
        )
    if not facts["turns"]:
        yield (
            '<tr><td colspan="5">Nothing is recorded yet: that begins with this page, and ends '
            "ten seconds after its last visit. Load it again.</td></tr>\n"
        )
    yield "</tbody></table></div></details>\n"


def render(facts: Facts) -> Iterator[str]:
    """Yield the page in pieces."""
    yield f"{HEAD}<main>{INTRODUCTION}"
    yield NUMBERS
    yield legend()
    yield PICTURE.replace("ADDRESS", escape(facts["listener"]) or "ADDRESS")
    yield from table(facts)
    wheel = "".join(
        f"<li>{each['timers']} &times; {escape(each['what'])} in {time_text(each['in_s'])}, "
        f"such as that of {escape(each['of'])}</li>"
        for each in facts["next"]
    )
    yield (
        f'<details id="wheel" open><summary>{facts["timers"]} timers run; {facts["fired"]} have '
        f"fired, {facts['went_back_to_sleep']} of them early, and went back to sleep</summary>"
        f"<ul>{wheel}</ul></details>\n"
    )
    yield (
        f"<footer>nginy, PID {facts['pid']}. {facts['connections']} connections; "
        f"{facts['unsent_bytes']} unsent bytes in buffers and pipes, {facts['pipes']} pipes. "
        '<a href="/api/v1/loop?turns=200">The same as JSON</a>; <code>nginy trace</code> records '
        "all turns of some seconds for Perfetto.</footer></main></body></html>\n"
    )


# The routes.


def page(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with the page."""
    if asked.access == "locked":
        return Answer(200, LOCKED.encode(), HTML)
    facts = yield from look(subject, asked.request.query.get("worker"), KEPT_TURNS, 0)
    rows = iter([*facts["turns"]])
    pace, pieces = Pace(), []
    for piece in render(facts):
        pieces.append(piece.encode("utf-8", "replace"))
        boxes = len(next(rows, {"boxes": ()})["boxes"])
        if pace.is_over(ROW_US * (1 + boxes)):
            yield None
    yield from forget(facts)
    return Answer(200, b"", HTML, (), pieces)


def style(_subject: Subject, _asked: Asked) -> Answer:
    """Answer with the style sheet."""
    return Answer(200, CSS.encode(), "text/css; charset=utf-8")


def script(_subject: Subject, _asked: Asked) -> Answer:
    """Answer with the script."""
    return Answer(200, JS.encode(), "text/javascript; charset=utf-8")
