"""The page: what it says at first glance, and that no text from outside gets out of its place."""

import os
import pathlib
import re
from typing import Any

import pytest
from nginy.admin.asked import Asked
from nginy.admin.facts.backends import BACKENDS
from nginy.admin.facts.sampling import Sample
from nginy.admin.facts.summary import overview
from nginy.admin.facts.upstreams import LISTENERS
from nginy.admin.page.assets import CSS, JS
from nginy.admin.page.document import LOCKED, Shown, render, verdict
from nginy.admin.page.front import page
from nginy.admin.page.parts import POINTS_MAX, scaled, sparkline, thinned
from nginy.admin.page.tables import PAGE_ROWS, SENTENCES, SHAPES
from nginy.backend.health.states import State
from nginy.backend.pool import BackendPool
from nginy.proxy.session import Reason
from nginy.wire.request import Request, RequestError

from kit.admin import Made, done, pool, take_down
from kit.page import EVIL, Reader, luminance

JS_MAX_BYTES = 8192


def shown(*pools: BackendPool, **more: Any) -> Shown:
    made = Made(*pools)
    with made as subject:
        told, _ = done(overview(subject))
        rows = {
            each.name: done(BACKENDS.collect(subject, {"upstream": each.name}))[0]["backends"]
            for each in pools
        }
        fronts, _ = done(LISTENERS.collect(subject, {}))
        return Shown(told, fronts["listeners"], rows, subject.events.after(0), **more)


def read(made: Shown) -> Reader:
    return Reader("".join(render(made)))


def test_all_is_well_in_one_sentence() -> None:
    reader = read(shown(pool("web", "10.0.0.1:80"), pool("mail", "10.0.0.2:25")))
    assert "All 2 upstreams serve" in reader.text
    assert "● up" in reader.text
    assert ("p", "good") in [(tag, found.get("class")) for tag, found in reader.tags]


def test_the_worst_comes_first() -> None:
    web = pool("web", "10.0.0.1:80")
    take_down(web, 0, "the name is gone")
    made = shown(web, pool("mail", "10.0.0.2:25"))
    since = made.overview["problems"][0]["since"]
    told = f"web: no backend usable since {since[11:16]} - the name is gone"
    today = {**made.overview, "at": since}
    assert verdict(today) == ("bad", told)
    later = {**today, "at": "2999-01-01T00:00:00.000Z"}
    assert f"usable since {since[:10]} {since[11:16]} - " in verdict(later)[1]
    unknown = {**today, "problems": today["problems"][:1]}
    assert verdict(unknown)[1] == told.replace("the name is gone", "1 of 1 unresolved")
    reader = read(made)
    links = [found["href"] for tag, found in reader.tags if tag == "a"]
    assert links[:2] == ["#u-web", "#u-web"]
    made.overview["problems"] = [{"severity": "error", "text": "refused: x", "since": None}]
    assert "#u-refused" not in [found.get("href") for _, found in read(made).tags]
    live = [found.get("id") for _, found in reader.tags if "aria-live" in found]
    assert live == ["verdict"], "only a change of state is read out"
    assert "○ unresolved" in reader.text
    assert "the name is gone" in reader.text
    two = pool("web", "10.0.0.1:80", "10.0.0.2:80")
    take_down(two, 1)
    kind, sentence = verdict(shown(two).overview)
    assert (kind, sentence) == ("warn", "All upstreams serve; 1 backend is out")
    assert verdict({**made.overview, "status": "draining", "draining": "waiting"})[1] == "waiting"


def test_no_text_from_outside_becomes_markup() -> None:
    web = pool(EVIL, "10.0.0.1:80")
    take_down(web, 0, EVIL)
    reader = read(shown(web, may_change=True))
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert EVIL in reader.text
    assert not [name for _, found in reader.tags for name in found if name.startswith("on")]


def test_buttons_are_there_with_full_access_alone_and_hidden_without_a_script() -> None:
    web = pool("web", "10.0.0.1:80")
    assert "button" not in [tag for tag, _ in read(shown(web)).tags]
    buttons = [f for tag, f in read(shown(web, may_change=True)).tags if tag == "button"]
    assert [each["data-state"] for each in buttons] == ["drain", "maint", "ready", "kill"]
    assert all("hidden" in each and each["data-backend"] == "10.0.0.1:80" for each in buttons)


def test_it_is_complete_without_a_script_and_loads_nothing_from_elsewhere() -> None:
    reader = read(shown(pool("web", "10.0.0.1:80")))
    refresh = [found for tag, found in reader.tags if found.get("http-equiv") == "refresh"]
    assert refresh == [{"http-equiv": "refresh", "content": "5"}]
    places = [f.get("src") or f.get("href") for _, f in reader.tags if "src" in f or "href" in f]
    assert all(str(place)[0] in "/#" and not str(place).startswith("//") for place in places)
    assert not [found for _, found in reader.tags if "style" in found]
    assert all(found.get("scope") for tag, found in reader.tags if tag == "th")
    Reader(LOCKED)


def test_many_samples_make_a_line_over_the_time_between() -> None:
    assert "polyline" not in sparkline([(0.0, 1.0)])
    found = re.findall(r"([\d.]+),([\d.]+)", sparkline([(0.0, 0.0), (200.0, 5.0), (400.0, 10.0)]))
    assert found == [("40.0", "12.0"), ("120.0", "2.0")]  # the last five minutes
    young = re.findall(r"([\d.]+),", sparkline([(0.0, 1.0), (30.0, 1.0)]))
    assert young == ["0.0", "120.0"]
    assert re.findall(r"([\d.]+),", sparkline([(0.0, 1.0), (10.0, 1.0)])) == ["60.0", "120.0"]
    counts = [Sample(float(i), total=i * i, listeners={"front tcp": 100 * i}) for i in range(5)]
    reader = read(shown(pool("web", "10.0.0.1:80"), samples=counts))
    assert [tag for tag, _ in reader.tags].count("polyline") == 7
    many = [Sample(float(i)) for i in range(300)]
    assert len(thinned(many)) <= POINTS_MAX
    assert thinned(many)[-1] is many[-1]


def browse(subject: Any, **query: str) -> Reader:
    asked = Asked(Request("GET", ("",), query, {}, "", b"", keeps_alive=True))
    answer, _ = done(page(subject, asked))
    return Reader(b"".join(answer.pieces).decode())


def test_a_large_group_is_looked_through_by_pages_and_by_words() -> None:
    web = pool("w&b", *(f"10.0.{n >> 8}.{n & 255}:80" for n in range(2 * PAGE_ROWS + 50)))
    take_down(web, 300, "the name is gone")
    with Made(web, pool("mail", "10.0.0.1:25")) as subject:
        first = browse(subject)
        assert "1 to 200 of 450" in first.text
        assert "10.0.0.199:80" in first.text
        assert "10.0.0.200:80" not in first.text
        assert [f.get("name") for tag, f in first.tags if tag == "input"] == ["upstream", "match"]
        links = [str(f["href"]) for tag, f in first.tags if f.get("class") == "go"]
        assert links == ["/?upstream=w%26b&after=200#u-w&b"]
        last = browse(subject, upstream="w&b", after="400")
        assert "401 to 450 of 450" in last.text
        assert [str(f["href"]) for _, f in last.tags if f.get("class") == "go"] == [
            "/?upstream=w%26b&after=200#u-w&b"
        ]
        found = browse(subject, upstream="w&b", match="GONE")
        assert "1 to 1 of 1 that fit" in found.text
        assert "10.0.1.44:80" in found.text
        assert "10.0.0.1:25" in found.text
        none = browse(subject, upstream="w&b", match=EVIL)
        assert "none that fit" in none.text
        assert ("input", EVIL) in [(tag, each.get("value")) for tag, each in none.tags]
        assert "10.0.0.199:80" in browse(subject, upstream="nothing", match="x").text
        with pytest.raises(RequestError):
            browse(subject, upstream="w&b", after="x")


def test_a_file_that_has_changed_is_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "nginy.yml"
    made = Made(pool("web", "10.0.0.1:80"))
    with made as subject:
        subject.file = str(path)
        assert "has changed since" not in browse(subject).text
        path.write_text("")
        at_s = subject.loaded_at_ms / 1000
        os.utime(path, (at_s, at_s - 1))
        assert "has changed since" not in browse(subject).text
        os.utime(path, (at_s, at_s + 1))
        assert "The file has changed since." in browse(subject).text


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "-"), (0, "0"), (999, "999"), (8412, "8.4 k"), (91e6, "91 M"), (2e15, "2000 T")],
)
def test_numbers_have_three_digits_or_so(value: float | None, told: str) -> None:
    assert scaled(value) == told


def test_every_state_has_a_shape_and_every_code_a_sentence() -> None:
    assert set(SHAPES) == {str(state) for state in State}
    assert {reason.code for reason in Reason} <= set(SENTENCES)


@pytest.mark.parametrize("theme", [0, 1])
def test_contrasts_are_enough_in_both_themes(theme: int) -> None:
    blocks = re.findall(r":root\{(.*?)\}", CSS, re.DOTALL)
    colors = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", blocks[theme]))
    pairs = [(name, "bg") for name in ("fg", "dim", "good", "warn", "bad", "blue", "grey")]
    pairs += [("good", "goodbg"), ("warn", "warnbg"), ("bad", "badbg")]
    pairs += [("dim", "card"), ("fg", "card"), ("blue", "card")]
    for text, ground in pairs:
        low, high = sorted((luminance(colors[text]), luminance(colors[ground])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_the_script_is_small_and_knows_no_other_place() -> None:
    assert len(JS.encode()) <= JS_MAX_BYTES
    assert "http" not in JS.replace("X-HTTP", "")
    assert "innerHTML" not in JS
    assert "prefers-color-scheme" in CSS
    assert "prefers-reduced-motion" in CSS
