"""Lines are cut into words as HAProxy cuts them."""

import pytest
from nginy.commands.importing.haproxy.words import split_line
from nginy.errors import InvalidValueError

SAME = [  # of the manual, 2.2: all equivalent
    r"log-format %{+Q}o\ %t\ %s\ %{-Q}r",
    'log-format "%{+Q}o %t %s %{-Q}r"',
    "log-format '%{+Q}o %t %s %{-Q}r'",
    """log-format "%{+Q}o %t"' %s %{-Q}r'""",
    r"""log-format "%{+Q}o %t"' %s'\ %{-Q}r""",
]


@pytest.mark.parametrize("line", SAME)
def test_quotes_and_escapes_say_the_same(line: str) -> None:
    assert split_line(line) == (("log-format", "%{+Q}o %t %s %{-Q}r"), None)


@pytest.mark.parametrize(
    ("line", "words", "comment"),
    [
        ("global#this is the global section", ("global",), "this is the global section"),
        ("   # all of it", (), " all of it"),
        ("a\tb  c\r", ("a", "b", "c"), None),
        (r"a \# b", ("a", "#", "b"), None),
        ("'#' \"#\" #x", ("#", "#"), "x"),
        (r"\r\n\t\x41\x0d '\n\x41'", ("\r\n\tA\r", r"\n\x41"), None),
        (r"\1 \w \$ '\'", ("\\1", "\\w", "\\$", "\\"), None),
        (r"\' \" \\", ("'", '"', "\\"), None),
        (r"a\xff", ("a\udcff",), None),
        ("a \"\" '' b", ("a", "", "", "b"), None),
        ('"$HOST:${PORT}" "${A-1.2.3.4}:80"', ("${HOST}:${PORT}", "${A:-1.2.3.4}:80"), None),
        (r"""$HOST '${PORT}' "\$HOST" ${X}""", ("$HOST", "${PORT}", "$HOST", "${X}"), None),
        ('"${.LINE} ${.FILE}"', ("7 x.cfg",), None),
    ],
)
def test_a_line(line: str, words: tuple[str, ...], comment: str | None) -> None:
    assert split_line(line, {".LINE": "7", ".FILE": "x.cfg"}) == (words, comment)


@pytest.mark.parametrize(
    ("line", "clause"),
    [
        ('a "b', "has a double quote that is not closed"),
        ("a 'b", "has a single quote that is not closed"),
        (r"a \x4", r"has a \x without two hexadecimal digits"),
        (r"a \x00", r"has a \x00, which ends a word of HAProxy"),
        ('"$ x"', 'has a "$" in double quotes without a name'),
        ('"${x"', 'has a "$" in double quotes without a name'),
        ('"${.NAME}"', "has ${.NAME}, which HAProxy does not know"),
        (
            '"${NAMES[*]}"',
            (
                "has ${NAMES[*]}, which stands for several words, which only HAProxy's environment"
                " knows"
            ),
        ),
    ],
)
def test_a_line_that_cannot_be_cut(line: str, clause: str) -> None:
    with pytest.raises(InvalidValueError) as raised:
        split_line(line)
    assert raised.value.clause == clause
