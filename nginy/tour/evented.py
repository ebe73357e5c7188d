"""A proxy in nginy's shape: a loop that calls handlers, timers, and epoll that says things once.

What it adds to buffered.py:

- Handlers. The loop knows nothing of proxying: it calls, and everything else happens there.
- Interest is a flag. A socket is registered once. Whether its session waits for a direction is a
  flag in that direction's `Event` (`active`), and a change costs no system call.
- Edges. epoll reports a change, not a state, so the event remembers the report (`ready`) until a
  call says "not now". A handler that stops earlier, to give others their turn, must post its
  event, because no report will come. Quick trials miss this trap; forgetful.py falls into it.
- Timers. A silent session ends. A byte does not move its deadline: the timer fires early, looks
  when the last byte came, and goes back to sleep for the rest.

What it cannot do, nginy does: very many timers (event/timer.py), datagrams (proxy/udp/handler.py),
more than one backend (backend/pool.py), ends with a reason (proxy/ending.py).

Tested in tests/tour/test_programs_live.py.
"""

import heapq
import itertools
import select
import socket
import sys
import time
from collections.abc import Callable
from functools import partial

READ_BYTES = 16384
READS = 4  # for one event; then the others have their turn


class Event:
    """One direction of a connection: what is known about it, and what to call."""

    def __init__(self) -> None:
        self.ready = False  # the kernel said so, and no call has said "not now" since
        self.active = False  # the session waits for it
        self.handler: Callable[[], None] = lambda: None


class Connection:
    """A socket and its two events."""

    def __init__(self, loop: "Loop", sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.read, self.write = Event(), Event()
        self.unsent = b""  # was read here, and its peer has not taken it yet
        self.eof = False
        loop.watch(self)

    def recv(self) -> bytes | None:
        """Return what has come, b"" at the end, None for "not now"."""
        try:
            return self.socket.recv(READ_BYTES)
        except BlockingIOError:
            self.read.ready = False
            return None

    def send(self, data: bytes) -> int:
        """Return how much was taken, maybe nothing."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            self.write.ready = False
            return 0


class Loop:
    """Calls the handlers of what is ready, then of timers that are due, then of what was posted."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.posted: list[Event] = []
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = itertools.count()  # timers of one instant must not be compared

    def watch(self, c: Connection) -> None:
        """Register both directions, for good."""
        self.connections[c.socket.fileno()] = c
        both = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP
        self.epoll.register(c.socket, both | select.EPOLLET)

    def resume(self, event: Event) -> None:
        """Wait for an event; if it was reported before, it is due at once."""
        event.active = True
        if event.ready:
            self.posted.append(event)

    def post(self, event: Event) -> None:
        """Go on with an event later, without a report: others have their turn before."""
        self.posted.append(event)

    def call_at(self, when_s: float, handler: Callable[[], None]) -> None:
        """Call a handler at that time."""
        heapq.heappush(self.timers, (when_s, next(self.numbers), handler))

    def turn(self) -> None:
        """Sleep until there is something to do, and do it."""
        wait_s = max(0.0, self.timers[0][0] - time.monotonic()) if self.timers else None
        batch = self.epoll.poll(0 if self.posted else wait_s)
        for c, mask in [(self.connections[fd], mask) for fd, mask in batch]:
            for event, bits in ((c.read, ~select.EPOLLOUT), (c.write, ~select.EPOLLIN)):
                if mask & bits:
                    event.ready = True
                    if event.active:  # an earlier handler of this turn may have closed `c`
                        event.handler()
        while self.timers and self.timers[0][0] <= time.monotonic():
            heapq.heappop(self.timers)[2]()
        posted, self.posted = self.posted, []
        for event in posted:
            if event.active:
                event.handler()

    def close(self, c: Connection) -> None:
        """Close a connection; nothing of it is called after that."""
        c.read.active = c.write.active = False
        self.connections.pop(c.socket.fileno(), None)
        c.socket.close()


class Session:
    """A client and its backend; its methods are handlers, or called by them."""

    def __init__(
        self, loop: Loop, client: socket.socket, backend: tuple[str, int], idle_s: float
    ) -> None:
        self.loop, self.idle_s = loop, idle_s
        self.client, self.upstream = Connection(loop, client), Connection(loop, socket.socket())
        self.active_at_s = time.monotonic()
        loop.call_at(self.active_at_s + idle_s, self.end_if_idle)
        self.upstream.socket.connect_ex(backend)  # the first use finds a failure
        self.upstream.write.handler = self.connected
        loop.resume(self.upstream.write)

    def connected(self) -> None:
        """Begin to pass on bytes; epoll may have reported those of the client before."""
        self.upstream.write.active = False
        for src, dst in ((self.client, self.upstream), (self.upstream, self.client)):
            src.read.handler = dst.write.handler = partial(self.move, src, dst)
            self.loop.resume(src.read)

    def move(self, src: Connection, dst: Connection) -> None:
        """Pass on bytes until there are no more, `dst` is behind, or it is enough for now."""
        self.active_at_s = time.monotonic()
        try:
            for _ in range(READS):
                if not src.unsent:
                    data = src.recv()
                    if data is None:
                        return  # an edge of `src` will come
                    if not data:
                        self.end(src, dst)
                        return
                    src.unsent = data
                src.unsent = src.unsent[dst.send(src.unsent) :]
                src.read.active, dst.write.active = not src.unsent, bool(src.unsent)
                if src.unsent:
                    return  # an edge of `dst` will come
            self.loop.post(src.read)
        except OSError:
            self.close()

    def end(self, src: Connection, dst: Connection) -> None:
        """Pass the end on, too; the session is over when both sides have ended."""
        src.eof, src.read.active = True, False
        dst.socket.shutdown(socket.SHUT_WR)
        if dst.eof:
            self.close()

    def end_if_idle(self) -> None:
        """Close a silent session, or wait for as long as it may still be silent."""
        deadline_s = self.active_at_s + self.idle_s
        if deadline_s <= time.monotonic():
            self.close()
        elif self.client.socket.fileno() >= 0:
            self.loop.call_at(deadline_s, self.end_if_idle)

    def close(self) -> None:
        """End the session."""
        for c in (self.client, self.upstream):
            self.loop.close(c)


def main(loop: Loop, listen: str, backend: str, idle_s: str = "60") -> None:
    """Listen on HOST:PORT and proxy to HOST:PORT, for ever; sessions may be idle for this long."""
    host, port = listen.split(":")
    backend_host, backend_port = backend.split(":")
    listener = socket.create_server((host, int(port)))
    accepting = Connection(loop, listener)

    def accept() -> None:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            accepting.read.ready = False
            return
        Session(loop, client, (backend_host, int(backend_port)), float(idle_s))
        loop.post(accepting.read)

    accepting.read.handler = accept
    loop.resume(accepting.read)
    print("listening on", *listener.getsockname(), flush=True)
    while True:
        loop.turn()


if __name__ == "__main__":
    main(Loop(), *sys.argv[1:])
