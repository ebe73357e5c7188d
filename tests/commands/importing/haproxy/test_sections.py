"""Sections, what they inherit, and what cannot be read at all."""

import pytest
from nginy.commands.importing.haproxy.sections import keyword_of, lines_of_defaults, read_sections
from nginy.commands.importing.model import Texts
from nginy.errors import ConfigError

INHERITED = """
defaults
    timeout client 1s
frontend first
defaults base
    timeout client 2s
defaults fast from base
    timeout connect 3s
frontend second
frontend third from base
defaults
backend fourth
"""


def read(text: str) -> dict[str, list[str]]:
    parsed = read_sections("/h.cfg", Texts({"/h.cfg": text}))
    found = lines_of_defaults(parsed)
    return {s.name: [line.text for line in found[s]] for s in parsed.of("frontend", "backend")}


def test_a_proxy_inherits_from_the_last_defaults_or_from_those_it_names() -> None:
    assert read(INHERITED) == {
        "first": ["timeout client 1s"],
        "second": ["timeout client 2s", "timeout connect 3s"],
        "third": ["timeout client 2s"],
        "fourth": [],
    }


def test_a_directory_is_read_in_the_order_of_its_files() -> None:
    texts = {
        "/d/b.cfg": "backend b\n server s 1.2.3.4:5",
        "/d/a.cfg": "frontend a\n",
        "/d/c.txt": "?",
    }
    parsed = read_sections("/d", Texts(texts))
    assert [section.name for section in parsed.sections] == ["a", "b"]


def test_lines_under_a_condition_are_left_out_unless_it_is_a_number() -> None:
    text = """
frontend a
.if 1
 bind :1
.elif defined(X)
 bind :2
.else
 bind :3
.endif
.if 0
 bind :4
.elif 1
 bind :5
.else
 bind :6
.endif
.if defined(DEBUG)
 .if 1
 bind :7
 .endif
.else
 bind :8
.endif
.notice "hello"
"""
    parsed = read_sections("/h.cfg", Texts({"/h.cfg": text}))
    assert [line.text for line in parsed.sections[0].lines] == ["bind :1", "bind :5"]
    skipped = [line.text for line, _ in parsed.skipped]
    assert skipped == [".if defined(DEBUG)", "bind :7", ".else", "bind :8", ".notice hello"]


def test_the_longest_keyword_counts() -> None:
    known = ("option", "option tcp-check", "tcp-check set-var")
    assert keyword_of(("option", "tcp-check", "x"), known) == "option tcp-check"
    assert keyword_of(("tcp-check", "set-var(a)", "int(1)"), known) == "tcp-check set-var"
    assert keyword_of(("options",), known) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": no section of HAProxy, expected frontend, backend or listen"),
        (
            "bind :80\nfrontend a",
            '1:1: "bind" is in no section, expected global, defaults, frontend, backend or listen',
        ),
        ("fronted a", 'did you mean "frontend"?'),
        ("frontend", "1:1: frontend has no name"),
        (
            "global\nlisten a :80",
            '2:1: ":80" after the name of a listen, expected bind on a line of its own',
        ),
        ("frontend a from x", '1:1: there is no defaults section "x" before it'),
        ("frontend a\n bind 'x", "2:1: the line has a single quote that is not closed"),
        ("backend a\nlisten a\n", '2:1: listen "a" is already at /h.cfg:1'),
        ("frontend a\n.if 1\n bind :1", "2:1: .if has no .endif"),
        ("frontend a\n.endif", "2:1: .endif without .if"),
    ],
)
def test_what_cannot_be_read_has_one_sentence_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(text)
    assert message in str(raised.value)
    assert str(raised.value).startswith("/h.cfg:")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^/h\.cfg: cannot be read: No such file"):
        read_sections("/h.cfg", Texts({}))
