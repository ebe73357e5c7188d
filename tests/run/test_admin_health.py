"""What the last check of a backend has said and heard, without what may be a password."""

import pathlib
import socket

import pytest

from kit.place import Place
from kit.program import Nginy, wait_until

HTTP = r"HTTP/1.0 200 OK\r\n\r\nfine"


def free(host: str) -> int:
    with socket.create_server((host, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("workers", [1, 2])
def test_a_check_shows_what_was_said(workers: int, tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, workers)
    place.close()
    web, db, silent = (f"{place.host}:{free(place.host)}" for _ in range(3))
    text = f"""workers: {workers}
upstreams:
  web:
    backends: '{web}'
    health_check: {{type: http, path: /ready, headers: {{Authorization: hush}}, interval: 100ms}}
  db:
    backends: '{db}'
    health_check: {{type: tcp, send: "hush-hush\\n", expect: "-ERR", interval: 100ms}}
  idle: {{backends: '{silent}'}}
listeners:
  - listen: '{place.host}:{place.port}'
    routes: [{{from: 127.0.0.9, proxy_pass: web}}, {{from: 127.0.0.8, proxy_pass: db}}]
    proxy_pass: idle
  - {{listen: '{web}', return: "{HTTP}"}}
  - {{listen: '{db}', return: "-ERR \\x01 no\\n"}}
"""
    with Nginy(tmp_path, text) as nginy:

        def checks(upstream: str, address: str) -> dict[str, object]:
            found = place.ask("GET", f"/upstreams/{upstream}/backends/{address}/health")[1]
            checks: dict[str, object] = found["checks"]
            return checks

        wait_until(lambda: checks("web", web)["total"] and checks("db", db)["total"])
        wait_until(lambda: checks("web", web)["got"] and checks("db", db)["got"])
        assert checks("web", web)["sent"] == '"GET /ready HTTP/1.1"'
        assert str(checks("web", web)["got"]).startswith(r'"HTTP/1.0 200 OK\r\n\r\nfine"')
        assert checks("db", db)["sent"] is None
        assert checks("db", db)["got"] == r'"-ERR \x01 no\n"'
        assert (checks("idle", silent)["sent"], checks("idle", silent)["got"]) == (None, None)
        nginy.stop()
