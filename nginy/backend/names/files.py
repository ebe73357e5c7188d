"""The files that come before any name server: /etc/hosts and /etc/resolv.conf, as they are now.

`SystemFiles` reads both, and reads them again when they have changed: a DHCP client or a VPN
rewrites resolv.conf while nginy runs. When somebody asks for a name, it compares what stat() says,
at most once a second. The files are small and local, so reading one does not hold up the loop. A
file that disappears while nginy runs, or becomes unreadable, will soon have a successor: its last
content stays.

`wire/hosts.py` knows what the files mean; `resolver` uses them.
"""

import logging
import os
from typing import Final

from nginy.wire.hosts import ResolvConf, parse_hosts, parse_resolv_conf

logger = logging.getLogger("nginy.backend")

LOOK_MS: Final = 1000
"""How often to look whether a file has changed, at most."""

Signature = tuple[int, int, int]
"""Inode, modification time in ns, size: what changes when a file does."""


class SystemFiles:
    """Both files. Created and asked by the `Resolver`."""

    __slots__ = (
        "_hosts_path",
        "_looked_at_ms",
        "_resolv_conf_path",
        "_signatures",
        "conf",
        "hosts",
    )

    def __init__(self, hosts_path: str, resolv_conf_path: str) -> None:
        """Read nothing yet."""
        self._hosts_path = hosts_path
        self._resolv_conf_path = resolv_conf_path
        self._signatures: dict[str, Signature] = {}
        self._looked_at_ms = 0
        self.hosts: dict[str, tuple[str, ...]] = {}
        """The addresses of each name, in lower case and without a final dot."""
        self.conf = ResolvConf()

    def read(self, now_ms: int) -> None:
        """Read both files; one that is missing counts as empty."""
        self._looked_at_ms = now_ms
        for path in (self._hosts_path, self._resolv_conf_path):
            self._signatures.pop(path, None)
            self._parse(path, self._read(path) or b"")

    def refresh(self, now_ms: int) -> bool:
        """Read what has changed, unless the last look was just now; return whether anything has."""
        if now_ms - self._looked_at_ms < LOOK_MS:
            return False
        self._looked_at_ms = now_ms
        has_changed = False
        for path in (self._hosts_path, self._resolv_conf_path):
            if signature(path) in (None, self._signatures.get(path)):
                continue
            content = self._read(path)
            if content is not None:
                self._parse(path, content)
                has_changed = True
        return has_changed

    def _read(self, path: str) -> bytes | None:
        """Return a file's content, or None if nginy cannot read it."""
        # First the signature: the next look then sees a change made in between.
        found = signature(path)
        if found is not None:
            self._signatures[path] = found
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning('open() "%s" failed (%s: %s)', path, error.errno, error.strerror)
            return None

    def _parse(self, path: str, content: bytes) -> None:
        if path == self._hosts_path:
            self.hosts = parse_hosts(content)
        else:
            self.conf = parse_resolv_conf(content)


def signature(path: str) -> Signature | None:
    """Return a value that changes with the file; None if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
