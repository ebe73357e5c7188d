"""The lines of each view: their order, their filter and what they say."""

from nginy.backend.health.states import State
from nginy.commands.top.cells import ASCII, UNICODE
from nginy.commands.top.snapshot import EVENTS, LISTENERS, SESSIONS, VIEWS
from nginy.commands.top.tables import COLUMNS, ORDERS, details, lines

from kit.top import backend, listener, session, shot


def keys(view: str = "upstreams", order: int = 0, wanted: str = "") -> list[str]:
    return [line.key for line in lines(shot(view), ASCII, order, wanted)]


def test_every_view_has_columns_and_orders_and_every_state_a_shape() -> None:
    assert VIEWS == tuple(COLUMNS) == tuple(ORDERS)
    for view in VIEWS:
        assert all(len(line.cells) == len(COLUMNS[view]) for line in lines(shot(view), UNICODE))
    for glyphs in (ASCII, UNICODE):
        assert set(glyphs.shapes) == {str(state) for state in State}


def test_backends_stand_under_their_upstream() -> None:
    assert keys() == [
        "web",
        "web/10.0.0.1:80",
        "web/10.0.0.2:80",
        "web/[2001:db8::1234:5678:9abc:1]:8080",
        "names",
        "names/10.0.0.3:53",
    ]
    head = lines(shot(), ASCII)[0]
    assert head.cells[:6] == ("web", "2/3 up", "4,101", "-", "80", "22M")
    assert (head.style, lines(shot(), ASCII)[4].style) == ("warn", "bad")


def test_an_order_goes_for_upstreams_and_inside_them() -> None:
    names = [name for name, _ in ORDERS["upstreams"]]
    by_state = keys(order=names.index("state"))
    assert by_state[:2] == ["web", "web/10.0.0.1:80"]
    by_conns = keys(order=names.index("conns"))
    assert by_conns[1] == "web/10.0.0.2:80"
    assert by_conns[-2:] == ["names", "names/10.0.0.3:53"]
    assert keys(order=len(names)) == keys()
    ages = [session(id="1.1", age_s=1.0), session(id="1.2", age_s=9.0)]
    found = lines(shot(SESSIONS, ages), ASCII, 1)
    assert [line.key for line in found] == ["1.2", "1.1"]


def test_a_filter_keeps_the_upstream_of_what_fits() -> None:
    assert keys(wanted="REFUSED") == ["web", "web/10.0.0.1:80"]
    assert keys(wanted="refused in time") == []
    assert len(keys(wanted="names")) == 2
    assert keys(wanted="deploy drain") == ["web", "web/[2001:db8::1234:5678:9abc:1]:8080"]
    assert keys(SESSIONS, wanted="client=192.0.2.0/24 2001") == ["17758.14"]


def test_a_line_says_why_a_backend_gets_no_clients() -> None:
    found = {line.key: line.said for line in lines(shot(), ASCII)}
    assert found["web/10.0.0.1:80"] == (
        "web/10.0.0.1:80 down for 12s: 3 checks in a row failed: connect() refused; "
        "9 failures, 37 of 40 checks passed"
    )
    assert found["names"] == "names: 0 of 1 backends usable, 0 sessions, down"
    rows = [
        backend("web", "a:1", usable=False, why_not="failed"),
        backend("web", "a:2", leaving=True),
        backend("web", "a:3", weight={"file": 2, "now": 5, "effective": 5.0}),
    ]
    reasons = [line.cells[-1] for line in lines(shot(rows=rows), ASCII) if not line.is_group]
    assert reasons == ["failed", "left the configuration", "weight 5, the file has 2"]


def test_listeners_say_how_sessions_ended_and_events_are_latest_first() -> None:
    first, second = lines(shot(LISTENERS), ASCII)
    assert first.cells[-1] == "-- 9,000 SC 2, drops: shed 3"
    assert second.cells[-2] == "text"
    paused = listener(accept_paused_until="2026-11-28T06:00:13.000Z")
    [line] = lines(shot(LISTENERS, [paused]), ASCII)
    assert (line.style, "accepts no clients until 06:00:13" in line.said) == ("warn", True)
    assert [line.key for line in lines(shot(EVENTS), ASCII)] == ["2", "1"]


def test_details_are_all_facts_and_what_more_is_known() -> None:
    line = lines(shot(), ASCII)[1]
    more = {"at": "now", "voices": {"check": "down"}, "results": [{"took_s": 0.1, "passed": False}]}
    found = list(details(line, more))
    assert "weight: file 1, now 1, effective 1.0" in found
    assert "voices: check down" in found
    assert "  took_s 0.1, passed False" in found
    assert "at: now" not in found
