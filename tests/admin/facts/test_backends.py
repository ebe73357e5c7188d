"""What answers say about backends: why one gets no clients, since when and until when."""

from typing import Any

from nginy.admin.facts.backends import BACKEND, BACKENDS, HEALTH, LIMIT
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.health.health import Health
from nginy.backend.pool import BackendPool
from nginy.balancer.round_robin import RoundRobin
from nginy.text.address import parse_address
from nginy.wire.agent import Mode

from kit.admin import Made, done, pool, take_down


def rows(made: Made, **wanted: object) -> list[dict[str, Any]]:
    facts, _ = done(BACKENDS.collect(made.subject, {"upstream": "web", **wanted}))
    found: list[dict[str, Any]] = facts["backends"]
    return found


def test_a_row_says_what_there_is_to_say_and_a_report_keeps_it() -> None:
    web = pool("web", "10.0.0.1:80", "10.0.0.2:80")
    first = web.backends[0]
    first.counters.count("--", 5, 70)
    first.take()
    first.missed = 2
    first.selected_at_ms, first.connect_ms = 1000, 3
    made = Made(web)
    with made:
        row, other = rows(made)
    assert (row["address"], row["state"], row["usable"], row["why_not"]) == (
        "10.0.0.1:80",
        "up",
        True,
        None,
    )
    assert (row["conns"], row["sessions_total"], row["received"], row["sent"]) == (1, 4, 5, 70)
    assert (row["connect_ms"], row["cause"], row["leaving"]) == (3, None, False)
    assert row["selected_at"] is not None
    assert other["selected_at"] is None
    assert BACKEND(row) == row


def test_why_not_and_until_when() -> None:
    web = pool("web", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
    made = Made(web)
    with made:
        failed, full, drained = web.backends
        web.failed(failed, made.clock.now_ms // 1000)
        full.max_conns = 1
        full.take()
        drained.health.set_mode(Mode.DRAIN, "deploy 42", made.clock.now_ms)
        drained.down = True
        made.clock.advance(2000)
        found = rows(made)
        assert [each["why_not"] for each in found] == ["out", "at max_conns", "draining"]
        assert [each["usable"] for each in found] == [False] * 3
        until = made.subject.wall_text((failed.checked_s + failed.fail_timeout_s + 1) * 1000)
        assert [each["failed_until"] for each in found] == [until, None, None]
        assert (found[2]["operator"], found[2]["cause"]) == ("draining", "operator")
        assert (found[2]["reason"], found[2]["down_s"]) == ("deploy 42", 2.0)


def test_backends_are_chosen_and_paged() -> None:
    web = pool("web", *(f"10.0.0.{i}:80" for i in range(1, 8)))
    web.backends[2].health = Health(None, 0, is_resolved=False)
    web.backends[2].down = True
    made = Made(web)
    with made:
        assert [each["address"] for each in rows(made, address="10.0.0.3:80")] == ["10.0.0.3:80"]
        assert len(rows(made, state="unresolved")) == len(rows(made, usable=False)) == 1
        assert len(rows(made, usable=True)) == 6
        assert rows(made, name="10.0.0.9:80") == []
        page = rows(made, after=2, limit=3)
        assert [each["address"][7] for each in page] == ["3", "4", "5"]
        facts, _ = done(BACKENDS.collect(made.subject, {"upstream": "mail"}))
        assert (facts["is_known"], facts["backends"]) == (False, [])


def test_many_are_looked_at_in_slices_and_an_answer_has_a_limit() -> None:
    address = parse_address("10.0.0.1:80")
    many = [Backend(BackendSettings(f"b{i}", address)) for i in range(LIMIT + 50)]
    made = Made(BackendPool("web", many, RoundRobin))
    with made:
        facts, slices = done(BACKENDS.collect(made.subject, {"upstream": "web"}))
    assert (len(facts["backends"]), facts["matched"]) == (LIMIT, LIMIT + 50)
    assert slices > 20


def test_who_has_left_is_there_until_its_last_session_ends() -> None:
    web, gone = pool("web", "10.0.0.1:80"), pool("web", "10.0.0.2:80").backends[0]
    gone.left_at_ms = 0
    gone.take()
    web.left = (gone,)
    made = Made(web)
    with made:
        assert [(each["leaving"], each["why_not"]) for each in rows(made)] == [
            (False, None),
            (True, "left"),
        ]
        gone.give_back()
        assert len(rows(made)) == 1


def test_of_several_workers_the_worst_state_counts_and_sums_are_added() -> None:
    web = pool("web", "10.0.0.1:80")
    web.backends[0].counters.count("--", 5, 70)
    made = Made(web)
    with made:
        one, _ = done(BACKENDS.collect(made.subject, {"upstream": "web"}))
        web.backends[0].health.set_mode(Mode.DRAIN, "deploy", made.clock.now_ms)
        web.backends[0].down = True
        two, _ = done(BACKENDS.collect(made.subject, {"upstream": "web"}))
    merged = BACKENDS.merge([BACKENDS.shape(one), BACKENDS.shape(two), BACKENDS.shape(one)])
    [row] = merged["backends"]
    assert (row["state"], row["reason"], row["usable"]) == ("draining", "deploy", False)
    assert (row["sessions_total"], row["received"], row["differs"]) == (3, 15, ["up", "draining"])
    one["backends"][0]["weight"]["effective"] = 0.5
    for reports in ([one, two], [two, one]):
        [row] = BACKENDS.merge([BACKENDS.shape(each) for each in reports])["backends"]
        assert row["weight"] == {"file": 1, "now": 1, "effective": 0.5}
    assert two["backends"][0]["weight"]["effective"] == 1.0
    assert BACKENDS.merge([]) == {"is_known": False, "backends": [], "matched": 0}


def test_health_is_told_by_the_worker_that_asks() -> None:
    voices = {"check": "up"}
    last = {"at": None, "took_s": 0.1, "passed": True, "detail": "", "sent": None, "got": None}
    checks = {"total": 3, "failed": 0, "in_row": 2, "last": last}
    asks = {"voices": voices, "checks": {**checks, "next_in_s": 1.5}, "results": []}
    hears = {"voices": voices, "checks": {**checks, "next_in_s": None}, "results": []}
    reports = [
        HEALTH.shape({"is_known": True, "backends": [], "matched": 1, "health": [each]})
        for each in (hears, asks)
    ]
    assert HEALTH.merge(reports)["health"] == [asks]


def test_a_text_chooses_among_all_upstreams_and_pages_count_what_fits() -> None:
    web, mail = pool("web", "10.0.0.1:80", "10.0.0.2:80"), pool("mail", "10.0.0.1:25")
    take_down(web, 1, "the name is Gone")
    made = Made(web, mail)

    def found(match: str, **more: object) -> list[str]:
        return [f"{row['upstream']}/{row['address']}" for row in rows(made, match=match, **more)]

    with made:
        every = {"upstream": None}
        assert found("", **every) == ["web/10.0.0.1:80", "web/10.0.0.2:80", "mail/10.0.0.1:25"]
        assert found("10.0.0.1", **every) == ["web/10.0.0.1:80", "mail/10.0.0.1:25"]
        assert found("10.0.0.1", after=1, **every) == ["mail/10.0.0.1:25"]
        assert found("GONE unresolved", **every) == ["web/10.0.0.2:80"]
        assert found("web/10") == ["web/10.0.0.1:80", "web/10.0.0.2:80"]
        assert found("gone 10.0.0.1") == []
