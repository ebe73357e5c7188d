"""Joins the files of a configuration into one tree: `include`, and ${NAME} from the environment.

This module knows no key but those at the top of a file. It joins their values; if two files set the
same name or setting, that is an error with both places. ${NAME} is replaced after parsing, and in
values only, so the environment cannot change the shape of the tree.

Limits keep a file from blocking its reader: the size, depth and number of includes here, nesting
and aliases in parse.py. Only regular files are opened, since reading a pipe may never end.
"""

import codecs
import glob
import os
import re
import stat
from collections.abc import Mapping
from typing import Final

from nginy.config.node import (
    Findings,
    MappingNode,
    Mark,
    Node,
    RefusedError,
    ScalarNode,
    SequenceNode,
    describe,
    did_you_mean,
    quote,
    quote_path,
)
from nginy.config.parse import mark_at, parse
from nginy.config.secrets import may_be_secret
from nginy.proxy.variables import VARIABLES
from nginy.text.units import format_size

NO_MAPPING: Final = "expected a mapping with keys such as listeners"
FILE_MAX_BYTES: Final = 16 << 20
FILES_MAX: Final = 1000
INCLUDE_DEPTH_MAX: Final = 8

# Keys whose values are joined when several files have them.
JOINED: Final = frozenset({"defaults", "listeners", "log_formats", "upstreams", "variables"})

_REFERENCE = re.compile(r"\$\{([^}]*)(\}?)")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.ASCII | re.DOTALL)


class Files:
    """The files of one configuration, joined at their top keys."""

    def __init__(self, environ: Mapping[str, str], findings: Findings) -> None:
        self.environ = environ
        self.findings = findings
        self.pairs: dict[str, tuple[ScalarNode, Node]] = {}
        self.count = 0
        self.is_whole = True

    def load(self, path: str) -> MappingNode:
        """Return the joined mapping of all files; raise RefusedError if one cannot be parsed."""
        whole = Mark(path, 0, 0)
        self._add(path, whole, ())
        if not self.is_whole:
            raise RefusedError
        if not self.pairs and not self.findings.problems:
            raise self.findings.refuse(whole, "the file is empty, expected at least listeners")
        return MappingNode(tuple(self.pairs.values()), whole)

    def _add(self, path: str, mark: Mark, chain: tuple[str, ...]) -> None:
        """Add the file that `mark` names, and the files that it includes."""
        text = _read_text(path, mark, self.findings)
        node = parse(text, path, self.findings)
        if node is None:
            return
        if not isinstance(node, MappingNode):
            raise self.findings.refuse(node.mark, f"{describe(node)}, {NO_MAPPING}")
        for name, value in node.pairs:
            self._join(name, self._fill(value))
        included = self.pairs.pop("include", None)
        if included is not None:
            self._include(included[1], path, (*chain, os.path.realpath(path)))

    def _join(self, name: ScalarNode, value: Node) -> None:
        """Add one key of the top level; some keys collect the values of all files."""
        if name.text not in self.pairs:
            self.pairs[name.text] = (name, value)
            return
        first, others = self.pairs[name.text]
        if name.text not in JOINED:
            text = f"{quote(name.text)} is already set at {first.mark}"
            self.findings.report(name.mark, text)
        elif isinstance(value, MappingNode) and isinstance(others, MappingNode):
            self.pairs[name.text] = (first, self._join_mappings(others, value))
        else:
            items = (*_items(others), *_items(value))
            self.pairs[name.text] = (first, SequenceNode(items, others.mark))

    def _join_mappings(self, others: MappingNode, value: MappingNode) -> MappingNode:
        names = {name.text: name.mark for name, _ in others.pairs}
        for name, _ in value.pairs:
            if name.text in names:
                text = f"{quote(name.text)} is already set at {names[name.text]}"
                self.findings.report(name.mark, text)
        return MappingNode((*others.pairs, *value.pairs), others.mark)

    def _include(self, node: Node, path: str, chain: tuple[str, ...]) -> None:
        """Add the files of an `include`, pattern by pattern, each in alphabetical order."""
        for item in _items(node):
            with self.findings.under("include"):
                names = self._matches(item, path)
                for name in names:
                    self._add_included(name, item.mark, chain)

    def _matches(self, item: Node, path: str) -> list[str]:
        """Return the files that a pattern matches; a name without wildcards is its own match."""
        if not isinstance(item, ScalarNode) or item.is_missing or "\0" in item.text:
            text = f"{describe(item)}, expected a path such as conf.d/*.yml"
            raise self.findings.refuse(item.mark, text)
        directory = os.path.dirname(path)
        if not re.search(r"[*?\[]", item.text):
            return [os.path.join(directory, item.text)]
        found = sorted(glob.glob(os.path.join(glob.escape(directory), item.text)))
        if not found:
            self.findings.warn(item.mark, f"no file matches {quote(item.text)}")
        return found

    def _add_included(self, name: str, mark: Mark, chain: tuple[str, ...]) -> None:
        """Add one included file; after one that cannot be read, go on with the next."""
        self.count += 1
        if os.path.realpath(name) in chain:
            raise self.findings.refuse(mark, f"{quote_path(name)} includes itself")
        if len(chain) > INCLUDE_DEPTH_MAX:
            text = f"{quote_path(name)} is more than {INCLUDE_DEPTH_MAX} files deep"
            raise self.findings.refuse(mark, text)
        if self.count > FILES_MAX:
            raise self.findings.refuse(mark, f"more than {FILES_MAX} files")
        try:
            self._add(name, mark, chain)
        except RefusedError:
            self.is_whole = False

    def _fill(self, node: Node) -> Node:
        """Return the node with ${NAME} filled in, in values only."""
        if isinstance(node, SequenceNode):
            return SequenceNode(tuple(self._fill(item) for item in node.items), node.mark)
        if isinstance(node, MappingNode):
            pairs = tuple((name, self._fill(value)) for name, value in node.pairs)
            return MappingNode(pairs, node.mark)
        if "${" not in node.text:
            return node
        text, byte_text = node.text, node.byte_text
        self.findings.filled[node.mark] = text
        text = _REFERENCE.sub(lambda match: self._environment(match, node.mark), text)
        if byte_text is not None:
            byte_text = _REFERENCE.sub(lambda match: self._environment(match, node.mark), byte_text)
        return ScalarNode(text, node.mark, is_plain=False, byte_text=byte_text)

    def _environment(self, match: re.Match[str], mark: Mark) -> str:
        """Return the value of ${NAME}; report an unset variable once for each value."""
        reference = _VARIABLE.fullmatch(match[1])
        if reference is None or not match[2]:
            text = f"{quote(match[0])} is not understood, expected ${{NAME}} or ${{NAME:-default}}"
        else:
            name, default = reference.groups()
            value = self.environ.get(name)
            if value is not None and may_be_secret(value):
                self.findings.environment.add(value)
            if value is None or (value == "" and default is not None):
                value = default
            if value is not None:
                return value
            hint = did_you_mean(f"${name}" if name in VARIABLES else None)
            text = f"the environment variable {name} is not set, expected it or a default{hint}"
        if mark not in self.findings.refused:
            self.findings.report(mark, text, is_clean=True)
            self.findings.refused.add(mark)
        return ""


def _items(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, SequenceNode) else (node,)


def _read_text(path: str, mark: Mark, findings: Findings) -> str:
    """Return the text of the file that `mark` names."""
    subject = "" if mark.line == 0 else f"{quote_path(path)} "
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "a device, pipe or socket"
            raise findings.refuse(mark, f"{subject}is {what}, expected a file")
        with open(path, "rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise findings.refuse(mark, f"{subject}cannot be read: {error.strerror}") from None
    if len(data) > FILE_MAX_BYTES:
        size = format_size(FILE_MAX_BYTES)
        raise findings.refuse(mark, f"{subject}is larger than {size}, expected a configuration")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        good = error.object[: error.start].decode()
        text = f"the byte 0x{error.object[error.start]:02x}, expected text in UTF-8"
        raise findings.refuse(mark_at(good, len(good), path), text) from None
