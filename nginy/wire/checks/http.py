"""The http check: a GET request, and the status of the answer.

`nginy/wire/http.py` has the bytes of both. The check ends as soon as the status is known, and says
goodbye by its request (Connection: close).

Tested in tests/backend/checks/test_checker_live.py.
"""

from dataclasses import dataclass

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.errors import WireError
from nginy.wire.http import build_request, format_statuses, parse_status
from nginy.wire.shown import what_came


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """Asks for `path`; `host` is the backend's address if it is empty."""

    path: str = "/"
    host: str = ""
    statuses: frozenset[int] = frozenset(range(200, 400))
    name = ""

    def script(self, talk: Talk, target: Target) -> Script[None]:
        """Ask, and read the status."""
        expected = format_statuses(self.statuses)
        talk.expected = f"status {expected}"
        host = self.host or ("localhost" if target.address.is_unix else str(target.address))
        yield build_request(self.path, host)
        while True:
            received = bytes(talk.received)
            try:
                status = parse_status(received, is_eof=talk.is_eof)
            except WireError as error:
                raise CheckFailedError(f"{error}: {what_came(received, '')}") from None
            if status in self.statuses:
                return
            if status is not None:
                raise CheckFailedError(f"status {status} came, {expected} was expected")
            yield from talk.more()
