"""Inherited: listening sockets that were bound before this process needed them.

They come from a supervisor, from a service manager (`systemd.py`) or from the nginy that this one
replaces (`upgrade.py`). A listener that is about to open asks here first. The kernel knows what
each socket is bound to, so nothing else has to say which is which.

nginx: `ngx_add_inherited_sockets`, `ngx_set_inherited_sockets`.
"""

import _socket
import logging
import os
import socket
from collections.abc import Iterable, Sequence

from nginy.event.bind import ListenKey, ListenOptions, bind_listener
from nginy.event.listener import Listener
from nginy.text.address import Address

logger = logging.getLogger("nginy.server")


class Inherited:
    """Sockets that wait for their listeners. Closed by its creator."""

    __slots__ = ("_handed", "_sockets")

    def __init__(self) -> None:
        self._handed: set[ListenKey | None] = set()
        """What the previous nginy has bound. It owns the paths of its unix sockets until it has
        ended, as it may have to go on."""
        self._sockets: dict[ListenKey | None, list[_socket.socket]] = {}

    def add(self, sockets: Iterable[_socket.socket]) -> None:
        """Keep sockets until they are taken."""
        for sock in sockets:
            self._sockets.setdefault(key_of(sock), []).append(sock)

    def adopt(self, passed: Iterable[int], handed: Sequence[int]) -> None:
        """Keep what a service manager has passed, and what the previous nginy has handed over."""
        self.add(adopt(passed))
        sockets = adopt(handed)
        self._handed.update(map(key_of, sockets))
        self.add(sockets)

    def was_handed(self, key: ListenKey) -> bool:
        """Whether the previous nginy has bound that address."""
        return key in self._handed

    def listener(self, options: ListenOptions, neighbors: Sequence[_socket.socket]) -> Listener:
        """Return a listener with an inherited socket, or else a new one; raises ListenError."""
        sock = self.take(options.key)
        if sock is None:
            return bound_listener(options, neighbors)
        return Listener(options, sock)

    def has(self, key: ListenKey) -> bool:
        """Whether a socket bound to that address waits."""
        return bool(self._sockets.get(key))

    def take(self, key: ListenKey) -> _socket.socket | None:
        """Return a socket bound to that address, which the caller then owns; None if there is none.

        If there are several, the one that came first.
        """
        sockets = self._sockets.get(key)
        return sockets.pop(0) if sockets else None

    def close(self) -> None:
        """Close what no listener has taken."""
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()
        self._sockets.clear()

    def warn_and_close(self) -> None:
        """Close what no listener has taken, with a warning: its sender meant it to be served."""
        unwanted = [sock.getsockname() for socks in self._sockets.values() for sock in socks]
        # This comes first: by the time the log reports it, the kernel refuses clients instead of
        # resetting them.
        self.close()
        for address in unwanted:
            logger.warning(
                "closed inherited socket %s, no listener has this address",
                address,
            )


def bound_listener(options: ListenOptions, neighbors: Sequence[_socket.socket] = ()) -> Listener:
    """Return a listener that we bind beside our own sockets on its port; raises ListenError."""
    listener = Listener(options, bind_listener(options, neighbors))
    listener.is_inherited = False
    return listener


def adopt(fds: Iterable[int]) -> list[_socket.socket]:
    """Return inherited descriptors as sockets that do not block and that no child inherits.

    A descriptor that is not a socket stays as it is, with a warning.
    """
    sockets: list[_socket.socket] = []
    for fd in fds:
        try:
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
        except OSError as error:
            logger.warning(
                "inherited descriptor %d is not a socket (%s: %s)", fd, error.errno, error.strerror
            )
        else:
            sock.setblocking(False)
            sockets.append(sock)
    return sockets


def key_of(sock: _socket.socket) -> ListenKey | None:
    """Return what a socket listens on; None if it cannot serve a listener."""
    name = sock.getsockname()
    is_udp = sock.type == socket.SOCK_DGRAM
    if not is_udp and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return None
    family = socket.AddressFamily(sock.family)
    if family == socket.AF_UNIX:
        return (Address(family, path=name), is_udp) if isinstance(name, str) else None
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return Address(family, name[0], name[1]), is_udp
