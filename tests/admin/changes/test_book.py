"""The book of changes: what holds, for how long, and what a reload does to it."""

from dataclasses import replace

from nginy.admin.changes.book import PRESENCE, Book, Change
from nginy.backend.backend import BackendSettings
from nginy.backend.listing import Listing
from nginy.backend.override import Override
from nginy.text.address import parse_address
from nginy.wire.agent import Mode

PLACE = ("web", "10.0.0.1:80", "10.0.0.1:80")
FILE: dict[str, str | int] = {"state": "ready", "weight": 1, "max_conns": 0}


def change(key: str = "weight", value: str | int = 3, **more: object) -> Change:
    made = Change(0, PLACE, key, value, FILE[key], "uid 0", "deploy 42", 0)
    return replace(made, **more)  # type: ignore[arg-type]


def test_changes_of_a_backend_are_one_override() -> None:
    book = Book()
    book.set(change())
    book.set(change("state", "drain"))
    book.set(change("max_conns", 9))
    [(key, found)] = book.overrides()["web"].items()
    assert key == PLACE[1:]
    assert (found.mode, found.weight, found.max_conns) == (Mode.DRAIN, 3, 9)
    assert (found.reason, found.by) == ("deploy 42", "uid 0 at 1970-01-01T00:00:00.000Z")


def test_what_holds_for_a_name_holds_for_an_address_with_a_change_of_its_own() -> None:
    book = Book()
    book.set(change("state", "drain", place=("web", "web.internal:80", "")))
    book.set(change("weight", 3, place=("web", "web.internal:80", "10.0.0.1:80")))
    found = book.overrides()["web"]
    assert found["web.internal:80", ""].weight is None
    both = found["web.internal:80", "10.0.0.1:80"]
    assert (both.mode, both.weight) == (Mode.DRAIN, 3)


def test_a_value_as_in_the_file_is_no_change_and_ends_one() -> None:
    book = Book()
    assert book.set(change()) is not None
    book.set(change(value=1))
    assert book.overrides() == {}


def test_a_lease_ends_by_itself() -> None:
    book = Book()
    book.set(change(until_at_ms=500))
    book.set(change("state", "maint"))
    assert book.next_at_ms == 500
    assert book.expire(499) == []
    assert [str(each) for each in book.expire(500)] == ["web/10.0.0.1:80 weight 3"]
    assert book.rows(0, 0)[0]["until"] is None
    assert [str(each) for each in book] == ["web/10.0.0.1:80 in maintenance"]


def test_the_file_wins_if_it_has_another_value_than_before() -> None:
    book = Book()
    book.set(change())
    book.set(change("state", "drain"))
    values = {PLACE[:2]: {**FILE, "weight": 5}}
    assert book.follow(values, {"web"}) == [
        "web/10.0.0.1:80: the file now says weight 5, 3 by an operator is dropped"
    ]
    assert [each.key for each in book] == ["state"]
    assert book.follow(values, {"web"}) == []
    assert book.follow({}, {"web"}) == [
        "web/10.0.0.1:80 draining by an operator is dropped: the backend is gone"
    ]
    assert list(book) == []


def test_rows_say_who_and_until_when() -> None:
    book = Book()
    book.set(change(until_at_ms=1500))
    [row] = book.rows(now_ms=500, wall_ms=60_000)
    assert (row["number"], row["key"], row["value"], row["file_value"]) == (1, "weight", 3, 1)
    assert (row["by"], row["until"]) == ("uid 0", "1970-01-01T00:01:01.000Z")


def test_yaml_is_what_to_put_into_the_file() -> None:
    book = Book()
    assert book.to_yaml() == "# nothing has changed\n"
    book.set(change())
    book.set(change("state", "maint"))
    assert book.to_yaml() == (
        "upstreams:\n  web:\n    backends:\n      - address: 10.0.0.1:80\n"
        "        weight: 3\n        down: on\n"
    )


def test_without_a_reason_the_log_says_who() -> None:
    book = Book()
    book.set(change("state", "drain", reason=""))
    found = book.overrides()["web"][PLACE[1:]]
    assert found.reason == "an operator (uid 0) wants it"
    assert isinstance(found, Override)


NEW = BackendSettings("10.0.0.9:80", parse_address("10.0.0.9:80"), weight=2)
NEW_PLACE = ("web", NEW.name, "")


def added() -> Change:
    keys = {"address": NEW.name, "weight": "2", "slow_start": "5s"}
    made = Change(0, NEW_PLACE, PRESENCE, "added", "absent", "uid 0", "", 0)
    return replace(made, keys=keys, settings=NEW)


def removed() -> Change:
    return Change(0, ("web", PLACE[1], ""), PRESENCE, "removed", "present", "uid 0", "", 0)


def test_what_is_added_and_removed_is_a_listing_and_no_override() -> None:
    book = Book()
    book.set(added())
    book.set(removed())
    assert book.listings() == {"web": Listing((NEW,), frozenset({PLACE[1]}))}
    assert book.overrides() == {}
    assert [str(each) for each in book] == ["web/10.0.0.9:80 added", "web/10.0.0.1:80 removed"]
    values = book.values({PLACE[:2]: FILE})
    assert values == {NEW_PLACE[:2]: {"state": "ready", "weight": 2, "max_conns": 0}}
    assert book.rows(0, 0)[0]["keys"] == added().keys


def test_a_file_that_says_the_same_as_an_operator_ends_the_change() -> None:
    book = Book()
    book.set(added())
    book.set(removed())
    book.set(change("weight", 7, place=NEW_PLACE, file_value=2))
    present = {PLACE[:2]: FILE}
    assert book.follow(present, {"web"}) == []
    assert book.follow({NEW_PLACE[:2]: {**FILE, "weight": 5}}, {"web"}) == [
        "web/10.0.0.9:80 added by an operator: the file now has it too, and the file wins",
        "web/10.0.0.1:80 removed by an operator: the file no longer has it either",
        "web/10.0.0.9:80: the file now says weight 5, 7 by an operator is dropped",
    ]
    assert len(book) == 0
    book.set(added())
    assert book.follow({}, ()) == [
        "web/10.0.0.9:80 added by an operator is dropped: the upstream is gone"
    ]


def test_a_removed_backend_returns_before_its_upstream_has_none() -> None:
    book = Book()
    book.set(added())
    book.set(removed())
    assert book.follow({PLACE[:2]: FILE}, {"web"}) == []
    book.remove(lambda each: each.settings is not None)
    told = "web/10.0.0.1:80 removed by an operator is dropped: the upstream has no other"
    assert book.follow({PLACE[:2]: FILE}, {"web"}) == [told]
    assert book.listings() == {}


def test_changes_of_an_added_backend_go_with_it() -> None:
    book = Book()
    book.set(added())
    book.set(change("state", "drain", place=NEW_PLACE))
    book.remove(lambda each: each.key == PRESENCE)
    assert book.follow({PLACE[:2]: FILE}, {"web"}) == [
        "web/10.0.0.9:80 draining by an operator is dropped: the backend is gone"
    ]


def test_yaml_has_whole_backends_and_quotes_what_needs_quotes() -> None:
    book = Book()
    book.set(added())
    book.set(removed())
    book.set(change("weight", 7, place=NEW_PLACE, file_value=2))
    book.set(change("max_conns", 9, place=("a: b", "[::1]:80", "")))
    assert (
        book.to_yaml()
        == """upstreams:
  "a: b":
    backends:
      - address: "[::1]:80"
        max_conns: 9
  web:
    backends:
      # without 10.0.0.1:80
      - address: 10.0.0.9:80
        slow_start: 5s
        weight: 7
"""
    )
