"""Reading: what the parts of the reader share about one nginx.conf; and the walk over its files.

The walk joins the files that `include` names, finds the row of the table for each directive, and
judges those whose row is the whole verdict. The result is a tree of the other directives.

Tested in tests/commands/importing/nginx/test_table.py.
"""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from nginy.commands.importing.model import Block, Document, Files, refuse
from nginy.commands.importing.nginx.definitions import Definitions
from nginy.commands.importing.nginx.ledger import Ledger
from nginy.commands.importing.nginx.scope import argument
from nginy.commands.importing.nginx.syntax import Directive, Parsed, parse
from nginy.commands.importing.nginx.table import (
    CORE,
    EVENTS,
    LEFT_OUT,
    MAIN,
    SERVER,
    STREAM,
    STREAMS,
    UPSTREAM,
    UPSTREAMS,
    Row,
)
from nginy.commands.importing.report import Fate
from nginy.config.node import quote_path
from nginy.errors import ConfigError, InvalidValueError

INCLUDES_MAX: Final = 1000
INCLUDE_DEPTH_MAX: Final = 8

_OF_STREAM: Final = {"include": CORE["include"], "error_log": CORE["error_log"], **STREAMS}
ROWS: Final[Mapping[str, Mapping[str, Row]]] = {
    MAIN: CORE,
    EVENTS: CORE,
    STREAM: _OF_STREAM,
    SERVER: _OF_STREAM,
    UPSTREAM: {"include": CORE["include"], **UPSTREAMS},
}
"""The rows of each context."""
CONTEXTS: Final = {
    (MAIN, "events"): EVENTS,
    (MAIN, "stream"): STREAM,
    (STREAM, "server"): SERVER,
    (STREAM, "upstream"): UPSTREAM,
}
"""The context of a block's directives, by the context of the block and its name."""
ENTRIES: Final = frozenset({"geo", "map", "match", "split_clients"})
"""Blocks whose lines are not directives."""
NO_HTTP: Final = "nginy is layer 4 and does not read HTTP; leave this part to nginx"
NO_MAIL: Final = "nginy is layer 4 and speaks no mail protocol; leave this part to nginx"


@dataclass(slots=True)
class ConfReader:
    """One nginx.conf that is being read."""

    files: Files
    ledger: Ledger = field(default_factory=Ledger)
    document: Document = field(default_factory=Document)
    definitions: Definitions = field(default_factory=Definitions)
    has_workers: bool = False
    """Whether there may be several workers."""
    _count: int = 0

    def walk(self, path: str) -> tuple[list[Directive], list[str]]:
        """Return the directives of main, and the comments after the last one."""
        try:
            parsed = parse(self.files.read(path), path)
        except InvalidValueError as error:
            raise refuse(path, 0, error.clause) from None
        return list(self._walk(parsed.directives, MAIN, (path,))), parsed.end

    def _walk(
        self, directives: list[Directive], context: str, chain: tuple[str, ...]
    ) -> Iterator[Directive]:
        """Yield directives with those of the files that they include; meet all of them."""
        for directive in directives:
            if directive.name == "include" and directive.arguments and directive.block is None:
                self.ledger.meet(directive)
                yield from self._include(directive, context, chain)
                continue
            if context:
                self._meet(directive, context)
            inner = CONTEXTS.get((context, directive.name), "")
            if directive.block is not None and (inner or directive.name in ENTRIES):
                directive.block = list(self._walk(directive.block, inner, chain))
            yield directive

    def _meet(self, directive: Directive, context: str) -> None:
        """Give a directive its entry in the report."""
        name = directive.name
        row = ROWS[context].get(name)
        if context == MAIN and name in ("http", "mail") and directive.block is not None:
            self.ledger.meet(directive, LEFT_OUT, self._foreign(directive))
        elif row is None:
            self.ledger.meet(directive, LEFT_OUT, "nginy does not know this directive of nginx")
        elif context not in row.contexts:
            self.ledger.meet(directive, LEFT_OUT, f"nginx does not take it in {context}")
        else:
            text = row.text if row.fate is not Fate.EXACT else ""
            self.ledger.meet(directive, row.fate, text)

    def _foreign(self, directive: Directive) -> str:
        """Return the sentence about `http` or `mail`."""
        servers = sum(_servers(directive, self.files, 0, set()))
        count = f"{servers} server{'' if servers == 1 else 's'}"
        return f"{count}; {NO_HTTP if directive.name == 'http' else NO_MAIL}"

    def _include(
        self, directive: Directive, context: str, chain: tuple[str, ...]
    ) -> Iterator[Directive]:
        """Yield the directives of the files that an `include` names."""
        file, line = directive.file, directive.line
        pattern = posixpath.join(posixpath.dirname(chain[0]), argument(directive))
        has_wildcard = any(letter in pattern for letter in "*?[")
        paths = self.files.match(pattern) if has_wildcard else [pattern]
        for number, path in enumerate(paths):
            self._count += 1
            if path in chain or len(chain) > INCLUDE_DEPTH_MAX or self._count > INCLUDES_MAX:
                what = "includes itself" if path in chain else "is one file too many"
                raise refuse(file, line, f"{quote_path(path)} {what}")
            parsed = self._parsed(path, directive)
            if parsed.directives and not number:
                first = parsed.directives[0]
                behind = [directive.behind] if directive.behind else []
                first.above = [*directive.above, *behind, *first.above]
            yield from self._walk(parsed.directives, context, (*chain, path))

    def _parsed(self, path: str, directive: Directive) -> Parsed:
        try:
            return parse(self.files.read(path), path)
        except InvalidValueError as error:
            text = f"{quote_path(path)} {error.clause}"
            raise refuse(directive.file, directive.line, text) from None


def _servers(block: Directive, files: Files, depth: int, seen: set[str]) -> Iterator[int]:
    """Yield 1 for each server in `http` or `mail`, as far as the included files can be read.

    Each file counts once, so files that include one another cost no more than others.
    """
    for directive in block.block or ():
        if directive.name == "server" and directive.block is not None:
            yield 1
        elif directive.name == "include" and directive.arguments and depth < INCLUDE_DEPTH_MAX:
            pattern = posixpath.join(files.directory, argument(directive))
            paths = files.match(pattern) if any(c in pattern for c in "*?[") else [pattern]
            for path in paths:
                if path in seen:
                    continue
                seen.add(path)
                try:
                    inner = parse(files.read(path), path).directives
                except (ConfigError, InvalidValueError):
                    inner = []
                yield from _servers(Directive([""], path, 1, inner), files, depth + 1, seen)


def place(reading: ConfReader, block: Block, directives: list[Directive], context: str) -> None:
    """Put the comments of directives, and notes about differences, where they belong.

    That is the key that a directive becomes, if the block has it; else the next such key, or the
    end of the block. Without a context, those of a server go above the block.
    """
    waiting: list[str] = []
    for directive in directives:
        if directive.is_placed:
            continue
        directive.is_placed = True
        entry = reading.ledger.entry(directive)
        lines = list(directive.above)
        behind = directive.behind
        if not entry.is_exact:
            lines.append(f" {entry.directive}: {entry.text}")
        row = ROWS[context].get(directive.name) if context else None
        target = row.key if row is not None else ""
        if not context and directive.name == "server":
            block.comment([*lines, *([behind] if behind else [])])
            block.end += directive.end
        elif target in block.values and target:
            block.comment([*waiting, *lines], target)
            waiting = []
            if behind and target not in block.behind:
                block.behind[target] = behind
            elif behind:
                block.comment([behind], target)
        else:
            waiting += [*lines, *([behind] if behind else []), *directive.end]
    block.end += waiting
