r"""One line of haproxy.cfg as words: quotes, escapes, comments and the environment.

HAProxy knows \  \\ \# \' \" \n \r \t \xNN outside quotes and in double quotes, nothing in single
quotes, and keeps the backslash before anything else. Within double quotes $NAME, ${NAME} and
${NAME-default} stand for the environment; a word then has nginy's ${NAME} or ${NAME:-default},
which mean the same. A line never continues on the next one.

Source: HAProxy's configuration manual, 2.2 and 2.3, and `parse_line()` in its src/tools.c.
"""

import re
from collections.abc import Mapping
from typing import Final

from nginy.errors import InvalidValueError

BLANKS: Final = " \t\r\v\f"
ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", **dict.fromkeys(" \\#'\"")}
_HEX: Final = re.compile(r"\\x([0-9A-Fa-f]{2})")
_NAME: Final = re.compile(
    r"\$(?:\{(?P<braced>\.?[A-Za-z_]\w*|\.[A-Z]+)(?P<many>\[\*\])?(?:-(?P<default>[^}]*))?\}"
    r"|(?P<bare>\.?[A-Za-z_]\w*))",
    re.ASCII,
)


class Splitter:
    """Cuts one line; `pseudo` has the values of ${.FILE}, ${.LINE} and ${.SECTION}."""

    def __init__(self, line: str, pseudo: Mapping[str, str]) -> None:
        self._line = line
        self._pseudo = pseudo
        self._at = 0
        self._word: list[str] | None = None
        self._words: list[str] = []
        self._quote = ""

    def split(self) -> tuple[tuple[str, ...], str | None]:
        """Return the words and the comment, None without one. Raise InvalidValueError."""
        comment = None
        while self._at < len(self._line):
            letter = self._line[self._at]
            if letter == "#" and not self._quote:
                comment = self._line[self._at + 1 :]
                break
            self._step(letter)
        if self._quote:
            what = "double" if self._quote == '"' else "single"
            raise InvalidValueError(f"has a {what} quote that is not closed")
        self._end_word()
        return tuple(self._words), comment

    def _step(self, letter: str) -> None:
        """Take one character, or one escape, or one variable of the environment."""
        if letter in BLANKS and not self._quote:
            self._end_word()
        elif letter in "\"'" and self._quote in ("", letter):
            self._quote = "" if self._quote else letter
            self._add("")
        elif letter == "\\" and self._quote != "'":
            self._escape()
            return
        elif letter == "$" and self._quote == '"':
            self._environment()
            return
        else:
            self._add(letter)
        self._at += 1

    def _escape(self) -> None:
        following = self._line[self._at + 1 : self._at + 2]
        if following == "x":
            match = _HEX.match(self._line, self._at)
            if match is None:
                raise InvalidValueError(r"has a \x without two hexadecimal digits")
            byte = int(match[1], 16)
            if byte == 0:
                raise InvalidValueError(r"has a \x00, which ends a word of HAProxy")
            # A byte beyond ASCII is a lone surrogate, as with any other text of bytes (PEP 383).
            self._add(chr(byte) if byte < 0x80 else chr(0xDC00 + byte))
            self._at = match.end()
            return
        if following in ESCAPES and following:
            self._add(ESCAPES[following] or following)
        elif following == "$" and self._quote == '"':
            self._add("$")
        else:
            self._add("\\")
            self._at -= 1
        self._at += 2

    def _environment(self) -> None:
        match = _NAME.match(self._line, self._at)
        if match is None:
            raise InvalidValueError('has a "$" in double quotes without a name')
        name = match["braced"] or match["bare"]
        if match["many"]:
            text = "stands for several words, which only HAProxy's environment knows"
            raise InvalidValueError(f"has ${{{name}[*]}}, which {text}")
        if name.startswith("."):
            if name not in self._pseudo:
                raise InvalidValueError(f"has ${{{name}}}, which HAProxy does not know")
            self._add(self._pseudo[name])
        elif match["default"] is not None:
            self._add(f"${{{name}:-{match['default']}}}")
        else:
            self._add(f"${{{name}}}")
        self._at = match.end()

    def _add(self, text: str) -> None:
        if self._word is None:
            self._word = []
        self._word.append(text)

    def _end_word(self) -> None:
        if self._word is not None:
            self._words.append("".join(self._word))
        self._word = None


def split_line(
    line: str, pseudo: Mapping[str, str] | None = None
) -> tuple[tuple[str, ...], str | None]:
    """Return the words of a line and its comment, None without one. Raise InvalidValueError."""
    return Splitter(line, pseudo or {}).split()
