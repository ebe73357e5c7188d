"""A proxy in twenty lines that serves one client at a time.

Each call waits until it is done: recv() for the client's next bytes, sendall() until the backend
has taken them. While one client thinks, all others wait in the kernel's queue. An answer that comes
before its question, or in two pieces, is passed on late. Next: lossy.py.

Tested in tests/tour/test_programs_live.py.
"""

import socket
import sys


def serve_client(client: socket.socket, backend: tuple[str, int]) -> None:
    """Pass questions to `backend` and answers back, in turn, until the client has no more."""
    with client, socket.create_connection(backend) as upstream:
        while question := client.recv(65536):
            upstream.sendall(question)
            client.sendall(upstream.recv(65536))


def main(listen: str, backend: str) -> None:
    """Listen on HOST:PORT and proxy to HOST:PORT, for ever."""
    host, port = listen.split(":")
    backend_host, backend_port = backend.split(":")
    listener = socket.create_server((host, int(port)))
    print("listening on", *listener.getsockname(), flush=True)
    while True:
        serve_client(listener.accept()[0], (backend_host, int(backend_port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
