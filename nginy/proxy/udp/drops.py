"""Drops: the datagrams that a UDP listener does not pass on, counted by reason.

UDP permits dropping a datagram; an operator has to know how many, and why. This module also logs
the datagrams for which no session begins, each message at most once a second. A session counts
what it drops itself (`proxy/udp/session.py`).

Tested in tests/proxy/udp/test_handler_live.py.
"""

import logging
from typing import Final

from nginy.event.clock import Clock
from nginy.log.limit import RateLimited, similar
from nginy.proxy.session import SESSIONS
from nginy.text.address import SockAddr, sockaddr_text

DROPS: Final = (
    "no_backend",  # no usable backend
    "shed",  # a new client, with max_sessions reached or while draining
    "access",  # denied by a rule
    "limit",  # a new client, with worker_connections, descriptors or ports used up
    "truncated",  # too long: the way on cannot carry it whole
    "send_error",  # refused by the network or its rules
    "invalid",  # cannot be answered, or cannot be parsed
    "queue_full",  # the socket's send buffer has no room
)
"""Reasons for which a datagram is dropped."""


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
        """Count a datagram."""
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
