"""The overview and readiness: what they say of listeners, upstreams and what is wrong."""

from nginy.admin.facts.group import PLAIN_US
from nginy.admin.facts.overview import ROWS_MAX
from nginy.admin.facts.summary import overview, unreadiness
from nginy.admin.pace import SLICE_US
from nginy.admin.subject import Front, Subject
from nginy.proxy.handler import ProxySettings
from nginy.proxy.reply import ReplyHandler
from nginy.proxy.tcp import TcpHandler
from nginy.text.address import parse_address

from kit.admin import Made, done, pool, take_down
from kit.clock import START_MS, FakeClock

ROWS = 100


def test_the_overview_of_what_serves_has_no_problems() -> None:
    web = pool("web", "10.0.0.1:80", "10.0.0.2:80")
    with Made(web) as subject:
        address = parse_address("127.0.0.1:80")
        tcp = TcpHandler(subject.loop, "front", address, web, ProxySettings())
        text = ReplyHandler(subject.loop, "text", address, ProxySettings())
        tcp.counters.open = 2
        tcp.counters.sessions, tcp.counters.bytes_sent = 5, 70
        fronts = [Front("127.0.0.1:80", tcp), Front("127.0.0.1:81", text, is_retiring=True)]
        subject.fronts = lambda: fronts
        found, _ = done(overview(subject))
        assert found["at"] == "2026-11-23T18:35:01.000Z"
        assert (found["generation"], found["pid"], found["status"]) == (1, 42, "serving")
        assert found["sessions"] == {"now": 2, "rate": None, "total": 0}
        assert found["upstreams"] == [
            {
                "name": "web",
                "usable": 2,
                "backends": 2,
                "states": {"up": 2},
                "sessions": 0,
                "queue": 0,
                "why_none": None,
                "since": None,
            }
        ]
        first, second = found["listeners"]
        assert first == {
            "name": "front",
            "address": "127.0.0.1:80",
            "protocol": "tcp",
            "to": "web",
            "sessions": 2,
            "sessions_total": 7,
            "received": 0,
            "sent": 70,
            "retiring": False,
        }
        assert (second["to"], second["retiring"]) == (None, True)
        assert found["problems"] == []
        assert found["config"]["last_reload"] is None


def test_a_problem_is_a_sentence_with_its_beginning_and_the_worst_comes_first() -> None:
    web, names = pool("web", "10.0.0.1:80"), pool("names", "10.0.0.3:53", "10.0.0.4:53")
    take_down(web, 0)
    take_down(names, 1, "no answer in time")
    made = Made(names, web)
    with made as subject:
        for each in (web.backends[0], names.backends[1]):
            each.health.since_at_ms = made.clock.now_ms
        made.clock.advance(12_000)
        subject.last_reload = ("refused", made.clock.wall_ms())
        subject.needs_restart = ("workers",)
        found, _ = done(overview(subject))
        since = "2026-11-23T18:35:01.000Z"
        assert [(each["severity"], each["text"], each["since"]) for each in found["problems"]] == [
            ("error", "web: 0 of 1 backends usable (1 of 1 unresolved)", since),
            (
                "error",
                "the last reload was refused, the log says why",
                "2026-11-23T18:35:13.000Z",
            ),
            ("warning", "names: 10.0.0.4:53 unresolved: no answer in time", since),
            ("warning", "web: 10.0.0.1:80 unresolved: the name is gone", since),
            ("notice", "needs a restart: workers", None),
        ]


class LivelyClock(FakeClock):
    """One whose time of day goes on while the loop works."""

    later_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.later_ms


def test_a_moment_has_one_time_of_day_whenever_somebody_asks() -> None:
    with Made() as subject:
        clock = subject.loop.clock = LivelyClock()
        clock.pauses.add(START_MS, 60_000)
        told = []
        for clock.later_ms in (0, 1, 7, 0):
            clock.advance(1000)
            told.append((subject.wall_text(START_MS - 1), subject.wall_text(START_MS + 1)))
        assert set(told) == {("2026-11-23T18:34:00.999Z", "2026-11-23T18:35:01.001Z")}
        clock.later_ms = 3_600_000  # somebody has set the time of day
        assert subject.wall_text(START_MS + 1) == "2026-11-23T19:35:01.001Z"


def test_lists_end_and_say_how_much_is_missing() -> None:
    many = [pool(f"pool{number}", "10.0.0.1:80") for number in range(ROWS_MAX + 7)]
    for each in many:
        take_down(each, 0)
    with Made(*many) as subject:
        found, _ = done(overview(subject))
        assert len(found["upstreams"]) == len(found["problems"]) == ROWS_MAX
        assert found["more"] == {
            "listeners": 0,
            "upstreams": 7,
            "problems": 2 * (ROWS_MAX + 7) - ROWS_MAX,
        }


def test_it_says_how_old_the_bytes_of_open_sessions_are() -> None:
    with Made(pool("web", "10.0.0.1:80")) as subject:
        loop = subject.loop
        ages_s = []
        loop.connections = 1000  # a walk over them is due again after 80 ms
        for passed_ms in (0, 50, 40, 20):
            loop.clock.advance(passed_ms)  # type: ignore[attr-defined]
            ages_s.append(done(overview(subject))[0]["bytes"]["age_s"])
        assert ages_s == [0, 0.05, 0, 0.02]
        assert len(subject.samples.all()) == 1
        loop.connections = 0


def test_before_bytes_are_counted_their_age_is_unknown_and_no_sample_is_taken() -> None:
    with Made(pool("web", "10.0.0.1:80")) as subject:
        assert subject.bytes_thrift.allows(1000.0, subject.loop.clock.now_ms)  # a walk has begun
        assert done(overview(subject))[0]["bytes"]["age_s"] is None
        assert not subject.samples.all()


def test_many_backends_are_counted_in_slices() -> None:
    def slices(count: int) -> int:
        web = pool("web", *(f"10.0.{n >> 8}.{n & 255}:80" for n in range(count)))
        with Made(web) as subject:
            found, slices = done(overview(subject))
        assert found["upstreams"][0]["usable"] == count
        return slices

    assert slices(int(1.1 * SLICE_US / PLAIN_US)) == slices(1) + 1


def test_many_upstreams_listeners_and_problems_are_shown_in_slices() -> None:
    many = [pool(f"pool{number}", "10.0.0.1:80") for number in range(10 * ROWS)]
    for each in many:
        take_down(each, 0)
    with Made(*many) as subject:
        address = parse_address("127.0.0.1:80")
        text = ReplyHandler(subject.loop, "text", address, ProxySettings())
        fronts = [Front("127.0.0.1:80", text)] * (10 * ROWS)
        subject.fronts = lambda: fronts
        found, slices = done(overview(subject))
        assert found["more"]["listeners"] == 10 * ROWS - ROWS_MAX
        assert slices > 30


def ready(subject: Subject, upstream: str | None = None, minimum: int | None = None) -> object:
    return done(unreadiness(subject, upstream, minimum))[0]


def test_nginy_is_ready_if_each_upstream_has_as_many_backends_as_it_needs() -> None:
    web, names = pool("web", "10.0.0.1:80", "10.0.0.2:80"), pool("names", "10.0.0.3:53")
    with Made(web, names) as subject:
        assert ready(subject) == []
        subject.ready = {"min_up": 1, "web": 2}
        assert ready(subject) == []
        take_down(web, 1)
        assert ready(subject) == ["web: 1 of 2 backends usable, 2 needed"]
        assert ready(subject, "names") == []
        assert ready(subject, "web", 1) == []
        assert ready(subject, "mail") is None
        subject.ready = {}
        assert ready(subject) == []
        take_down(web, 0)
        assert ready(subject) == ["web: 0 of 2 backends usable (2 of 2 unresolved)"]
        assert ready(subject, None, 0) == []


def test_nginy_is_not_ready_before_it_serves_and_when_it_ends() -> None:
    with Made() as subject:
        subject.status = "starting"
        assert ready(subject) == ["starting"]
        subject.status, subject.draining = "draining", "waiting for 2 sessions to end"
        assert ready(subject) == ["waiting for 2 sessions to end"]
