"""The front: what a browser gets at `/`, with its style and its script.

Tested in tests/run/test_admin_page.py.
"""

from collections import defaultdict
from typing import Final

from nginy.admin.answer import Answer, Facts, Slices, discard
from nginy.admin.asked import Asked
from nginy.admin.facts.backends import BACKENDS, FIRSTS
from nginy.admin.facts.source import known
from nginy.admin.facts.summary import overview
from nginy.admin.facts.upstreams import LISTENERS
from nginy.admin.pace import BYTE_US, Pace
from nginy.admin.page.assets import CSS, JS
from nginy.admin.page.document import LOCKED, Shown, render
from nginy.admin.page.tables import PAGE_ROWS, Focus
from nginy.admin.subject import Subject

HTML: Final = "text/html; charset=utf-8"
BACKENDS_ASKED: Final = 2000
"""Of all upstreams together."""
TEXT_US: Final = 8
"""The cost of a row of a table, apart from its letters."""


def wants_page(asked: Asked) -> bool:
    """Whether a browser asks, not a program."""
    return "text/html" in asked.request.fields.get("accept", "")


def page(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with the page."""
    if asked.access == "locked":
        return Answer(200, LOCKED.encode(), HTML)
    told = yield from overview(subject)
    yield None
    fronts = yield from known(subject, LISTENERS)
    yield from subject.adjust("listeners", fronts["listeners"])
    backends: defaultdict[str, list[Facts]] = defaultdict(list)
    pace = Pace()
    wanted: Facts = {"limit": BACKENDS_ASKED, "per_upstream": PAGE_ROWS}
    facts = yield from known(subject, FIRSTS, wanted)
    yield from subject.adjust("backends", facts["backends"])
    for row in facts["backends"]:
        backends[row["upstream"]].append(row)
        if pace.is_over(1):
            yield None
    focus = yield from _focus(subject, asked, backends)
    shown = Shown(
        told,
        fronts["listeners"],
        backends,
        subject.events.after(max(subject.events.last - 10, 0)),
        subject.samples.all(),
        focus,
        asked.access == "full",
    )
    pieces: list[bytes] = []
    texts: list[str] = []
    for text in render(shown):
        texts.append(text)
        if pace.is_over(TEXT_US + BYTE_US * len(text)):
            pieces.append("".join(texts).encode("utf-8", "replace"))
            texts.clear()
            yield None
    pieces.append("".join(texts).encode("utf-8", "replace"))
    yield from discard(facts["backends"], fronts["listeners"], *backends.values())
    return Answer(200, b"", HTML, pieces=pieces)


def _focus(subject: Subject, asked: Asked, backends: dict[str, list[Facts]]) -> Slices[Focus]:
    """Return what the visitor looks through, and put the backends in place that they want to
    see.
    """
    query = asked.request.query
    name, match = query.get("upstream", ""), query.get("match", "")
    after = asked.number("after", 0)
    if not name or not (match or after):
        return Focus()
    wanted = {"upstream": name, "match": match, "after": after, "limit": PAGE_ROWS}
    facts = yield from known(subject, BACKENDS, wanted)
    yield from subject.adjust("backends", facts["backends"])
    backends[name] = facts["backends"]
    return Focus(name, match, after, facts["matched"])


def style(_subject: Subject, _asked: Asked) -> Answer:
    """Answer with the style sheet."""
    return Answer(200, CSS.encode(), "text/css; charset=utf-8")


def script(_subject: Subject, _asked: Asked) -> Answer:
    """Answer with the script."""
    return Answer(200, JS.encode(), "text/javascript; charset=utf-8")
