"""What the last check of a backend has said and heard, without what may be a password."""

import pathlib
from typing import Any

import pytest

from kit.place import Place
from kit.program import Nginy, free_port, wait_until

HTTP = r"HTTP/1.0 200 OK\r\n\r\nfine"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_check_shows_what_was_said(workers: int, tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, workers)
    place.close()
    web, db, silent, dns = (f"{place.host}:{free_port(place.host)}" for _ in range(4))
    text = f"""workers: {workers}
upstreams:
  web:
    backends: '{web}'
    health_check: {{type: http, path: /ready, headers: {{Authorization: hush}}, interval: 1s}}
  db:
    backends: '{db}'
    health_check: {{type: tcp, send: "hush-hush\\n", expect: "-ERR", interval: 1s}}
  idle: {{backends: '{silent}'}}
  run: {{backends: '{silent}', health_check: {{type: exec, command: /bin/false, interval: 1s}}}}
  dns: {{backends: '{dns}', health_check: {{type: udp, send: hush, interval: 1s}}}}
listeners:
  - listen: '{place.host}:{place.port}'
    routes: [{{from: 127.0.0.9, proxy_pass: web}}, {{from: 127.0.0.8, proxy_pass: db}},
             {{from: 127.0.0.7, proxy_pass: run}}]
    proxy_pass: idle
  - {{listen: '{web}', return: "{HTTP}"}}
  - {{listen: '{db}', return: "-ERR \\x01 no\\n"}}
  - {{listen: '{dns}', protocol: udp, return: "yes"}}
  - {{listen: '{place.host}:{place.port}', protocol: udp, proxy_pass: dns}}
"""
    with Nginy(tmp_path, text) as nginy:

        def health(upstream: str, address: str) -> dict[str, Any]:
            return place.ask("GET", f"/upstreams/{upstream}/backends/{address}/health")[1]

        def last(upstream: str, address: str) -> dict[str, Any]:
            """How the last check went; its time is that of the latest result."""
            wait_until(lambda: health(upstream, address)["checks"]["last"])
            found = health(upstream, address)
            checks, result = found["checks"], found["results"][0]
            assert 0 <= checks["next_in_s"] <= 2
            shown: dict[str, Any] = checks["last"]
            assert [shown.pop(name) for name in result] == list(result.values())
            return shown

        got = r'"HTTP/1.0 200 OK\r\n\r\nfine"'
        sent = '"GET /ready HTTP/1.1"'
        assert last("web", web) == {"detail": None, "sent": sent, "got": got}
        got = r'"-ERR \x01 no\n"'
        assert last("db", db) == {"detail": None, "sent": None, "got": got}
        assert last("dns", dns) == {"detail": None, "sent": None, "got": '"yes"'}
        detail = "exit status 1"
        assert last("run", silent) == {"detail": detail, "sent": None, "got": None}
        checks = health("idle", silent)["checks"]
        assert (checks["last"], checks["next_in_s"], checks["total"]) == (None, None, 0)
        nginy.stop()
