"""What a worker reports of its counters: all that has grown, nothing else, and nothing twice."""

import json
import random
from collections.abc import Iterator

from nginy.admin.facts.merge import parse
from nginy.admin.facts.sources import SOURCES
from nginy.admin.facts.tally import Tally
from nginy.admin.facts.totals import MESSAGE_MAX_CHARACTERS, TOTALS, Totals, tell_all
from nginy.admin.subject import Front, Subject
from nginy.backend.backend import Counters
from nginy.backend.pool import BackendPool
from nginy.proxy.handler import ProtocolHandler, ProxySettings
from nginy.proxy.tcp import TcpHandler
from nginy.proxy.udp.handler import UdpHandler
from nginy.text.address import parse_address

from kit.admin import Made, done, pool


def taken(tally: Tally, news: Iterator[str | None]) -> int:
    """Give a supervisor a worker's reports; return how many messages they take."""
    count = 0
    for text in news:
        if text is not None:
            assert len(text) <= MESSAGE_MAX_CHARACTERS
            facts = parse(text.encode(), TOTALS)
            assert facts is not None
            tally.take("totals", facts)
            count += 1
    return count


def asked(subject: Subject) -> Tally:
    """What a supervisor knows after asking for everything."""
    tally = Tally()
    for kind in ("listeners", "upstreams", "backends", "overview"):
        wanted = {"limit": 10_000, **({"upstream": None} if kind == "backends" else {})}
        tally.take(kind, SOURCES[kind].shape(done(SOURCES[kind].collect(subject, wanted))[0]))
    return tally


def without_zeros(tally: Tally) -> object:
    rows = {
        kind: {key: row for key, row in rows.items() if any(map(_count, row.values()))}
        for kind, rows in tally.rows_of.items()
    }
    return rows, tally.sums


def _count(value: object) -> float:
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    return sum(value) if isinstance(value, list) else float(str(value))


def fronts_of(made: Made, web: BackendPool) -> list[Front]:
    fronts = []
    # Two ports of one listener, and one that is retiring beside its successor.
    for name, port in (("web", 80), ("web", 81), ("mail", 25), ("mail", 25)):
        address = parse_address(f"127.0.0.1:{port}")
        handler: ProtocolHandler = TcpHandler(made.loop, name, address, web, ProxySettings())
        fronts.append(Front(str(address), handler))
    address = parse_address("127.0.0.1:53")
    handler = UdpHandler(made.loop, "dns", address, web, ProxySettings())
    return [*fronts, Front(str(address), handler)]


def test_a_supervisor_that_is_told_knows_what_one_that_asks_does() -> None:
    rng = random.Random(17)
    web = pool("web", *(f"10.0.0.{number}:80" for number in range(1, 60)))
    gone = pool("web", "10.0.0.1:80", "10.0.1.1:80").backends
    for backend in gone:  # one address is back, one has left
        backend.left_at_ms = 0
        backend.conns = 1
    web.left = tuple(gone)
    made = Made(web, pool("mail", "10.0.0.1:25"))
    with made as subject:
        fronts = fronts_of(made, web)
        subject.fronts = lambda: fronts
        totals, told = Totals(subject), Tally()
        handlers = [front.handler for front in fronts]
        udp = handlers[-1]
        assert isinstance(udp, UdpHandler)
        assert taken(told, totals.news(fronts)) == 1  # of sessions that go on
        for _ in range(50):
            for _ in range(rng.randrange(1, 30)):
                handler, backend = rng.choice(handlers), rng.choice([*web.backends, *gone])
                both: list[Counters] = [handler.counters, backend.counters]
                for counters in both:
                    counters.count(rng.choice(("--", "SD")), rng.randrange(3), rng.randrange(3))
                made.loop.sessions_started += 1
                backend.failures += rng.randrange(2)
                web.connects.count(rng.randrange(9))
                web.turn_away(0)
                web.retries += 1
                udp.drops.count("shed")
            assert taken(told, totals.news(fronts)) > 0
            assert without_zeros(told) == without_zeros(asked(subject))
            assert taken(told, totals.news(fronts)) == 0
        successor = Tally()
        assert taken(successor, tell_all(told)) > 1
        assert without_zeros(successor) == without_zeros(told)


def test_who_knows_nothing_tells_nothing() -> None:
    assert list(tell_all(Tally())) == []


def test_one_backend_of_many_has_news() -> None:
    web = pool("web", *(f"10.0.{number // 250}.{number % 250}:80" for number in range(2000)))
    made = Made(web)
    with made as subject:
        fronts = fronts_of(made, web)
        totals = Totals(subject)
        for backend in web.backends:
            backend.counters.count("--", 1, 1)
        fronts[0].handler.counters.count("--", 1, 1)
        first = list(totals.news(fronts))
        assert len(first) > 100
        assert first.count(None) > 50
        web.backends[7].counters.count("--", 1, 1)
        fronts[0].handler.counters.count("--", 1, 1)
        [text] = [each for each in totals.news(fronts) if each is not None]
        [row] = json.loads(text)["backends"]
        assert (row["address"], row["sessions_total"]) == ("10.0.0.7:80", 2)


def test_an_end_without_a_byte_is_news() -> None:
    made = Made()
    with made as subject:
        front = fronts_of(made, pool("web"))[0]
        counters, totals = front.handler.counters, Totals(subject)
        counters.open = 1
        assert [each for each in totals.news([front]) if each]
        assert [each for each in totals.news([front]) if each] == []
        counters.open = 0
        counters.count("--", 0, 0)
        [text] = [each for each in totals.news([front]) if each]
        assert json.loads(text)["listeners"][0]["ended"] == {"--": 1}
