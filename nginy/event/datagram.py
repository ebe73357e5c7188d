"""Datagrams: UDP sockets as connections, which UDP itself does not have.

Three classes, one for each use of a socket. `DatagramConnection` is connected to one peer, as the
upstream of a session is. `DatagramReceiver` is a listener's socket, on which the datagrams of all
clients arrive. `SharedConnection` is one such client: it sends through the listener's socket and
owns neither descriptor nor event, so closing it costs nothing (nginx: a connection with `shared`
set). `proxy/udp/handler.py` decides which datagrams make up a session.

A datagram moves whole or not at all. The largest has 65,535 bytes less its headers, and all reads
go into a mebibyte (`Loop.memory`), so nothing is ever cut. The kernel refuses with EMSGSIZE what
does not fit into a packet on its way out. A datagram may be empty: for the classes here 0 is a
count like any other, and there is no EOF.

The selector watches for reading only. The kernel reports a UDP socket as writable again with each
datagram that leaves, so interest in that would cost one more wakeup for each. If the socket's
buffer has no room for a datagram, its owner drops it instead of waiting.

On a wildcard address, the kernel says which of the machine's addresses each datagram was sent to
(IP_PKTINFO of ip(7), RFC 3542 §6 for IPv6), and the reply leaves from there.

nginx: `ngx_event_recvmsg` in `ngx_event_udp.c`, `ngx_udp_unix_recv`, `ngx_sendmsg`.
"""

import logging
import struct
from _socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_UDP,
    IPV6_PKTINFO,
    IPV6_RECVPKTINFO,
    SO_RCVBUF,
    SOL_SOCKET,
    inet_ntop,
    socket,
)
from collections.abc import Callable, Sequence
from errno import EAGAIN
from selectors import EVENT_READ
from typing import Final, Protocol

from nginy.event.connection import AGAIN, ERROR, Connection, ConnectionBase
from nginy.event.epoll import EVENT_LEVEL
from nginy.event.event import Event, ignore
from nginy.event.loop import Loop
from nginy.event.timer import Owner, TimerWheel
from nginy.text.address import Address, SockAddr

logger = logging.getLogger("nginy.event")

RECEIVE_QUOTA: Final = 32
"""Datagrams received for one event; then the others have their turn.

A read that finds nothing costs as much as one that does. With so many for each event, it is rare
under load."""

DATAGRAM_BYTES: Final = 65536
"""Room for the largest datagram."""

RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Asked for as a listener's SO_RCVBUF; the system grants at most `net.core.rmem_max`.

The usual 208 KiB hold 277 small datagrams, at 768 bytes of kernel memory each: less than what
arrives at 100,000 a second while one turn of the loop takes 3 ms."""

UDP_SEGMENT: Final = 103
"""Linux, udp.h; `socket` has no name for it."""
SEGMENT_BYTES: Final = struct.Struct("@H")
"""Its argument: the length of each datagram."""
IP_PKTINFO: Final = 8
"""Linux, in.h; `socket` has no name for it before Python 3.14."""
PKTINFO_V4: Final = struct.Struct("@i4s4s")
"""`struct in_pktinfo`: interface, the local address to answer from, the destination in the
header."""
PKTINFO_V6: Final = struct.Struct("@16si")
"""`struct in6_pktinfo`: destination, interface."""
IPV4_BYTES: Final = 4
"""Length of a packed IPv4 address."""
ANCILLARY_BYTES: Final = 64
"""Room for either of the two, with its header."""

DatagramHandler = Callable[["DatagramReceiver", SockAddr, bytes, memoryview], None]
"""Takes one datagram: the receiver, the sender, our address that it was sent to (packed; b"" if the
listener has only one), and its bytes. They are gone when the handler has returned, unless it has
put something off."""


class PutOff(Protocol):
    """Datagrams that wait for the end of the event that brought them."""

    def add(self, datagram: memoryview) -> bool:
        """Take one more; return False if it cannot wait."""

    def finish(self) -> None:
        """Deal with them all."""


class NeverEvent(Event):
    """The write event of all datagram sockets: nobody waits to write.

    All share one; an event for each socket would take a tenth of a short session's time.
    """

    __slots__ = ()

    def __init__(self) -> None:
        """Belong to no connection: reading `data` raises AttributeError."""
        self.handler = ignore
        self.active = self.ready = self.eof = self.pending_eof = self.error = self.posted = False
        self.timer = None

    def close(self, timers: TimerWheel) -> None:
        """Do nothing: the other connections go on."""


NEVER: Final = NeverEvent()


class DatagramConnection(Connection):
    """A UDP socket connected to one peer: each call moves one datagram, 0 is an empty one.

    Created and closed by the session whose upstream it is. An error stands for one datagram and
    leaves the connection usable: ECONNREFUSED is the ICMP answer to an earlier one (RFC 1122
    §4.1.3.3).
    """

    __slots__ = ()

    directions = EVENT_READ | EVENT_LEVEL
    """Only reading is watched: see above."""

    def recv(self, memory: memoryview) -> int:
        """Receive one datagram into `memory`; return its length, AGAIN or ERROR.

        Clears `read.ready`: if there is another datagram, the selector says so, which is cheaper
        than trying.
        """
        try:
            count = self.socket.recv_into(memory)
        except BlockingIOError:
            self.read.ready = False
            return AGAIN
        except OSError as error:
            self.errno = error.errno or 0
            return ERROR
        self.read.ready = False
        self.received += count
        return count

    def __init__(self, loop: Loop, sock: socket, sockaddr: SockAddr) -> None:
        """Begin to watch `sock`; raises OSError, and leaves it open, if the selector has no
        room."""
        ConnectionBase.__init__(self, loop, sock.fileno(), sockaddr)
        self.socket = sock
        self.read = Event(self, ignore)
        self.write = NEVER
        loop.interest.add(self)
        loop.connections += 1

    def rest(self) -> None:
        """Call no read handler until `wake`.

        `pause_read` is not enough: an edge-triggered selector would still report each datagram.
        """
        self.pause_read()
        self.loop.interest.forget(self)

    def wake(self) -> None:
        """Go on after `rest`; raises OSError if the selector has no room any more."""
        self.loop.interest.add(self)
        self.resume_read()

    def send_run(self, datagrams: "Sequence[memoryview]") -> bool:
        """Send datagrams of one length, none of them empty, by one call; return False, with
        nothing sent, if it fails.

        The kernel makes one packet of them and cuts it at the last moment (UDP_SEGMENT of udp(7),
        Linux 4.18), which saves the way through its layers for each.
        """
        ancillary = ((IPPROTO_UDP, UDP_SEGMENT, SEGMENT_BYTES.pack(len(datagrams[0]))),)
        try:
            count = self.socket.sendmsg(datagrams, ancillary)
        except OSError as error:
            self.errno = error.errno or 0
            return False
        self.sent += count
        return True

    def send(self, memory: "bytes | memoryview") -> int:
        """Send one datagram; return its length, AGAIN or ERROR."""
        try:
            count = self.socket.send(memory)
        except OSError as error:
            self.errno = error.errno or 0
            return AGAIN if self.errno == EAGAIN else ERROR
        self.sent += count
        return count


class DatagramReceiver(DatagramConnection):
    """A UDP listener's socket; created by `Listener.start_datagrams`, closed by the listener."""

    __slots__ = ("address", "events", "handler", "is_flooded", "is_wildcard", "put_off", "serving")

    def __init__(
        self, loop: Loop, sock: socket, address: Address, handler: DatagramHandler
    ) -> None:
        """Set the socket's options and begin to watch it; raises OSError."""
        self.handler = handler
        """Called for each datagram; a reload may replace it."""
        self.put_off: dict[Owner, PutOff] = {}
        """What the handler wants done once this event's datagrams have been received, by session;
        their bytes stay where they are until then."""
        self.events = 0
        """How many events there were: tells datagrams of one event from those of another."""
        self.is_flooded = False
        """Whether the last event has used its quota: datagrams come faster than they are
        received."""
        self.serving: Owner | None = None
        """The session that the current datagram belongs to, as far as the handler has found it."""
        self.address = address
        self.is_wildcard = address.is_wildcard
        sock.setsockopt(SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if self.is_wildcard:
            if address.family == AF_INET6:
                sock.setsockopt(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(IPPROTO_IP, IP_PKTINFO, 1)
        super().__init__(loop, sock, address.sockaddr)
        self.read.handler = self._receive_handler

    def take(self, sockaddr: SockAddr, local: bytes, data: memoryview) -> None:
        """Hand on a datagram that another socket of ours has received, as if it had come here."""
        # Nothing may be put off: no event of this socket would finish it.
        was_flooded, self.is_flooded = self.is_flooded, False
        self.handler(self, sockaddr, local, data)
        self.is_flooded, self.serving = was_flooded, None

    def _receive_handler(self, event: Event) -> None:
        """Hand on up to `RECEIVE_QUOTA` datagrams, then run what the handler has put off."""
        self.events += 1
        if self._receive(event):
            self.loop.post(event)
        self._finish()

    def _receive(self, event: Event) -> bool:
        """Hand on datagrams; return whether there may be more of them."""
        memory = self.loop.memory
        handler = self.handler
        receive = self.socket.recvfrom_into
        is_wildcard = self.is_wildcard
        local = b""
        for _ in range(RECEIVE_QUOTA):
            try:
                if is_wildcard:
                    count, sockaddr, local = self._receive_with_destination(memory)
                else:
                    count, sockaddr = receive(memory)
            except BlockingIOError:
                event.ready = self.is_flooded = False
                return False
            except OSError as error:
                # Do not try again: an error that lasts would spin, and the next datagram calls us.
                logger.critical("recvmsg() failed (%s: %s)", error.errno, error.strerror)
                return False
            self.received += count
            handler(self, sockaddr, local, memory[:count])
            self.serving = None
            if not event.active:  # the handler has closed or paused us
                return False
            if self.put_off:
                memory = memory[count:]
                if len(memory) < DATAGRAM_BYTES:
                    break
        self.is_flooded = True
        return True

    def _finish(self) -> None:
        """Finish what the handler has put off."""
        while self.put_off:
            self.serving = next(iter(self.put_off))
            self.put_off.pop(self.serving).finish()
        self.serving = None

    def _receive_with_destination(self, memory: memoryview) -> tuple[int, SockAddr, bytes]:
        """Receive one datagram; return its length, its sender, and our address that it was sent
        to."""
        count, ancillary, _flags, sockaddr = self.socket.recvmsg_into((memory,), ANCILLARY_BYTES)
        for level, kind, data in ancillary:
            if level == IPPROTO_IP and kind == IP_PKTINFO:
                # Not the destination in the header, which may be a broadcast address.
                return count, sockaddr, PKTINFO_V4.unpack(data)[1]
            if level == IPPROTO_IPV6 and kind == IPV6_PKTINFO:
                return count, sockaddr, PKTINFO_V6.unpack(data)[0]
        return count, sockaddr, b""

    def close(self, reset: bool = False) -> None:
        """Close the socket, and forget the last session."""
        self.serving = None
        self.put_off.clear()
        super().close(reset)

    def abort(self) -> None:
        """End the session whose datagram it was, and go on with the next; the loop calls this after
        a bug."""
        if self.serving is not None:
            self.serving.abort()
            self.serving = None
        # The next datagrams overwrite their bytes.
        self.put_off.clear()
        self.loop.post(self.read)


class SharedConnection(ConnectionBase):
    """A client on its listener's socket (nginx: `shared`).

    Created and closed by the session of that client. Both events are the listener's, since only the
    listener receives. This class adds a destination and counts.
    """

    __slots__ = ("replies_from", "replies_to")

    def __init__(self, receiver: DatagramReceiver, sockaddr: SockAddr, local: bytes) -> None:
        """Reply to `sockaddr`, from our address `local` (packed) unless that is empty."""
        super().__init__(receiver.loop, receiver.fd, sockaddr)
        self.socket = receiver.socket
        self.read = receiver.read
        self.write = receiver.write
        self.replies_to = sockaddr
        """Where its datagrams come from: the client itself, or a proxy that has announced it."""
        self.replies_from: tuple[tuple[int, int, bytes], ...] = ()
        """What tells the kernel which of our addresses to send from; empty if there is only one."""
        if local:
            self._reply_from(local, receiver.address.port)

    def came_through(self, proxy: SockAddr, local: bytes, port: int) -> None:
        """Reply to `proxy`, which has brought a datagram to our address `local` and `port`."""
        self.replies_to = proxy
        if local:
            self._reply_from(local, port)

    @property
    def replies_local(self) -> bytes:
        """Our address that it replies from, packed; b"" if there is only one."""
        for level, _, data in self.replies_from:
            if level == IPPROTO_IP:
                return bytes(PKTINFO_V4.unpack(data)[1])
            return bytes(PKTINFO_V6.unpack(data)[0])
        return b""

    def _reply_from(self, local: bytes, port: int) -> None:
        """Make the kernel send from the address `local`."""
        if len(local) == IPV4_BYTES:
            self._local_sockaddr = (inet_ntop(AF_INET, local), port)
            self.replies_from = ((IPPROTO_IP, IP_PKTINFO, PKTINFO_V4.pack(0, local, local)),)
        else:
            self._local_sockaddr = (inet_ntop(AF_INET6, local), port, 0, 0)
            self.replies_from = ((IPPROTO_IPV6, IPV6_PKTINFO, PKTINFO_V6.pack(local, 0)),)

    def send(self, memory: "bytes | memoryview") -> int:
        """Send one datagram to the client; return its length, AGAIN or ERROR."""
        try:
            if self.replies_from:
                count = self.socket.sendmsg((memory,), self.replies_from, 0, self.replies_to)
            else:
                count = self.socket.sendto(memory, self.replies_to)
        except OSError as error:
            self.errno = error.errno or 0
            return AGAIN if self.errno == EAGAIN else ERROR
        self.sent += count
        return count

    def close(self, reset: bool = False) -> None:
        """Let go of the listener's socket, which stays open; `reset` means nothing here."""
        self.data = None
        self.fd = -1
