"""Backends that say who they are, for tests that compare two balancers in front of them.

Each runs in a thread, since the balancers are other programs. It sends its name at once, echoes
what comes, and says at the end how many bytes came: so a client sees which backend it has, that all
bytes get through, and that a half-closed stream is answered.
"""

import contextlib
import socket
import ssl
import struct
import threading

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


class Answering:
    """One backend; `close` ends it. `reads_header`: its name comes with the announced client."""

    def __init__(
        self,
        name: str,
        host: str,
        *,
        reads_header: bool = False,
        context: ssl.SSLContext | None = None,
        answer: bytes | None = None,
    ) -> None:
        self.name = name
        self.reads_header = reads_header
        self.context = context
        self.answer = answer
        """What it says in answer to each piece, in place of an echo; checks ask for it."""
        self.socket = socket.create_server((host, 0))
        self.port: int = self.socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: set[socket.socket] = set()
        self._threads[0].start()

    def close(self) -> None:
        """Refuse from now on, and end all sessions."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.socket.accept()
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                self._threads.append(thread)
                self._open.add(sock)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            client = f" {_announced(sock)}" if self.reads_header else ""
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
            with sock:
                self._talk(sock, client)
        self._open.discard(sock)

    def _talk(self, sock: socket.socket, client: str) -> None:
        sock.sendall(f"{self.name}{client}\n".encode())
        count = 0
        while piece := sock.recv(65536):
            count += len(piece)
            sock.sendall(piece if self.answer is None else self.answer)
        sock.sendall(f"\n{count} bytes\n".encode())


def _announced(sock: socket.socket) -> str:
    """Read a PROXY header, of either version; return the client's address in it."""
    head = _exactly(sock, 12)
    if head == SIGNATURE:
        _, _, length = struct.unpack("!BBH", _exactly(sock, 4))
        body = _exactly(sock, length)
        return f"{socket.inet_ntoa(body[:4])}:{struct.unpack('!H', body[8:10])[0]}"
    while not head.endswith(b"\r\n"):
        head += _exactly(sock, 1)
    _, _, source, _, port, _ = head.decode().split()
    return f"{source}:{port}"


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


def said(sock: socket.socket) -> str:
    """Return the line with the backend's name; "" if the stream ends before it."""
    line = b""
    with contextlib.suppress(ConnectionError):
        while not line.endswith(b"\n"):
            piece = sock.recv(1)
            if not piece:
                break
            line += piece
    return line.decode().rstrip("\n")


def whole(sock: socket.socket, data: bytes) -> bytes:
    """Send everything and half-close; return what comes up to the end."""
    thread = threading.Thread(target=_send, args=(sock, data), daemon=True)
    thread.start()
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            received += piece
    thread.join()
    return received


def _send(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
