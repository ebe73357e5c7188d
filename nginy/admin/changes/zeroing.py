"""Zeroing: the counts of JSON answers, of the page and of `top` begin anew.

Nothing that serves stops counting: from then on, answers subtract what was counted at that moment.
Only the time of a listener's first drop is forgotten, as no answer could find the first one since
then. `/metrics` goes on as it was.
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
        # Its counts are among the facts, and by now also among those that dead workers have left.
        raise RequestError(503, "worker_ended", "a worker has ended meanwhile, try again")
    zero.add(subject.gone)
    subject.zero, subject.zero_at_ms = zero, subject.loop.clock.wall_ms()
    forget_firsts_of(subject.gone)
    tell(subject, f"operator {asked.sender} resets the counters")
    yield from known(subject, LISTENERS, {"anew": True})
    told = {"counters_reset_at": utc_text(subject.zero_at_ms)}
    return (yield from json_answer(asked, {**stamp(subject, facts), **told}))


def _whole(subject: Subject, source: Source, wanted: Details | None = None) -> Slices[Facts]:
    """Return the facts of all; raises RequestError if a worker is late: its counts would not begin
    anew.
    """
    facts = yield from known(subject, source, wanted)
    if facts.get("workers", {}).get("late"):
        raise RequestError(503, "workers_late", "not all workers have answered, try again")
    return facts
