"""What each key makes of the state before it."""

from typing import Any

import pytest
from nginy.commands.running.asking import Message
from nginy.commands.top.cells import ASCII
from nginy.commands.top.snapshot import LISTENERS, SESSIONS
from nginy.commands.top.state import Action, State, press, settle
from nginy.commands.top.tables import lines

from kit.top import shot

HEIGHT = 4


class Person:
    """Somebody at the keys."""

    def __init__(self, view: str = "upstreams", **more: Any) -> None:
        self.lines = lines(shot(view), ASCII)
        self.state = settle(State(view=view, **more), self.lines, HEIGHT)
        self.actions: list[Action] = []

    def press(self, *keys: str) -> "Person":
        for key in keys:
            self.state, action = press(self.state, key, self.lines, HEIGHT)
            if action is not None:
                self.actions.append(action)
        return self

    def type(self, text: str) -> "Person":
        return self.press(*text)


def test_the_cursor_moves_and_stays_in_sight() -> None:
    person = Person()
    places = []
    for key in ("up", "down", "down", "pgdn", "down", "pgup", "end", "home", "j", "k", "G", "g"):
        person.press(key)
        places.append(person.state.place)
        assert person.state.first <= person.state.place < person.state.first + HEIGHT
        assert person.state.selected == person.lines[person.state.place].key
    assert places == [0, 1, 2, 5, 5, 1, 5, 0, 1, 0, 5, 0]
    assert person.actions == []


def test_the_cursor_stays_on_its_line_when_the_order_changes() -> None:
    person = Person().press("down", "down")
    assert person.state.selected == "web/10.0.0.2:80"
    other = lines(shot(), ASCII, 2)
    assert other[settle(person.state, other, HEIGHT).place].key == "web/10.0.0.2:80"
    assert settle(person.state, [], HEIGHT).selected == ""
    assert settle(person.state, other[:1], HEIGHT).place == 0


def test_a_filter_is_typed_and_n_goes_to_the_next_line_that_it_means() -> None:
    person = Person().press("/").type("refuusedd").press("backspace")
    assert person.state.prompt is not None
    assert person.state.prompt.typed == "refuused"
    assert person.press("esc").state.prompt is None
    assert person.press("/").type("10.0.0.2").press("enter").state.wanted == "10.0.0.2"
    assert person.press("n").state.selected == "web/10.0.0.2:80"
    assert person.press("esc").state.wanted == ""
    assert [action.kind for action in person.actions] == ["ask", "ask"]
    person.press("home", "n")
    assert person.state.selected == "web/10.0.0.1:80"
    assert person.press("n").state.selected == "names/10.0.0.3:53"
    assert person.press("n").state.selected == "web/10.0.0.1:80"


def test_keys_of_views_orders_pace_and_pause() -> None:
    person = Person()
    for key, view in zip("lseu", ("listeners", "sessions", "events", "upstreams"), strict=True):
        assert person.press(key).state.view == view
    assert person.press("o", "o").state.order == 2
    assert person.press("l").state.order == 0
    assert person.press("u").state.order == 2
    assert person.press("+", "+").state.interval_s == 5.0
    assert person.press(*"---").state.interval_s == 0.5
    assert person.press(*"+" * 20).state.interval_s == 60.0
    assert person.press("p").state.is_paused
    assert not person.press("p").state.is_paused
    assert person.press("enter").state.has_details
    assert not person.press("esc").state.has_details
    assert person.press("f1").state.has_help
    assert not person.press("x").state.has_help
    assert person.press("q").actions[-1] == Action("quit")


@pytest.mark.parametrize("key", ["D", "M", "R", "K", "W"])
def test_without_the_right_to_change_the_keys_are_not_there(key: str) -> None:
    person = Person().press("down", key)
    assert (person.state.prompt, person.state.told, person.actions) == (None, "", [])


@pytest.mark.parametrize(("key", "word"), [("D", "drain"), ("M", "maint"), ("R", "ready")])
def test_a_change_of_state_is_asked_first_and_says_how_many_sessions(key: str, word: str) -> None:
    person = Person(may_change=True).press("down", key)
    assert person.state.prompt is not None
    assert person.state.prompt.text == f"{word} web/10.0.0.1:80, which has 3 sessions? y/N "
    for answer in ("n", "enter", " ", "N", "esc"):
        assert person.press(answer).state.prompt is None
        person.press(key)
    assert person.actions == []
    person.press("y")
    path = "/api/v1/upstreams/web/backends/10.0.0.1%3A80"
    message = Message("PATCH", path, {"state": word, "reason": "by nginy top"})
    assert person.actions == [Action("send", message)]


def test_an_upstream_has_no_state_to_set() -> None:
    person = Person(may_change=True)
    for key in ("D", "W"):
        assert person.press(key).state.told == "choose a backend first"
    assert person.press("down").state.told == ""


def test_a_weight_is_typed_and_asked_again() -> None:
    person = Person(may_change=True).press("down", "W")
    assert person.state.prompt is not None
    assert person.state.prompt.text == "weight of web/10.0.0.1:80, now 1: "
    for wrong in ("0", "x", "70000", "9999999", "0000019999999", "²"):
        person.type(wrong).press("enter")
        assert "is not a weight from 1 to 65535" in person.state.told
        person.press("W")
    person.type("5").press("enter")
    assert person.state.prompt is not None
    assert person.state.prompt.text == "weight of web/10.0.0.1:80 becomes 5? y/N "
    person.press("y")
    [action] = person.actions
    assert action.message is not None
    assert action.message.body == {"weight": 5, "reason": "by nginy top"}
    assert person.press("W", "enter").state.prompt is None


def test_sessions_are_ended_of_whatever_line_is_chosen() -> None:
    def kill(view: str, *keys: str) -> Message | None:
        person = Person(view, may_change=True).press(*keys, "K", "y")
        return person.actions[0].message if person.actions else None

    path = "/api/v1/sessions/kill"
    assert kill("upstreams") == Message("POST", path, {"filter": {"upstream": "web"}})
    chosen = {"upstream": "web", "backend": "10.0.0.1:80"}
    assert kill("upstreams", "down") == Message("POST", path, {"filter": chosen})
    assert kill(LISTENERS) == Message("POST", path, {"filter": {"listener": "front"}})
    assert kill(SESSIONS) == Message("DELETE", "/api/v1/sessions/17758.13")
    assert kill("events") is None
    idle = Person(may_change=True).press("end", "K")
    assert idle.state.told == "names/10.0.0.3:53 has no sessions"


def test_no_key_breaks_an_empty_table() -> None:
    for view in ("upstreams", LISTENERS, SESSIONS, "events"):
        for first in ("", "D", "W", "K", "/"):
            person = Person(view, may_change=True)
            person.lines = []
            for key in (first, "down", "pgup", "end", "n", "o", "K", "D", "W", "x", "enter", "y"):
                person.press(key)
