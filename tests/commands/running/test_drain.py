"""`nginy drain`: what it asks for while it waits."""

import json
import pathlib
import socket
import threading
from typing import Any

from nginy.commands.running.drain import LONGEST_MS, Wish, drain
from nginy.commands.running.interface import interface_of

from kit.configs import loaded
from kit.program import PATIENCE_S

CONFIG = "upstreams: {web: {backends: ['10.0.0.1:80']}}\nlisteners: {listen: 1, proxy_pass: web}\n"
ROW = {"address": "10.0.0.1:80", "state": "draining", "operator": "draining", "conns": 1}


class Canned:
    """A process that gives one answer after the other, and keeps the requests."""

    def __init__(self, path: pathlib.Path, *answers: dict[str, Any]) -> None:
        self.asked: list[str] = []
        self._answers = answers
        self._server = socket.socket(socket.AF_UNIX)
        self._server.settimeout(PATIENCE_S)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            sock, _ = self._server.accept()
            with sock:
                sock.settimeout(PATIENCE_S)
                self.asked.append(sock.recv(65536).split(b"\r\n")[0].decode())
                sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(answer).encode())

    def close(self) -> None:
        self._thread.join()
        self._server.close()


def test_it_goes_on_waiting_for_as_long_as_it_was_told_to(tmp_path: pathlib.Path) -> None:
    row = {**ROW, "weight": {"now": 1}, "generation": 1}
    canned = Canned(tmp_path / "a", row, {**row, "idle": False}, {**row, "conns": 0, "idle": True})
    config = loaded(tmp_path, f"admin: unix:{tmp_path}/a\n{CONFIG}")
    interface = interface_of(config, "nginy.yml")
    status, text = drain(interface, Wish("web/10.0.0.1:80", {"state": "drain"}, "1h"))
    canned.close()
    assert (status, text.splitlines()[1]) == (0, "web/10.0.0.1:80: draining, 0 sessions, weight 1")
    where = "GET /api/v1/upstreams/web/backends/10.0.0.1%3A80"
    assert canned.asked[1:] == [f"{where}?wait=idle&timeout={LONGEST_MS}ms HTTP/1.1"] * 2
