"""UDP around the loop: clients, backends with one habit each, and listeners of the harness.

As in `kit.ends` nothing waits: each end is a non-blocking socket with a `step`.
"""

import contextlib
import socket
from collections.abc import Callable

from nginy.backend.backend import Backend
from nginy.backend.pool import BackendPool
from nginy.event.datagram import DatagramReceiver
from nginy.proxy.access import ALL, Access, Rule
from nginy.proxy.handler import ProxySettings
from nginy.proxy.reply import DatagramReplyHandler
from nginy.proxy.udp.handler import UdpHandler
from nginy.proxy.udp.header import HeaderReader
from nginy.text.address import Address
from nginy.wire.agent import Mode

from kit.ends import SockAddr, family_of
from kit.harness import ANY_PORT, Front, Harness
from kit.servers import address_text

MAX_BYTES = 65535
EVERYBODY = Access([(Rule(True, "all"), ALL)])
ROOM_BYTES = 1024 * 1024


class UdpEnd:
    """A UDP socket that collects what it receives, each datagram with its sender."""

    def __init__(self, sockaddr: SockAddr = ("127.0.0.1", 0)) -> None:
        self.socket = socket.socket(family_of(sockaddr), socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM_BYTES)
        self.socket.bind(sockaddr)
        self.received: list[bytes] = []
        self.senders: list[SockAddr] = []
        self.sockaddr: SockAddr = self.socket.getsockname()

    @property
    def name(self) -> str:
        """The address as the configuration writes it."""
        return address_text(self.socket)

    def step(self) -> bool:
        """Receive what there is; return whether there was anything."""
        has_moved = False
        with contextlib.suppress(BlockingIOError):
            while self.socket.fileno() >= 0:
                data, sender = self.socket.recvfrom(MAX_BYTES)
                has_moved = True
                self.received.append(data)
                self.senders.append(sender)
                self.heard(data, sender)
        return has_moved

    def heard(self, data: bytes, sender: SockAddr) -> None:
        """React to a datagram."""

    def send_to(self, data: bytes, sockaddr: SockAddr) -> None:
        assert self.socket.sendto(data, sockaddr) == len(data)

    def close(self) -> None:
        self.socket.close()


class UdpClient(UdpEnd):
    """Talks to one address, but hears everybody."""

    def __init__(self, target: SockAddr, source: SockAddr = ("127.0.0.1", 0)) -> None:
        super().__init__(source)
        self.target = target

    def send(self, data: bytes) -> None:
        self.send_to(data, self.target)


class UdpBackend(UdpEnd):
    """Answers each datagram with what `answers` makes of it; by default with an echo."""

    def __init__(
        self,
        answers: Callable[[bytes], list[bytes]] = lambda data: [data],
        sockaddr: SockAddr = ("127.0.0.1", 0),
    ) -> None:
        super().__init__(sockaddr)
        self.answers = answers

    def heard(self, data: bytes, sender: SockAddr) -> None:
        for answer in self.answers(data):
            self.send_to(answer, sender)


class UdpFront(Front):
    """A UDP listener of the harness."""

    handler: UdpHandler

    def client(self, source: str = "") -> UdpClient:
        """Return a new client of the listener, whose address may be given."""
        target = self.listener.address.sockaddr
        assert isinstance(target, tuple)
        return self.client_of(target, source)

    def client_of(self, target: SockAddr, source: str = "") -> UdpClient:
        """Return a new client that talks to another of the listener's addresses."""
        host = source or ("::1" if family_of(target) == socket.AF_INET6 else "127.0.0.1")
        return self.harness.add(UdpClient(target, (host, 0)))


def set_down(backend: Backend, is_down: bool = True) -> None:
    """Take a backend down, or up again, as an operator does."""
    backend.health.set_mode(Mode.MAINT if is_down else Mode.READY, "by the test", 0)
    backend.down = not backend.health.can_serve()


class SessionCloser:
    """Ends a handler's sessions when the harness closes: nothing but time would."""

    def __init__(self, handler: UdpHandler) -> None:
        self.handler = handler

    def step(self) -> bool:
        return False

    def close(self) -> None:
        end_sessions(self.handler)


def end_sessions(handler: UdpHandler) -> None:
    """End every session of a listener, as at the end of the process."""
    for session in (*handler.table.values(), *handler.detached):
        session.kill()


def udp_proxy(
    harness: Harness, pool: BackendPool, address: Address = ANY_PORT, **changes: object
) -> UdpFront:
    """Listen, and pass UDP clients on to `pool`; `changes` are fields of `ProxySettings`."""
    listener = harness.listen(address, udp=True)
    settings = ProxySettings(**{"timeout_ms": 60_000, **changes})  # type: ignore[arg-type]
    handler = UdpHandler(harness.loop, "front", listener.address, pool, settings)
    listener.start_datagrams(harness.loop, handler.datagram_handler)
    harness.add(SessionCloser(handler))
    front = UdpFront(harness, listener, handler)
    harness.fronts.append(front)
    return front


def read_headers(
    front: UdpFront,
    senders: Access = EVERYBODY,
    reader: type[HeaderReader] = HeaderReader,
    **options: bool,
) -> None:
    """Make a listener read PROXY headers; `options` are those of `HeaderReader`."""
    receiver = front.listener.connection
    assert isinstance(receiver, DatagramReceiver)
    receiver.handler = reader(front.handler, senders, **options).datagram_handler


def udp_reply(harness: Harness, text: bytes, address: Address = ANY_PORT) -> UdpFront:
    """Listen, and answer each datagram with `text`."""
    listener = harness.listen(address, udp=True)
    handler = DatagramReplyHandler(harness.loop, "front", listener.address, ProxySettings())
    handler.text = lambda _session: text
    listener.start_datagrams(harness.loop, handler.datagram_handler)
    front = UdpFront(harness, listener, handler)
    harness.fronts.append(front)
    return front
