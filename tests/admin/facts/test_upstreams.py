"""Upstreams and listeners: everything that is counted for them, of one process and of several."""

from nginy.admin.facts.upstreams import LISTENER, LISTENERS, UPSTREAM, UPSTREAMS, join_histograms
from nginy.admin.subject import Front
from nginy.backend.waiting import QueueSettings
from nginy.proxy.handler import ProxySettings
from nginy.proxy.tcp import TcpHandler
from nginy.proxy.udp.handler import UdpHandler
from nginy.text.address import parse_address

from kit.admin import Made, done, pool, take_down


def test_an_upstream_counts_what_its_backends_do() -> None:
    web = pool("web", "10.0.0.1:80", "10.0.0.2:80")
    web.set_queue(QueueSettings(7, 1000))
    take_down(web, 1)
    web.backends[0].take()
    web.retries = 3
    web.connects.count(4)
    web.turn_away(0)
    gone = pool("web", "10.0.0.3:80").backends[0]
    gone.left_at_ms = 0
    gone.take()
    web.left = (gone,)
    made = Made(web, pool("mail"))
    with made:
        facts, _ = done(UPSTREAMS.collect(made.subject, {}))
        only, _ = done(UPSTREAMS.collect(made.subject, {"name": "mail"}))
    row = facts["upstreams"][0]
    assert (row["usable"], row["backends"], row["states"]) == (1, 2, {"up": 1, "unresolved": 1})
    assert (row["sessions"], row["sessions_total"], row["retries"]) == (2, 2, 3)
    assert row["queue"] == {"now": 0, "limit": 7}
    assert row["leaving"] == [{"address": "10.0.0.3:80", "conns": 1}]
    assert sum(row["connects"]["counts"]) == 1
    assert sum(row["no_backend"].values()) == 1
    assert [each["name"] for each in only["upstreams"]] == ["mail"]
    assert UPSTREAM(row) == row
    merged = UPSTREAMS.merge([UPSTREAMS.shape(facts) for _ in range(2)])["upstreams"][0]
    assert (merged["sessions"], merged["retries"], merged["sessions_total"]) == (2, 6, 4)
    assert merged["connects"]["sum_ms"] == 8
    assert sum(merged["no_backend"].values()) == 2


def test_an_upstream_is_as_good_as_where_it_is_worst() -> None:
    web = pool("web", "10.0.0.1:80")
    made = Made(web)
    with made:
        fine, _ = done(UPSTREAMS.collect(made.subject, {}))
        take_down(web, 0)
        bad, _ = done(UPSTREAMS.collect(made.subject, {}))
    [row] = UPSTREAMS.merge([UPSTREAMS.shape(fine), UPSTREAMS.shape(bad)])["upstreams"]
    assert (row["usable"], row["states"], row["differs"]) == (0, {"unresolved": 1}, True)


def test_histograms_of_other_bounds_are_left_out() -> None:
    known = {"counts": [1, 2], "sum_ms": 3.0}
    join_histograms(known, {"counts": [1], "sum_ms": 9.0})
    assert known == {"counts": [1, 2], "sum_ms": 3.0}


def test_ports_of_one_listener_are_one_row() -> None:
    web = pool("web", "10.0.0.1:80")
    made = Made(web)
    with made:
        fronts = []
        for port in (80, 81):
            address = parse_address(f"127.0.0.1:{port}")
            handler = TcpHandler(made.loop, "front", address, web, ProxySettings())
            handler.counters.count("--", 5, 70)
            handler.counters.open = 1
            fronts.append(Front(str(address), handler))
        udp = UdpHandler(made.loop, "names", address, web, ProxySettings())
        for _ in range(4):
            udp.drops.count("shed")
            made.clock.now_ms += 1000
        fronts.append(Front(str(address), udp, is_retiring=True))
        made.subject.fronts = lambda: fronts
        facts, _ = done(LISTENERS.collect(made.subject, {}))
        only, _ = done(LISTENERS.collect(made.subject, {"name": "names"}))
        anew, _ = done(LISTENERS.collect(made.subject, {"anew": True}))
        udp.drops.count("shed")
        last, _ = done(LISTENERS.collect(made.subject, {}))
    front, names = facts["listeners"]
    assert front["addresses"] == ["127.0.0.1:80", "127.0.0.1:81"]
    assert (front["sessions"], front["sessions_total"], front["sent"]) == (2, 4, 140)
    assert (front["ended"], front["to"], front["retiring"]) == ({"--": 2}, "web", False)
    assert (names["drops"]["shed"], names["retiring"]) == (4, True)
    assert only["listeners"] == [names]
    assert LISTENER(front) == front
    merged = LISTENERS.merge([LISTENERS.shape(facts) for _ in range(3)])["listeners"]
    assert (merged[0]["ended"], merged[1]["drops"]["shed"]) == ({"--": 6}, 12)
    # Of all workers, the earliest time and the latest; a first one may be forgotten.
    times = [each["listeners"][1]["drop_times"]["shed"] for each in (facts, anew, last)]
    begin_ms = times[0]["first"]
    assert times == [
        {"first": begin_ms, "last": begin_ms + 3000},
        {"first": None, "last": begin_ms + 3000},
        {"first": begin_ms + 4000, "last": begin_ms + 4000},
    ]
    for reports in ((last, anew, facts), (facts, last), (anew, facts, last)):
        [_, row] = LISTENERS.merge([LISTENERS.shape(each) for each in reports])["listeners"]
        assert row["drop_times"] == {"shed": {"first": begin_ms, "last": begin_ms + 4000}}
