"""Passwords, which belong in files of their own and not in the configuration.

A file that only its owner can read keeps a password out of `nginy -T`, of the process list and of
the backups of the configuration. It is read with the configuration, so a reload takes a new
password, and a missing file is a mistake with its place.

Tested in tests/config/test_health.py.
"""

from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from nginy.config.node import Mark
from nginy.config.paths import FilePath, read_head
from nginy.config.types import Kind, Plain, ScalarKind
from nginy.errors import InvalidValueError

MAX_SECRET_BYTES: Final = 1024
"""More is a wrong file: the longest real ones, tokens, have some hundred."""


K = TypeVar("K", bound=Kind[Any])


def secret(kind: K) -> K:
    """Mark the kind of a key whose values may hold passwords, though they stand in the file."""
    kind.is_secret = True
    return kind


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
