import json

import pytest
from nginy.text.escape import escape_control, escape_default, escape_json, escape_path

NOT_UTF8 = b"a\xffb".decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("10.0.0.1:80 ok", "10.0.0.1:80 ok"),
        ('say "hi"', r"say \x22hi\x22"),
        ("back\\slash", r"back\x5Cslash"),
        ("a\r\nb\t\0", r"a\x0D\x0Ab\x09\x00"),
        ("\x7f", r"\x7F"),
        ("é", r"\xC3\xA9"),
        (NOT_UTF8, r"a\xFFb"),
        ("\ud800", "?"),
    ],
)
def test_default_escape_is_that_of_nginx(text, expected):
    assert escape_default(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ('"\\', r"\"\\"),
        ("\n\r\t\b\f", r"\n\r\t\b\f"),
        ("\x00\x1f", r"\u0000\u001F"),
        ("é\x7f", "é\x7f"),
        (NOT_UTF8, "a\ufffdb"),
    ],
)
def test_json_escape_is_that_of_nginx(text, expected):
    assert escape_json(text) == expected


def test_json_escape_gives_back_every_character_of_the_basic_plane():
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x10000)]))
    assert json.loads(f'"{escape_json(text)}"') == text


def test_default_escape_leaves_one_line_of_printable_ascii_whatever_comes():
    text = "".join(map(chr, range(0x10000)))
    escaped = escape_default(text)
    assert escaped.isascii()
    assert escaped.isprintable()
    assert '"' not in escaped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('open() "/x\\y" failed', 'open() "/x\\y" failed'),
        ("größer", "größer"),
        ("no-break\xa0space", "no-break\xa0space"),
        ("a\nb", r"a\x0Ab"),
        ("\x1b[31m", r"\x1B[31m"),
        ("\x9b31m", r"\xC2\x9B31m"),
        ("\u2028", r"\xE2\x80\xA8"),
        (NOT_UTF8, r"a\xFFb"),
    ],
)
def test_control_escape_touches_only_what_commands_a_terminal_or_ends_a_line(text, expected):
    assert escape_control(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.example.com", "a.example.com"),
        ("", "_"),
        ("..", "_."),
        (".hidden", "_hidden"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("a/b\0c\nd", "a_b_c_d"),
        ("é" + NOT_UTF8, "_a_b"),
        ("x" * 5000, "x" * 100),
    ],
)
def test_a_value_in_the_name_of_a_file_leads_nowhere_else(text, expected):
    assert escape_path(text) == expected
