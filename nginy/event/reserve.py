"""Reserve: descriptors held back, so that a client is accepted only if its backend can be reached.

A session needs two descriptors, and gets them at two moments: the client's from accept(), the
upstream's from socket(). With one descriptor left, accept() would succeed and socket() fail. The
client would be reset, its descriptor be free again, and the next client meet the same end. So the
loop holds one descriptor back. `Listener` accepts only while it is there, and a session that finds
no other takes it (`Reserve.open_socket`). Clients that cannot be served wait in the kernel's queue.
HAProxy lets them wait there too (`src/listener.c`).

A session that connects later is promised a descriptor of its own: the loop holds back one more
until then. Such a session waits in a queue for a backend, or for its client's first bytes: a TLS
handshake, a PROXY header, a name to route by.

Only TCP sessions have a claim. Checks, pipes and UDP sessions do without if nothing is left.

Tested in tests/event/test_listener.py.
"""

import errno
from _socket import AF_UNIX, SOCK_DGRAM, socket
from typing import Final

from nginy.log.limit import RateLimited

OUT_OF_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE))
"""Errors of calls that find no descriptor: in this process, in the whole system."""

REPORT_MS: Final = 10_000
"""How often a lasting shortage is logged."""


class Reserve:
    """The descriptors that one loop holds back. Created and closed by the loop."""

    __slots__ = ("_held", "_wanted", "is_short", "limited")

    def __init__(self) -> None:
        self._held: list[socket] = []
        self._wanted = 1
        self.is_short = False
        """Fewer are held than should be: accept no client before `refill` succeeds."""
        self.limited = RateLimited(REPORT_MS)
        """Keeps a lasting shortage from filling the error log."""

    def refill(self) -> bool:
        """Hold back as many as the loop needs; return False if the system has none left."""
        try:
            while len(self._held) < self._wanted:
                # A socket, as /dev/null may be missing in a chroot, and dup() would not count for
                # the limit of the whole system.
                self._held.append(socket(AF_UNIX, SOCK_DGRAM))
            self.is_short = False
        except OSError:
            self.is_short = True
        return not self.is_short

    def open_socket(self, family: int, kind: int) -> socket:
        """Open a session's socket, with a descriptor of the reserve if there is no other.

        Raises OSError if there is none at all.
        """
        try:
            return socket(family, kind)
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS or not self._held:
                raise
        self._held.pop().close()
        self.is_short = True
        return socket(family, kind)

    def promise(self) -> None:
        """Hold one more back, for a session that will connect later."""
        self._wanted += 1
        self.refill()

    def redeem(self) -> None:
        """Release a promised one: the session connects now, or has ended."""
        self._wanted -= 1
        if len(self._held) > self._wanted:
            self._held.pop().close()

    def close(self) -> None:
        """Release all that is held."""
        for held in self._held:
            held.close()
        self._held.clear()
