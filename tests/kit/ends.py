"""The ends of conversations, for tests: clients, and what a backend has accepted.

No thread and no sleep: an end is a non-blocking socket with a `step` that does what can be done
now; `kit.harness.Harness` calls it between the turns of the loop.
"""

import contextlib
import errno
import socket
import struct

SockAddr = tuple[str, int] | tuple[str, int, int, int] | str

PATIENCE_S = 15.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def family_of(sockaddr: SockAddr) -> socket.AddressFamily:
    if isinstance(sockaddr, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in sockaddr[0] else socket.AF_INET


class End:
    """One end of a connection: collects what comes, and sends what it is told to send."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.received = bytearray()
        self.unsent = bytearray()
        self.is_reading = True
        """A test that wants a slow reader clears this."""
        self.read_bytes = 65536
        """The most that one step takes."""
        self.write_bytes = 65536
        """The most that one step sends."""
        self.has_eof = False
        self.is_finishing_last = False
        """Send FIN once the other side has, and everything is sent."""
        self.errno = 0
        """How the connection broke: ECONNRESET, EPIPE; 0 if it did not."""
        self._is_ending = self._has_ended = False
        self._send_errno = 0

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} fd={self.socket.fileno()} received={len(self.received)} "
            f"unsent={len(self.unsent)} eof={self.has_eof} errno={self.errno}>"
        )

    @property
    def is_closed(self) -> bool:
        return self.socket.fileno() < 0

    @property
    def was_reset(self) -> bool:
        return self.errno == errno.ECONNRESET

    @property
    def is_over(self) -> bool:
        """The other side has ended the stream, by EOF or by breaking it."""
        return self.has_eof or self.errno != 0

    @property
    def address(self) -> SockAddr:
        return self.socket.getsockname()

    def send(self, data: bytes) -> None:
        """Send `data`, in as many steps as it takes."""
        self.unsent += data

    def finish(self) -> None:
        """Send FIN once everything is sent, and read on."""
        self._is_ending = True

    def reset(self) -> None:
        """Close with RST."""
        if not self.is_closed and self.socket.family != socket.AF_UNIX:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        self.socket.close()

    def step(self) -> bool:
        """Do what can be done now; return whether anything was."""
        if self.is_closed:
            return False
        has_sent = self._send()
        return self._receive() or has_sent

    def _send(self) -> bool:
        if self._send_errno:
            return False
        if not self.unsent:
            if self._is_ending and not self._has_ended:
                self._has_ended = True
                with contextlib.suppress(OSError):  # ENOTCONN: it was reset, as reading will show
                    self.socket.shutdown(socket.SHUT_WR)
                return True
            return False
        try:
            with memoryview(self.unsent) as whole, whole[: self.write_bytes] as piece:
                count = self.socket.send(piece)
        except BlockingIOError:
            return False
        except OSError as error:
            # What the other side has sent before is still to be read.
            self.unsent.clear()
            self._send_errno = error.errno or 0
            return True
        del self.unsent[:count]
        return True

    def _receive(self) -> bool:
        if not self.is_reading or self.is_over:
            return False
        try:
            data = self.socket.recv(self.read_bytes)
        except BlockingIOError:
            return False
        except OSError as error:
            self.errno = error.errno or 0
            return True
        self.received += data
        if not data and self._send_errno == errno.ECONNRESET:
            self.errno = self._send_errno
            return True
        self.has_eof = not data
        if self.has_eof and self.is_finishing_last:
            self.finish()
        return True


class EchoEnd(End):
    """Sends back what it receives, and FIN for FIN."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.is_finishing_last = True

    def _receive(self) -> bool:
        before = len(self.received)
        has_moved = super()._receive()
        self.send(bytes(self.received[before:]))
        return has_moved


class ResettingEnd(End):
    """Resets at once."""

    def step(self) -> bool:
        if self.is_closed:
            return False
        self.reset()
        return True


def connect(sockaddr: SockAddr, rcvbuf_bytes: int = 0, source: str = "") -> End:
    """Connect to a listening socket; `rcvbuf_bytes` makes for a reader whose window is small."""
    sock = socket.socket(family_of(sockaddr))
    try:
        sock.settimeout(PATIENCE_S)
        if rcvbuf_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf_bytes)
        if source:
            sock.bind((source, 0))
        sock.connect(sockaddr)
    except BaseException:
        sock.close()
        raise
    return End(sock)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected, non-blocking TCP sockets: resets and half-closes are TCP's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), timeout=PATIENCE_S)
        theirs, _ = listener.accept()
    for sock in (ours, theirs):
        sock.setblocking(False)
    return ours, theirs
