"""The ends of sessions that last, and whose every byte is known; `kit.crowd` has many of them.

What an end receives is compared with what the other one has sent, so a byte that is lost, doubled,
swapped or another client's shows at once, and the time that it took is known. A UDP client has one
datagram under way, each unlike any other. What goes wrong fails the test, as a sentence.
"""

import collections
import errno
import random
import selectors
import socket
import time
from collections.abc import Callable
from typing import Protocol

from kit.servers import address_text

SockAddr = tuple[str, int]

PATTERN_BYTES = 1 << 20
MAX_BYTES = 65536
CALL_BYTES = 64
BURSTS = (1, 100, 1000, 4000, 16384, 50_000)
MAX_OWED_BYTES = 4 * MAX_BYTES


class Around(Protocol):
    """What is around the ends: `kit.crowd.Crowd`."""

    rng: random.Random
    selector: selectors.DefaultSelector
    pattern: bytes
    may_cut: bool
    """Whether sessions may end before their time."""
    slowest_s: float
    """The longest time from one message of an end to its next."""
    context: str
    """What goes on at present, for the message of a failure."""

    def at(self, when_s: float, call: Callable[[], None]) -> None:
        """Make a call at that time."""

    def waited(self, seconds: float, who: str) -> None:
        """Note how long something was under way."""

    def is_over(self, side: "Side") -> None:
        """Learn that one direction of a session is over."""

    def is_cut(self, side: "Side", why: str) -> bool:
        """Learn that an end hears nothing more; return whether that may be."""

    def may_call(self, caller: "Caller") -> bool:
        """Tell whether one datagram more may be under way; if not, the caller is asked later."""

    def is_answered(self, caller: "Caller") -> None:
        """Learn that a caller has its answer."""


def connecting(target: SockAddr, kind: socket.SocketKind, buffer_bytes: int = 0) -> socket.socket:
    """Return a socket that is connecting."""
    sock = socket.socket(type=kind)
    sock.setblocking(False)
    if buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    code = sock.connect_ex(target)
    assert code in (0, errno.EINPROGRESS), f"connect() failed ({code})"
    return sock


class Side:
    """One end of a session: sends its stream at its pace, and checks that of the other end."""

    __slots__ = (
        "_burst", "_crowd", "_every_s", "_mask", "_stamps", "_start",
        "has_eof", "has_fin", "is_flooding", "is_reading", "is_timed", "name", "owed", "peer",
        "received", "sent", "sock", "stop_at", "total",
    )  # fmt: skip

    def __init__(self, crowd: Around, name: str, is_timed: bool) -> None:
        rng = crowd.rng
        self._crowd = crowd
        self.name = name
        self.peer: Side
        self.sock: socket.socket | None = None
        self._mask = 0
        self._start = rng.randrange(PATTERN_BYTES)
        self._burst = rng.choice(BURSTS)
        self._every_s = rng.uniform(0.2, 1) * crowd.slowest_s
        self._stamps: collections.deque[tuple[int, float]] = collections.deque()
        self.is_timed = is_timed
        self.sent = self.received = 0
        self.owed = 0
        """What it will send as soon as it can."""
        self.total: int | None = None
        """After this many bytes it ends its stream."""
        self.stop_at: int | None = None
        """It reads up to here, and nothing more until told to."""
        self.is_reading = True
        self.is_flooding = False
        """It sends until nobody takes any more."""
        self.has_fin = self.has_eof = False

    def __repr__(self) -> str:
        return (
            f"<{self.name} sent={self.sent} owed={self.owed} received={self.received}"
            f" reading={self.is_reading} fin={self.has_fin} eof={self.has_eof}>"
        )

    @property
    def is_stuck(self) -> bool:
        """Whether it has bytes that the other end does not read, and nobody has room for."""
        return self.owed > 0 and not self.peer.is_reading

    def data(self, offset: int, count: int) -> bytes:
        """Return a piece of what it sends."""
        begin = (self._start + offset) % PATTERN_BYTES
        return self._crowd.pattern[begin : begin + count]

    def attach(self, sock: socket.socket) -> None:
        """Begin to talk."""
        self.sock = sock
        self.watch()

    def send_now_and_then(self) -> None:
        """Send a burst, and again after a while; to be called by the crowd's timers."""
        if self.sock is None or self.total is not None:
            return
        if self.owed < MAX_OWED_BYTES:
            self.owe(self._crowd.rng.randrange(self._burst) + 1)
        self._crowd.at(time.monotonic() + self._every_s, self.send_now_and_then)

    def owe(self, count: int) -> None:
        """Send this many more bytes, as soon as possible."""
        self.owed += count
        self._send()

    def flood(self) -> None:
        """Send until the other end has stopped reading, and all buffers on the way are full."""
        self.is_flooding = True
        self.owe(MAX_BYTES)

    def finish(self) -> None:
        """End the stream when everything is sent."""
        if self.total is None:
            self.total = self.sent + self.owed
        self._send()

    def resume(self) -> None:
        """Read on."""
        self.stop_at = None
        self.is_reading = True
        self.peer.is_flooding = False
        self.watch()

    def ready(self, mask: int) -> None:
        """Do what can be done; called by the crowd's selector."""
        if mask & selectors.EVENT_READ:
            self._receive()
        if mask & selectors.EVENT_WRITE and self.sock is not None:
            self._send()

    def _send(self) -> None:
        sock = self.sock
        if sock is None or self.has_fin:
            return
        if self.owed:
            try:
                count = sock.send(self.data(self.sent, min(self.owed, MAX_BYTES)))
            except BlockingIOError:
                count = 0
                self.is_flooding = self.is_flooding and self.peer.is_reading
            except OSError as error:
                self._cut(f"cannot send: {error}")
                return
            if count and self.is_timed:
                self._stamps.append((self.sent + count, time.monotonic()))
            self.sent += count
            self.owed -= count
            if self.is_flooding and self.owed < MAX_BYTES:
                self.owed += MAX_BYTES
        if self.sent == self.total:
            self.has_fin = True
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError as error:  # it was reset since
                self._cut(f"cannot shut down: {error}")
                return
            self._crowd.is_over(self)
        self.watch()

    def _receive(self) -> None:
        if self.sock is None:
            return
        try:
            data = self.sock.recv(MAX_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._cut(f"cannot receive: {error}")
            return
        if not data:
            self._ended()
            return
        if data != self.peer.data(self.received, len(data)):
            self._fail(self._difference(data))
        self.received += len(data)
        if self.received > self.peer.sent:
            self._fail("received what was not sent")
        self.peer.arrived(self.received)
        if self.stop_at is not None and self.received >= self.stop_at:
            self.is_reading = False
            self.watch()

    def arrived(self, count: int) -> None:
        """Note how long the first `count` bytes of this side's stream were under way."""
        while self._stamps and self._stamps[0][0] <= count:
            self._crowd.waited(time.monotonic() - self._stamps.popleft()[1], self.name)

    def _ended(self) -> None:
        if self.peer.has_fin and self.received == self.peer.total:
            self.has_eof = True
            self.watch()
            self._crowd.is_over(self)
        else:
            self._cut("received EOF")

    def _difference(self, data: bytes) -> str:
        expected = self.peer.data(self.received, len(data))
        off = next(i for i, (a, b) in enumerate(zip(data, expected, strict=True)) if a != b)
        place = self.peer.place_of(data[off : off + 16])
        return f"byte {self.received + off} is wrong; it may be that at {place}"

    def place_of(self, piece: bytes) -> int:
        """Return where in its stream a piece may be."""
        return (self._crowd.pattern.find(piece) - self._start) % PATTERN_BYTES

    def watch(self) -> None:
        """Make the selector report what this end waits for."""
        mask = 0
        if self.is_reading and not self.has_eof:
            mask |= selectors.EVENT_READ
        if not self.has_fin and (self.owed or self.sent == self.total):
            mask |= selectors.EVENT_WRITE
        if self.sock is None or mask == self._mask:
            return
        before, self._mask = self._mask, mask
        if not mask:
            self._crowd.selector.unregister(self.sock)
        elif before:
            self._crowd.selector.modify(self.sock, mask, self.ready)
        else:
            self._crowd.selector.register(self.sock, mask, self.ready)

    def close(self) -> None:
        """Leave without a word."""
        if self.sock is not None:
            if self._mask:
                self._crowd.selector.unregister(self.sock)
            self.sock.close()
            self.sock = None

    def _cut(self, why: str) -> None:
        if not self._crowd.is_cut(self, why):
            self._fail(f"{why}; the other end: {self.peer}")

    def _fail(self, why: str) -> None:
        raise AssertionError(f"{self}: {why}; {self._crowd.context}")


class Caller:
    """A UDP client: says something new now and then, and expects exactly that to come back."""

    __slots__ = ("_crowd", "_every_s", "_said", "address", "calls", "name", "said_at_s", "sock")

    def __init__(self, crowd: Around, name: str, target: SockAddr) -> None:
        self._crowd = crowd
        self.name = name
        self._every_s = crowd.rng.uniform(0.2, 1) * crowd.slowest_s
        self.sock = connecting(target, socket.SOCK_DGRAM)
        self.address = address_text(self.sock)
        """Its own, as the access log has it."""
        self._said = b""
        self.said_at_s = 0.0
        self.calls = 0
        """How many were answered."""
        crowd.selector.register(self.sock, selectors.EVENT_READ, self.ready)

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is due."""
        return bool(self._said)

    def call(self) -> None:
        """Say something new, unless too much is under way."""
        if self.sock.fileno() >= 0 and not self._said and self._crowd.may_call(self):
            self._said = f"{self.name} {self.calls} ".encode().ljust(CALL_BYTES, b".")
            self.said_at_s = time.monotonic()
            self.sock.send(self._said)

    def call_again(self) -> None:
        """Repeat what has no answer so far: the process that had it was killed."""
        if self._said:
            self.sock.send(self._said)

    def ready(self, _mask: int) -> None:
        """Take the answer."""
        data = self.sock.recv(MAX_BYTES)
        if data != self._said and self._crowd.may_cut and data.startswith(self.name.encode()):
            return  # the answer to what was said again
        assert data == self._said, (
            f"{self.name} received {data!r}, expected {self._said!r}; {self._crowd.context}"
        )
        now_s = time.monotonic()
        self._said = b""
        self.calls += 1
        self._crowd.waited(now_s - self.said_at_s, self.name)
        self._crowd.is_answered(self)
        self._crowd.at(now_s + self._every_s, self.call)

    def close(self) -> None:
        """Leave."""
        if self.sock.fileno() >= 0:
            self._crowd.selector.unregister(self.sock)
            self.sock.close()
