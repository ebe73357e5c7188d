"""Datagrams while UDP sessions move: none is lost, and none begins a second session.

All clients of a UDP listener send to one socket, which both processes have. Only one process reads
it at any time. While sessions move, the old one does: it serves the clients that it still has, and
forwards on the lane what all others send, be they new or moved. So a datagram reaches the new
process after the session that it belongs to. When all sessions have moved, the old process stops
reading, and says `read`; what arrives in between waits in the socket.

If the lane is full, the old process leaves datagrams in the sockets as well.

Tested in tests/run/test_upgrade.py.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from nginy.process.takeover.estate import Estate
from nginy.process.takeover.link import Link
from nginy.process.takeover.messages import Message, MessageMembers
from nginy.process.takeover.session_record import parse_sockaddr, sockaddr_to_json
from nginy.proxy.udp.handler import UdpHandler
from nginy.text.address import SockAddr

FULL: Final = 64
"""With more messages than this waiting for room in the lane, datagrams stay in their sockets."""


class Forwarding:
    """The old side: reads the sockets of UDP listeners for both. Owned by a `Giver`."""

    __slots__ = ("_estate", "_handlers", "_is_full", "_is_over", "_link", "_room")

    def __init__(self, estate: Estate, link: Link, room: Callable[[], None]) -> None:
        """Call `room` when a datagram has left, so that sessions may follow."""
        self._room = room
        self._estate = estate
        self._link = link
        self._handlers: list[UdpHandler] = []
        self._is_full = self._is_over = False

    def begin(self) -> None:
        """Serve known clients only, and forward what all others send."""
        for name, handler, _ in self._estate.udp_handlers():
            handler.drain(True)
            handler.heir = partial(self._forward, name)
            self._handlers.append(handler)

    def _forward(self, name: str, sender: SockAddr, local: bytes, data: memoryview) -> None:
        members = {"listener": name, "from": sockaddr_to_json(sender), "local": local.hex()}
        self._link.send(Message("datagram", members, bytes(data)), self._left)
        if self._link.backlog >= FULL and not self._is_full:
            self._is_full = True
            self._rest()

    def _left(self, _is_sent: bool) -> None:
        if self._is_full and not self._link.backlog:
            self._is_full = False
            self._wake()
        self._room()

    def finish(self) -> None:
        """Leave the sockets to the other process: every session that could move has moved."""
        if not self._is_over:
            self._is_over = True
            if not self._is_full:
                self._rest()
            self._link.send(Message("read", {}))

    def take_back(self) -> None:
        """Serve everybody again."""
        for handler in self._handlers:
            handler.drain(False)
        self._handlers.clear()
        if self._is_over or self._is_full:
            self._is_over = self._is_full = False
            self._wake()

    def _rest(self) -> None:
        for receiver in self._estate.receivers():
            receiver.rest()

    def _wake(self) -> None:
        if not self._is_over:
            for receiver in self._estate.receivers():
                receiver.wake()


def deliver(message: Message, estate: Estate) -> None:
    """Serve a datagram that the old process has forwarded; raises MessageError."""
    members = MessageMembers(message.members)
    sender, local = parse_sockaddr(members.items("from")), members.bytes("local")
    try:
        receiver = estate.receiver(members.text("listener"))
    except KeyError:
        return  # this process does not serve that listener
    receiver.take(sender, local, memoryview(message.data))
