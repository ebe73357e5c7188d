"""Passwords, which belong in files of their own and not in the configuration.

If the configuration contains one anyway, nginy hides the values of keys that may hold passwords,
and values of the environment that look like passwords, from clients of the admin interface and from
problems, which go into logs.

A file that only its owner can read keeps a password out of `nginy -T`, of the process list and of
the backups of the configuration. It is read with the configuration, so a reload takes a new
password, and a missing file is a mistake with its place.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from nginy.config.node import Mark
from nginy.config.paths import FilePath, read_head
from nginy.config.types import Kind, Plain, ScalarKind
from nginy.errors import InvalidValueError
from nginy.text.mask import MASK

MAX_SECRET_BYTES: Final = 1024
"""More is a wrong file: the longest real ones, tokens, have some hundred."""


K = TypeVar("K", bound=Kind[Any])


_PUBLIC: Final = re.compile(
    r"[0-9.]+[a-zA-Z%]*"  # numbers, sizes, durations
    r"|[\w-]+(\.[\w-]+)+(:[0-9]+)?"  # hosts with a domain, IPv4 addresses
    r"|\[?[0-9a-fA-F:.]*:[0-9a-fA-F:.]*\]?(:[0-9]+)?"  # IPv6 addresses
    r"|/[\w./-]*"  # paths
)
_SHORTEST: Final = 6


def secret(kind: K) -> K:
    """Mark the kind of a key whose values may hold passwords, though they stand in the file."""
    kind.is_secret = True
    kind.hide = hide_all
    return kind


def secret_in_part(kind: K, hide: Callable[[str], str]) -> K:
    """Mark the kind of a key whose values may contain passwords, beside harmless parts."""
    kind.hide = hide
    return kind


def hide_all(_text: str) -> str:
    """Show nothing of a value."""
    return MASK


def hide_arguments(text: str) -> str:
    """Show only the program of a command line."""
    words = text.split(None, 1)
    return f"{words[0]} {MASK}" if len(words) > 1 else text


def hide_query(text: str) -> str:
    """Show a path without its query."""
    path, mark, _ = text.partition("?")
    return f"{path}?{MASK}" if mark else text


def may_be_secret(text: str) -> bool:
    """Whether a value of the environment may be a password: it looks like nothing else."""
    return len(text) >= _SHORTEST and not _PUBLIC.fullmatch(text)


@dataclass(frozen=True, slots=True)
class Secret:
    """A password, and the path of the file that has it."""

    path: str
    content: bytes = field(repr=False)


class SecretFile(ScalarKind[Secret]):
    """The path of a file with one line, the password."""

    expected = "the path of a file with a password in its only line"

    def __init__(self) -> None:
        self.path = FilePath()

    def parse(self, text: str, mark: Mark) -> Secret:
        """Return the password; raise InvalidValueError if the file has none."""
        path = self.path.parse(text, mark)
        content = read_head(path, MAX_SECRET_BYTES + 1)
        password = content.rstrip(b"\r\n")
        if not password:
            raise InvalidValueError("is empty")
        if len(content) > MAX_SECRET_BYTES or b"\n" in password:
            raise InvalidValueError("has more than one line")
        return Secret(path, password)

    def write(self, value: Secret) -> Plain:
        """Return the path; the password stays where it is."""
        return value.path
