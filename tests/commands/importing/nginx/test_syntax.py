"""nginx's grammar: words, quotes, escapes, comments, blocks, and the sentences about mistakes."""

import pytest
from nginy.commands.importing.nginx.syntax import Directive, parse
from nginy.errors import ConfigError


def words(text: str) -> list[object]:
    def shape(directive: Directive) -> object:
        inner = directive.block
        return directive.words if inner is None else (directive.words, [shape(e) for e in inner])

    return [shape(each) for each in parse(text, "x").directives]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a b;c;", [["a", "b"], ["c"]]),
        ('a "b c" \'d "e\';', [["a", "b c", 'd "e']]),
        (r'a "\"\\\t\r\n\q" \;x;', [["a", '"\\\t\r\n\\q', r"\;x"]]),
        ("a b#c;", [["a", "b#c"]]),
        ("a{b c;}d{}", [(["a"], [["b", "c"]]), (["d"], [])]),
        ("a ${b}c; d${e}{f;}", [["a", "${b}c"], (["d${e}"], [["f"]])]),
        ("map $a $b{~^x$ y;}", [(["map", "$a", "$b"], [["~^x$", "y"]])]),
        ('a "x\ny" z;', [["a", "x\ny", "z"]]),
        ("content_by_lua_block { if a { b = '}' } } c;", [(["content_by_lua_block"], []), ["c"]]),
        ("a\r\n;\r\n", [["a"]]),
        ("a b}c;", [["a", "b}c"]]),
        ('a "b")c;', [["a", "b", ")c"]]),
    ],
)
def test_words(text: str, found: list[object]) -> None:
    assert words(text) == found


def test_comments_stay_with_their_directives() -> None:
    parsed = parse(
        "# one\n#two\na b; # behind\n\n# of the block\nc { # at the brace\n  d; ## twice\n"
        "  # before the end\n} # behind the end\n# last\n",
        "x",
    )
    a, c = parsed.directives
    assert (a.above, a.behind, a.line) == ([" one", "two"], " behind", 3)
    assert (c.above, c.behind, c.end) == (
        [" of the block"], " at the brace", [" before the end", " behind the end"],
    )  # fmt: skip
    assert c.block is not None
    assert (c.block[0].behind, c.block[0].line) == ("# twice", 7)
    assert parsed.end == [" last"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a {\n b;\n", 'x:1:1: the block of "a" has no "}"'),
        ("a;\n}", 'x:2:1: an unexpected "}" without a "{"'),
        ("a {\n b\n}", 'x:3:1: "}" within "b", expected ";" before it'),
        ("a;\n\nb c", 'x:3:1: "b" has no ";" or "{" after it'),
        ("\n;", 'x:2:1: an unexpected ";"'),
        ("a {{", 'x:1:1: an unexpected "{"'),
        ('a\n "b', 'x:2:1: a quote (") that is never closed'),
        ("a 'b'c;", 'x:1:1: an unexpected "c" after a quote'),
        ("a{" * 40, "x:1:1: more than 32 levels of blocks"),
        ("a_by_lua_block { {", "x:1:1: a block of Lua that is never closed"),
        ("a\\", 'x:1:1: "a" has no ";" or "{" after it'),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x")
    assert str(caught.value) == message
