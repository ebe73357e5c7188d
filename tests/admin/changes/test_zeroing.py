"""Counts that begin anew, over one process and over several workers, one of which may end."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from nginy.admin.answer import Answer, Poll, Replies, Slices
from nginy.admin.asked import Asked
from nginy.admin.changes.zeroing import reset
from nginy.admin.facts.sources import SOURCES
from nginy.admin.facts.tally import Tally
from nginy.admin.reading import backends, drops
from nginy.admin.subject import Front, Subject
from nginy.proxy.handler import ProxySettings
from nginy.proxy.udp.handler import UdpHandler
from nginy.text.address import parse_address
from nginy.wire.request import Request, RequestError

from kit.admin import Made, done, pool

ASKED = Asked(Request("POST", (), {}, {}, "", b"", True), access="full")
Crew = Sequence[Subject]


def carried_out(work: Slices[Answer], crew: Crew, asking: Callable[[str], None]) -> Any:
    """Return what is answered; `asking` is called with each kind of question."""
    replies: Replies | None = None
    while True:
        try:
            wanted = work.send(replies)
        except StopIteration as end:
            return json.loads(b"".join([end.value.body, *end.value.pieces]))
        replies = None
        if isinstance(wanted, Poll):
            asking(wanted.kind)
            source = SOURCES[wanted.kind]
            facts = [source.shape(done(source.collect(e, wanted.details))[0]) for e in crew]
            replies = Replies(facts, len(crew))


def handler_of(made: Made) -> UdpHandler:
    address = parse_address("127.0.0.1:53")
    handler = UdpHandler(made.loop, "dns", address, pool("names"), ProxySettings())
    made.subject.fronts = lambda: [Front(str(address), handler)]
    return handler


def told(subject: Subject, crew: Crew = ()) -> list[tuple[str, int, str, str]]:
    rows = carried_out(drops(subject, ASKED), crew, lambda _: None)["drops"]
    names = ("reason", "count", "first", "last")
    return [tuple(row[name] for name in names) for row in rows]


def test_the_times_of_drops_begin_anew_as_well() -> None:
    made = Made()
    with made as subject:
        handler = handler_of(made)
        for _ in range(3):
            handler.drops.count("shed")
            made.clock.advance(1000)
        assert told(subject) == [
            ("shed", 3, "2026-11-23T18:35:01.000Z", "2026-11-23T18:35:03.000Z")
        ]
        carried_out(reset(subject, ASKED), (), lambda _: None)
        assert told(subject) == []
        for _ in range(2):
            made.clock.advance(60_000)
            handler.drops.count("shed")
        assert told(subject) == [
            ("shed", 2, "2026-11-23T18:36:04.000Z", "2026-11-23T18:37:04.000Z")
        ]


def test_the_counts_of_backends_begin_anew_in_lists_as_well() -> None:
    web = pool("web", "10.0.0.1:80", "10.0.0.2:80")
    with Made(web) as subject:
        for backend in web.backends:
            backend.failures = 3
        carried_out(reset(subject, ASKED), (), lambda _: None)
        web.backends[0].failures += 1
        rows = carried_out(backends(subject, ASKED), (), lambda _: None)["backends"]
    assert [row["failures"] for row in rows] == [1, 0]


def test_what_dead_workers_have_dropped_counts_with_its_times() -> None:
    made, first, second = Made(), Made(), Made()
    with made as subject, first as one, second as two:
        subject.crew = object()  # type: ignore[assignment]
        early, late = handler_of(first), handler_of(second)
        early.drops.count("access")
        second.clock.advance(5000)
        late.drops.count("access")
        # The first one dies.
        tally = Tally()
        tally.take("listeners", done(SOURCES["listeners"].collect(one, {}))[0])
        subject.gone.add(tally)
        times = "2026-11-23T18:35:01.000Z", "2026-11-23T18:35:06.000Z"
        assert told(subject, [two]) == [("access", 2, *times)]
        made.clock.advance(10_000)
        carried_out(reset(subject, ASKED), [two], lambda _: None)
        second.clock.advance(15_000)
        late.drops.count("access")
        at = "2026-11-23T18:35:21.000Z"
        assert told(subject, [two]) == [("access", 1, at, at)]


def test_a_worker_that_ends_in_between_is_not_subtracted_twice() -> None:
    made, first, second = Made(), Made(), Made()
    with made as subject, first as one, second as two:
        subject.crew = object()  # type: ignore[assignment]
        handler_of(first).drops.count("shed")
        handler_of(second)
        crew = [one, two]

        def ends(kind: str) -> None:
            if kind == "upstreams":
                tally = Tally()
                tally.take("listeners", done(SOURCES["listeners"].collect(one, {}))[0])
                subject.gone.add(tally)
                subject.worker_exits["signal"] += 1
                crew.remove(one)

        with pytest.raises(RequestError, match="a worker has ended meanwhile"):
            carried_out(reset(subject, ASKED), crew, ends)
        assert subject.zero_at_ms is None
        at = "2026-11-23T18:35:01.000Z"
        assert told(subject, crew) == [("shed", 1, at, at)]
        carried_out(reset(subject, ASKED), crew, lambda _: None)
        handler_of(second).drops.count("shed")
        assert [row[:2] for row in told(subject, crew)] == [("shed", 1)]
