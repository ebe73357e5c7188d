"""A place for tests of the admin interface: two backends that listen, and a nginy in front."""

import pathlib
import socket
from typing import Any

from kit.admin import ask
from kit.program import PATIENCE_S, free_port, own_host


class Place:
    """Two backends that listen, and a nginy in front of them."""

    def __init__(self, directory: pathlib.Path, workers: int) -> None:
        self.host = own_host()
        self.port = free_port(self.host)
        self.workers = workers
        self.servers = [socket.create_server((self.host, 0)) for _ in range(2)]
        self.addresses = ["{}:{}".format(*server.getsockname()) for server in self.servers]
        self.socket = directory / "nginy.pid.sock"

    def config(self, more: str = "", backend: str = "") -> str:
        first, second = self.addresses
        return (
            f"workers: {self.workers}\n{more}upstreams: {{web: {{backends: ["
            f"{{address: '{first}'{backend}}}, '{second}']}}}}\n"
            f"listeners: {{listen: '{self.host}:{self.port}', proxy_pass: web}}\n"
        )

    def ask(
        self, method: str, path: str, body: object = None, **fields: str
    ) -> tuple[int, dict[str, Any]]:
        return ask(self.socket, method, path, body, fields=fields)

    def backend(self, index: int = 0) -> dict[str, Any]:
        return self.ask("GET", f"/upstreams/web/backends/{self.addresses[index]}")[1]

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=PATIENCE_S)

    def close(self) -> None:
        for server in self.servers:
            server.close()
