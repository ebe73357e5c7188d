"""Interface: the admin interface that a command asks, and what is known about it.

It belongs to a configuration, or has the address after -a. In the second case, a configuration may
still have the token to send, and the names of backends.

Not here: the request and its answer (`asking.py`).
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nginy.config.admin import AdminListener, admin_listeners
from nginy.config.node import did_you_mean
from nginy.config.schema import Config
from nginy.errors import InvalidValueError, NginyError
from nginy.text.address import Address, parse_peer

CONNECT_S: Final = 5.0
"""How long to try to reach a host by its name."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One admin interface."""

    entries: Sequence[AdminListener]
    name: str
    """The configuration, or the address, for messages."""
    config: Config | None = None
    """The configuration that it serves, if the command line names it."""

    def place(self, *, is_change: bool) -> tuple[AdminListener, Address]:
        """Return the address to ask, and its listener: a unix socket if there is one, and for a
        change where that is allowed."""
        places = [(entry, address) for entry in self.entries for address in entry.listen]
        if not places:
            example = "admin: 127.0.0.1:9180"
            text = f'{self.name} has no admin interface, expected a line such as "{example}"'
            raise NginyError(text)
        return min(
            places,
            key=lambda place: (
                is_change and place[0].may(place[1]) != "full",
                not place[1].is_unix,
            ),
        )

    @property
    def may_change(self) -> bool:
        """Whether it has a place where changes are allowed, as far as is known."""
        entry, address = self.place(is_change=True)
        return entry.may(address) == "full"


def interface_of(config: Config, path: str) -> Interface:
    """Return the interface of a configuration, whose path it is."""
    return Interface(admin_listeners(config.admin, config.pid), path, config)


def interface_at(text: str, config: Config | None) -> Interface:
    """Return the interface at an address that was typed; raises NginyError."""
    address = _parse(text)
    entries = () if config is None else admin_listeners(config.admin, config.pid)
    for entry in entries:
        if any(_reaches(address, each) for each in entry.listen):
            # Not only its token: it also says what clients may do there.
            return Interface((_only(entry, address),), text, config)
    return Interface((AdminListener(listen=(address,)),), text, config)


def _only(entry: AdminListener, address: Address) -> AdminListener:
    return AdminListener(listen=(address,), access=entry.access, token_file=entry.token_file)


def _reaches(address: Address, listener: Address) -> bool:
    """Whether a connection to an address reaches a listener."""
    if listener.is_wildcard:
        return (address.family, address.port) == (listener.family, listener.port)
    return str(address) == str(listener)


def _parse(text: str) -> Address:
    """Return an address to connect to."""
    if text.startswith("unix:") and text != "unix:":
        # A relative path starts at the shell's directory, as for any typed file.
        text = f"unix:{os.path.abspath(text.removeprefix('unix:'))}"
    try:
        address, clause, hint = parse_peer(text), "has no port", None
    except InvalidValueError as error:
        address, clause, hint = None, error.clause, error.hint
    if address is None or not (address.is_unix or (address.port and address.offset is None)):
        meant = did_you_mean(hint or _meant(text))
        raise NginyError(f'-a "{text}" {clause}{meant}, expected unix:PATH or HOST:PORT')
    return _resolved(address) if address.is_name else address


def _meant(text: str) -> str | None:
    """Return what a URL, or a path alone, probably means."""
    if text.startswith("http://"):
        return text.removeprefix("http://").partition("/")[0]
    return f"unix:{text}" if "/" in text or text.endswith(".sock") else None


def _resolved(address: Address) -> Address:
    """Return the first address of a name that accepts connections."""
    try:
        with socket.create_connection((address.host, address.port), CONNECT_S) as sock:
            return Address(sock.family, sock.getpeername()[0], address.port)
    except OSError as error:
        reason = error.strerror or "timed out"
        raise NginyError(f"no answer from {address} ({reason}); is nginy running?") from error
