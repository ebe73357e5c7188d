"""A proxy for many clients at once, which loses some of their bytes.

select() tells which sockets can be read without waiting, so no client waits for another: the heart
of every event loop. But two things are wrong, and quick trials show neither. send() takes what fits
into the kernel's buffer and returns how much that was; this program ignores it, and loses the rest
as soon as one side reads more slowly than the other writes. And it closes both sides at the first
EOF, even if one side has only finished its question and waits for the answer. Next: buffered.py.

Tested in tests/tour/test_programs_live.py.
"""

import contextlib
import select
import socket
import sys


class LossyProxy:
    """Each socket, and the one that its bytes go to."""

    def __init__(self, listener: socket.socket, backend: tuple[str, int]) -> None:
        self.listener = listener
        self.backend = backend
        self.peers: dict[socket.socket, socket.socket] = {}

    def turn(self) -> None:
        """Wait until something can be read, and read from all that can."""
        readable, _, _ = select.select([self.listener, *self.peers], [], [])
        for sock in readable:
            if sock is self.listener:
                self.accept()
            elif sock in self.peers:  # not closed earlier in this turn
                self.pass_on(sock, self.peers[sock])

    def accept(self) -> None:
        """Accept one client and connect it to the backend."""
        client, _ = self.listener.accept()
        upstream = socket.create_connection(self.backend)  # waits, and so do all clients
        self.peers |= {client: upstream, upstream: client}
        for sock in (client, upstream):
            sock.setblocking(False)

    def pass_on(self, source: socket.socket, destination: socket.socket) -> None:
        """Send what `source` has sent; close both at its end."""
        with contextlib.suppress(BlockingIOError):  # full: these bytes are lost
            if data := source.recv(65536):
                destination.send(data)  # returns how many were sent; the rest is lost
                return
            for sock in (source, destination):
                del self.peers[sock]
                sock.close()


def main(listen: str, backend: str) -> None:
    """Listen on HOST:PORT and proxy to HOST:PORT, for ever."""
    host, port = listen.split(":")
    backend_host, backend_port = backend.split(":")
    listener = socket.create_server((host, int(port)))
    print("listening on", *listener.getsockname(), flush=True)
    proxy = LossyProxy(listener, (backend_host, int(backend_port)))
    while True:
        proxy.turn()


if __name__ == "__main__":
    main(*sys.argv[1:])
