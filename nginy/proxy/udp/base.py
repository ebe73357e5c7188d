"""UdpHandlerBase and KeyedSession: what UDP sessions and their handler know of each other.

The handler of a UDP listener finds a session by the key of its client. The session, in turn, asks
the handler for three things: to let that key go, to keep a first datagram while its backend may
still refuse it, and to count what it could not pass on. Both sides build on this module, so neither
needs the other one.

`proxy/udp/handler.py` has the handler, `proxy/udp/opening.py` and `proxy/udp/session.py` have the
sessions.

Tested in tests/proxy/udp/test_handler_live.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from nginy.backend.backend import Backend
from nginy.backend.pool import BackendPool
from nginy.event.loop import Loop
from nginy.proxy.handler import ProxyHandler, ProxySettings
from nginy.proxy.phases.arrival import Announced
from nginy.proxy.session import Session
from nginy.text.address import Address, SockAddr

FIRSTS_MAX: Final = 64
"""First datagrams that a listener keeps. A refusal takes one round trip, so these do for 64,000 new
clients a second at 1 ms; they are 4 MB at most."""

Sender = SockAddr | Announced
"""Who has sent a datagram: the peer of the socket, or the client that this peer announces."""

ClientKey = Sender | tuple[Sender, bytes]
"""What tells clients apart: the address, on a wildcard listener with the packed address asked."""


class KeyedSession(Session):
    """A session that gets the datagrams of one client, as long as it holds the client's key."""

    __slots__ = ("key",)

    key: ClientKey | None
    """Its key in the handler's table, None if it is not there. `UdpSession` sets it at first: a
    method more on the way there costs each session 0.1 us."""


class UdpHandlerBase(ProxyHandler, ABC):
    """What the sessions of a UDP listener ask of its handler."""

    __slots__ = ("announcements", "firsts", "on_announced")

    def __init__(
        self,
        loop: Loop,
        name: str,
        address: Address,
        pool: BackendPool,
        settings: ProxySettings,
    ) -> None:
        super().__init__(loop, name, address, pool, settings)
        self.announcements: dict[ClientKey, Announced] = {}
        """By peer, the clients whose header came alone; the one heard longest ago comes first."""
        self.on_announced: Callable[[ClientKey, Announced | None], None] | None = None
        """Called with each new one, and with None for a peer that speaks for itself again."""
        self.firsts: dict[KeyedSession, bytes] = {}
        """The first datagrams of the newest sessions, until they are answered."""

    def hold(self, session: KeyedSession, data: bytes | memoryview) -> None:
        """Keep the first datagram of a session for a while, in case its backend refuses it."""
        if session.end is None:
            self.firsts[session] = bytes(data)
            if len(self.firsts) > FIRSTS_MAX:
                del self.firsts[next(iter(self.firsts))]

    @abstractmethod
    def hide(self, session: KeyedSession) -> None:
        """Find a session no more, as it may go to another process; it keeps its key."""

    @abstractmethod
    def show(self, session: KeyedSession) -> None:
        """Find a session again, or one that has come from another process."""

    @abstractmethod
    def announce(self, session: KeyedSession, backend: Backend) -> None:
        """Make a session send its backend the PROXY header that the backend expects, if any."""

    @abstractmethod
    def detach(self, session: KeyedSession) -> None:
        """Let a session's key go: its client's next datagram begins a new session."""
