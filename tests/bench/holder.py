"""Holds sessions that say nothing, beside a load: both ends of them, in two processes.

Run as a program with the proxy's port, the descriptor of its backend, which listens, and a number
of sessions; prints `ready` when all are there, and ends when its input does. A child accepts, since
one process may not have descriptors for both ends. The load generator serves the same backend
socket, so nobody accepts there any more once all sessions have come.
"""

import os
import signal
import socket
import sys
from pathlib import Path


def accept(backend: socket.socket, count: int, said: int) -> None:
    """Accept so many connections, say so, and keep them."""
    backend.setblocking(True)
    kept = [backend.accept()[0] for _ in range(count)]
    backend.setblocking(False)
    os.write(said, b".")
    while kept:
        signal.pause()


def main() -> int:
    """Begin the sessions, and hold them."""
    port, fd, count = map(int, sys.argv[1:])
    heard, said = os.pipe()
    child = os.fork()
    if not child:
        accept(socket.socket(fileno=fd), count, said)
    os.close(said)
    kept = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    if not os.read(heard, 1):
        sys.exit("the backend has not accepted all sessions")
    print("ready", flush=True)
    sys.stdin.read()
    os.kill(child, signal.SIGKILL)
    return len(kept) - count


COMMAND = [sys.executable, str(Path(__file__))]

if __name__ == "__main__":
    sys.exit(main())
