"""YAML into nodes: places, the text as typed, and every way of not being YAML."""

import random

import pytest
from nginy.config.node import MappingNode, Node, Reading, RefusedError, ScalarNode, SequenceNode
from nginy.config.parse import DEPTH_MAX, NODES_MAX, parse


def parsed(text: str) -> Node | None:
    reading = Reading()
    node = parse(text, "a.yml", reading)
    assert reading.problems == []
    return node


def problems(text: str) -> list[str]:
    reading = Reading()
    try:
        parse(text, "a.yml", reading)
    except RefusedError:
        assert reading.problems
    return [str(problem) for problem in reading.problems]


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
        ("a: 1\nb", '2:2: no ":" after the key'),
        ("a: [1\nb: 3", '2:2: no "," or "]" where the list or mapping goes on or ends'),
        ("a: {x: 1", '1:9: no "," or "}" where the list or mapping goes on or ends'),
        (
            "a: [::1]:80",
            "1:5: no value, expected one (an address in brackets needs quotes)",
        ),
        ("a: 'x", "1:6: a quote that is never closed"),
        ('a: "\\q"', r"1:6: an unknown escape, expected \\ for a backslash in quotes"),
        ("a: %x", '1:4: "%" cannot begin a value, expected it in quotes'),
        ("%foo", "1:5: not YAML: expected '<document start>', but found '<stream end>'"),
        ("a: 1\n---\nb: 2", "2:1: a second document, expected one a file"),
        ("a: x\x00y", "1:5: the character U+0000, expected printable text"),
        ("a: 1\nb: \x1b[1m", "2:4: the character U+001B, expected printable text"),
        ("a: *x", "1:4: no anchor &x is complete above"),
        ("a: &x [*x]", "1:8: no anchor &x is complete above"),
        ("a: !!python/object:os.x {}", '1:4: the tag "tag:yaml.org,2002:python/object:os.x", '),
        ("a: !x b", '1:4: the tag "!x", expected a value without one'),
        ("[a]: b", "1:1: a list or mapping as a key, expected text"),
        ("a: 1\nb: 2\na: 3", '3:1: "a" is already set at a.yml:1:1'),
        ("<<: x", '1:5: "x", expected a mapping after "<<"'),
    ],
)
def test_what_is_not_understood_is_one_sentence_with_its_place(text: str, problem: str) -> None:
    found = problems(text)
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


def test_aliases_that_multiply_are_refused_before_they_cost_anything() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert problems("\n".join(lines)) == [f"a.yml:6:20: more than {NODES_MAX} values in one file"]


def test_deep_nesting_is_refused() -> None:
    assert outline(parsed("[" * DEPTH_MAX + "]" * DEPTH_MAX)) is not None
    assert problems("[" * 100_000) == [
        f"a.yml:1:{DEPTH_MAX + 1}: more than {DEPTH_MAX} levels of nesting"
    ]


@pytest.mark.parametrize("seed", range(5))
def test_no_mutation_of_a_configuration_raises_anything_else(seed: int) -> None:
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
        problems("".join(letters))
