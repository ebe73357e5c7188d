"""Reading: what each GET answers, beside the overview.

Each function is a route's; see `routes.py`. It knows how a path and its parameters become a
question, and how facts become an answer. The modules in `facts/` collect them.

Tested in tests/admin/test_server_live.py.
"""

from typing import Final

from nginy.admin.answer import TEXT, Answer, Facts, Pause, Slices, discard
from nginy.admin.asked import Asked, closest_of_many, json_answer
from nginy.admin.facts.backends import BACKENDS, HEALTH, LIMIT, health_of
from nginy.admin.facts.overview import ROWS_MAX
from nginy.admin.facts.source import known, missing, silence, stamp
from nginy.admin.facts.summary import overview, unreadiness
from nginy.admin.facts.upstreams import LISTENERS, UPSTREAMS
from nginy.admin.pace import Pace
from nginy.admin.subject import Subject
from nginy.backend.health.states import State
from nginy.text.times import utc_text
from nginy.wire.request import RequestError

WAIT_MAX_MS: Final = 300_000
WAIT_MS: Final = 60_000
LOOK_MS: Final = 100
"""How often an answer that waits looks again, so that nothing else has to know of it."""
BALANCE_US: Final = 0.5
TIME_MAX_MS: Final = 10**14
"""In the year 5138; workers may say anything."""
YES_NO: Final = {"true": True, "false": False}


def healthz(subject: Subject, asked: Asked) -> Answer | Slices[Answer]:
    """Answer that the loop turns; with worker=all, that those of all workers do."""
    if asked.word("worker", ("all",)) is None or subject.crew is None:
        return Answer(200, b"ok\n", TEXT)
    return _healthz_of_all(subject)


def _healthz_of_all(subject: Subject) -> Slices[Answer]:
    # An upstream without a name: that they answer is enough, and this is little work.
    facts = yield from known(subject, UPSTREAMS, {"name": ""})
    silent = silence(facts)
    if silent is None:
        return Answer(200, b"ok\n", TEXT)
    return Answer(503, f"{silent}\n".encode(), TEXT, ("Retry-After: 1",))


def readyz(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer whether clients should come."""
    query = asked.request.query
    minimum = asked.number("min", 0) if "min" in query else None
    reasons = yield from unreadiness(subject, query.get("upstream"), minimum)
    if reasons is None:
        raise (yield from no_upstream(subject, query.get("upstream", "")))
    if not reasons:
        return Answer(200, b"ready\n", TEXT)
    more = len(reasons) - ROWS_MAX
    lines = [*reasons[:ROWS_MAX], *([f"and {more} more"] if more > 0 else [])]
    body = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    return Answer(503, body, TEXT, ("Retry-After: 1",))


def overview_answer(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with one screenful."""
    members = yield from overview(subject)
    yield None
    return (yield from json_answer(asked, members))


def upstreams(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with one upstream, or all."""
    name = asked.names.get("U")
    facts = yield from known(subject, UPSTREAMS, {"name": name})
    yield from subject.adjust("upstreams", facts["upstreams"])
    pace = Pace()
    for each in facts["upstreams"]:
        del each["connects"]
        each["balance"] = subject.balances.get(each["name"])
        each["on_down"] = subject.on_down.get(each["name"])
        if pace.is_over(BALANCE_US):
            yield None
    if name is None:
        rows = facts["upstreams"]
        answer = yield from json_answer(asked, {**stamp(subject, facts), "upstreams": rows})
        yield from discard(rows)
        return answer
    if not facts["upstreams"]:
        raise missing(facts, (yield from no_upstream(subject, name)))
    return (yield from json_answer(asked, {**stamp(subject, facts), **facts["upstreams"][0]}))


def listeners(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with one listener, or all."""
    name = asked.names.get("L")
    facts = yield from known(subject, LISTENERS, {"name": name})
    yield from subject.adjust("listeners", facts["listeners"])
    for each in facts["listeners"]:
        mark = subject.defined_at.get(each["name"])
        each["defined_at"] = None if mark is None else str(mark)
        del each["drop_times"]
    if name is None:
        rows = facts["listeners"]
        answer = yield from json_answer(asked, {**stamp(subject, facts), "listeners": rows})
        yield from discard(rows)
        return answer
    if not facts["listeners"]:
        raise missing(facts, (yield from _no_listener(subject, name)))
    return (yield from json_answer(asked, {**stamp(subject, facts), **facts["listeners"][0]}))


def drops(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer which listeners have refused what, and how often."""
    facts = yield from known(subject, LISTENERS)
    yield from subject.adjust("listeners", facts["listeners"])
    rows = [
        {
            "listener": each["name"],
            "protocol": each["protocol"],
            "reason": reason,
            "count": count,
            **_drop_times(each["drop_times"].get(reason), subject.zero_at_ms or 0),
        }
        for each in facts["listeners"]
        for reason, count in each["drops"].items()
        if count
    ]
    return (yield from json_answer(asked, {**stamp(subject, facts), "drops": rows}))


def _drop_times(times: Facts | None, zero_at_ms: int) -> Facts:
    """Return when something was dropped first, since counts began anew, and last."""
    if times is None:
        return {"first": None, "last": None}
    first_ms, last_ms = times["first"], times["last"]
    if first_ms is None or first_ms < zero_at_ms:  # at the moment of the reset
        first_ms = last_ms
    first, last = (utc_text(min(each, TIME_MAX_MS)) for each in (first_ms, last_ms))
    return {"first": first, "last": last}


def backends(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with the backends that fit, of one upstream or of all."""
    query = asked.request.query
    usable = asked.word("usable", YES_NO)
    limit = asked.number("limit", LIMIT, LIMIT)
    after = asked.number("after", 0)
    upstream = asked.names.get("U")
    wanted = {
        "upstream": upstream,
        "state": asked.word("state", map(str, State)),
        "usable": None if usable is None else YES_NO[usable],
        "name": query.get("name"),
        "match": query.get("match"),
        "after": after,
        "limit": limit,
        "bytes": True,
    }
    facts = yield from known(subject, BACKENDS, wanted)
    if upstream is not None and not facts["is_known"]:
        raise missing(facts, (yield from no_upstream(subject, upstream)))
    rows = facts["backends"]
    yield from subject.adjust("backends", rows)
    end = after + len(rows)
    members = {
        **stamp(subject, facts),
        "backends": rows,
        "matched": facts["matched"],
        "next": end if end < facts["matched"] else None,
    }
    answer = yield from json_answer(asked, members)
    yield from discard(rows)
    return answer


def backend(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with one backend, at once or when it is idle or usable."""
    wait = asked.word("wait", ("idle", "usable"))
    clock = subject.loop.clock
    deadline_ms = clock.now_ms + asked.duration_ms("timeout", WAIT_MS, WAIT_MAX_MS)
    wanted = {"upstream": asked.names["U"], "address": asked.names["B"]}
    row: Facts | None = None
    while True:
        facts = yield from known(subject, BACKENDS, {**wanted, "bytes": row is None})
        yield from subject.adjust("backends", facts["backends"])
        if facts["backends"]:
            row = facts["backends"][0]
        elif row is None or wait != "idle" or not facts["is_known"]:
            raise (yield from no_backend(subject, facts, wanted))
        else:  # it was leaving, and its last session has ended
            row = {**row, "upstream": None, "conns": 0}
        row.pop("upstream")
        if wait is None:
            break
        row[wait] = not row["conns"] if wait == "idle" else row["usable"]
        if row[wait] or clock.now_ms >= deadline_ms:
            break
        yield Pause(LOOK_MS)
    return (yield from json_answer(asked, {**stamp(subject, facts), **row}))


def health(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer what each cause says about a backend."""
    wanted = {"upstream": asked.names["U"], "address": asked.names["B"]}
    facts = yield from known(subject, HEALTH, wanted)
    if not facts["backends"] or not facts.get("health"):
        raise (yield from no_backend(subject, facts, wanted))
    history = subject.events.history(asked.names["U"], facts["backends"][0]["address"])
    members = {**stamp(subject, facts), **health_of(facts, history)}
    return (yield from json_answer(asked, members))


def changes(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with what operators have set, as JSON or as lines for the configuration."""
    clock = subject.loop.clock
    if asked.word("format", ("json", "yaml")) == "yaml":
        body = subject.book.to_yaml().encode("ascii", "backslashreplace")
        return Answer(200, body, TEXT)
    rows = subject.book.rows(clock.now_ms, clock.wall_ms())
    return (yield from json_answer(asked, {**subject.stamp(), "changes": rows}))


def last_reload(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with the outcome of the last reload."""
    members: Facts = {**subject.stamp(), "result": None, **subject.outcome}
    return (yield from json_answer(asked, members))


def no_upstream(subject: Subject, name: str) -> Slices[RequestError]:
    """Return the refusal of a name that no upstream has."""
    hint = _hint((yield from closest_of_many(name, subject.balances)))
    return RequestError(404, "upstream_not_found", f'there is no upstream "{name[:100]}"', hint)


def _no_listener(subject: Subject, name: str) -> Slices[RequestError]:
    hint = _hint((yield from closest_of_many(name, subject.defined_at)))
    return RequestError(404, "listener_not_found", f'there is no listener "{name[:100]}"', hint)


def _hint(meant: str | None) -> str:
    return "" if meant is None else f'did you mean "{meant}"?'


def no_backend(subject: Subject, facts: Facts, wanted: Facts) -> Slices[RequestError]:
    """Return the refusal of an address that no backend has."""
    upstream, address = str(wanted["upstream"]), str(wanted["address"])
    if not facts["is_known"]:
        return missing(facts, (yield from no_upstream(subject, upstream)))
    everyone = yield from known(subject, BACKENDS, {"upstream": upstream})
    addresses = [each["address"] for each in everyone["backends"]]
    meant = yield from closest_of_many(address, addresses)
    hint = f"did you mean {meant}?" if meant else ""
    text = f"there is no backend {address[:100]} in {upstream}"
    return RequestError(404, "backend_not_found", text, hint)
