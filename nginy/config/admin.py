"""The keys of the admin interface: where it listens, who may ask there and for what.

Without the key `admin`, the interface is a unix socket beside the pid file; `admin_listeners` knows
that. This module also checks the rules of these keys, since they concern nothing else.

Not here: the interface itself (the package `admin`), and its sockets (`process/admin.py`).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from socket import AF_UNIX
from typing import Final

from nginy.config.addresses import ListenAddresses
from nginy.config.node import Findings, Mark
from nginy.config.paths import FilePath
from nginy.config.record import Entry, MapOf, OrWords, Record, key
from nginy.config.types import Choice, Integer, OrOff, ScalarKind, Text
from nginy.errors import InvalidValueError
from nginy.proxy.access import Network, parse_network
from nginy.text.address import UNIX_PATH_MAX_BYTES, Address

ACCESSES: Final = ("full", "read", "metrics")
LOOPBACK: Final = ("127.0.0.0/8", "::1")
DEFAULT_MODE: Final = 0o600
TOKEN_MIN_CHARACTERS: Final = 32


class NetworkText(ScalarKind[str]):
    """A network or an address, kept as written."""

    expected = "a network such as 10.0.0.0/8 or an address"

    def parse(self, text: str, mark: Mark) -> str:
        """Return the text if it is a network."""
        parse_network(text)
        return text

    def write(self, value: str) -> str:
        """Return the text itself."""
        return value


class FileMode(ScalarKind[int]):
    """The permissions of a socket's file, in octal digits as chmod(1) takes them."""

    expected = "permissions in octal digits, such as 0600 or 0660"

    def parse(self, text: str, mark: Mark) -> int:
        """Return the bits."""
        if not re.fullmatch("0?[0-7]{3}", text):
            raise InvalidValueError("is not understood")
        return int(text, 8)

    def write(self, value: int) -> str:
        """Return four octal digits."""
        return f"{value:04o}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminListener(Entry):
    """Where the admin interface listens, and what it lets clients do there."""

    listen: tuple[Address, ...] = key(
        ListenAddresses(), None, "Where the admin interface answers HTTP.", blank=tuple
    )
    mode: int = key(FileMode(), "0600", "The permissions of a unix socket.")
    group: str | None = key(
        OrOff(Text("the name of a group", r"[\w.-]+")), "off", "The group of a unix socket."
    )
    access: str | None = key(
        OrOff(Choice(*ACCESSES), "auto"),
        "auto",
        "What clients may do; auto is full on unix sockets and read elsewhere.",
    )
    allow: tuple[str, ...] | None = key(
        OrWords(NetworkText(), auto=True),
        "auto",
        "Who may connect; auto is this machine. Other addresses need this or a token.",
    )
    hosts: tuple[str, ...] | None = key(
        OrWords(Text("a host name", r"[A-Za-z0-9._-]+")),
        "off",
        "Host names that requests may use, besides IP addresses and localhost.",
    )
    token_file: str | None = key(
        OrOff(FilePath()),
        "off",
        "Clients must send the token in this file: 32 characters at least, mode 0600 or 0640.",
    )

    def may(self, address: Address) -> str:
        """Return what clients may do at one of the addresses."""
        return self.access or ("full" if address.is_unix else "read")


# Rows of the table in schema.py.
ADMIN: Final = key(
    OrWords(Record(AdminListener, "an admin listener", shorthand="listen"), auto=True),
    "auto",
    "Where nginy answers questions about itself; auto is a unix socket beside the pid file.",
)
READY: Final = key(
    MapOf(Integer(0), "numbers of backends", lambda: 1),
    "{min_up: 1}",
    "nginy is ready with this many usable backends of each upstream (min_up), or of one by name.",
    blank=lambda: {"min_up": 1},
)


def admin_listeners(
    admin: tuple[AdminListener, ...] | None, pid: str | None
) -> tuple[AdminListener, ...]:
    """Return where the admin interface listens: as configured, or beside the pid file."""
    if admin is not None:
        return admin
    path = f"{pid}.sock"
    if pid is None or len(os.fsencode(path)) > UNIX_PATH_MAX_BYTES:
        return ()
    return (AdminListener(listen=(Address(AF_UNIX, path=path),)),)


def is_loopback(address: Address) -> bool:
    """Whether only this machine reaches the address."""
    return address.is_unix or address.host.startswith("127.") or address.host == "::1"


def networks(texts: Sequence[str]) -> list[Network]:
    """Return what `allow` names."""
    return [parse_network(text) for text in texts]


def check_admin(
    admin: Sequence[AdminListener], taken: Sequence[tuple[Address, Mark]], findings: Findings
) -> None:
    """Report admin listeners that are unsafe, or have an address of `taken`, all of TCP."""
    seen = dict(taken)
    for entry in admin:
        mark = entry.origin.of("listen")
        for address in entry.listen:
            if address in seen:
                findings.report(mark, f"listen: {address} is already listed at {seen[address]}")
            seen.setdefault(address, mark)
            if entry.origin.has("access", "allow", "token_file", "listen"):
                _check_access(entry, address, findings)


def _check_access(entry: AdminListener, address: Address, findings: Findings) -> None:
    origin = entry.origin
    if address.is_unix:
        for name in ("allow", "hosts", "token_file"):
            if getattr(entry, name):
                text = f"{name}: is for TCP, {address} has permissions, expected mode or group"
                findings.report(origin.of(name), text)
        return
    for name, has_effect in (("mode", entry.mode != DEFAULT_MODE), ("group", entry.group)):
        if has_effect:
            text = f"{name}: is for unix sockets, expected allow or token_file with {address}"
            findings.report(origin.of(name), text)
    if entry.may(address) == "full" and entry.token_file is None:
        text = f"access: full on {address} needs a token, expected token_file"
        findings.report(origin.of("access"), text)
    elif not is_loopback(address) and entry.token_file is None and entry.allow is None:
        text = f"listen: other machines can reach {address}, expected allow or token_file with it"
        findings.report(origin.of("listen"), text)
