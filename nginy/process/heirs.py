"""Heirs: UDP clients of an address that a reload gives to another listener, on the same port.

An address and the wildcard that includes it are two sockets, and the kernel prefers the one of the
address. So when an address leaves the configuration, the wildcard serves its new clients: at once,
since its socket passes their datagrams on until its last session has ended. When an address comes,
the kernel sees to that.

What senders have announced once (`standalone`, see `proxy/udp/header.py`) goes along, both ways.

`services.py` calls this at each reload.

Tested in tests/run/test_shared_port.py.
"""

from collections.abc import Callable, Iterable, Mapping
from socket import inet_pton
from typing import cast

from nginy.event.datagram import DatagramReceiver
from nginy.event.listener import Listener
from nginy.proxy.handler import ProtocolHandler
from nginy.proxy.phases.arrival import Announced
from nginy.proxy.udp.base import ClientKey
from nginy.proxy.udp.handler import UdpHandler
from nginy.proxy.udp.header import note
from nginy.text.address import Address, SockAddr

Announcements = dict[ClientKey, Announced]
Heir = Callable[[SockAddr, bytes, memoryview], None]


def bequeath(
    before: UdpHandler, address: Address, listener: Listener, after: ProtocolHandler
) -> None:
    """Lead new clients of an address that retires to its wildcard, which `after` serves."""
    receiver = listener.connection
    if not isinstance(receiver, DatagramReceiver):
        return
    local = inet_pton(address.family, address.host)
    noted: Announcements = {}
    if isinstance(after, UdpHandler):
        noted = after.announcements
        for peer, client in before.announcements.items():
            key = cast("SockAddr", peer), local  # the address asked was clear
            if key not in noted:
                note(noted, key, client)
    before.heir = _heir(before.announcements, noted, local, receiver)


def _heir(
    before: Mapping[ClientKey, Announced],
    noted: Announcements,
    local: bytes,
    receiver: DatagramReceiver,
) -> Heir:
    def pass_on(sockaddr: SockAddr, _: bytes, data: memoryview) -> None:
        client = before.get(sockaddr)
        if client is not None:
            note(noted, (sockaddr, local), client)
        receiver.take(sockaddr, local, data)

    return pass_on


def inherit(after: UdpHandler, address: Address, before: Iterable[ProtocolHandler]) -> None:
    """Tell a new address what has been announced to it where the wildcard served it."""
    local = inet_pton(address.family, address.host)
    for handler in before:
        if isinstance(handler, UdpHandler):
            for key, client in handler.announcements.items():
                if key[1] == local and isinstance(key[0], tuple):
                    note(after.announcements, key[0], client)
