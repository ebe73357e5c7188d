"""Listing: the backends that an operator has added to an upstream or removed while nginy runs.

The file has the list; a listing adds addresses that the file does not have, and removes some that
it does. So the order of a reload and a change does not matter: `applied_to` is a function of both.
A new file that has an added address, or no longer has a removed one, wins by itself; the book of
changes (`admin/changes/book.py`) says so.

Several workers have the same listings: the supervisor sends them as JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from nginy.backend.backend import BackendSettings
from nginy.errors import InvalidValueError
from nginy.text.address import parse_peer


@dataclass(frozen=True, slots=True)
class Listing:
    """The differences from the file's list of an upstream."""

    added: tuple[BackendSettings, ...] = ()
    removed: frozenset[str] = frozenset()
    """By the name that the file has."""

    def applied_to(self, configured: Sequence[BackendSettings]) -> tuple[BackendSettings, ...]:
        """Return the list in effect, from the one in the file."""
        if self == AS_CONFIGURED:
            return tuple(configured)
        present = {each.name for each in configured}
        kept = [each for each in configured if each.name not in self.removed]
        return (*kept, *(each for each in self.added if each.name not in present))

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "added": [settings_to_json(each) for each in self.added],
            "removed": sorted(self.removed),
        }


AS_CONFIGURED: Final = Listing()

_PLAIN: Final = {each.name: each for each in fields(BackendSettings) if each.name != "address"}


def settings_to_json(settings: BackendSettings) -> dict[str, object]:
    """Return the settings of a backend as plain values."""
    return {name: getattr(settings, name) for name in _PLAIN}


def parse_settings(members: Mapping[str, Any]) -> BackendSettings:
    """Return what `settings_to_json` has made; raises ValueError or KeyError."""
    try:
        address = parse_peer(str(members["name"]))
    except InvalidValueError as error:
        raise ValueError(f"{members['name']!r} {error}") from error
    return BackendSettings(address=address, **{name: members[name] for name in _PLAIN})


def parse_listing(members: Mapping[str, Any]) -> Listing:
    """Return what `Listing.to_json` has made; raises ValueError or KeyError."""
    return Listing(
        tuple(parse_settings(each) for each in members["added"]),
        frozenset(map(str, members["removed"])),
    )
