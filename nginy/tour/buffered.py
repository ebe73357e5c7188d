"""A proxy for many clients at once that delivers every byte, with a bounded amount of memory.

It adds three facts about each socket to lossy.py, and asks select() exactly what they say:

- `unsent`: what the socket has not taken yet. As long as there is any, the program waits for the
  socket to be writable; while there is much, it does not read the peer, so the kernel's own flow
  control slows the sender down (back-pressure).
- `eof`: the socket has sent all it will send. The program tells its peer, by shutdown(), once the
  peer has everything; the other direction goes on (half-close).
- `finished`: the socket has been told so. When both are finished, both are closed.

Only select() waits: even connect() only begins, and the socket is writable when it is done.

What it cannot do: select() takes 1,024 descriptors, and gets all of them in each turn; a silent
client stays for ever. Next: evented.py. What neither can do, nginy does: a backend that refuses
ends the session (proxy/upstream.py); one backend is not balancing (backend/pool.py); and nothing
says why a session ended (proxy/session.py).

Tested in tests/tour/test_programs_live.py.
"""

import select
import socket
import sys

UNSENT_LIMIT = 65536
"""If more bytes than this wait for one socket, the program does not read its peer."""


class Side:
    """One socket of a session, and the bytes of its peer that it has not taken yet."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.peer = self
        self.unsent = bytearray()
        self.eof = False
        self.finished = False

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed; select() asks for it."""
        return self.socket.fileno()

    def wants_read(self) -> bool:
        """Tell whether more may be read: not after EOF, and not while the peer is behind."""
        return not self.eof and len(self.peer.unsent) < UNSENT_LIMIT

    def wants_write(self) -> bool:
        """Tell whether there is something to send, if only the end."""
        return bool(self.unsent) or (self.peer.eof and not self.finished)

    def read(self) -> None:
        """Read once; then the peer has the bytes, or the end, to send."""
        data = self.socket.recv(65536)
        self.peer.unsent += data
        self.eof = not data

    def write(self) -> None:
        """Send what the socket takes; after the last byte, the end if the peer has ended."""
        del self.unsent[: self.socket.send(self.unsent)]
        if self.peer.eof and not self.unsent:
            self.socket.shutdown(socket.SHUT_WR)
            self.finished = True


class BufferedProxy:
    """A listener and both sides of every session."""

    def __init__(self, listener: socket.socket, backend: tuple[str, int]) -> None:
        listener.setblocking(False)
        self.listener = listener
        self.backend = backend
        self.sides: set[Side] = set()

    def turn(self) -> None:
        """Wait until something can be done without waiting, and do it."""
        readers: list[Side | socket.socket] = [side for side in self.sides if side.wants_read()]
        writers = [side for side in self.sides if side.wants_write()]
        readable, writable, _ = select.select([*readers, self.listener], writers, [])
        for side in readable:
            if isinstance(side, socket.socket):
                self.accept()
            elif side in self.sides:  # not closed earlier in this turn
                self.step(side, reads=True)
        for side in writable:
            if side in self.sides:
                self.step(side, reads=False)

    def accept(self) -> None:
        """Accept one client, and begin to connect it to the backend."""
        client = Side(self.listener.accept()[0])
        upstream = Side(socket.socket())
        client.peer, upstream.peer = upstream, client
        self.sides |= {client, upstream}
        upstream.socket.connect_ex(self.backend)  # the first use finds a failure

    def step(self, side: Side, *, reads: bool) -> None:
        """Read or write once; close the session at its end, or when a socket breaks."""
        try:
            if reads:
                side.read()
            else:
                side.write()
        except BlockingIOError:
            return  # not now, after all
        except OSError:
            self.close(side)
            return
        if side.finished and side.peer.finished:
            self.close(side)

    def close(self, side: Side) -> None:
        """End a session: forget and close both of its sockets."""
        self.sides -= {side, side.peer}
        side.socket.close()
        side.peer.socket.close()


def main(listen: str, backend: str) -> None:
    """Listen on HOST:PORT and proxy to HOST:PORT, for ever."""
    host, port = listen.split(":")
    backend_host, backend_port = backend.split(":")
    listener = socket.create_server((host, int(port)))
    print("listening on", *listener.getsockname(), flush=True)
    proxy = BufferedProxy(listener, (backend_host, int(backend_port)))
    while True:
        proxy.turn()


if __name__ == "__main__":
    main(*sys.argv[1:])
