"""Upstreams and listeners, one row each, with all their counts.

The overview has a screenful of the same; this has everything, for programs. Ports of one listener
share its name and are one row.
"""

from itertools import chain, islice
from typing import Final

from nginy.admin.answer import Facts, Slices
from nginy.admin.facts.group import AT_ONCE, counted_group
from nginy.admin.facts.live import count_bytes
from nginy.admin.facts.merge import add_members, forget_firsts, join_times, merge_rows
from nginy.admin.facts.shape import flag, number, optional, real, row, rows, table, text
from nginy.admin.facts.source import Details, Source
from nginy.admin.pace import ROW_US, Pace
from nginy.admin.subject import Front, Subject
from nginy.backend.pool import BackendPool
from nginy.event.histogram import Histogram
from nginy.proxy.handler import ProtocolHandler
from nginy.proxy.session import ListenerCounters

LEAVING_MAX: Final = 100
TOTAL_US: Final = 0.3
"""The cost of adding up the sessions of a backend."""

HISTOGRAM: Final = row(counts=rows(number, 32), sum_ms=real)
DROP_TIMES: Final = table(row(first=optional(number), last=number))
UPSTREAM: Final = row(
    name=text,
    fail_open_active=flag,
    backends=number,
    usable=number,
    states=table(number),
    sessions=number,
    sessions_total=number,
    queue=row(now=number, limit=number),
    no_backend=table(number),
    retries=number,
    connects=HISTOGRAM,
    leaving=rows(row(address=text, conns=number), LEAVING_MAX),
)
LISTENER: Final = row(
    name=text,
    addresses=rows(text),
    protocol=text,
    to=optional(text),
    sessions=number,
    sessions_total=number,
    received=number,
    sent=number,
    ended=table(number),
    drops=table(number),
    drop_times=DROP_TIMES,
    accept_pauses=number,
    accept_paused_until=optional(text),
    retiring=flag,
)


def histogram_row(histogram: Histogram) -> Facts:
    """Return the counts of durations, and their sum."""
    return {"counts": list(histogram.counts), "sum_ms": histogram.sum_ms}


def _upstream(subject: Subject, pool: BackendPool, pace: Pace) -> Slices[Facts]:
    group = yield from counted_group(pool, subject.loop.clock.now_ms // 1000, pace)
    total, members = 0, chain(pool.backends, pool.left)
    while some := tuple(islice(members, AT_ONCE)):
        total += sum(backend.sessions_total for backend in some)
        if pace.is_over(TOTAL_US * len(some)):
            yield None
    queue = pool.queue
    return {
        "name": pool.name,
        "fail_open_active": pool.is_fail_open,
        "backends": len(pool.backends),
        "usable": group.usable,
        "states": group.states,
        "sessions": group.sessions + sum(backend.conns for backend in pool.left),
        "sessions_total": total,
        "queue": {
            "now": 0 if queue is None else len(queue),
            "limit": 0 if queue is None else queue.settings.size,
        },
        "no_backend": dict(pool.turned_away),
        "retries": pool.retries,
        "connects": histogram_row(pool.connects),
        "leaving": [
            {"address": backend.addr_text, "conns": backend.conns}
            for backend in pool.left
            if backend.conns
        ][:LEAVING_MAX],
    }


def collect_upstreams(subject: Subject, wanted: Details) -> Slices[Facts]:
    """Return one upstream, or all."""
    found = []
    name, pace = wanted.get("name"), Pace()
    for pool in subject.pools():
        if name in (None, pool.name):
            found.append((yield from _upstream(subject, pool, pace)))
            if pace.is_over(ROW_US):
                yield None
    return {"upstreams": found}


def _join_upstream(known: Facts, other: Facts) -> None:
    if known["states"] != other["states"]:
        known["differs"] = True
    if other["usable"] < known["usable"]:
        known.update({name: other[name] for name in ("usable", "states")})
    known["sessions"] = max(known["sessions"], other["sessions"])
    known["fail_open_active"] |= other["fail_open_active"]
    known["queue"]["now"] += other["queue"]["now"]
    add_members(known["no_backend"], other["no_backend"])
    join_histograms(known["connects"], other["connects"])
    addresses = {each["address"] for each in known["leaving"]}
    known["leaving"] += [e for e in other["leaving"] if e["address"] not in addresses]


def join_histograms(known: Facts, other: Facts) -> None:
    """Add the counts of another worker."""
    if len(known["counts"]) == len(other["counts"]):
        known["counts"] = [a + b for a, b in zip(known["counts"], other["counts"], strict=True)]
        known["sum_ms"] += other["sum_ms"]


def merge_upstreams(reports: list[list[Facts]]) -> list[Facts]:
    """Return the upstreams of all workers, each once."""
    return merge_rows(reports, ("name",), ("sessions_total", "retries"), _join_upstream)


UPSTREAMS: Final = Source(
    "upstreams",
    collect_upstreams,
    row(upstreams=rows(UPSTREAM)),
    lambda reports: {"upstreams": merge_upstreams([each["upstreams"] for each in reports])},
)


def _front(subject: Subject, front: Front) -> Facts:
    handler, listener = front.handler, front.listener
    counters = handler.counters
    paused_until_ms = 0 if listener is None else listener.paused_until_ms
    is_paused = paused_until_ms > subject.loop.clock.now_ms
    return {
        "name": handler.name,
        "addresses": [front.address],
        "protocol": handler.protocol.lower(),
        "to": handler.leads_to,
        **told_counts(counters),
        "ended": dict(counters.terminations),
        **dropped(handler),
        "accept_pauses": 0 if listener is None else listener.pauses,
        "accept_paused_until": subject.wall_text(paused_until_ms) if is_paused else None,
        "retiring": front.is_retiring,
    }


def dropped(handler: ProtocolHandler) -> Facts:
    """Return what a listener has refused, and when first and last."""
    drops = handler.drops
    times = {
        reason: {"first": drops.firsts.get(reason), "last": at_ms}
        for reason, at_ms in drops.lasts.items()
    }
    return {"drops": dict(drops), "drop_times": times}


def told_counts(counters: ListenerCounters) -> Facts:
    """Return the sessions and bytes of a listener, as reported."""
    return {
        "sessions": counters.open,
        "sessions_total": counters.sessions + counters.open,
        "received": counters.received,
        "sent": counters.sent,
    }


def listener_rows(subject: Subject) -> Slices[list[Facts]]:
    """Return a row for each listener; one with several ports, or with sessions from before a
    reload, is one row."""
    yield from count_bytes(subject)
    found: dict[tuple[str, str], Facts] = {}
    pace = Pace()
    for front in subject.fronts():
        row = _front(subject, front)
        known = found.setdefault((row["name"], row["protocol"]), row)
        if known is not row:
            _join_listener(known, row)
            for name in ADDED:
                known[name] += row[name]
        if pace.is_over(ROW_US):
            yield None
    return list(found.values())


def _collect_listeners(subject: Subject, wanted: Details) -> Slices[Facts]:
    found = yield from listener_rows(subject)
    name = wanted.get("name")
    if wanted.get("anew"):
        for front in subject.fronts():
            front.handler.drops.firsts.clear()
        for each in found:
            forget_firsts(each["drop_times"])
    return {"listeners": [each for each in found if name in (None, each["name"])]}


def _join_listener(known: Facts, other: Facts) -> None:
    known["addresses"] += [each for each in other["addresses"] if each not in known["addresses"]]
    for name in ("ended", "drops"):
        add_members(known[name], other[name])
    join_times(known["drop_times"], other["drop_times"])
    known["to"] = known["to"] or other["to"]
    known["retiring"] &= other["retiring"]
    until = max(known["accept_paused_until"] or "", other["accept_paused_until"] or "")
    known["accept_paused_until"] = until or None


ADDED: Final = ("sessions", "sessions_total", "received", "sent", "accept_pauses")


def merge_listeners(reports: list[list[Facts]]) -> list[Facts]:
    """Return the listeners of all reports, each name once."""
    return merge_rows(reports, ("name", "protocol"), ADDED, _join_listener)


LISTENERS: Final = Source(
    "listeners",
    _collect_listeners,
    row(listeners=rows(LISTENER)),
    lambda reports: {"listeners": merge_listeners([each["listeners"] for each in reports])},
)
