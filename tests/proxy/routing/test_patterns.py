"""Names that a route asks for: which ones fit, and which can never come."""

import re

import pytest
from nginy.errors import InvalidValueError
from nginy.proxy.routing.patterns import Patterns, check_name, check_protocol


@pytest.mark.parametrize(
    ("texts", "name", "fits"),
    [
        (("a.example",), "a.example", True),
        (("a.example",), "x.a.example", False),
        (("*.a.example",), "x.a.example", True),
        (("*.a.example",), "x.y.a.example", True),
        (("*.a.example",), "a.example", False),
        (("*.a.example",), "xa.example", False),
        (("~^a[0-9]+$",), "a12", True),
        (("~^a[0-9]+$",), "A12", True),
        (("~^a[0-9]+$",), "b12", False),
        (("b", "*.c", "~^d"), "x.c", True),
        (("b", "*.c", "~^d"), "dx", True),
        (("b", "*.c", "~^d"), "c", False),
        (("~a",), "a" * 255, True),
        (("~a",), "a" * 256, False),
        (("*.a",), f"{'a' * 255}.a", False),
    ],
)
def test_a_name_fits_one_of_the_texts(texts: tuple[str, ...], name: str, fits: bool) -> None:
    assert Patterns(texts, re.IGNORECASE).fit(name) is fits


@pytest.mark.parametrize(
    ("text", "name"),
    [("a.Example", "a.example"), ("*.A", "*.a"), ("_x.y", "_x.y"), ("~^X", "~^X"), ("a-b", "a-b")],
)
def test_a_name_is_compared_in_lower_case(text: str, name: str) -> None:
    assert check_name(text) == name


@pytest.mark.parametrize(
    ("text", "clause", "hint"),
    [
        ("", "is not the name of a server", None),
        ("a b", "is not the name of a server", None),
        ("a..b", "is not the name of a server", None),
        ("-a", "is not the name of a server", None),
        ("a" * 256, "is not the name of a server", None),
        ("*", 'has a "*" elsewhere', None),
        ("*a.example", 'has a "*" elsewhere', "*.a.example"),
        ("a.*", 'has a "*" elsewhere', None),
        ("*.*.a", 'has a "*" elsewhere', "*.a"),
        (".a.example", "begins with a dot", "*.a.example"),
        ("a.example.", "ends in a dot", "a.example"),
        ("a.example:443", "has a port", "a.example"),
        ("https://a.example/x", "is a URL", "a.example"),
        ("bücher.example", "has letters beyond ASCII", "xn--bcher-kva.example"),
        ("~", "is an empty regular expression", None),
        ("~(", "is not a regular expression", None),
        ("~(a+)+b", "has a repetition within a repetition", None),
    ],
)
def test_a_name_that_cannot_come_is_refused(text: str, clause: str, hint: str | None) -> None:
    with pytest.raises(InvalidValueError) as caught:
        check_name(text)
    assert clause in caught.value.clause
    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["h2", "http/1.1", "~^h", "*.x"])
def test_a_protocol_is_compared_as_it_is(text: str) -> None:
    assert check_protocol(text) == text


@pytest.mark.parametrize("text", ["", "h 2", "h*", "\xff", "~[", "*"])
def test_a_protocol_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        check_protocol(text)
