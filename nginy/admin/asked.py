"""Asked: a request with the names in its path, and its parameters and body as checked values.

Each mistake in them gets one sentence, with the name that the client probably meant.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from typing import Any, Final

from nginy.admin.answer import Answer, Facts, Slices, encode
from nginy.admin.pace import Pace
from nginy.errors import InvalidValueError
from nginy.text.units import parse_duration_ms
from nginy.wire.request import Request, RequestError

NUMBER_MAX_DIGITS: Final = 9
TEXT_MAX_CHARACTERS: Final = 200
CUTOFF: Final = 0.6
"""How alike two names are, from 0 to 1, if one is taken for the other."""
GLANCE_US: Final = 2.0
"""The cost of seeing that two names differ too much in length."""
LETTER_US: Final = 0.3
"""The cost of counting a letter."""
LETTERS_US: Final = 4
"""The cost of comparing a letter with those of another name."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants to know, or to change."""

    request: Request
    names: Mapping[str, str] = field(default_factory=dict)
    """The segments of the path that the route leaves open."""
    access: str = "read"
    """What the client may do."""
    sender: str = ""
    """Who it is, for the log."""

    def number(self, name: str, default: int, greatest: int = 10**NUMBER_MAX_DIGITS) -> int:
        """Return a parameter that is a whole number."""
        text = self.request.query.get(name)
        if text is None:
            return default
        is_number = text.isascii() and text.isdecimal() and len(text) <= NUMBER_MAX_DIGITS
        if not is_number or int(text) > greatest:
            raise bad(f"{name} is not a whole number up to {greatest}")
        return int(text)

    def duration_ms(self, name: str, default_ms: int, greatest_ms: int) -> int:
        """Return a parameter that is a duration such as 30s."""
        text = self.request.query.get(name)
        if text is None:
            return default_ms
        return min(duration_ms(name, text), greatest_ms)

    def word(self, name: str, words: Iterable[str]) -> str | None:
        """Return a parameter that is one of some words."""
        text = self.request.query.get(name)
        known = tuple(words)
        if text is not None and text not in known:
            what = f"{name} is not one of {', '.join(known)}"
            raise bad(what, hint=did_you_mean(text, known))
        return text

    def body(self, known: Iterable[str]) -> dict[str, Any]:
        """Return the members of the body, all of which must be known."""
        try:
            members = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError):
            raise RequestError(400, "bad_json", "the body is not JSON") from None
        names = tuple(known)
        if not isinstance(members, dict):
            raise RequestError(400, "bad_json", f"expected an object with {', '.join(names)}")
        check_names(members, names, "unknown_field")
        return members


def bad(message: str, code: str = "bad_parameter", hint: str = "") -> RequestError:
    """Return the refusal of a value."""
    return RequestError(400, code, message, hint)


def closest(text: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant."""
    found = get_close_matches(text[:TEXT_MAX_CHARACTERS], list(names), 1)
    return found[0] if found else None


def closest_of_many(text: str, names: Iterable[str]) -> Slices[str | None]:
    """Return what `closest` does, in slices: to compare two texts takes some 50 us."""
    matcher = SequenceMatcher(b=text[:TEXT_MAX_CHARACTERS])
    best, meant, pace = CUTOFF, None, Pace()
    for name in names:
        matcher.set_seq1(name[:TEXT_MAX_CHARACTERS])
        cost_us = GLANCE_US
        if matcher.real_quick_ratio() >= best:
            cost_us += len(name) * LETTER_US
            if matcher.quick_ratio() >= best:
                cost_us += len(name) * LETTERS_US
                ratio = matcher.ratio()
                if ratio >= best:
                    best, meant = ratio, name
        if pace.is_over(cost_us):
            yield None
    return meant


def did_you_mean(text: str, names: Iterable[str], otherwise: str = "") -> str:
    """Return the hint for an unknown name; `otherwise` if no name is like it."""
    meant = closest(text, names)
    return f'did you mean "{meant}"?' if meant else otherwise


def check_names(members: Iterable[str], known: Sequence[str], code: str) -> None:
    """Refuse members whose names are not known."""
    for name in members:
        if name not in known:
            hint = did_you_mean(name, known, f"expected {', '.join(known)}")
            raise bad(f'"{name[:50]}" is not known', code, hint)


def duration_ms(name: str, text: object) -> int:
    """Return a duration from a parameter or a body."""
    try:
        return parse_duration_ms(text) if isinstance(text, str) else int("none")
    except (InvalidValueError, ValueError):
        raise bad(f"{name} is not a duration such as 30s or 5m") from None


def whole_number(name: str, value: object, least: int, greatest: int) -> int:
    """Return a number from a body."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= greatest:
        raise bad(f"{name} is not a whole number from {least} to {greatest}", "bad_value")
    return value


def one_line(name: str, value: object) -> str:
    """Return a text from a body that fits into a line of a log."""
    if not isinstance(value, str) or len(value) > TEXT_MAX_CHARACTERS or not value.isprintable():
        text = f"{name} is not one line of up to {TEXT_MAX_CHARACTERS} characters"
        raise bad(text, "bad_value")
    return value


def json_answer(asked: Asked, members: Facts, status: int = 200) -> Slices[Answer]:
    """Answer with an object; if there is a parameter `fields`, with those members only."""
    query = asked.request.query
    wanted = query.get("fields")
    if wanted is not None:
        always = [name for name in ("at", "generation", "pid", "workers") if name in members]
        names = dict.fromkeys((*always, *wanted.split(",")))
        unknown = [name for name in names if name not in members]
        if unknown and asked.request.method in ("GET", "HEAD"):  # else it is too late to refuse
            raise RequestError(400, "unknown_field", f"fields are {', '.join(members)}")
        members = {name: members[name] for name in names if name in members}
    pieces = yield from encode(members, is_pretty="pretty" in query)
    return Answer(status, b"", pieces=pieces)
