"""What is left of workers that have died: their counters, which never fall."""

import copy
import os
import pathlib
import resource
from typing import Any

from nginy.admin.facts.tally import Tally
from nginy.admin.metrics.measured import MEASURED, count_fds, open_fds, process_row
from nginy.admin.pace import SLICE_US
from nginy.admin.subject import Front
from nginy.event.loop import Loop
from nginy.proxy.handler import ProxySettings
from nginy.proxy.tcp import TcpHandler
from nginy.text.address import parse_address

from kit.admin import Made, done, pool
from kit.leaks import no_descriptor_left


def add_dead(facts: dict[str, Any], report: dict[str, Any]) -> None:
    gone = Tally()
    gone.take("measured", report)
    for kind in ("listeners", "upstreams", "backends"):
        done(gone.add_to(kind, facts[kind]))


def test_counters_of_the_dead_are_added_and_gauges_are_not() -> None:
    web = pool("web", "10.0.0.1:80")
    backend = web.backends[0]
    backend.counters.count("--", 5, 70)
    web.turn_away(0)
    web.connects.count(3)
    made = Made(web)
    with made:
        address = parse_address("127.0.0.1:80")
        handler = TcpHandler(made.loop, "front", address, web, ProxySettings())
        handler.counters.count("--", 5, 70)
        handler.counters.open = 1
        made.subject.fronts = lambda: [Front("127.0.0.1:80", handler)]
        gone, _ = done(MEASURED.collect(made.subject, {}))
    facts = copy.deepcopy(gone)
    gone["backends"].append({**gone["backends"][0], "address": "10.0.0.9:80"})
    add_dead(facts, gone)
    [front] = facts["listeners"]
    assert (front["sessions"], front["sessions_total"], front["sent"]) == (1, 4, 140)
    assert front["ended"] == {"--": 2}
    [row] = facts["backends"]
    assert (row["received"], row["sessions_total"], row["checks"]["total"]) == (10, 2, 0)
    [upstream] = facts["upstreams"]
    assert sum(upstream["no_backend"].values()) == 2
    assert (upstream["connects"]["sum_ms"], sum(upstream["connects"]["counts"])) == (6, 2)


def test_the_process_is_measured_by_the_real_clock_alone() -> None:
    with Made() as subject:
        row = done(process_row(subject))[0]
        assert sum(row["turns"]["counts"]) == 0
        assert row["resident_bytes"] > 1 << 20
        subject.loop.close()
        subject.loop = Loop()
        done(process_row(subject))[0]
        for _ in range(3):
            subject.loop.turn(0)
        assert sum(done(process_row(subject))[0]["turns"]["counts"]) == 3


def test_the_process_is_measured_with_all_descriptors_in_use() -> None:
    """That is when somebody looks."""
    with Made() as subject, no_descriptor_left():
        row = done(process_row(subject))[0]
        assert row["open_fds"] == row["max_fds"]
        assert row["resident_bytes"] > 1 << 20


def test_descriptors_are_counted_where_the_system_does_not_know() -> None:
    with Made() as subject:
        known = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1
        assert done(count_fds(subject))[0] == known


def test_descriptors_are_not_counted_where_the_system_knows(tmp_path: pathlib.Path) -> None:
    (tmp_path / "some file").touch()
    with Made() as subject:
        assert done(open_fds(subject, str(tmp_path))) == (tmp_path.stat().st_size, 1)


def test_many_descriptors_are_not_counted_again_at_once() -> None:
    with Made() as subject:
        subject.loop.connections = 200
        first, _ = done(count_fds(subject))
        subject.loop.connections = 230
        assert done(count_fds(subject)) == (first + 30, 1)
        subject.loop.connections = 200


def test_descriptors_that_nobody_can_count_are_all_that_a_process_may_have() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with Made() as subject:
        subject.loop.connections = 200
        counts = [done(open_fds(subject, "/nowhere"))[0] for _ in range(2)]
        subject.loop.connections = 150
        assert [*counts, done(count_fds(subject))[0]] == [limit, limit, limit - 50]
        subject.loop.connections = 0


def test_a_reader_who_leaves_in_the_middle_leaves_no_half_count_of_descriptors(
    tmp_path: pathlib.Path,
) -> None:
    for number in range(2 * SLICE_US):
        (tmp_path / str(number)).touch()
    with Made() as subject:
        subject.loop.connections = 200
        first = count_fds(subject, str(tmp_path))
        next(first)
        first.close()
        assert done(count_fds(subject, str(tmp_path)))[0] == 2 * SLICE_US - 1
        subject.loop.connections = 0


def test_reports_stay_as_they_are_so_that_several_answers_can_be_made_of_them() -> None:
    listener = {"name": "front", "protocol": "tcp", "ended": {"--": 2}, "drops": {"shed": 1}}
    counts = {"no_backend": {"down": 1}, "queue": {"now": 1}, "retries": 3}
    upstream = {"name": "web", **counts, "connects": {"counts": [1, 2], "sum_ms": 3.0}}
    backend = {"upstream": "web", "name": "a:1", "address": "a:1", "received": 5}
    told = {
        "listeners": [{**listener, "addresses": ["a:80"]}],
        "upstreams": [{**upstream, "leaving": [{"address": "a:1", "conns": 1}]}],
        "backends": [{**backend, "checks": {"total": 3}}],
    }
    reports = [MEASURED.shape(told), MEASURED.shape(told)]
    before = copy.deepcopy(reports)
    first = MEASURED.merge(reports)
    add_dead(first, reports[0])
    assert first["listeners"][0]["ended"] == {"--": 6}
    second = MEASURED.merge(reports)
    assert second["listeners"][0]["ended"] == {"--": 4}
    assert second["upstreams"][0]["connects"] == {"counts": [2, 4], "sum_ms": 6.0}
    alone = MEASURED.merge(reports[:1])
    add_dead(alone, reports[1])
    assert reports == before
