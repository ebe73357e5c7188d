"""Clients and backends with blocking sockets, for tests of the whole program.

nginy is another process here, so no test turns a loop: a call waits, at most `PATIENCE_S`, for what
nginy does. `site` fixtures, which start nginy in front of such backends, are in the tests.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

from kit.ends import RESET_ON_CLOSE
from kit.program import PATIENCE_S, Nginy, free_port, own_host

Setting = object
"""A value of the configuration, as JSON has it."""

# Says hello to one client, and "seen" when it has something to read, which it never does. The first
# line is its address.
HOLDER = """
import signal, socket
server = socket.create_server(("127.0.0.1", 0))
print("{}:{}".format(*server.getsockname()), flush=True)
client, _ = server.accept()
client.sendall(b"hello")
client.recv(1, socket.MSG_PEEK)
client.sendall(b"seen")
signal.pause()
"""


class Listening:
    """A backend whose part the test plays itself, with the connections that `accept` returns."""

    def __init__(self, backlog: int = 511) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.socket.settimeout(PATIENCE_S)
        self._accepted: list[socket.socket] = []
        self.name = "{}:{}".format(*self.socket.getsockname())

    def accept(self) -> socket.socket:
        """Return the connection of nginy that came first."""
        sock, _ = self.socket.accept()
        sock.settimeout(PATIENCE_S)
        self._accepted.append(sock)
        return sock

    def close(self) -> None:
        """Refuse from now on, and close what was accepted."""
        for sock in (self.socket, *self._accepted):
            sock.close()


class HoldingProcess:
    """A backend that is a process: it says hello to one client, and can be stopped and killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.name = self.process.stdout.readline().decode().strip()

    def close(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Site:
    """nginy in front of backends, on an address of its own."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.host = own_host()
        self.port = free_port(self.host)
        self.address = f"{self.host}:{self.port}"
        self.nginy: Nginy
        self._started: list[Nginy] = []
        self._sockets: list[socket.socket] = []

    def config(
        self,
        backends: Sequence[str | Mapping[str, Setting]],
        head: str = "",
        upstream: Mapping[str, Setting] | None = None,
        **settings: Setting,
    ) -> str:
        """Return a configuration of one listener with these settings, before one upstream, u."""
        group = {"backends": backends, **(upstream or {})}
        listener = {"listen": self.address, "proxy_pass": "u", **settings}
        parts = (
            head,
            f"upstreams: {json.dumps({'u': group})}",
            f"listeners: {json.dumps(listener)}",
        )
        return "\n".join(parts) + "\n"

    def start(
        self,
        backends: Sequence[str | Mapping[str, Setting]],
        head: str = "",
        upstream: Mapping[str, Setting] | None = None,
        **settings: Setting,
    ) -> Nginy:
        """Start nginy with `config`."""
        return self.run(self.config(backends, head, upstream, **settings))

    def run(self, config: str, **how: object) -> Nginy:
        """Start nginy with this very configuration; `how` is what `Nginy` takes."""
        self.nginy = Nginy(self.directory, config, **how)  # type: ignore[arg-type]
        self._started.append(self.nginy)
        return self.nginy

    def connect(self, rcvbuf_bytes: int = 0) -> socket.socket:
        """Return a new client."""
        client = socket.socket()
        self._sockets.append(client)
        client.settimeout(PATIENCE_S)
        if rcvbuf_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf_bytes)
        client.connect((self.host, self.port))
        return client

    def exchange(self, backend: Listening) -> tuple[socket.socket, socket.socket]:
        """Return both ends of a session in which each side has spoken."""
        client = self.connect()
        upstream = backend.accept()
        check(client, upstream)
        return client, upstream

    def close(self) -> None:
        """End everything; nothing that nginy has said may be about a bug."""
        for sock in self._sockets:
            sock.close()
        for nginy in self._started:
            nginy.close()
        for nginy in self._started:
            assert not [line for line in nginy.errors if "bug in nginy" in line], nginy.errors


def check(client: socket.socket, upstream: socket.socket) -> None:
    """Fail unless bytes go from each end to the other."""
    client.sendall(b"request")
    assert upstream.recv(100) == b"request"
    upstream.sendall(b"answer")
    assert client.recv(100) == b"answer"


def receive_all(sock: socket.socket) -> bytes:
    """Return what comes up to EOF."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    sock.close()


def was_reset(sock: socket.socket) -> bool:
    """Tell whether the stream ends by a reset, and not by EOF."""
    try:
        receive_all(sock)
    except ConnectionResetError:
        return True
    return False


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has (proc(5), statm)."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
