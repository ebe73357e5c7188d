"""What tests of the admin interface share: a made-up process, and HTTP over a unix socket."""

import contextlib
import http.client
import json
import pathlib
import socket
from collections.abc import Callable, Mapping
from typing import Any

from nginy.admin.answer import Slices
from nginy.admin.subject import Subject
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.health.health import Health
from nginy.backend.pool import BackendPool
from nginy.balancer.round_robin import RoundRobin
from nginy.event.loop import Loop
from nginy.event.traced import end_recording
from nginy.text.address import parse_address

from kit.clock import FakeClock
from kit.program import PATIENCE_S


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(str(self.path))


def ask(
    path: pathlib.Path,
    method: str,
    what: str,
    body: object = None,
    *,
    fields: Mapping[str, str] | None = None,
    number: Callable[[str], object] = float,
) -> tuple[int, Any]:
    """Return the status and the members of an answer; `number` reads those with a point."""
    with contextlib.closing(UnixConnection(path)) as connection:
        data = None if method == "GET" else json.dumps(body or {})
        kind = {} if data is None else {"Content-Type": "application/json"}
        connection.request(method, f"/api/v1{what}", data, {**kind, **(fields or {})})
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text, parse_float=number) if text else {}


def done(work: Slices[Any]) -> tuple[Any, int]:
    """Return what the work comes to, and in how many slices."""
    count = 1
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value, count
        count += 1


def pool(name: str, *addresses: str) -> BackendPool:
    settings = [BackendSettings(each, parse_address(each)) for each in addresses]
    return BackendPool(name, [Backend(each) for each in settings], RoundRobin)


def take_down(pool: BackendPool, index: int, reason: str = "the name is gone") -> None:
    backend = pool.backends[index]
    backend.health = Health(None, 0, is_resolved=False)
    backend.health.reason = reason
    backend.down = True
    pool.changed(backend)


class Made:
    """A subject with some upstreams, and a loop for its clock."""

    def __init__(self, *pools: BackendPool) -> None:
        self.clock = FakeClock()
        self.loop = Loop(clock=self.clock)
        self.subject = Subject(self.loop, "0.1", 42, "nginy.yml", pools=lambda: pools)
        self.subject.status = "serving"

    def __enter__(self) -> Subject:
        return self.subject

    def __exit__(self, *_: object) -> None:
        end_recording(self.loop)
        self.loop.close()
