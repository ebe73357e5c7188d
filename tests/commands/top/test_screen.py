"""Whole screens, as they are in the files of `screens`, and what all screens have in common.

NGINY_SCREENS=1 in the environment writes the files anew.
"""

import os
import pathlib
from dataclasses import replace
from typing import Any

import pytest
from nginy.commands.top.cells import ASCII, UNICODE, width_of
from nginy.commands.top.screen import Size, Span, body_height, draw, footer, text_of
from nginy.commands.top.snapshot import VIEWS, Snapshot, take
from nginy.commands.top.state import Prompt, State, settle
from nginy.commands.top.tables import lines

from kit.top import backend, overview, shot

SCREENS = pathlib.Path(__file__).parent / "screens"
SIZES = [Size(80, 24), Size(120, 40)]


def drawn(
    shown: Snapshot, state: State, size: Size, *, is_ascii: bool = False, trouble: str = ""
) -> list[list[Span]]:
    glyphs = ASCII if is_ascii else UNICODE
    found = lines(shown, glyphs, state.order, state.wanted) if shown.view == state.view else []
    state = settle(state, found, body_height(state, size))
    return draw(shown, state, found, size, glyphs, trouble)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.width}x{size.height}")
@pytest.mark.parametrize("view", VIEWS)
def test_a_screen_is_as_it_was_looked_at(view: str, size: Size) -> None:
    state = State(may_change=True, view=view, selected="web/10.0.0.2:80")
    text = text_of(drawn(shot(view), state, size)) + "\n"
    path = SCREENS / f"{view}-{size.width}x{size.height}.txt"
    if os.environ.get("NGINY_SCREENS"):
        path.write_text(text)
    assert text == path.read_text()


STATES: list[dict[str, Any]] = [
    {},
    {"has_help": True},
    {"has_help": True, "may_change": True},
    {"has_details": True, "selected": "web/10.0.0.1:80"},
    {"prompt": Prompt("filter", "filter: ", "x" * 300)},
    {"told": "日本語" * 40},
    {"wanted": "nothing like this"},
    {"is_paused": True, "wanted": "w" * 90},
]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("is_ascii", [False, True])
def test_every_line_is_as_wide_as_the_terminal_whatever_it_shows(view: str, is_ascii: bool) -> None:
    evil = "\x1b[2Jevil日本語" * 9
    rows = [backend(evil, evil, reason=evil, state="down")] if view == VIEWS[0] else None
    shown = shot(view, rows)
    many = replace(shown, rows=list(shown.rows) * 50, more=7)
    for more in STATES:
        for size in (*SIZES, Size(40, 9), Size(41, 200), Size(300, 10), Size(95, 25), Size(20, 3)):
            for each in (shown, many):
                state = State(view=view, **more)
                screen = drawn(each, state, size, is_ascii=is_ascii, trouble=evil)
                assert len(screen) == (size.height if size.width > 20 else 1)
                for line in screen:
                    text = "".join(text for text, _ in line)
                    assert width_of(text) == size.width, text
                    assert text.isprintable()
                    assert text.isascii() or not is_ascii


def test_at_80_places_nothing_of_the_head_is_cut() -> None:
    first, second, third, *_ = text_of(drawn(shot(), State(), SIZES[0])).splitlines()
    assert first == (
        "nginy 0.2.0 pid 17758 up 3d04h  gen 7 applied 02:10  serving         by file  1s"
    )
    assert second.startswith("sessions 8,412 +312/s  in 91M out 840M b/s  conns 17k/33k  loop 23% ")
    assert second.endswith("lag 0.8ms")
    assert third == "■ 2 problems: names: 0 of 1 backends usable (1 of 1 down) (12s)"


def test_the_keys_that_change_something_are_named_only_where_they_do() -> None:
    assert "D drain" not in text_of(drawn(shot(), State(), SIZES[0]))
    assert "D drain" in text_of(drawn(shot(), State(may_change=True), SIZES[0]))
    assert "drain a backend" not in text_of(drawn(shot(), State(has_help=True), SIZES[0]))
    helped = State(has_help=True, may_change=True)
    assert "drain a backend" in text_of(drawn(shot(), helped, SIZES[0]))
    assert max(map(len, footer(helped, 80))) <= 80


def test_styles_say_the_same_as_words() -> None:
    screen = drawn(shot(), State(), SIZES[0])
    styles = {text.strip(): style for line in screen for text, style in line}
    assert styles["■ down"] == "bad"
    assert styles["● up"] == "good"
    assert styles["◆ draining"] == "blue"
    assert [style for _, style in screen[4]] == ["selected"] * len(screen[4])


def test_what_is_wrong_with_the_answers_takes_the_line_of_the_problems() -> None:
    text = "stale since 06:00:00: nobody answers"
    screen = drawn(shot(), State(), SIZES[0], trouble=text)
    assert screen[2] == [(f"■ {text}".ljust(80), "bad")]
    ending = take(None, Snapshot(1.0, overview(status="draining", draining="waiting for 2")))
    assert text_of(drawn(ending, State(), SIZES[0])).splitlines()[2] == "◆ waiting for 2"
    well = take(None, Snapshot(1.0, overview(problems=[])))
    assert text_of(drawn(well, State(), SIZES[0])).splitlines()[2] == "● no problems"


def test_a_view_that_was_not_asked_for_yet_shows_nothing_else() -> None:
    text = text_of(drawn(shot(), State(view="sessions"), SIZES[0]))
    assert "10.0.0.1" not in text.split("SESSIONS")[1]


def test_details_are_those_of_the_chosen_line_alone() -> None:
    state = State(has_details=True, selected="web/10.0.0.1:80")
    shown = replace(shot(), details={"voices": {"check": "down"}}, about="web/10.0.0.1:80")
    assert "voices: check down" in text_of(drawn(shown, state, SIZES[1]))
    other = replace(shown, about="web/10.0.0.2:80")
    assert "voices" not in text_of(drawn(other, state, SIZES[1]))


def test_with_several_workers_it_says_how_many_answer() -> None:
    found = overview(workers={"asked": 4, "answered": 3, "late": ["1"]})
    shown = take(None, Snapshot(1.0, found))
    assert "3/4 workers" in text_of(drawn(shown, State(), SIZES[0]))
