"""The load generator for works over TLS: clients that shake hands, before the backend of load.py.

In Python on any machine: what is compared is the proxy's CPU time an operation, so the generator
need not be fast. It says goodbye (close_notify) at the end of a connection, as clients should; a
proxy that had to forward a broken stream would do another work.

Run as a program by measure.py, with the arguments and the answer of load.py.
"""

import contextlib
import pathlib
import select
import socket
import ssl
import sys
from typing import Final

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from bench.load import BULK, MESSAGE, Client, Handler, Run, main

WORKS: Final = {
    "tls-full": "connect",
    "tls-resumed": "connect",
    "tls-pingpong": "pingpong",
    "tls-up": "up",
    "tls-down": "down",
    "tls-idle": "idle",
}
"""What each work is without TLS."""
RECORDS_MAX: Final = 64
"""Read for one event; then the others get their turn."""


class TlsRun(Run):
    """Clients over TLS, and a backend without."""

    def __init__(self, work: str, port: int, backend_fd: int, connections: int) -> None:
        super().__init__(WORKS[work], port, backend_fd, connections)
        self.is_resuming = work == "tls-resumed"
        self.session: ssl.SSLSession | None = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def open_client(self, client: Client) -> None:
        client.is_begun = False
        self.opening += 1
        try:
            plain = socket.create_connection(("127.0.0.1", self.port))
        except OSError:
            self.fail(client)
            return
        plain.setblocking(False)
        sock = client.sock = self.context.wrap_socket(
            plain, do_handshake_on_connect=False, session=self.session
        )
        if self.work in ("connect", "pingpong"):  # a handshake is a part of it
            self.start_operation(client)
        self.watch(sock, select.EPOLLIN, lambda _: self.shake_hands(client, sock))
        self.shake_hands(client, sock)

    def shake_hands(self, client: Client, sock: ssl.SSLSocket) -> None:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            return
        except OSError:
            self.fail(client)
            return
        if self.work in ("up", "down"):
            self.begin(client)
            self.handlers[sock.fileno()] = self.bulk(client, sock)
            self.epoll.modify(sock, select.EPOLLOUT if self.work == "up" else select.EPOLLIN)
            return
        if self.work == "idle":
            self.start_operation(client)
        self.handlers[sock.fileno()] = lambda ready: self.message_handler(client, ready)
        self.send_request(client)

    def close_client(self, client: Client) -> None:
        if isinstance(client.sock, ssl.SSLSocket):
            if self.is_resuming and client.started_ns == 0:
                self.session = client.sock.session or self.session
            with contextlib.suppress(OSError, ValueError):
                client.sock.unwrap()
        super().close_client(client)

    def message_handler(self, client: Client, _ready: int) -> None:
        sock = client.sock
        assert sock is not None
        try:
            while len(client.answer) < MESSAGE:
                data = sock.recv(MESSAGE)
                if not data:
                    self.fail(client)
                    return
                client.answer += data
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        except OSError:
            self.fail(client)
            return
        if client.request != client.answer or not client.started_ns:
            self.fail(client)
        else:
            self.finish_operation(client)

    def bulk(self, client: Client, sock: ssl.SSLSocket) -> Handler:
        def pump(_ready: int) -> None:
            try:
                for _ in range(RECORDS_MAX):
                    if self.work == "up":
                        sock.send(BULK)
                        return
                    count = len(sock.recv(len(BULK)))
                    self.operations += count
                    if not count:
                        self.fail(client)
                        return
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:
                self.fail(client)

        return pump


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], TlsRun, tuple(WORKS)))
