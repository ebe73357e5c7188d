"""State: what the person at the terminal has chosen so far, and how each key changes it.

`press` takes a state and a key and returns the next state, with an `Action` if there is something
to do. Every change to nginy needs a y first; without the right to change, those keys do not exist.

Pure: names of keys go in ("up", "enter", "D"); `front.py` knows which bytes they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from nginy.commands.running.asking import Message
from nginy.commands.top.snapshot import BACKENDS, LISTENERS, SESSIONS, VIEWS
from nginy.commands.top.tables import ORDERS, Line, words_of

INTERVALS_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
TYPED_MAX: Final = 100
HELPING: Final = frozenset({"f1", "?", "h"})
STATES: Final = {"D": "drain", "M": "maint", "R": "ready"}
API: Final = "/api/v1"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question in the last line."""

    kind: str
    """filter, weight or confirm."""
    text: str
    typed: str = ""
    message: Message | None = None
    """What to send after a yes."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that keys have chosen."""

    may_change: bool = False
    interval_s: float = 1.0
    view: str = BACKENDS
    selected: str = ""
    """The key of a line."""
    place: int = 0
    """The index of the selected line."""
    first: int = 0
    """The first line to show."""
    wanted: str = ""
    """The filter: words that a line must contain."""
    orders: Mapping[str, int] | None = None
    """The index of the chosen order, by view."""
    is_paused: bool = False
    has_details: bool = False
    has_help: bool = False
    prompt: Prompt | None = None
    told: str = ""
    """The result of the last change, in words."""

    @property
    def order(self) -> int:
        """The index of the chosen order of the current view."""
        return (self.orders or {}).get(self.view, 0)


@dataclass(frozen=True, slots=True)
class Action:
    """What to do: quit, ask anew, or send a message."""

    kind: str
    message: Message | None = None


def settle(state: State, lines: Sequence[Line], height: int) -> State:
    """Return the state with its cursor on a line that exists and is visible."""
    place = next((i for i, line in enumerate(lines) if line.key == state.selected), None)
    if place is None:
        place = max(min(state.place, len(lines) - 1), 0)
    first = min(max(state.first, place - height + 1, 0), place, max(len(lines) - height, 0))
    # The line of a group is shown with its first member.
    if place == 1 and first == 1 and lines[0].is_group and height > 1:
        first = 0
    selected = lines[place].key if lines else ""
    return replace(state, selected=selected, place=place, first=first)


def press(
    state: State, key: str, lines: Sequence[Line], height: int
) -> tuple[State, Action | None]:
    """Return the state after a key; `height` is the number of visible lines."""
    if state.prompt is not None:
        return _answer(state, state.prompt, key)
    state = replace(state, told="")
    if key in ("q", "ctrl-c"):
        return state, Action("quit")
    if state.has_help or key in HELPING:
        return replace(state, has_help=not state.has_help), None
    if key in MOVES:
        return _moved(state, MOVES[key](state.place, height, len(lines)), lines, height), None
    if key in CHANGES and state.may_change:
        line = lines[state.place] if state.place < len(lines) else None
        return CHANGES[key](state, key, line), None
    return PLAIN.get(key, _nothing)(state, lines, height)


def _nothing(state: State, _lines: Sequence[Line], _height: int) -> tuple[State, Action | None]:
    return state, None


# Moving.

MOVES: Final[Mapping[str, Callable[[int, int, int], int]]] = {
    "up": lambda place, _height, _count: place - 1,
    "k": lambda place, _height, _count: place - 1,
    "down": lambda place, _height, _count: place + 1,
    "j": lambda place, _height, _count: place + 1,
    "pgup": lambda place, height, _count: place - height,
    "pgdn": lambda place, height, _count: place + height,
    " ": lambda place, height, _count: place + height,
    "home": lambda _place, _height, _count: 0,
    "g": lambda _place, _height, _count: 0,
    "end": lambda _place, _height, count: count - 1,
    "G": lambda _place, _height, count: count - 1,
}


def _moved(state: State, place: int, lines: Sequence[Line], height: int) -> State:
    place = max(min(place, len(lines) - 1), 0)
    selected = lines[place].key if lines else ""
    return settle(replace(state, place=place, selected=selected), lines, height)


def _next(state: State, lines: Sequence[Line], height: int) -> tuple[State, Action | None]:
    """Go to the next line that matches the filter; without one, to the next with a problem."""
    words = words_of(state.view, state.wanted)

    def is_meant(line: Line) -> bool:
        if state.wanted:
            return line.has(words)
        return line.style in ("bad", "warn") and not line.is_group

    count = len(lines)
    around = ((state.place + step) % count for step in range(1, count + 1))
    place = next((each for each in around if is_meant(lines[each])), state.place)
    return _moved(state, place, lines, height), None


# What changes the view.


Press = Callable[[State, Sequence[Line], int], tuple[State, Action | None]]


def _show(view: str) -> Press:
    """Return the state after the key of a view."""

    def change(state: State, _lines: Sequence[Line], _height: int) -> tuple[State, Action | None]:
        fresh = replace(state, selected="", place=0, first=0, wanted="", has_details=False)
        return replace(fresh, view=view), Action("ask")

    return change


def _order(state: State, _lines: Sequence[Line], _height: int) -> tuple[State, Action | None]:
    order = (state.order + 1) % len(ORDERS[state.view])
    orders = {**(state.orders or {}), state.view: order}
    return replace(state, orders=orders), Action("ask")


def _details(state: State, _lines: Sequence[Line], _height: int) -> tuple[State, Action | None]:
    return replace(state, has_details=not state.has_details), Action("ask")


def _back(state: State, _lines: Sequence[Line], _height: int) -> tuple[State, Action | None]:
    if state.has_details:
        return replace(state, has_details=False), None
    return replace(state, wanted=""), Action("ask")


def _pause(state: State, _lines: Sequence[Line], _height: int) -> tuple[State, Action | None]:
    is_paused = not state.is_paused
    return replace(state, is_paused=is_paused), None if is_paused else Action("ask")


def _filter(state: State, _lines: Sequence[Line], _height: int) -> tuple[State, Action | None]:
    return replace(state, prompt=Prompt("filter", "filter: ", state.wanted)), None


def _slower(state: State, _lines: Sequence[Line], _height: int) -> tuple[State, Action | None]:
    slower = (each for each in INTERVALS_S if each > state.interval_s)
    return replace(state, interval_s=next(slower, state.interval_s)), None


def _faster(state: State, _lines: Sequence[Line], _height: int) -> tuple[State, Action | None]:
    faster = (each for each in reversed(INTERVALS_S) if each < state.interval_s)
    return replace(state, interval_s=next(faster, state.interval_s)), None


PLAIN: Final[Mapping[str, Press]] = {
    **{view[0]: _show(view) for view in VIEWS},
    "o": _order,
    "n": _next,
    "enter": _details,
    "esc": _back,
    "p": _pause,
    "/": _filter,
    "+": _slower,
    "-": _faster,
}

# What changes nginy.


def backend_path(line: Line) -> str:
    """Return the path of a backend."""
    upstream, address = (quote(line.facts[name], safe="") for name in ("upstream", "address"))
    return f"{API}/upstreams/{upstream}/backends/{address}"


def _is_backend(line: Line | None) -> bool:
    return line is not None and "address" in line.facts


def _sessions(number: int) -> str:
    return f"{number:,} session{'' if number == 1 else 's'}"


def _set_state(state: State, key: str, line: Line | None) -> State:
    if line is None or not _is_backend(line):
        return replace(state, told="choose a backend first")
    word = STATES[key]
    row = line.facts
    question = f"{word} {line.key}, which has {_sessions(row['conns'])}? y/N "
    values = {"state": word, "reason": "by nginy top"}
    message = Message("PATCH", backend_path(line), values)
    return replace(state, prompt=Prompt("confirm", question, message=message))


def _set_weight(state: State, _key: str, line: Line | None) -> State:
    if line is None or not _is_backend(line):
        return replace(state, told="choose a backend first")
    now = line.facts["weight"]["now"]
    question = f"weight of {line.key}, now {now}: "
    message = Message("PATCH", backend_path(line))
    return replace(state, prompt=Prompt("weight", question, message=message))


def _kill(state: State, _key: str, line: Line | None) -> State:
    if line is None or state.view not in (BACKENDS, LISTENERS, SESSIONS):
        return replace(state, told="choose a line first")
    row = line.facts
    if state.view == SESSIONS:
        question = f"end session {row['id']} of {row['client']}? y/N "
        message = Message("DELETE", f"{API}/sessions/{row['id']}")
        return replace(state, prompt=Prompt("confirm", question, message=message))
    if state.view == LISTENERS:
        chosen, number = {"listener": row["name"]}, row["sessions"]
    else:
        chosen, number = {"upstream": row["upstream"]}, row["conns"]
        if _is_backend(line):
            chosen["backend"] = row["address"]
    if not number:
        return replace(state, told=f"{line.key} has no sessions")
    question = f"end {_sessions(number)} of {line.key}? y/N "
    message = Message("POST", f"{API}/sessions/kill", {"filter": chosen})
    return replace(state, prompt=Prompt("confirm", question, message=message))


CHANGES: Final[Mapping[str, Callable[[State, str, Line | None], State]]] = {
    **dict.fromkeys(STATES, _set_state),
    "W": _set_weight,
    "K": _kill,
}


# The answer to a question.


def _answer(state: State, prompt: Prompt, key: str) -> tuple[State, Action | None]:
    if key in ("esc", "ctrl-c"):
        return replace(state, prompt=None), None
    if prompt.kind == "confirm":
        state = replace(state, prompt=None)
        return state, Action("send", prompt.message) if key in ("y", "Y") else None
    if key == "enter":
        return _typed(replace(state, prompt=None), prompt)
    if key == "backspace":
        return replace(state, prompt=replace(prompt, typed=prompt.typed[:-1])), None
    if len(key) == 1 and key.isprintable() and len(prompt.typed) < TYPED_MAX:
        return replace(state, prompt=replace(prompt, typed=prompt.typed + key)), None
    return state, None


def _typed(state: State, prompt: Prompt) -> tuple[State, Action | None]:
    if prompt.kind == "filter":
        return replace(state, wanted=prompt.typed.strip(), first=0), Action("ask")
    text, message = prompt.typed.strip(), prompt.message
    if message is None or not text:
        return state, None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 65535:
        return replace(state, told=f'"{text}" is not a weight from 1 to 65535'), None
    body = {"weight": int(text), "reason": "by nginy top"}
    question = f"{prompt.text.partition(', now')[0]} becomes {int(text)}? y/N "
    message = replace(message, body=body)
    return replace(state, prompt=Prompt("confirm", question, message=message)), None
