"""Parameters and bodies of requests: what is accepted, and how the rest is refused."""

from typing import Any

import pytest
from nginy.admin.asked import (
    Asked,
    closest,
    closest_of_many,
    duration_ms,
    one_line,
    whole_number,
)
from nginy.wire.request import RequestError, parse_request

from kit.admin import done


def asked(query: str = "", body: bytes = b"") -> Asked:
    head = f"POST /x?{query} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    found = parse_request(head.encode() + body)
    assert found is not None
    return Asked(found[0])


def refusal(call: Any, *arguments: Any) -> tuple[int, str, str]:
    with pytest.raises(RequestError) as caught:
        call(*arguments)
    return caught.value.status, caught.value.code, str(caught.value)


def test_parameters_have_defaults_and_limits() -> None:
    found = asked("limit=20&timeout=2s&wait=idle")
    assert found.number("limit", 5) == 20
    assert found.number("after", 5) == 5
    assert found.duration_ms("timeout", 1, 90_000) == 2000
    assert found.duration_ms("timeout", 1, 500) == 500
    assert found.duration_ms("other", 7, 90_000) == 7
    assert found.word("wait", ("idle", "usable")) == "idle"
    assert found.word("state", ("up",)) is None


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "%C2%B2", "1001", "9" * 30])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    status, _, said = refusal(asked(f"limit={text}").number, "limit", 5, 1000)
    assert (status, said) == (400, "limit is not a whole number up to 1000")


def test_a_wrong_word_is_named_with_the_one_that_was_meant() -> None:
    said = refusal(asked("wait=idel").word, "wait", ("idle", "usable"))[2]
    assert said == 'wait is not one of idle, usable, did you mean "idle"?'
    assert refusal(asked("timeout=soon").duration_ms, "timeout", 1, 2)[2] == (
        "timeout is not a duration such as 30s or 5m"
    )


def test_a_body_is_an_object_of_known_members() -> None:
    assert asked(body=b'{"weight": 3}').body(("weight",)) == {"weight": 3}
    assert asked().body(("weight",)) == {}
    assert refusal(asked(body=b"{").body, ("a",))[1] == "bad_json"
    assert refusal(asked(body=b"[" * 60_000).body, ("a",))[1] == "bad_json"
    assert refusal(asked(body=b"[]").body, ("a", "b"))[2] == "expected an object with a, b"
    status, code, said = refusal(asked(body=b'{"wieght": 3}').body, ("weight", "state"))
    assert (status, code) == (400, "unknown_field")
    assert said == '"wieght" is not known, did you mean "weight"?'
    assert refusal(asked(body=b'{"zz": 3}').body, ("weight",))[2].endswith("expected weight")


@pytest.mark.parametrize("value", [True, 0, 11, "3", 1.0, None])
def test_numbers_of_a_body_are_numbers_in_their_range(value: object) -> None:
    assert whole_number("weight", 10, 1, 10) == 10
    assert refusal(whole_number, "weight", value, 1, 10)[1] == "bad_value"


@pytest.mark.parametrize("value", [None, "a\nb", "\x1b[31m", "x" * 201])
def test_texts_are_one_line_for_the_log(value: object) -> None:
    assert one_line("reason", "deploy 42") == "deploy 42"
    assert refusal(one_line, "reason", value)[1] == "bad_value"


def test_durations_of_a_body_are_texts() -> None:
    assert duration_ms("for", "30m") == 1_800_000
    assert refusal(duration_ms, "for", 30)[1] == "bad_parameter"


def test_the_closest_name_is_found_if_there_is_one() -> None:
    assert closest("10.0.0.7:80", ["10.0.0.17:80", "unix:/x"]) == "10.0.0.17:80"
    assert closest("zzz", ["web"]) is None


def test_the_closest_of_many_names_is_looked_for_in_slices() -> None:
    names = [f"10.0.{i // 250}.{i % 250}:80" for i in range(1000)]
    for text in ("10.0.1.7:8080", "10.1.1.77:80", "web", ""):
        found, slices = done(closest_of_many(text, names))
        assert found == closest(text, names)
    assert slices < 20
    assert done(closest_of_many("10.0.1.7:8080", names))[1] > 20
