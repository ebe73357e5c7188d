"""A running nginy under load, and a thousand spoilt requests to its admin interface."""

import contextlib
import json
import pathlib
import random
import socket
import subprocess
import sys

import pytest

from kit.admin import UnixConnection
from kit.program import PATIENCE_S, Nginy, free_port, own_host
from kit.requests import mutated

SPOILT = 1000
JSON = b"Host: localhost\r\nContent-Length: %d\r\nContent-Type: application/json\r\n\r\n%b"
SEEDS = (
    b"GET /api/v1/overview?pretty&fields=sessions HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n",
    b"GET /api/v1/sessions?top=3&by=age HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PATCH /api/v1/upstreams/web/backends/x HTTP/1.1\r\n" + JSON % (13, b'{"weight": 2}'),
    b"POST /api/v1/sessions/kill HTTP/1.1\r\n" + JSON % (2, b"{}"),
)
# Clients one after the other; says in the end how many there were, and how many had no answer.
LOAD = """
import select, socket, sys
served = failed = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as c:
            served += c.recv(100) == b"hello"
    except OSError:
        failed += 1
print(served, failed)
"""


@pytest.mark.timeout(60)
def test_a_thousand_spoilt_requests_harm_nobody(tmp_path: pathlib.Path) -> None:
    host = own_host()
    port, other = free_port(host), free_port(host)
    config = (
        f"upstreams: {{web: {{backends: ['{host}:{other}']}}}}\n"
        f"listeners:\n- {{listen: '{host}:{port}', proxy_pass: web}}\n"
        f"- {{listen: '{host}:{other}', return: hello}}\n"
    )
    rng = random.Random(17)
    with Nginy(tmp_path, config) as nginy:
        load = subprocess.Popen(
            [sys.executable, "-c", LOAD, host, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        statuses: dict[bytes, int] = {}
        for _ in range(SPOILT):
            with socket.socket(socket.AF_UNIX) as c:
                c.settimeout(PATIENCE_S)
                c.connect(str(tmp_path / "nginy.pid.sock"))
                c.sendall(mutated(rng, SEEDS))
                with contextlib.suppress(OSError):
                    c.shutdown(socket.SHUT_WR)
                answer = b""
                with contextlib.suppress(ConnectionResetError):
                    while data := c.recv(65536):
                        answer += data
                line = answer.split(b"\r\n")[0]
                assert not answer or line.startswith(b"HTTP/1.1 "), answer
                statuses[line[9:12]] = statuses.get(line[9:12], 0) + 1
        served, failed = map(int, load.communicate("\n", timeout=PATIENCE_S)[0].split())
        assert failed == 0
        assert served > 10
        assert b"500" not in statuses
        assert statuses.get(b"400", 0) > 100, statuses
        connection = UnixConnection(tmp_path / "nginy.pid.sock")
        with contextlib.closing(connection):
            connection.request("GET", "/api/v1/overview")
            assert json.loads(connection.getresponse().read())["status"] == "serving"
        assert not [line for line in nginy.errors if "[crit]" in line or "[alert]" in line]
        nginy.stop()
