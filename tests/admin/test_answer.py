"""Answers of the admin interface: headers that every one has, and JSON made in slices."""

import json

from nginy.admin.answer import DUMPS_US, Answer, encode, refusal
from nginy.admin.pace import SLICE_US
from nginy.wire.request import RequestError


def encoded(members: dict[str, object], *, is_pretty: bool) -> tuple[bytes, int]:
    """Return the text, and in how many slices it was made."""
    work = encode(members, is_pretty=is_pretty)
    for count in range(10_000):
        try:
            next(work)
        except StopIteration as end:
            return b"".join(end.value), count + 1
    raise AssertionError


MEMBERS: dict[str, object] = {
    "text": 'a"b\u2028<\x1b\n',
    "rows": [{"x": [1, {"y": None}]}, {}, 1.5],
    "nested": {"list": [], "flag": True},
    "empty": [],
}


def test_json_is_what_the_standard_library_would_make() -> None:
    assert encoded(MEMBERS, is_pretty=True)[0].decode() == json.dumps(MEMBERS, indent=2) + "\n"
    text = encoded(MEMBERS, is_pretty=False)[0]
    assert text.decode() == json.dumps(MEMBERS, separators=(",", ":")) + "\n"
    assert text.isascii()
    assert b"\x1b" not in text


def test_a_long_list_is_made_in_slices() -> None:
    rows = [{"number": number} for number in range(int(10 * SLICE_US / DUMPS_US))]
    text, slices = encoded({"rows": rows, "rest": 1}, is_pretty=False)
    assert json.loads(text) == {"rows": rows, "rest": 1}
    assert 10 < slices < 15


def test_every_answer_tells_browsers_what_not_to_do() -> None:
    head = Answer(200, b"{}").to_bytes().partition(b"\r\n\r\n")[0].decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    for line in (
        "Content-Length: 2",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
    ):
        assert f"\r\n{line}" in head
    assert "default-src 'none'" in head
    assert "frame-ancestors 'none'" in head
    assert "Access-Control" not in head


def test_an_answer_to_head_has_a_length_and_no_body() -> None:
    whole = Answer(200, b"hello").to_bytes(has_body=False)
    assert whole.endswith(b"\r\n\r\n")
    assert b"Content-Length: 5\r\n" in whole


def test_a_refusal_says_code_and_message_and_what_to_do() -> None:
    answer = refusal(RequestError(401, "token_missing", "expected a token"))
    assert json.loads(answer.body) == {
        "error": {"code": "token_missing", "message": "expected a token", "hint": None}
    }
    assert answer.fields == ("WWW-Authenticate: Bearer",)
    assert refusal(RequestError(503, "x", "y")).fields == ("Retry-After: 1",)
    allowed = refusal(RequestError(405, "x", "y"))
    assert allowed.fields == ("Allow: GET, HEAD, POST, PATCH, DELETE",)
