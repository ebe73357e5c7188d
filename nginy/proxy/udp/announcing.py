"""UDP sessions that announce their client: a PROXY header of version 2 in front of each datagram.

Header and payload are one datagram, so a backend finds both or none. What comes back carries no
header. The session drops a datagram that has no room left for the header, and logs by how many
bytes it is too long: the two ends have to agree on smaller ones.

`proxy/announcing.py` makes the header, once for each session.
`proxy/udp/handler.py::UdpHandler.announce` makes a session one of these, if its backend wants it;
other sessions pay nothing.

Source: haproxy doc/proxy-protocol.txt, revision of 2026-04-27. nginx sends no header over UDP.
"""

import errno
import logging
from _socket import AF_INET6, IPPROTO_IP, IPPROTO_IPV6
from typing import Final

from nginy.event.datagram import DatagramConnection
from nginy.log.limit import similar
from nginy.proxy.session import Reason, Session
from nginy.proxy.udp.run import RUN_DATAGRAM_BYTES
from nginy.proxy.udp.session import UdpSession

HEADS_V4: Final = 28
"""Bytes of the headers of IPv4 and UDP (RFC 791 §3.1, RFC 768)."""
HEADS_V6: Final = 48
"""Of those of IPv6 and UDP (RFC 8200 §3)."""
LARGEST_V4: Final = 65535 - HEADS_V4
LARGEST_V6: Final = 65535 - 8
"""IPv6 does not count its own header (RFC 8200 §3)."""

IP_MTU: Final = 14
"""Linux, in.h: the largest packet that the way to the peer takes, as far as known."""
IPV6_MTU: Final = 24
"""Linux, in6.h."""


class AnnouncingSession(UdpSession):
    """A UDP session whose backend gets a PROXY header with each datagram."""

    __slots__ = ()

    def forward(self, data: memoryview) -> bool:
        """Send a datagram of the client to the backend behind the header, or drop it.

        The contract is that of `UdpSession.forward`.
        """
        client, upstream, handler = self.client, self.upstream, self.handler
        if upstream is None:
            return False
        try:
            upstream.sent += upstream.socket.sendmsg((self.header, data))
        except OSError as error:
            code = error.errno or 0
            if code == errno.EMSGSIZE:
                self._say_too_long(upstream, len(data))
            return self._not_forwarded(code, data)
        client.received += len(data)
        client.active_at_ms = client.loop.clock.now_ms
        self._requests += 1
        settings = handler.settings
        if 0 < settings.requests <= self._requests:
            handler.detach(self)
        if settings.responses is not None and self.is_answered(settings.responses):
            self.finalize(Reason.COMPLETED)
        return True

    def send_run(self, run: list[memoryview]) -> list[memoryview]:
        """Send datagrams of one length, each behind the header; return those that are left."""
        size = len(self.header) + len(run[0])
        if size > RUN_DATAGRAM_BYTES:
            for position, data in enumerate(run):
                if not self.forward(data):
                    return run[position:]
            return []
        return super().send_run(run)

    def _send_run_by(self, upstream: DatagramConnection, run: list[memoryview]) -> bool:
        return upstream.send_run([memoryview(self.header + data) for data in run])

    def _say_too_long(self, upstream: DatagramConnection, count: int) -> None:
        """Log by how many bytes a datagram is too long."""
        drops, now_ms = self.handler.drops, self.handler.loop.clock.now_ms
        suppressed = drops.limited.admit("too long with its PROXY header", now_ms)
        if suppressed is None:
            return
        size = len(self.header) + count
        excess = size - _room(upstream, size)
        text = f"a datagram of {count} bytes is {excess} too long with its PROXY header of"
        text += f" {len(self.header)}{similar(suppressed)}"
        Session.log(self, logging.WARNING, text)


def _room(upstream: DatagramConnection, size: int) -> int:
    """Return how many bytes a datagram may have, as `size` was too many: the limit of UDP, or of
    the way to the backend."""
    sock = upstream.socket
    if sock.family == AF_INET6:
        largest = LARGEST_V6
        return largest if size > largest else sock.getsockopt(IPPROTO_IPV6, IPV6_MTU) - HEADS_V6
    largest = LARGEST_V4
    return largest if size > largest else sock.getsockopt(IPPROTO_IP, IP_MTU) - HEADS_V4
