"""PROXY headers of datagrams: a proxy in front of nginy announces the client of each one.

A `HeaderReader` stands between a UDP listener's socket and its handler (`proxy/udp/handler.py`).
Each datagram of a proxy is a header of version 2 and the client's payload. The reader takes the
header off, and hands the payload on as the announced client's. The session is that client's, for
access rules, limits, hash keys, variables and logs; answers go back to the proxy, without a header.
A check of the proxy itself (LOCAL) counts as the proxy's own datagram.

With `standalone`, a header may also come alone, once, ahead of the datagrams of its client; from
then on, whatever this peer sends without a header is that client's (as Cloudflare does it).

The one idea: the header of a client hardly ever changes, so the reader remembers what its bytes
mean. Reading one, with its checksum, takes 20 µs, and looking it up less than 1 µs.

`proxy/phases/real_address.py` does the same for TCP. Source: haproxy doc/proxy-protocol.txt,
revision of 2026-04-27. nginx reads no header over UDP.
"""

import logging
from typing import ClassVar, Final

from nginy.event.datagram import DatagramReceiver
from nginy.proxy.access import Access
from nginy.proxy.context import host_of
from nginy.proxy.phases.arrival import Announced, announced
from nginy.proxy.phases.real_address import STRANGER, sender_test
from nginy.proxy.udp.base import ClientKey
from nginy.proxy.udp.handler import UdpHandler
from nginy.text.address import SockAddr
from nginy.wire.errors import WireError
from nginy.wire.proxy_protocol import SIGNATURE, V1_HEAD, V2_HEAD, parse

HEADER_MAX_BYTES: Final = 1024
"""nginy remembers thousands of headers, so none may be long. dnsdist's default is 512."""
HEADERS_MAX: Final = 10_000
"""Headers whose meaning is remembered; some 600 bytes each."""
ANNOUNCEMENTS_MAX: Final = 100_000
"""Clients that were announced by a header alone; some 800 bytes each, and only proxies that may
announce anybody make them."""


class HeaderReader:
    """Reads the headers of a listener's datagrams. Made with each handler; owns nothing."""

    __slots__ = ("_accepts_others", "_handler", "_is_sender", "_is_standalone", "_known")

    headers_max: ClassVar = HEADERS_MAX
    announcements_max: ClassVar = ANNOUNCEMENTS_MAX

    def __init__(
        self,
        handler: UdpHandler,
        senders: Access,
        *,
        accepts_others: bool = False,
        is_standalone: bool = False,
    ) -> None:
        """Serve `handler`; the rules of `senders` fit the proxies, and nobody else."""
        self._handler = handler
        self._is_sender = sender_test(senders)
        self._accepts_others = accepts_others
        self._is_standalone = is_standalone
        self._known: dict[bytes, tuple[Announced | None, int]] = {}
        """By a header's bytes: its client, None for a proxy's own datagram, and its length."""

    def datagram_handler(
        self, receiver: DatagramReceiver, sockaddr: SockAddr, local: bytes, data: memoryview
    ) -> None:
        """Hand on a datagram as that of the client in its header, or drop it."""
        handler = self._handler
        if handler.heir is not None and not self._is_known(sockaddr, local, data):
            # Whole: the heir may have other rules for proxies, or take none.
            handler.heir(sockaddr, local, data)
            return
        if not self._is_sender(host_of(sockaddr)):
            if self._accepts_others:
                handler.datagram_handler(receiver, sockaddr, local, data)
            else:
                self._drop("access", f"the sender {STRANGER}", sockaddr)
            return
        key: ClientKey = (sockaddr, local) if local else sockaddr
        if data[: len(SIGNATURE)].tobytes() == SIGNATURE:
            try:
                client, size = self._read(data)
            except WireError as error:
                self._drop("invalid", f"bad PROXY header: {error}", sockaddr)
                return
            data = data[size:]
            if self._is_standalone and not data:
                self._note(key, client)
                return
        else:
            client = self._noted(key)
            if client is None:
                self._drop("invalid", f"bad PROXY header: {_why_none(data)}", sockaddr)
                return
        if client is None:
            handler.datagram_handler(receiver, sockaddr, local, data)
            return
        client.proxy, client.local = sockaddr, local
        session = handler.table.get(client)
        if session is not None and session.client.replies_to != sockaddr:
            session.client.came_through(sockaddr, local, receiver.address.port)
        handler.datagram_handler(receiver, client, b"", data)

    def _is_known(self, sockaddr: SockAddr, local: bytes, data: memoryview) -> bool:
        """Return whether the client of a datagram has a session here.

        Note a header that comes alone in any case: the next datagrams no longer belong to the
        previous client, which may have a session here.
        """
        key: ClientKey = (sockaddr, local) if local else sockaddr
        client: Announced | None = None
        if self._is_sender(host_of(sockaddr)):
            if data[: len(SIGNATURE)].tobytes() != SIGNATURE:
                client = self._noted(key)
            else:
                try:
                    client, size = self._read(data)
                except WireError:
                    return False
                if self._is_standalone and len(data) == size:
                    self._note(key, client)
        return (client or key) in self._handler.table

    def _read(self, data: memoryview) -> tuple[Announced | None, int]:
        """Return the client that the header of a datagram announces, and the header's length.

        Raises WireError.
        """
        size = V2_HEAD.size + int.from_bytes(data[V2_HEAD.size - 2 : V2_HEAD.size], "big")
        head = bytes(data[:size])
        known = self._known.get(head)
        if known is None:
            if size > HEADER_MAX_BYTES:
                allowed = f"{HEADER_MAX_BYTES} are allowed in a datagram"
                raise WireError(f"a header of {size} bytes, {allowed}")
            header = parse(head)
            if header is None:
                raise WireError("it is cut off")
            source = header.source
            client = announced(source, header) if isinstance(source, tuple) else None
            known = self._known[head] = client, size
            if len(self._known) > self.headers_max:
                del self._known[next(iter(self._known))]
        return known

    def _note(self, key: ClientKey, client: Announced | None) -> None:
        """Note the client that a peer speaks for, until it announces another one."""
        note(self._handler.announcements, key, client, self.announcements_max)
        if self._handler.on_announced is not None:
            self._handler.on_announced(key, client)

    def _noted(self, key: ClientKey) -> Announced | None:
        """Return the client that a peer without a header speaks for, None if there is none."""
        if not self._is_standalone:
            return None
        noted = self._handler.announcements
        client = noted.pop(key, None)
        if client is not None:
            noted[key] = client
        return client

    def _drop(self, reason: str, message: str, sockaddr: SockAddr) -> None:
        handler = self._handler
        now_ms = handler.loop.clock.now_ms
        handler.drops.refuse(reason, message, sockaddr, handler.name, now_ms, logging.INFO)


def note(
    noted: dict[ClientKey, Announced],
    key: ClientKey,
    client: Announced | None,
    most: int = ANNOUNCEMENTS_MAX,
) -> None:
    """Note in a listener's announcements which client a peer speaks for; None: for itself."""
    noted.pop(key, None)
    if client is not None:
        noted[key] = client
        if len(noted) > most:
            del noted[next(iter(noted))]


def _why_none(data: memoryview) -> str:
    """Return what is wrong with a datagram that has no header of version 2."""
    if data[: len(V1_HEAD)].tobytes() == V1_HEAD:
        return "version 1 is for streams, datagrams need version 2"
    return "the datagram does not begin with the signature of version 2"
