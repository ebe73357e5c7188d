"""The page: what it says at first glance, and that no text from outside gets out of its place."""

import re
from typing import Any

import pytest
from nginy.admin.backends import BACKENDS
from nginy.admin.overview import overview
from nginy.admin.page import LOCKED, SENTENCES, SHAPES, Shown, render, scaled, sparkline, verdict
from nginy.admin.page_assets import CSS, JS
from nginy.admin.sampling import Sample
from nginy.admin.upstreams import LISTENERS
from nginy.backend.health.states import State
from nginy.backend.pool import BackendPool
from nginy.proxy.session import Reason

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
        return Shown(told, fronts["listeners"], rows, {}, subject.events.after(0), **more)


def read(made: Shown) -> Reader:
    return Reader("".join(render(made)))


def test_all_is_well_in_one_sentence() -> None:
    page = read(shown(pool("web", "10.0.0.1:80"), pool("mail", "10.0.0.2:25")))
    assert "All 2 upstreams serve" in page.text
    assert "● up" in page.text
    assert ("p", "good") in [(tag, found.get("class")) for tag, found in page.tags]


def test_the_worst_comes_first() -> None:
    web = pool("web", "10.0.0.1:80")
    take_down(web, 0, "the name is gone")
    made = shown(web, pool("mail", "10.0.0.2:25"))
    assert verdict(made.overview) == ("bad", "web: 0 of 1 backends usable (1 of 1 unresolved)")
    page = read(made)
    assert "○ unresolved" in page.text
    assert "the name is gone" in page.text
    two = pool("web", "10.0.0.1:80", "10.0.0.2:80")
    take_down(two, 1)
    kind, sentence = verdict(shown(two).overview)
    assert (kind, sentence) == ("warn", "All upstreams serve; 1 backend is out")
    assert verdict({**made.overview, "status": "draining", "draining": "waiting"})[1] == "waiting"


def test_no_text_from_outside_becomes_markup() -> None:
    web = pool(EVIL, "10.0.0.1:80")
    take_down(web, 0, EVIL)
    page = read(shown(web, may_change=True))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert EVIL in page.text
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]


def test_buttons_are_there_with_full_access_alone_and_hidden_without_a_script() -> None:
    web = pool("web", "10.0.0.1:80")
    assert "button" not in [tag for tag, _ in read(shown(web)).tags]
    buttons = [f for tag, f in read(shown(web, may_change=True)).tags if tag == "button"]
    assert [each["data-state"] for each in buttons] == ["drain", "maint", "ready"]
    assert all("hidden" in each and each["data-backend"] == "10.0.0.1:80" for each in buttons)


def test_it_is_complete_without_a_script_and_loads_nothing_from_elsewhere() -> None:
    page = read(shown(pool("web", "10.0.0.1:80")))
    refresh = [found for tag, found in page.tags if found.get("http-equiv") == "refresh"]
    assert refresh == [{"http-equiv": "refresh", "content": "5"}]
    places = [f.get("src") or f.get("href") for _, f in page.tags if "src" in f or "href" in f]
    assert all(str(place)[0] in "/#" and not str(place).startswith("//") for place in places)
    assert not [found for _, found in page.tags if "style" in found]
    assert all(found.get("scope") for tag, found in page.tags if tag == "th")
    Reader(LOCKED)


def test_many_samples_make_a_line() -> None:
    assert "polyline" not in sparkline([1])
    points = re.findall(r"[\d.]+,([\d.]+)", sparkline([0, 5, 10]))
    assert [float(each) for each in points] == [22.0, 12.0, 2.0]
    samples = [Sample(float(i), total=i * i) for i in range(5)]
    page = read(shown(pool("web", "10.0.0.1:80"), samples=samples))
    assert [tag for tag, _ in page.tags].count("polyline") == 6


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
    pairs += [("good", "goodbg"), ("warn", "warnbg"), ("bad", "badbg"), ("dim", "card")]
    for text, ground in pairs:
        low, high = sorted((luminance(colors[text]), luminance(colors[ground])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_the_script_is_small_and_knows_no_other_place() -> None:
    assert len(JS.encode()) <= JS_MAX_BYTES
    assert "http" not in JS.replace("X-HTTP", "")
    assert "innerHTML" not in JS
    assert "prefers-color-scheme" in CSS
    assert "prefers-reduced-motion" in CSS
