"""Files with certificates and keys, in PEM.

They are read with the configuration, as passwords are (secrets.py): a missing file is a mistake
with its place, a reload takes new ones, and the user of the process need not be able to read them.

checking/tls.py checks whether a certificate and a key belong together.

Tested in tests/config/test_health.py.
"""

from dataclasses import dataclass, field
from typing import Final

from nginy.config.node import Mark
from nginy.config.paths import FilePath, read_head
from nginy.config.types import Plain, ScalarKind
from nginy.errors import InvalidValueError

MAX_PEM_BYTES: Final = 1 << 20
"""More is a wrong file: all authorities that browsers trust have 220 KB."""
CERTIFICATE: Final = b"CERTIFICATE-----"
PRIVATE_KEY: Final = b"PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class Pem:
    """The content of a file, and its path. Equal if both are, so new content is a change."""

    path: str
    content: bytes = field(repr=False)


class PemFile(ScalarKind[Pem]):
    """The path of a file in which `mark` stands."""

    def __init__(self, holds: bytes) -> None:
        self.holds = holds
        self.what = "key" if holds == PRIVATE_KEY else "certificate"
        self.expected = f"the path of a file with a {self.what} in PEM"
        self.path = FilePath()

    def parse(self, text: str, mark: Mark) -> Pem:
        """Return the file's content; raise InvalidValueError if it is no such file."""
        path = self.path.parse(text, mark)
        content = read_head(path, MAX_PEM_BYTES + 1)
        if len(content) > MAX_PEM_BYTES or self.holds not in content:
            raise InvalidValueError(f"holds no {self.what}")
        return Pem(path, content)

    def write(self, value: Pem) -> Plain:
        """Return the path; the content stays where it is."""
        return value.path
