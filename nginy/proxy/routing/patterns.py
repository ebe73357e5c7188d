"""Patterns: the names of servers and protocols that a route asks for.

A text is exact, a suffix ("*.example.com", which is every name below it and not the name itself),
or after a "~" a regular expression. Pure; `proxy/routing/conditions.py` has the conditions that use
them.

`check_name` and `check_protocol` refuse what no client can ever send: a slip in a name makes a
route that nobody takes and nobody misses, until the day it matters.

nginx: `map` with `hostnames`, less its masks at the end of a name.
"""

import re
from collections.abc import Sequence
from typing import Final

from nginy.errors import InvalidValueError
from nginy.proxy.lookups import parse_pattern

NAME_MAX_CHARACTERS: Final = 255
"""RFC 1035 §2.3.4. A longer name, which a client may send, has no suffix and fits no pattern."""

_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")


class Patterns:
    """Texts of which one has to fit: exact ones, suffixes ("*.example.com"), patterns ("~...")."""

    __slots__ = ("_exact", "_patterns", "_suffixes", "texts")

    def __init__(self, texts: Sequence[str], flags: int = 0) -> None:
        """Take texts that `check_name` or `check_protocol` permits."""
        self.texts = tuple(texts)
        self._exact = frozenset(each for each in texts if each[:1] not in ("~", "*"))
        self._suffixes = tuple(each[1:] for each in texts if each.startswith("*."))
        patterns = [parse_pattern(each) for each in texts if each.startswith("~")]
        self._patterns = [re.compile(each.pattern, each.flags | flags) for each in patterns]

    def fit(self, text: str) -> bool:
        """Whether one of them fits `text`, which is not empty."""
        if text in self._exact:
            return True
        if len(text) > NAME_MAX_CHARACTERS:
            return False
        return text.endswith(self._suffixes) or any(each.search(text) for each in self._patterns)


def check_name(text: str) -> str:
    """Return a text of `sni` in the form to compare; raises InvalidValueError."""
    if text.startswith("~"):
        parse_pattern(text)
        return text
    name = text.lower()
    bare = name.removeprefix("*.")
    if name.startswith(".") and _NAME.fullmatch(name[1:]):
        raise InvalidValueError("begins with a dot", f"*{name}")
    if "://" in name:
        raise InvalidValueError("is a URL", name.partition("://")[2].partition("/")[0] or None)
    if "*" in bare:
        hint = f"*.{bare.lstrip('*.')}" if bare.lstrip("*.") and name.startswith("*") else None
        raise InvalidValueError('has a "*" elsewhere than before the first dot', hint)
    if name.endswith("."):
        raise InvalidValueError("ends in a dot, which clients do not send", name.rstrip("."))
    if ":" in name and _NAME.fullmatch(name.partition(":")[0].removeprefix("*.")):
        raise InvalidValueError("has a port", name.partition(":")[0])
    if not name.isascii():
        raise InvalidValueError("has letters beyond ASCII", _encoded(name))
    if not _NAME.fullmatch(bare) or len(name) > NAME_MAX_CHARACTERS:
        raise InvalidValueError("is not the name of a server")
    return name


def _encoded(name: str) -> str | None:
    """Return a name as clients send it (IDNA)."""
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return None


def check_protocol(text: str) -> str:
    """Return a text of `alpn` in the form to compare; raises InvalidValueError."""
    if text.startswith("~"):
        parse_pattern(text)
    elif not text or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidValueError("is not the name of a protocol")
    elif "*" in text.removeprefix("*."):
        raise InvalidValueError('has a "*" elsewhere than before the first dot')
    return text
