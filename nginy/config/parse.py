"""Parses YAML into nodes, without YAML's guesses; every syntax error is one sentence.

The nodes come from the parser's events. PyYAML's constructed values have lost their places and the
text that was typed. A configuration needs no tags, so they are refused. Anchors, aliases and merge
keys (`<<`) work within limits, so that a "billion laughs" file is refused before it costs anything.

A reload parses inside the event loop, so no text keeps a parser busy for more than a second.
Nesting and the number of values are bounded event by event: neither parser reads more than a
simple key, 1024 characters, ahead of its events. libyaml is ten times faster than PyYAML's own
parser, whose error messages are the same everywhere: it parses a text with an error again, unless
the text is too long for it.

Not here: reading files, the limit of their size, `include` and the environment (files.py).
"""

import re
from typing import Final, Protocol, TypeAlias

import yaml

from nginy.config.node import (
    Findings,
    MappingNode,
    Mark,
    Node,
    RefusedError,
    ScalarNode,
    SequenceNode,
    describe,
    quote,
)

NODES_MAX: Final = 150_000  # of one file, 20,000 backends; aliases count as what they stand for
DEPTH_MAX: Final = 32  # the language needs 6; this keeps every recursion over nodes shallow

# libyaml compares each tag handle with all others before it adds one. No tag is of use here.
TAG_HANDLES_MAX: Final = 16
# PyYAML's own parser takes up to 2 µs for a character, and 50 µs more for one that has a meaning.
SLOW_MAX_CHARACTERS: Final = 128 << 10
SLOW_MAX_INDICATORS: Final = 8 << 10  # some 1,000 backends

_NESTED: Final = f"more than {DEPTH_MAX} levels of nesting"
_INDENTED: Final = "this does not belong to what is above, expected other indentation"
_VALUELESS: Final = "no value, expected one (an address in brackets needs quotes)"

# What a parser says (a pattern), and what the writer of the file should look at. libyaml's words
# are met where the text is too long for PyYAML's own parser.
EXPLANATIONS: Final = (
    (r"character '\\t'|a tab character", "a tab, expected spaces"),
    (r"character '(.)' that", r'"\1" cannot begin a value, expected it in quotes'),
    (r"mapping values are not", 'an unexpected ":", expected other indentation, or quotes'),
    (r"expected <block end>|expected '-' indicator|find expected key", _INDENTED),
    (r"could not find expected ':'", 'no ":" with a blank after the key'),
    (r"alphabetic or numeric character", "what begins with * or & needs quotes"),
    (r"expected ',' or '(.)'", r'no "," or "\1" where the list or mapping goes on or ends'),
    (r"expected the node content|find expected node content", _VALUELESS),
    (r"unexpected end of stream", "a quote that is never closed"),
    (r"unknown escape character", r"an unknown escape, expected \\\\ for a backslash in quotes"),
    (r"maximum nesting depth", _NESTED),
)

Loader: TypeAlias = "type[yaml.SafeLoader] | type[yaml.CSafeLoader]"

# yaml.CSafeLoader is there where PyYAML was built with libyaml.
LOADER: Final[Loader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INDICATOR: Final = re.compile(r"[-?:,\[\]{}#&*!|>'\"%\n]")
# In double quotes, what becomes a letter of Latin-1 above ASCII (a group), and other escapes. The
# letter U+0085 is a line's end to YAML, and folded.
_HIGH: Final = re.compile(
    r"(\\x[89a-fA-F][0-9a-fA-F]|\\u00[89a-fA-F].|\\U000000[89a-fA-F].|\\[N_]|[\x80-\x84\x86-\xff])"
    r"|\\.",
    re.DOTALL,
)
_LATIN: Final = re.compile(r"[\x80-\xff]")
_UNPRINTABLE: Final = re.compile(
    r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufeff\uff00-\ufffd\U00010000-\U0010ffff]"
)


def parse(text: str, file: str, findings: Findings, loader: Loader = LOADER) -> Node | None:
    """Return the document of `text`; None if it holds comments only.

    Report what is wrong; raise RefusedError at the first error of syntax, as the rest cannot be
    known then. `loader` names the parser: libyaml's, or PyYAML's own.
    """
    match = _UNPRINTABLE.search(text)
    if match:
        mark = mark_at(text, match.start(), file)
        code = f"U+{ord(match.group()):04X}"
        raise findings.refuse(mark, f"the character {code}, expected printable text")
    if text.count("%TAG") > TAG_HANDLES_MAX:
        mark = mark_at(text, text.index("%TAG"), file)
        raise findings.refuse(mark, f'"%TAG" more than {TAG_HANDLES_MAX} times, expected no tags')
    if loader is yaml.SafeLoader and not _is_short(text):
        problem = "more YAML than PyYAML without libyaml reads in a second, expected libyaml"
        raise findings.refuse(Mark(file, 0, 0), problem)
    tree = _Tree(file, findings, text)
    try:
        for event in yaml.parse(text, Loader=loader):
            tree.add(event)
    except yaml.YAMLError as error:
        raise _refuse_syntax(text, file, error, findings) from None
    return tree.root


def _is_short(text: str) -> bool:
    """Tell whether PyYAML's own parser reads `text` in half a second, whatever it holds."""
    if len(text) > SLOW_MAX_CHARACTERS:
        return False
    return sum(1 for _ in _INDICATOR.finditer(text)) <= SLOW_MAX_INDICATORS


def mark_at(text: str, position: int, file: str) -> Mark:
    """Return the mark of a position in a text."""
    line_start = text.rfind("\n", 0, position) + 1
    return Mark(file, text.count("\n", 0, position) + 1, position - line_start + 1)


def _refuse_syntax(text: str, file: str, error: yaml.YAMLError, findings: Findings) -> Exception:
    """Return the refusal of a text that is not YAML, in words of PyYAML's own parser if it can."""
    position = _position(error)
    known = text if _is_short(text) or position is None else text[: position.index]
    if _is_short(known):
        own = Findings()
        tree = _Tree(file, own, known)
        try:
            for event in yaml.parse(known, Loader=yaml.SafeLoader):
                tree.add(event)
        except RefusedError:  # libyaml, which reads ahead, met an error before the tree did
            refusal = own.problems[-1]
            return findings.refuse(Mark(file, refusal.line, refusal.column), refusal.text)
        except yaml.YAMLError as own_error:
            error = own_error if known is text else error
    problem = (error.problem if isinstance(error, yaml.MarkedYAMLError) else None) or str(error)
    position = _position(error)
    if isinstance(error, yaml.MarkedYAMLError) and "expected ':'" in problem:
        position = error.context_mark or position  # where the key begins, not where it was missed
    mark = _mark(position, file)
    if position is not None and text[position.index - 1 : position.index + 1] == "${":
        # To YAML the brace begins a mapping where one is open, or a list.
        name = text[position.index - 1 :].partition("}")[0].partition("\n")[0]
        return findings.refuse(mark, f'{name}}} within brackets or braces, expected "{name}}}"')
    for pattern, explanation in EXPLANATIONS:
        match = re.search(pattern, problem)
        if match:
            return findings.refuse(mark, match.expand(explanation))
    return findings.refuse(mark, f"not YAML: {problem}")


def _with_bytes(value: str, source: str) -> str | None:
    r"""Return the text of a scalar in double quotes with each \x80 to \xff of `source` as a byte.

    None if there is none. A letter typed as such, or as \u00e9, stays a letter.
    """
    origins = [match[0].startswith("\\x") for match in _HIGH.finditer(source) if match[1]]
    if not any(origins):
        return None
    is_byte = iter(origins)
    return _LATIN.sub(lambda match: _byte(match[0]) if next(is_byte) else match[0], value)


def _byte(letter: str) -> str:
    return chr(0xDC00 + ord(letter))


class _Position(Protocol):
    """What the marks of PyYAML and of libyaml have in common; they count from 0."""

    index: int
    line: int
    column: int


def _position(error: yaml.YAMLError) -> _Position | None:
    """Return where the parser met the error, None if it does not say."""
    return error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None


def _mark(position: _Position | None, file: str) -> Mark:
    """Return a mark of ours; without a position, that of the whole file."""
    return (
        Mark(file, 0, 0) if position is None else Mark(file, position.line + 1, position.column + 1)
    )


class _Open:
    """A list or mapping whose end has not been seen; keys and values alternate in `nodes`."""

    __slots__ = ("anchor", "is_mapping", "mark", "nodes", "size")

    def __init__(self, mark: Mark, anchor: str | None, *, is_mapping: bool) -> None:
        self.mark = mark
        self.anchor = anchor
        self.is_mapping = is_mapping
        self.nodes: list[Node] = []
        self.size = 1


class _Tree:
    """Builds the nodes of one document out of parser events.

    An anchor is known once its node is complete, so no node can contain itself. Each is kept
    with its size, the count of all nodes in it.
    """

    def __init__(self, file: str, findings: Findings, text: str) -> None:
        self.file = file
        self.text = text
        self.findings = findings
        self.root: Node | None = None
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Node, int]] = {}

    def add(self, event: yaml.Event) -> None:
        """Take the next event of the document."""
        if isinstance(event, yaml.CollectionEndEvent):
            top = self.open.pop()
            node = (
                self._mapping(top) if top.is_mapping else SequenceNode(tuple(top.nodes), top.mark)
            )
            self._close(node, top.size, top.anchor, top.mark)
            return
        mark = _mark(event.start_mark, self.file)
        if isinstance(event, yaml.ScalarEvent):
            if event.tag is not None:
                self._refuse_tag(event.tag, mark)
            scalar = ScalarNode(event.value, mark, not event.style, self._byte_text(event))
            self._close(scalar, 1, event.anchor, mark)
        elif isinstance(event, yaml.CollectionStartEvent):
            if event.tag is not None:
                self._refuse_tag(event.tag, mark)
            if len(self.open) == DEPTH_MAX:
                raise self.findings.refuse(mark, _NESTED)
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            self.open.append(_Open(mark, event.anchor, is_mapping=is_mapping))
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self.findings.refuse(mark, f"no anchor &{event.anchor} above")
            self._close(*self.anchors[event.anchor], None, mark)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise self.findings.refuse(mark, "a second document, expected one in each file")

    def _byte_text(self, event: yaml.ScalarEvent) -> str | None:
        if event.style != '"' or event.value.isascii():
            return None
        start, end = event.start_mark, event.end_mark
        if start is None or end is None:
            return None
        return _with_bytes(event.value, self.text[start.index : end.index])

    def _close(self, node: Node, size: int, anchor: str | None, mark: Mark) -> None:
        """Put a complete node where it belongs; `mark` is where it is used."""
        if anchor is not None:
            self.anchors[anchor] = (node, size)
        if not self.open:
            self.root = node
            return
        top = self.open[-1]
        top.nodes.append(node)
        top.size += size
        if top.size > NODES_MAX:
            raise self.findings.refuse(mark, f"more than {NODES_MAX} values in one file")

    def _refuse_tag(self, tag: str, mark: Mark) -> None:
        if tag != "!":
            raise self.findings.refuse(mark, f"the tag {quote(tag)}, expected a value without one")

    def _mapping(self, top: _Open) -> MappingNode:
        """Return the mapping; of a key that occurs twice, the first counts."""
        pairs: dict[str, tuple[ScalarNode, Node]] = {}
        merged: list[Node] = []
        for name, value in zip(top.nodes[::2], top.nodes[1::2], strict=True):
            if not isinstance(name, ScalarNode):
                self.findings.report(name.mark, "a list or mapping as a key, expected text")
            elif name.text == "<<" and name.is_plain:
                merged.extend(value.items if isinstance(value, SequenceNode) else (value,))
            elif name.text in pairs:
                first = pairs[name.text][0].mark
                self.findings.report(name.mark, f"{quote(name.text)} is already set at {first}")
            else:
                pairs[name.text] = (name, value)
        for source in merged:
            if not isinstance(source, MappingNode):
                text = f'{describe(source)}, expected a mapping after "<<"'
                self.findings.report(source.mark, text)
                continue
            for name, value in source.pairs:
                pairs.setdefault(name.text, (name, value))
        return MappingNode(tuple(pairs.values()), top.mark)
