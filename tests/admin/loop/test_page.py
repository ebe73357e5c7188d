"""The page of the loop: complete without a script, and no text from outside gets out of its place;
what it is made of says the same as the records."""

import re
from collections import Counter
from random import Random
from typing import Any

import pytest
from nginy.admin.loop.page import LOCKED, MEANINGS, css_class, render, time_text
from nginy.admin.loop.script import JS
from nginy.admin.loop.style import CSS
from nginy.admin.loop.view import DEADLINES, LOOP, look, turn_facts
from nginy.event.timer import TICK_MS, Timer
from nginy.event.trace import KINDS, OUTCOMES

from kit.admin import Made, done
from kit.page import EVIL, Reader, luminance

JS_MAX_BYTES = 24_576
BOXES = [
    ("client read", 1_100, 1_300, 7, 5, "EOF", ""),
    ("timer", 2_000, 2_500, 0, 0, "set again", "_next_step_timer_handler"),
    ("accept", 3_000, 3_100, 8, 2, "AGAIN", EVIL),
    ("admin", 3_100, 3_400, 0, 9, "done", "answering an admin client"),
]
TURN = (12, 100, 200, 1_000, 1_100, 2_000, 3_000, 3_500, 2, 50, 4, 1, 17, 99, BOXES)


def abort(_timer: Timer) -> None:
    raise AssertionError


def report(**more: Any) -> dict[str, Any]:
    return {
        "worker": "0",
        "pid": 42,
        "listener": "127.0.0.1:8080",
        "is_chosen": True,
        "fired": 5,
        "went_back_to_sleep": 3,
        "connections": 17,
        "unsent_bytes": 99,
        "unsent_limit_bytes": 1000,
        "pipes": 1,
        "timers": 6,
        "next": [{"in_s": 0.25, "timers": 2, "what": "idle", "of": EVIL}],
        "turns": [turn_facts(TURN)],
        **more,
    }


def read(**more: Any) -> Reader:
    return Reader("".join(render(report(**more))))


def test_the_facts_of_a_turn_are_those_of_its_record() -> None:
    facts = turn_facts(TURN)
    assert (facts["turn"], facts["ready"], facts["late_s"]) == (12, 2, 0.004)
    assert facts["is_own"] is False
    assert [round(each * 1e9) for each in facts["steps_s"]] == [100, 800, 100, 900, 1000, 500]
    assert round(facts["took_s"] * 1e9) == 2500
    boxes = facts["boxes"]
    assert [each["step"] for each in boxes] == [4, 5, 6, 6]
    assert [round(each["at_s"] * 1e9) for each in boxes] == [100, 1000, 2000, 2100]
    assert (boxes[0]["session"], boxes[0]["bytes"], boxes[1]["what"]) == (7, 5, "next step")
    assert (boxes[2]["session"], boxes[2]["sessions"], boxes[2]["bytes"]) == (8, 2, 0)
    assert turn_facts((*TURN[:-1], BOXES[3:]))["is_own"] is True
    shaped = LOOP.shape(report())
    assert shaped == report(), "a supervisor takes all of it from its workers"


def test_the_next_deadlines_of_many_timers_are_found_in_slices() -> None:
    random = Random(7)
    with Made() as subject:
        wheel, due = subject.loop.timers, []
        for _ in range(10_000):
            due.append(TICK_MS * random.randrange(1, 5000))
            wheel.start(Timer(abort, subject.recording), subject.loop.clock.now_ms + due[-1])
        facts, slices = done(look(subject, None, 1, 0))
        assert slices > 20
        assert facts["timers"] == len(due) + 1, "and the lease"
        told = [(round(each["in_s"] * 1000), each["timers"]) for each in facts["next"]]
        assert told == sorted(Counter(due).items())[:DEADLINES]
        assert {each["what"] for each in facts["next"]} == {"abort"}
    assert {each["of"] for each in facts["next"]} == {"the recording of the loop"}


def test_a_deadline_that_goes_while_others_are_looked_at_is_left_out() -> None:
    with Made() as subject:
        wheel = subject.loop.timers
        timers = [Timer(abort, subject.recording) for _ in range(1000)]
        for number, timer in enumerate(timers, 1):
            wheel.start(timer, subject.loop.clock.now_ms + TICK_MS * number)
        work = look(subject, None, 1, 0)
        next(work)
        wheel.cancel(timers[0])
        del timers[0].handler  # as phases do, so that no cycle is left
        facts, _ = done(work)
        assert round(facts["next"][0]["in_s"] * 1000) == TICK_MS * 2


def test_it_is_complete_without_a_script_and_loads_nothing_from_elsewhere() -> None:
    page = read()
    assert "*8 to *9" in page.text
    assert "client read *7 5 bytes EOF 0.2 µs" in page.text
    assert "timer (next step) set again 0.5 µs" in page.text
    assert "6 timers run; 5 have fired, 3 of them early" in page.text
    refresh = [found for _, found in page.tags if found.get("http-equiv") == "refresh"]
    assert refresh == [{"http-equiv": "refresh", "content": "5"}]
    places = [f.get("src") or f.get("href") for _, f in page.tags if "src" in f or "href" in f]
    assert all(str(place)[0] == "/" and not str(place).startswith("//") for place in places)
    assert not [found for _, found in page.tags if "style" in found]
    assert all(found.get("scope") for tag, found in page.tags if tag == "th")
    assert "Nothing is recorded yet: that begins with this page" in read(turns=[]).text
    assert "token of token_file" in Reader(LOCKED).text


def test_no_text_from_outside_becomes_markup() -> None:
    page = read()
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.text.count(EVIL) == 2
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]


def test_each_kind_has_a_meaning_a_color_and_a_place_in_the_script() -> None:
    assert set(MEANINGS) == set(KINDS)
    assert all(f".{css_class(kind)}{{" in CSS for kind in KINDS)
    table = JS[JS.index("var SAID") : JS.index("function words")]
    said = set(re.findall(r'(\w+|"[\w ]+"): "', table))
    assert {each.strip('"') for each in said} == set(OUTCOMES)


@pytest.mark.parametrize(
    ("duration_s", "told"),
    [(85e-6, "85 µs"), (0.0123456, "12.3 ms"), (4, "4 s"), (0, "0 µs"), (1e-3, "1 ms")],
)
def test_durations_have_three_digits_or_so(duration_s: float, told: str) -> None:
    assert time_text(duration_s) == told


@pytest.mark.parametrize("theme", [0, 1])
def test_contrasts_are_enough_in_both_themes(theme: int) -> None:
    blocks = re.findall(r":root\{(.*?)\}", CSS, re.DOTALL)
    colors = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", blocks[theme]))
    kinds = ("accept", "client", "upstream", "write", "timer", "posted", "admin", "other")
    pairs = [("on", name) for name in kinds]
    pairs += [("fg", "bg"), ("dim", "bg"), ("dim", "card"), ("fg", "night"), ("bad", "badbg")]
    pairs += [("bg", "blue"), ("blue", "bg"), ("fg", "card")]
    for text, ground in pairs:
        low, high = sorted((luminance(colors[text]), luminance(colors[ground])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_the_script_is_small_and_knows_no_other_place() -> None:
    assert len(JS.encode()) <= JS_MAX_BYTES
    assert "http" not in JS
    assert "innerHTML" not in JS
    assert "prefers-color-scheme" in CSS
    assert "prefers-reduced-motion" in CSS
