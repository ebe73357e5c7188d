"""What operators have set, on its way into a file and back after a restart."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from nginy.admin.changes.book import PRESENCE, Book, Change
from nginy.admin.changes.kept import lines_of, parse_kept
from nginy.backend.backend import BackendSettings
from nginy.text.address import parse_address

NEW = BackendSettings("10.0.0.9:80", parse_address("10.0.0.9:80"), weight=2)
KEYS = {"address": NEW.name, "weight": "2"}


def read_keys(keys: Mapping[str, object]) -> BackendSettings:
    if keys != KEYS:
        raise ValueError("keys")
    return NEW


def book() -> Book:
    made = Book()
    first = Change(0, ("web", "a:80", "10.0.0.1:80"), "weight", 3, 1, "uid 0", "why", 5, 1500)
    made.set(first)
    made.set(replace(first, key="state", value="drain", file_value="ready", until_at_ms=None))
    made.set(
        replace(first, key="max_conns", value=0, file_value=7, until_at_ms=None, reason="\x1b")
    )
    place = ("web", NEW.name, "")
    added = Change(0, place, PRESENCE, "added", "absent", "", "", 5, None, KEYS, NEW)
    made.set(added)
    gone = ("web", "unix:/run/\udcff", "")
    made.set(
        replace(added, place=gone, value="removed", file_value="present", keys={}, settings=None)
    )
    return made


def kept(now_ms: int = 1000, wall_ms: int = 60_000) -> bytes:
    return "\n".join(lines_of(book(), now_ms, wall_ms)).encode()


def test_it_comes_back_as_it_left_and_a_lease_ends_at_the_same_time_of_day() -> None:
    found = parse_kept(kept(), 100, 60_400, read_keys)
    expected = [replace(each, number=0) for each in book()]
    assert found == [replace(expected[0], until_at_ms=200), *expected[1:]]
    assert parse_kept(b'{"version":1,"changes":[]}', 0, 0, read_keys) == []


def test_a_torn_file_is_refused_wherever_it_ends() -> None:
    whole = kept()
    for end in range(len(whole)):
        with pytest.raises(ValueError, match="is not whole"):
            parse_kept(whole[:end], 0, 0, read_keys)


@pytest.mark.parametrize("text", ["[]", "7", "{}", '{"version":2,"changes":[]}', "[" * 100_000])
def test_another_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_kept(text.encode(), 0, 0, read_keys)


@pytest.mark.parametrize(
    ("index", "members"),
    [
        (0, {"place": ["web"]}),
        (0, {"place": 7}),
        (0, {"key": "wieght"}),
        (0, {"value": 0}),
        (0, {"value": True}),
        (0, {"value": "3"}),
        (0, {"file_value": 70_000}),
        (0, {"at_ms": None}),
        (0, {"at_ms": 10**25}),
        (0, {"until_ms": -(10**25)}),
        (0, {"until_ms": "soon"}),
        (0, {"by": 7}),
        (0, {"keys": 7}),
        (1, {"value": "sleep"}),
        (1, {"value": ["drain"]}),
        (2, {"value": -1}),
        (3, {"value": "there"}),
        (3, {"value": []}),
        (3, {"file_value": "present"}),
        (3, {"keys": {"address": "x"}}),
        (3, {"place": ["web", "10.0.0.8:80", ""]}),
    ],
)
def test_a_change_that_is_none_is_refused(index: int, members: Mapping[str, object]) -> None:
    whole = json.loads(kept())
    whole["changes"][index].update(members)
    with pytest.raises(ValueError, match=f"has something else for change {index + 1}"):
        parse_kept(json.dumps(whole).encode(), 0, 0, read_keys)
