"""Scope: the directives that apply to one server, its own and those it inherits from `stream`.

As in nginx, a directive of the server replaces all of that name in `stream`; allow and deny count
as one.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from collections.abc import Iterable, Sequence

from nginy.commands.importing.nginx.ledger import Ledger
from nginy.commands.importing.nginx.syntax import Directive


class Scope:
    """The directives of a server by name; where it has none, those of `stream`."""

    def __init__(
        self, own: Sequence[Directive], inherited: Sequence[Directive], ledger: Ledger
    ) -> None:
        self._own = own
        self._inherited = inherited
        self.ledger = ledger

    def all(self, *names: str) -> list[Directive]:
        """Return all that apply of these names, which count as one."""
        found = [each for each in self._own if each.name in names]
        return found or [each for each in self._inherited if each.name in names]

    def one(self, name: str) -> Directive | None:
        """Return the directive of a name; of several, the first one counts."""
        found = self.all(name)
        for other in found[1:]:
            self.ledger.left_out(other, "it is already set, and the first one counts")
        return found[0] if found else None

    def word(self, name: str, default: str = "") -> str:
        """Return the only argument of a directive, or what nginx takes without it."""
        found = self.one(name)
        return argument(found) if found is not None and found.arguments else default

    def is_on(self, name: str) -> bool:
        """Whether a flag is on."""
        return self.word(name, "off").lower() == "on"


def argument(directive: Directive) -> str:
    """Return the first argument, "" if there is none."""
    return directive.arguments[0] if directive.arguments else ""


def named(directives: Iterable[Directive], name: str) -> list[Directive]:
    """Return the directives with a name."""
    return [each for each in directives if each.name == name]
