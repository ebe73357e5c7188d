r"""The grammar of nginx.conf: words, quotes, escapes, comments, blocks, and where includes go.

A directive is words that end in ";" or in a block. A "#" at the start of a word begins a comment; a
quote there begins a text that may hold anything. \" \' \\ \t \r \n are escapes, and any other
backslash stays. As in nginx, "{" after "$" belongs to the word.

Comments stay with the directive that follows them, or that ends on their line. Blocks of Lua, which
follow other rules, are skipped.

nginx: core/ngx_conf_file.c, ngx_conf_read_token.

Not here: what any directive means (table.py).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from nginy.commands.importing.model import refuse

DEPTH_MAX: Final = 32
"""nginx's own blocks need 6; this keeps recursion over directives shallow."""

_ESCAPES: Final = {'"': '"', "'": "'", "\\": "\\", "t": "\t", "r": "\r", "n": "\n"}
_ESCAPE: Final = re.compile(r"\\([\"'\\trn])")
_SPACE: Final = re.compile(r"[ \t\r]+")
_WORD: Final = re.compile(r"(?:\\.|\$\{|[^\s;{\\])+", re.DOTALL)
_QUOTED: Final = {
    '"': re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL),
    "'": re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL),
}
_AFTER_QUOTE: Final = re.compile(r"[\s;{)]|\Z")
_LUA: Final = "_by_lua_block"
_OF_LUA: Final = re.compile(r"""--[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|[{}]""", re.DOTALL)


@dataclass(slots=True, eq=False)
class Directive:
    """One directive with its comments; `block` is None unless it has one.

    `end` has the comments before the block's "}".
    """

    words: list[str]
    file: str
    line: int
    block: "list[Directive] | None" = None
    above: list[str] = field(default_factory=list)
    behind: str = ""
    end: list[str] = field(default_factory=list)
    is_placed: bool = False
    """Whether its comments have found their place already."""

    @property
    def name(self) -> str:
        """Its first word."""
        return self.words[0]

    @property
    def arguments(self) -> list[str]:
        """Its other words."""
        return self.words[1:]


@dataclass(slots=True)
class Parsed:
    """The directives of a file, and the comments after the last one."""

    directives: list[Directive]
    end: list[str]


@dataclass(slots=True)
class _Token:
    kind: str
    """"word", "#" for a comment, or one of ; { }."""
    text: str
    line: int
    is_first: bool
    """Whether nothing but blanks stands before it on its line."""


def parse(text: str, file: str) -> Parsed:
    """Return the directives of a text; raise ConfigError at the first mistake."""
    return _Parser(file).parse(text)


class _Parser:
    """Makes directives of tokens."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.top: list[Directive] = []
        self.open: list[Directive] = []
        self.words: list[str] = []
        self.line = 0
        """Where the words begin."""
        self.above: list[str] = []
        self.last: Directive | None = None
        """The one that a comment on the same line belongs to."""

    def parse(self, text: str) -> Parsed:
        for token in _tokens(text, self.file):
            if token.kind == "#":
                self._comment(token)
            elif token.kind == "word":
                if not self.words:
                    self.line, self.last = token.line, None
                self.words.append(token.text)
            elif token.kind == "}":
                self._close(token)
            else:
                self._directive(token)
        if self.words:
            raise refuse(self.file, self.line, f'"{self.words[0]}" has no ";" or "{{" after it')
        if self.open:
            block = self.open[-1]
            raise refuse(self.file, block.line, f'the block of "{block.name}" has no "}}"')
        return Parsed(self.top, self.above)

    def _comment(self, token: _Token) -> None:
        last = self.last
        if last is not None and not token.is_first:
            if last.behind:
                last.end.append(token.text)
            else:
                last.behind = token.text
        else:
            self.above.append(token.text)

    def _close(self, token: _Token) -> None:
        if self.words:
            text = f'"}}" within "{self.words[0]}", expected ";" before it'
            raise refuse(self.file, token.line, text)
        if not self.open:
            raise refuse(self.file, token.line, 'an unexpected "}" without a "{"')
        self.last = self.open.pop()
        self.last.end, self.above = self.above, []

    def _directive(self, token: _Token) -> None:
        if not self.words:
            raise refuse(self.file, token.line, f'an unexpected "{token.kind}"')
        directive = Directive(self.words, self.file, self.line, above=self.above)
        siblings = self.open[-1].block if self.open else self.top
        if siblings is not None:
            siblings.append(directive)
        self.words, self.above, self.last = [], [], directive
        if token.kind == "{":
            if len(self.open) == DEPTH_MAX:
                raise refuse(self.file, token.line, f"more than {DEPTH_MAX} levels of blocks")
            directive.block = []
            self.open.append(directive)


def _tokens(text: str, file: str) -> Iterator[_Token]:
    """Yield the tokens of a text."""
    position, line, is_first = 0, 1, True
    previous = ""
    while position < len(text):
        letter = text[position]
        if letter == "\n":
            position, line, is_first = position + 1, line + 1, True
            continue
        blank = _SPACE.match(text, position)
        if blank is not None:
            position = blank.end()
            continue
        if letter == "#":
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
            yield _Token("#", text[position + 1 : end].rstrip(), line, is_first)
            position = end
            continue
        if letter in ";{}":
            yield _Token(letter, letter, line, is_first)
            position, is_first = position + 1, False
            if letter == "{" and previous.endswith(_LUA):
                position = _end_of_lua(text, position, file, line)
                line = text.count("\n", 0, position) + 1
            previous = ""
            continue
        word, end = _word(text, position, file, line)
        yield _Token("word", word, line, is_first)
        line += text.count("\n", position, end)
        position, is_first, previous = end, False, word


def _word(text: str, position: int, file: str, line: int) -> tuple[str, int]:
    """Return the word at a position, unescaped, and where it ends."""
    quote = _QUOTED.get(text[position])
    if quote is not None:
        match = quote.match(text, position)
        if match is None:
            raise refuse(file, line, f"a quote ({text[position]}) that is never closed")
        end = match.end()
        if _AFTER_QUOTE.match(text, end) is None:
            raise refuse(file, line, f'an unexpected "{text[end]}" after a quote')
        body = match[1]
    else:
        match = _WORD.match(text, position)
        if match is None:  # a backslash at the end of the text
            return text[position:], len(text)
        body, end = match[0], match.end()
    return _ESCAPE.sub(lambda found: _ESCAPES[found[1]], body), end


def _end_of_lua(text: str, position: int, file: str, line: int) -> int:
    """Return where the brace is that closes a block of Lua."""
    depth = 1
    for match in _OF_LUA.finditer(text, position):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return match.start()
    raise refuse(file, line, "a block of Lua that is never closed")
