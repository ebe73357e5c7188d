"""The front: what a browser gets at `/`, with its style and its script.

Tested in tests/run/test_admin_page.py.
"""

from collections import defaultdict
from typing import Final

from nginy.admin.answer import Answer, Facts, Slices
from nginy.admin.asked import Asked
from nginy.admin.measured import MEASURED
from nginy.admin.overview import overview
from nginy.admin.pace import BYTE_US, Pace
from nginy.admin.page import LOCKED, Shown, render
from nginy.admin.page_assets import CSS, JS
from nginy.admin.source import known
from nginy.admin.subject import Subject

HTML: Final = "text/html; charset=utf-8"
BACKENDS_SHOWN: Final = 200
"""Of each upstream."""
BACKENDS_ASKED: Final = 2000
"""Of all together."""
TEXT_US: Final = 8
"""To make a row of a table, beside its letters."""


def wants_page(asked: Asked) -> bool:
    """Whether a browser asks, and not a program."""
    return "text/html" in asked.request.fields.get("accept", "")


def page(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with the page."""
    if asked.access == "locked":
        return Answer(200, LOCKED.encode(), HTML)
    told = yield from overview(subject)
    yield None
    wanted = {"scopes": ["listener", "backend"], "backends_max": BACKENDS_ASKED}
    facts = yield from known(subject, MEASURED, wanted)
    subject.adjust("listeners", facts["listeners"])
    subject.adjust("backends", facts["backends"])
    backends: defaultdict[str, list[Facts]] = defaultdict(list)
    for row in facts["backends"]:
        if len(backends[row["upstream"]]) < BACKENDS_SHOWN:
            backends[row["upstream"]].append(row)
    more = {
        each["name"]: max(each["backends"] - len(backends[each["name"]]), 0)
        for each in told["upstreams"]
    }
    shown = Shown(
        told,
        facts["listeners"],
        backends,
        more,
        subject.events.after(max(subject.events.last - 10, 0)),
        subject.samples.all(),
        asked.access == "full",
    )
    pieces: list[bytes] = []
    texts: list[str] = []
    pace = Pace()
    for text in render(shown):
        texts.append(text)
        if pace.is_over(TEXT_US + BYTE_US * len(text)):
            pieces.append("".join(texts).encode("utf-8", "replace"))
            texts.clear()
            yield None
    pieces.append("".join(texts).encode("utf-8", "replace"))
    return Answer(200, b"", HTML, pieces=pieces)


def style(_subject: Subject, _asked: Asked) -> Answer:
    """Answer with the style sheet."""
    return Answer(200, CSS.encode(), "text/css; charset=utf-8")


def script(_subject: Subject, _asked: Asked) -> Answer:
    """Answer with the script."""
    return Answer(200, JS.encode(), "text/javascript; charset=utf-8")
