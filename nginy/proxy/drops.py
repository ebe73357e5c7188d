"""Drops: the datagrams and connections that a listener refuses, counted by reason.

An operator has to know how many, why, and since when. A connection is refused if nginy ends its
session before there is a connection to a backend, by `REFUSALS`. UDP permits dropping a datagram:
this module also logs those for which no session begins, each message at most once a second. A UDP
session counts what it drops itself (`proxy/udp/session.py`).

Also tested in tests/proxy/udp/test_handler_live.py.
"""

import logging
from collections.abc import Mapping
from typing import Final

from nginy.event.clock import Clock
from nginy.log.limit import RateLimited, similar
from nginy.proxy.session import SESSIONS, Reason
from nginy.text.address import SockAddr, sockaddr_text

DROPS: Final = (
    "no_backend",  # no usable backend, or too many clients wait for one
    "shed",  # a new client, with max_sessions reached or while draining
    "access",  # denied by a rule, or no route matches
    "limit",  # a new client over a limit, or with worker_connections, descriptors or ports used up
    "truncated",  # too long: the way on cannot carry it whole
    "send_error",  # refused by the network or its rules
    "invalid",  # cannot be answered or parsed; a PROXY header, handshake or ClientHello is late
    "queue_full",  # the socket's send buffer has no room
)
"""Reasons for which a datagram is dropped, or a connection refused."""

REFUSALS: Final[Mapping[Reason, str]] = {
    Reason.NO_BACKEND: "no_backend",
    Reason.QUEUE_FULL: "no_backend",
    Reason.QUEUE_TIMED_OUT: "no_backend",
    Reason.DENIED: "access",
    Reason.NO_ROUTE: "access",
    Reason.OVER_LIMIT: "limit",
    Reason.RESOURCE: "limit",
    Reason.BAD_HEADER: "invalid",
    Reason.HEADER_LATE: "invalid",
    Reason.BAD_HANDSHAKE: "invalid",
    Reason.HANDSHAKE_LATE: "invalid",
    Reason.BAD_PREREAD: "invalid",
    Reason.PREREAD_LATE: "invalid",
}
"""What a connection is counted as that ends for one of these reasons."""


class Drops(dict[str, int]):
    """Counts by reason, both directions, over all reloads. Belongs to a listener."""

    __slots__ = ("_clock", "firsts", "lasts", "limited", "logger")

    def __init__(self, clock: Clock) -> None:
        super().__init__(dict.fromkeys(DROPS, 0))
        self._clock = clock
        self.firsts: dict[str, int] = {}
        """When the first one was dropped, in milliseconds of wall time; an operator who resets the
        counters clears it."""
        self.lasts: dict[str, int] = {}
        """When the last one was dropped."""
        self.limited = RateLimited()
        """Keeps clients from filling the error log."""
        self.logger = SESSIONS
        """The logger of the listener's sessions."""

    def count(self, reason: str) -> None:
        """Count a datagram or a connection."""
        self[reason] += 1
        at_ms = self.lasts[reason] = self._clock.wall_ms()
        if reason not in self.firsts:
            self.firsts[reason] = at_ms

    def refuse(
        self,
        reason: str,
        message: str,
        sockaddr: SockAddr,
        listener: str,
        now_ms: int,
        level: int = logging.WARNING,
    ) -> None:
        """Count a datagram for which no session begins, and log why."""
        self.count(reason)
        suppressed = self.limited.admit(message, now_ms)
        if suppressed is not None:
            self.logger.log(
                level,
                "%s%s, client: %s, listener: %s",
                message,
                similar(suppressed),
                sockaddr_text(sockaddr),
                listener,
            )
