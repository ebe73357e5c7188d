"""YAML into nodes: places, the text as typed, and every way of not being YAML."""

import random
import time

import pytest
import yaml
from nginy.config.node import Findings, MappingNode, Node, RefusedError, ScalarNode, SequenceNode
from nginy.config.parse import (
    DEPTH_MAX,
    LOADER,
    NODES_MAX,
    SLOW_MAX_CHARACTERS,
    SLOW_MAX_INDICATORS,
    TAG_HANDLES_MAX,
    Loader,
    parse,
)


def parsed(text: str) -> Node | None:
    findings = Findings()
    node = parse(text, "a.yml", findings)
    assert findings.problems == []
    return node


def problems(text: str, loader: Loader = LOADER) -> list[str]:
    findings = Findings()
    try:
        parse(text, "a.yml", findings, loader)
    except RefusedError:
        assert findings.problems
    return [str(problem) for problem in findings.problems]


def outline(node: Node | None) -> object:
    """The node as plain lists, dictionaries and texts."""
    if isinstance(node, MappingNode):
        return {name.text: outline(value) for name, value in node.pairs}
    if isinstance(node, SequenceNode):
        return [outline(item) for item in node.items]
    return None if node is None else node.text


def test_every_node_knows_its_line_and_column() -> None:
    node = parsed("a:\n  - b\n  - {c: 'd'}\n")
    assert isinstance(node, MappingNode)
    (name, items) = node.pairs[0]
    assert isinstance(items, SequenceNode)
    inner = items.items[1]
    assert isinstance(inner, MappingNode)
    places: list[Node] = [node, name, items, items.items[0], inner, inner.pairs[0][1]]
    assert [str(place.mark) for place in places] == [
        "a.yml:1:1",
        "a.yml:1:1",
        "a.yml:2:3",
        "a.yml:2:5",
        "a.yml:3:5",
        "a.yml:3:9",
    ]


@pytest.mark.parametrize(
    "text", ["1:30", "010", "0x10", "1_000", "no", "on", "2026-01-01", "1e3", "127.0.0.1:80", "~"]
)
def test_unquoted_text_stays_what_was_typed(text: str) -> None:
    assert outline(parsed(f"a: {text}")) == {"a": text}


def test_nothing_after_the_colon_is_a_missing_value_and_quotes_are_an_empty_one() -> None:
    node = parsed("a:\nb: ~\nc: null\nd: ''\ne: '~'\nf: x\n")
    assert isinstance(node, MappingNode)
    missing = {
        name.text for name, node in node.pairs if isinstance(node, ScalarNode) and node.is_missing
    }
    assert missing == {"a", "b", "c"}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n...\n"])
def test_a_file_without_content_is_no_node_or_a_missing_value(text: str) -> None:
    node = parsed(text)
    assert node is None or (isinstance(node, ScalarNode) and node.is_missing)


NEEDS_LIBYAML = pytest.mark.skipif(
    LOADER is yaml.SafeLoader, reason="PyYAML was built without libyaml"
)
# Where PyYAML has both parsers, both are tested.
PARSERS = pytest.mark.parametrize("loader", sorted({LOADER, yaml.SafeLoader}, key=str))


@PARSERS
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:\n\tb: 1", "2:1: a tab, expected spaces"),
        ("\ta: 1", "1:1: a tab, expected spaces"),
        ("a: b\n\tc: d", "2:1: a tab, expected spaces"),
        ("a: @x", '1:4: "@" cannot begin a value, expected it in quotes'),
        ("a: `x`", '1:4: "`" cannot begin a value, expected it in quotes'),
        ("a: b: c", '1:5: an unexpected ":", expected other indentation, or quotes'),
        ("a: 1\n  b: 2", '2:4: an unexpected ":", expected other indentation, or quotes'),
        ("- a\nb: 1", "2:1: this does not belong to what is above, expected other indentation"),
        ("a: 1\nb", '2:1: no ":" with a blank after the key'),
        ("a: [1\nb: 3", '2:2: no "," or "]" where the list or mapping goes on or ends'),
        ("a: {x: 1", '1:9: no "," or "}" where the list or mapping goes on or ends'),
        ("a: {x: ${PORT}, y: 1}", '1:9: ${PORT} within brackets or braces, expected "${PORT}"'),
        ("a: [127.0.0.1:${P}]", '1:16: ${P} within brackets or braces, expected "${P}"'),
        (
            "a: [::1]:80",
            "1:5: no value, expected one (an address in brackets needs quotes)",
        ),
        ("a: 'x", "1:6: a quote that is never closed"),
        ('a: "\\q"', r"1:6: an unknown escape, expected \\ for a backslash in quotes"),
        ("a: %x", '1:4: "%" cannot begin a value, expected it in quotes'),
        ("%foo", "1:5: not YAML: expected '<document start>', but found '<stream end>'"),
        ("a: 1\n---\nb: 2", "2:1: a second document, expected one in each file"),
        ("a: x\x00y", "1:5: the character U+0000, expected printable text"),
        ("a: 1\nb: \x1b[1m", "2:4: the character U+001B, expected printable text"),
        ("a: *x", "1:4: no anchor &x above"),
        ("a: &x [*x]", "1:8: no anchor &x above"),
        ("a: !!python/object:os.x {}", '1:4: the tag "tag:yaml.org,2002:python/object:os.x", '),
        ("a: !x b", '1:4: the tag "!x", expected a value without one'),
        ("[a]: b", "1:1: a list or mapping as a key, expected text"),
        ("a: 1\nb: 2\na: 3", '3:1: "a" is already set at a.yml:1:1'),
        ("<<: x", '1:5: "x", expected a mapping after "<<"'),
    ],
)
def test_what_is_not_understood_is_one_sentence_with_its_place(
    text: str, problem: str, loader: Loader
) -> None:
    found = problems(text, loader)
    assert len(found) == 1
    assert found[0].startswith(f"a.yml:{problem}")


def test_all_duplicate_keys_are_named() -> None:
    assert problems("a: 1\na: 2\nb: {c: 1, c: 2}\na: 3") == [
        'a.yml:3:11: "c" is already set at a.yml:3:5',
        'a.yml:2:1: "a" is already set at a.yml:1:1',
        'a.yml:4:1: "a" is already set at a.yml:1:1',
    ]


def test_aliases_and_merge_keys_stand_for_what_they_name() -> None:
    text = "a: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, c: 3}\nf: {<<: [*x, {g: 4}]}\n"
    assert outline(parsed(text)) == {
        "a": {"b": "1", "c": "2"},
        "d": {"b": "1", "c": "2"},
        "e": {"c": "3", "b": "1"},
        "f": {"b": "1", "c": "2", "g": "4"},
    }


def test_a_quoted_merge_key_is_a_key() -> None:
    assert outline(parsed("'<<': 1")) == {"<<": "1"}


@NEEDS_LIBYAML
def test_aliases_that_multiply_are_refused_before_they_cost_anything() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert problems("\n".join(lines)) == [f"a.yml:6:15: more than {NODES_MAX} values in one file"]


@PARSERS
@pytest.mark.parametrize(
    ("opened", "column"),
    [("[", 33), ("{a: ", 129), ("- ", 65), ("? ", 65), ("[a, ", 129), ("[? ", 49), ("&a [", 129)],
)
def test_deep_nesting_is_refused(opened: str, column: int, loader: Loader) -> None:
    assert problems(opened * 2_000, loader) == [
        f"a.yml:1:{column}: more than {DEPTH_MAX} levels of nesting"
    ]


def test_nesting_up_to_the_limit_is_taken() -> None:
    assert outline(parsed("[" * DEPTH_MAX + "]" * DEPTH_MAX)) is not None


@NEEDS_LIBYAML
def test_deep_nesting_is_refused_in_a_text_that_is_too_long_for_the_slow_parser() -> None:
    for lines in (0, 10_000):
        text = "# 10 letters\n" * lines + "[" * 1_000_000
        found = problems(text)
        assert len(found) == 1
        assert found[0].startswith(f"a.yml:{lines + 1}:")
        assert found[0].endswith(f"more than {DEPTH_MAX} levels of nesting")


# Runs of what a parser may be slow at, each repeated up to the limit of a text: begin, repeated.
RUNS = {
    "items": ("[", "a,"),
    "empty lists": ("[", "[],"),
    "empty mappings": ("[", "{},"),
    "pairs": ("[", "a: b,"),
    "explicit keys": ("", "?\n"),
    "flow keys": ("{", "? a : b,"),
    "block items": ("", "- a\n"),
    "nested items": ("", "- - a\n"),
    "empty keys": ("", "a:\n"),
    "nested keys": ("", "a:\n b:\n"),
    "dashes": ("", "- "),
    "question marks": ("", "? "),
    "brackets": ("", "["),
    "brackets on lines of their own": ("", "[\n"),
    "brackets out of reach of a simple key": ("", "[" + " " * 1025),
    "flow mappings": ("", "{a: "),
    "closed brackets": ("[", "]"),
    "colons": ("[", ":,"),
    "commas": ("[", ","),
    "plain text": ("", "a"),
    "words": ("", "a "),
    "plain lines": ("", "a\n"),
    "indented lines": ("a:\n", " b\n"),
    "spaces": ("", " "),
    "blank lines": ("", "\n"),
    "other line ends": ("", "\r"),
    "lines of spaces": ("", "  \n"),
    "a comment": ("#", "a"),
    "comments": ("", "#\n"),
    "spaced comments": ("a", " #\n"),
    "escapes": ('"', "\\x41"),
    "folded quotes": ('"', "a\n\n"),
    "escaped line ends": ('"', "\\\n"),
    "doubled quotes": ("'", "''"),
    "empty quotes": ("[", '"",'),
    "literal lines": ("|\n", " a\n"),
    "literal blank lines": ("|\n a\n", "\n"),
    "folded lines": (">\n", " a\n"),
    "literal scalars": ("", "- |\n"),
    "anchors": ("[", "&a a,"),
    "a long anchor": ("&", "a"),
    "aliases": ("[&a a", ",*a"),
    "a long alias": ("*", "a"),
    "merge keys": ("- &a {b: c}\n", "- {<<: *a}\n"),
    "tags": ("[", "! a,"),
    "a long tag": ("!<", "a"),
    "an escaped tag": ("!<", "%41"),
    "directives": ("", "%a\n"),
    "versions": ("", "%YAML 1.1\n"),
    "documents": ("", "---\n"),
    "document ends": ("", "...\n"),
    "wide text": ('"', "\u20ac"),
    "percent signs": ("", "%"),
}
BUSY_MAX_S = 1.0
FAST_CHARACTERS = 3 << 20


def assert_soon_parsed(text: str, loader: Loader) -> None:
    """Parse or refuse `text` in time; more tries forgive a processor that others slowed down."""
    for _ in range(4):
        started = time.process_time()
        found = problems(text, loader)
        busy_s = time.process_time() - started
        if busy_s < BUSY_MAX_S:
            break
    assert busy_s < BUSY_MAX_S
    assert not any("libyaml" in problem for problem in found)


@NEEDS_LIBYAML
@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_no_run_keeps_the_fast_parser_busy(name: str) -> None:
    begin, repeated = RUNS[name]
    assert_soon_parsed(begin + repeated * (FAST_CHARACTERS // len(repeated)), LOADER)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_no_run_keeps_the_slow_parser_busy(name: str) -> None:
    begin, repeated = RUNS[name]
    indicators = sum(1 for character in repeated if character not in "ab1x \r\u20ac")
    count = min(SLOW_MAX_CHARACTERS // len(repeated), SLOW_MAX_INDICATORS // (indicators or 1))
    assert_soon_parsed(begin + repeated * (count - 4), yaml.SafeLoader)


@pytest.mark.slow
@PARSERS
@pytest.mark.parametrize("seed", range(4))
def test_no_mixture_of_runs_keeps_a_parser_busy(seed: int, loader: Loader) -> None:
    rng = random.Random(seed)
    pieces = [piece for run in RUNS.values() for piece in run] + ["]", "}", ": ", "\n  "]
    max_characters = SLOW_MAX_INDICATORS if loader is yaml.SafeLoader else FAST_CHARACTERS // 4
    for _ in range(4):
        text = ""
        while len(text) < max_characters // 2:
            text += rng.choice(pieces) * int(2 ** rng.uniform(0, 14))
        assert_soon_parsed(text[:max_characters], loader)


def test_tag_handles_are_bounded() -> None:
    text = "\n".join(f"%TAG !a{n}! b" for n in range(TAG_HANDLES_MAX + 1))
    assert problems(text) == [
        f'a.yml:1:1: "%TAG" more than {TAG_HANDLES_MAX} times, expected no tags'
    ]


@pytest.mark.parametrize("text", ["a" * (SLOW_MAX_CHARACTERS + 1), "?" * (SLOW_MAX_INDICATORS + 1)])
def test_without_libyaml_a_long_text_is_refused_with_what_helps(text: str) -> None:
    assert problems(text, yaml.SafeLoader) == [
        "a.yml: more YAML than PyYAML without libyaml reads in a second, expected libyaml"
    ]


@NEEDS_LIBYAML
@pytest.mark.slow
def test_a_mistake_at_the_end_of_a_long_file_is_explained_in_time() -> None:
    text = "".join(f"- {{address: 10.0.0.1:{port}, weight: 2}}\n" for port in range(20_000))
    assert_soon_parsed(text + "a: 1\n", LOADER)
    assert problems(text + "a: 1\n") == [
        "a.yml:20001:1: this does not belong to what is above, expected other indentation"
    ]


@NEEDS_LIBYAML
@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("a: b\n\tc: d", "a tab, expected spaces"),
        ("a: b: c", 'an unexpected ":", expected other indentation, or quotes'),
        ("a:\n  - b\n c: d", "this does not belong to what is above, expected other indentation"),
        ("- a\nb: 1", "this does not belong to what is above, expected other indentation"),
        ("a: 1\nb", 'no ":" with a blank after the key'),
        ("a: [1\nb: 3", 'no "," or "]" where the list or mapping goes on or ends'),
        ("a: {x: 1", 'no "," or "}" where the list or mapping goes on or ends'),
        ("a: {x: ${PORT}, y: 1}", '${PORT} within brackets or braces, expected "${PORT}"'),
        ("a: [::1]:80", "no value, expected one (an address in brackets needs quotes)"),
        ("a: 'x", "a quote that is never closed"),
        ('a: "\\q"', r"an unknown escape, expected \\ for a backslash in quotes"),
    ],
)
def test_libyaml_s_words_for_a_long_text_are_explained_alike(text: str, explanation: str) -> None:
    found = problems("# a comment\n" * 12_000 + text)
    assert len(found) == 1
    assert found[0].startswith("a.yml:1200")
    assert found[0].endswith(f": {explanation}")


@PARSERS
@pytest.mark.parametrize("seed", range(5))
def test_no_mutation_of_a_configuration_raises_anything_else(seed: int, loader: Loader) -> None:
    rng = random.Random(seed)
    text = (
        "upstreams:\n  web: &w {balance: {hash: $a}, backends: ['127.0.0.1:1', \"b\"]}\n"
        "  x: *w\nlisteners:\n  - listen: [1, 2]\n    return: |\n      text\n  - {<<: *w}\n"
    )
    for _ in range(200):
        letters = list(text)
        for _ in range(rng.randint(1, 4)):
            position = rng.randrange(len(letters))
            letters[position] = rng.choice(("", "\t", "\n", ":", "[", "}", "&", "*", "!", "'", "-"))
        problems("".join(letters), loader)


# Bytes in double quotes.


@pytest.mark.parametrize("loader", [LOADER, yaml.SafeLoader])
@pytest.mark.parametrize(
    ("written", "data"),
    [
        (r'"\x1b\xe3\x00\xff"', b"\x1b\xe3\x00\xff"),
        (r'"\x80"', b"\x80"),
        (r'"\x7f"', b"\x7f"),
        (r'"\x85\xa0"', b"\x85\xa0"),
        (r'"\N\_"', "\x85\xa0".encode()),
        ('"é"', "é".encode()),
        (r'"\u00e9\U000000e9"', "éé".encode()),
        (r'"é\xe9é\u00e9\xE9"', "é".encode() + b"\xe9" + "éé".encode() + b"\xe9"),
        (r'"\\xe9\xe9"', b"\\xe9\xe9"),
        ('"a\\xe9\n  b\\\n  \\xff"', b"a\xe9 b\xff"),
        ('"a\x85 \\xe9"', b"a \xe9"),
        ("'é\\xe9'", "é\\xe9".encode()),
    ],
)
def test_an_escape_in_double_quotes_is_a_byte(
    loader: type[yaml.SafeLoader], written: str, data: bytes
) -> None:
    node = parse(written, "x.yml", Findings(), loader)
    assert isinstance(node, ScalarNode)
    text = node.text if node.byte_text is None else node.byte_text
    assert text.encode("utf-8", "surrogateescape") == data
    assert node.text == yaml.safe_load(written)
