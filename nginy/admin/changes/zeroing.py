"""Zeroing: the answer that has all counts of JSON, the page and `top` begin anew.

Nothing that serves stops counting: from then on, answers subtract what was counted at that moment.
Only the time at which a listener first dropped something is forgotten, as no answer could tell the
first one since. `/metrics` goes on as it was.
"""

from nginy.admin.answer import Answer, Facts, Slices
from nginy.admin.asked import Asked, json_answer
from nginy.admin.changes.changing import tell
from nginy.admin.facts.backends import BACKENDS, LIMIT
from nginy.admin.facts.overview import OVERVIEW
from nginy.admin.facts.source import Details, Source, known, stamp
from nginy.admin.facts.tally import Tally, forget_firsts_of
from nginy.admin.facts.upstreams import LISTENERS, UPSTREAMS
from nginy.admin.subject import Subject
from nginy.text.times import utc_text
from nginy.wire.request import RequestError


def reset(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Count from now on."""
    asked.body(())
    zero = Tally()
    facts = {}
    ended = subject.worker_exits.total()
    for source in (OVERVIEW, LISTENERS, UPSTREAMS):
        facts = yield from _whole(subject, source)
        zero.take(source.name, facts)
    for each in facts["upstreams"]:
        count = matched = 0
        while not count or count < matched:
            wanted = {"upstream": each["name"], "after": count, "limit": LIMIT}
            found = yield from _whole(subject, BACKENDS, wanted)
            zero.take(BACKENDS.name, found)
            matched = found["matched"]
            count += max(len(found["backends"]), 1)
    if subject.worker_exits.total() != ended:
        # What it had counted is among the facts, and is now among what dead workers have left.
        raise RequestError(503, "worker_ended", "a worker has ended meanwhile, try again")
    zero.add(subject.gone)
    subject.zero, subject.zero_at_ms = zero, subject.loop.clock.wall_ms()
    forget_firsts_of(subject.gone)
    tell(subject, f"operator {asked.sender} has counters begin anew")
    yield from known(subject, LISTENERS, {"anew": True})
    told = {"counters_reset_at": utc_text(subject.zero_at_ms)}
    return (yield from json_answer(asked, {**stamp(subject, facts), **told}))


def _whole(subject: Subject, source: Source, wanted: Details | None = None) -> Slices[Facts]:
    """Return the facts of all; raises RequestError if a worker is late, whose counts would stay."""
    facts = yield from known(subject, source, wanted)
    if facts.get("workers", {}).get("late"):
        raise RequestError(503, "workers_late", "not all workers have answered, try again")
    return facts
