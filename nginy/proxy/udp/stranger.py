"""Stranger: a UDP client that has no session yet, on its way through the phases.

Its datagram must cost little: nginy counts and logs no session before all phases have let
the client pass. So the phases see a stand-in for a session. It knows who the client is and which
address it asked, and rules and keys ask for nothing else.

Tested in tests/proxy/test_access_live.py.
"""

from nginy.event.datagram import SharedConnection
from nginy.log.limit import RateLimited, similar
from nginy.proxy.drops import Drops
from nginy.proxy.handler import ProtocolHandler
from nginy.proxy.phases.arrival import Arrival
from nginy.proxy.phases.phase import Refusal
from nginy.proxy.session import Session


class Stranger(Session):
    """What the phases see of a UDP client. Never ends, as it never begins."""

    __slots__ = ("_limited", "first")

    def __init__(
        self,
        handler: ProtocolHandler,
        client: SharedConnection,
        first: bytes,
        limited: RateLimited,
    ) -> None:
        self.first = first
        """Its datagram."""
        self._limited = limited
        self.handler = handler
        self.client = client
        self.arrival = self.upstream = None
        self.attempts = ()
        if handler.local_sockaddr is None:
            client.note_local_sockaddr()

    def log(self, level: int, message: str) -> None:
        """Write to the error log, each message at most once a second: strangers are many."""
        suppressed = self._limited.admit(message, self.client.loop.clock.now_ms)
        if suppressed is not None:
            super().log(level, f"{message}{similar(suppressed)}")


def admitted(
    handler: ProtocolHandler,
    client: SharedConnection,
    drops: Drops,
    data: memoryview,
    arrival: Arrival | None = None,
) -> Stranger | None:
    """Run the handler's phases for a client; if one refuses it, drop its datagram, return None.

    `arrival` is what a PROXY header has said of the client.
    """
    stranger = Stranger(handler, client, bytes(data), drops.limited)
    stranger.arrival = arrival
    for phase in handler.phases:
        verdict = phase.run(stranger, ())
        if isinstance(verdict, Refusal):
            level = verdict.reason.level
            if stranger.arrival is not None:
                stranger.arrival.give_back()
                level = stranger.arrival.log_level or level
            now_ms = handler.loop.clock.now_ms
            drops.refuse(verdict.drop, verdict.detail, client.sockaddr, handler.name, now_ms, level)
            return None
    return stranger
