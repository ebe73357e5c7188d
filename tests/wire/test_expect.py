"""Escapes of `send`, verdicts of `expect`."""

import pytest
from nginy.wire.errors import WireError
from nginy.wire.expect import MAX_ANSWER_BYTES, Verdict, parse_expect, unescape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PING\r\n", b"PING\r\n"),
        (r"PING\r\n", b"PING\r\n"),
        (r"\x00\x01\xFf", b"\x00\x01\xff"),
        (r"a\\x41\t\"\'", b"a\\x41\t\"'"),
        ("ü", b"\xc3\xbc"),
        ("", b""),
    ],
)
def test_escapes_stand_for_bytes(text, expected):
    assert unescape(text) == expected


@pytest.mark.parametrize("text", ["\\", r"\x", r"\x4", r"\xg0", r"\0", r"\ü", "\\\n"])
def test_an_unknown_escape_is_refused(text):
    with pytest.raises(WireError, match="escape"):
        unescape(text)


@pytest.mark.parametrize(
    ("text", "received", "is_complete", "verdict"),
    [
        ("+PONG", b"", False, Verdict.MORE),
        ("+PONG", b"+PO", False, Verdict.MORE),
        ("+PONG", b"+PO", True, Verdict.NO),
        ("+PONG", b"", True, Verdict.NO),
        ("+PONG", b"+PONG", False, Verdict.YES),
        ("+PONG", b"+PONG\r\n", True, Verdict.YES),
        ("+PONG", b"-", False, Verdict.NO),
        ("+PONG", b"+PAN", False, Verdict.NO),
        (r"\x00\x01", b"\x00\x01\x02", False, Verdict.YES),
        (r"\x7eA", b"~A", False, Verdict.YES),
        ("~PO.G", b"+PONG", False, Verdict.YES),
        ("~PO.G", b"-ERR", False, Verdict.MORE),
        ("~PO.G", b"-ERR", True, Verdict.NO),
        ("~^PO", b"+PO", True, Verdict.NO),
        (r"~\x00\xff", b"a\x00\xff", True, Verdict.YES),
        ("~(?i)pong", b"PONG", True, Verdict.YES),
    ],
)
def test_an_answer_is_judged(text, received, is_complete, verdict):
    assert parse_expect(text).judge(received, is_complete=is_complete) is verdict


def test_an_answer_beyond_the_bound_is_judged_by_its_head():
    received = b"x" * MAX_ANSWER_BYTES + b"end"
    assert parse_expect("~end").judge(received, is_complete=False) is Verdict.NO
    assert parse_expect("~end").judge(received[1:], is_complete=False) is Verdict.NO
    assert parse_expect("~end").judge(received[3:], is_complete=False) is Verdict.YES


@pytest.mark.parametrize("text", ["", "x" * (MAX_ANSWER_BYTES + 1), r"a\q", "~(", "~x{2,1}"])
def test_an_expectation_that_cannot_be_is_refused(text):
    with pytest.raises(WireError):
        parse_expect(text)


def test_equal_texts_make_equal_expectations():
    assert parse_expect("~a+") == parse_expect("~a+")
    assert parse_expect("~a+") != parse_expect("~a*")
    assert parse_expect("a") != parse_expect("b")


@pytest.mark.parametrize("pattern", ["~(a+)+$", "~(a*)*b", "~(?:ab?c+)*", "~(x{2,})+"])
def test_a_repetition_within_a_repetition_is_refused(pattern: str) -> None:
    with pytest.raises(WireError, match="repetition within a repetition"):
        parse_expect(pattern)


@pytest.mark.parametrize("pattern", ["~(ab)+", "~a+b*", r"~^\+PONG", "~(a|b+)c"])
def test_other_repetitions_are_not(pattern: str) -> None:
    assert parse_expect(pattern).pattern is not None
