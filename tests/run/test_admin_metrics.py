"""/metrics of a running nginy: counters grow by exactly what was sent; and a real Prometheus."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from kit.openmetrics import Read, read, value
from kit.program import (
    CHECKOUT,
    PATIENCE_S,
    Nginy,
    free_port,
    needs,
    own_host,
    run_once,
    wait_until,
)

BODY = "hello, metrics"


class Place:
    """A nginy with an admin listener, and clients."""

    def __init__(self, workers: int = 1, more: str = "") -> None:
        self.host = own_host()
        self.port, self.backend, self.admin = (free_port(self.host) for _ in range(3))
        self.config = (
            f"workers: {workers}\nadmin: '{self.host}:{self.admin}'\n{more}"
            f"upstreams: {{web: {{backends: ['{self.host}:{self.backend}']}}}}\n"
            f"listeners: [{{listen: '{self.host}:{self.port}', name: front, proxy_pass: web}},"
            f" {{listen: '{self.host}:{self.backend}', return: '{BODY}'}}]\n"
        )

    def visit(self) -> None:
        with socket.create_connection((self.host, self.port), timeout=PATIENCE_S) as client:
            while client.recv(100):
                pass

    def get(self, path: str = "/metrics", accept: str = "*/*") -> tuple[int, str, str]:
        connection = http.client.HTTPConnection(self.host, self.admin, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Accept": accept})
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read().decode()

    def metrics(self) -> dict[str, Read]:
        return read(self.get()[2], is_openmetrics=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_counters_grow_by_exactly_what_was_sent(tmp_path: pathlib.Path, workers: int) -> None:
    place = Place(workers)
    with Nginy(tmp_path, place.config) as nginy:
        for _ in range(7):
            place.visit()
        nginy.sessions(14)
        found = place.metrics()
        front = {"listener": "front", "protocol": "tcp"}
        assert value(found, "nginy_listener_sessions_total", **front) == 7
        assert value(found, "nginy_listener_ended_total", **front) == 7
        assert value(found, "nginy_listener_sent_bytes_total", **front) == 7 * len(BODY)
        assert value(found, "nginy_backend_sessions_total", upstream="web") == 7
        assert value(found, "nginy_upstream_connect_seconds_count", upstream="web") == 7
        assert value(found, "nginy_workers") == workers
        for worker in map(str, range(workers)):
            assert value(place.metrics(), "nginy_admin_seconds_total", worker=worker) > 0
        assert value(found, "nginy_reloads_total", result="applied") == 0
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        assert value(place.metrics(), "nginy_reloads_total", result="applied") == 1
        nginy.stop()


def test_both_formats_and_scopes(tmp_path: pathlib.Path) -> None:
    place = Place()
    with Nginy(tmp_path, place.config) as nginy:
        accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
        status, kind, text = place.get(accept=accept)
        assert (status, kind) == (200, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        read(text, is_openmetrics=True)
        assert place.get()[1] == "text/plain; version=0.0.4; charset=utf-8"
        only = read(place.get("/metrics?scope=upstream&upstream=web")[2], is_openmetrics=False)
        assert not only["nginy_backend_usable"].samples
        assert "nginy_build_info" not in only
        assert place.get("/metrics?scope=worlds")[0] == 400
        assert place.get("/metrics?upstream=wbe")[0] == 404
        nginy.stop()


def test_bytes_count_while_a_session_goes_on_and_never_fall(tmp_path: pathlib.Path) -> None:
    host = own_host()
    port, admin = free_port(host), free_port(host)
    with socket.create_server((host, 0)) as server:
        target = "{}:{}".format(*server.getsockname())
        config = (
            f"admin: '{host}:{admin}'\n"
            f"listeners: {{listen: '{host}:{port}', name: front, proxy_pass: '{target}'}}\n"
        )
        place = Place()
        place.host, place.admin = host, admin
        with Nginy(tmp_path, config) as nginy:
            client = socket.create_connection((host, port), timeout=PATIENCE_S)
            backend, _ = server.accept()
            backend.settimeout(PATIENCE_S)
            client.sendall(b"x" * 1000)
            assert len(backend.recv(1000, socket.MSG_WAITALL)) == 1000
            # Each of these is the first to ask how much it is by now.
            for sent, path in enumerate(("backends", f"upstreams/{target}/backends/{target}"), 1):
                found = json.loads(place.get(f"/api/v1/{path}")[2])
                [row] = found.get("backends", [found])
                assert row["received"] == 1000 * sent
                client.sendall(b"x" * 1000)
                assert len(backend.recv(1000, socket.MSG_WAITALL)) == 1000
            only = place.get("/metrics?scope=backend")[2].splitlines()
            assert (
                f'nginy_backend_received_bytes_total{{upstream="{target}",backend="{target}"}} 3000'
                in only
            )
            name = "nginy_listener_received_bytes_total"
            assert value(place.metrics(), name, listener="front") == 3000
            assert value(place.metrics(), "nginy_backend_sessions_total") == 1
            backend.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            backend.close()
            client.close()
            nginy.session()
            assert value(place.metrics(), name, listener="front") == 3000
            nginy.stop()


def test_counters_of_a_killed_worker_stay(tmp_path: pathlib.Path) -> None:
    place = Place(workers=2)
    with Nginy(tmp_path, place.config) as nginy:
        for _ in range(10):
            place.visit()
        nginy.sessions(20)
        assert value(place.metrics(), "nginy_listener_sessions_total", listener="front") == 10
        for line in nginy.said(r"worker \d, process \d+ started", 2):
            os.kill(int(re.sub(r".*process (\d+) started.*", r"\1", line)), signal.SIGKILL)
        nginy.said(r"worker \d, process \d+ started", 4)
        wait_until(lambda: value(place.metrics(), "nginy_workers") == 2)
        found = place.metrics()
        assert value(found, "nginy_listener_sessions_total", listener="front") == 10
        assert value(found, "nginy_backend_sessions_total", upstream="web") == 10
        assert value(found, "nginy_worker_exits_total", how="signal") == 2
        place.visit()
        nginy.sessions(22)
        found = place.metrics()
        assert value(found, "nginy_listener_sessions_total", listener="front") == 11
        nginy.stop()


def test_the_number_of_backends_with_series_has_a_limit(tmp_path: pathlib.Path) -> None:
    place = Place(more="metrics_backends: 0\n")
    with Nginy(tmp_path, place.config) as nginy:
        found = place.metrics()
        assert value(found, "nginy_metrics_backends_omitted") == 1
        assert not found["nginy_backend_usable"].samples
        assert value(found, "nginy_upstream_usable_backends", upstream="web") == 1
        nginy.stop()


@contextlib.contextmanager
def prometheus(directory: pathlib.Path, target: str) -> Iterator[str]:
    """Run a Prometheus that scrapes `target`; yield the address of its interface."""
    program = needs("prometheus", "prometheus")
    host = own_host()
    address = f"{host}:{free_port(host)}"
    config = directory / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: nginy, static_configs: [{{targets: ['{target}']}}]}}]\n"
        f"rule_files: ['{CHECKOUT}/etc/alerts.yml']\n"
    )
    arguments = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory}/tsdb",
        f"--web.listen-address={address}",
    ]
    log = directory / "prometheus.log"
    with log.open("wb") as output, subprocess.Popen(arguments, stderr=output) as process:
        try:
            yield address
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def query(address: str, text: str) -> list[dict[str, Any]]:
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            found: list[dict[str, Any]] = json.load(response)["data"]["result"]
            return found
    except OSError:
        return []


@pytest.mark.real
def test_prometheus_scrapes_it_without_an_error(tmp_path: pathlib.Path) -> None:
    needs("prometheus", "prometheus")
    place = Place()
    with Nginy(tmp_path, place.config) as nginy:
        with prometheus(tmp_path, f"{place.host}:{place.admin}") as address:
            up = 'up{job="nginy"}'
            wait_until(lambda: [each["value"][1] for each in query(address, up)] == ["1"])
            for _ in range(5):
                place.visit()
            name = 'nginy_listener_sessions_total{listener="front"}'
            wait_until(lambda: [each["value"][1] for each in query(address, name)] == ["5"])
            targets = f"http://{address}/api/v1/targets"

            def last() -> tuple[str, str]:
                with urllib.request.urlopen(targets, timeout=PATIENCE_S) as response:
                    [target] = json.load(response)["data"]["activeTargets"]
                return target["health"], target["lastError"]

            wait_until(lambda: last() == ("up", ""), "a scrape without an error")
        nginy.stop()


@pytest.mark.real
def test_promtool_has_nothing_to_say(tmp_path: pathlib.Path) -> None:
    promtool = needs("promtool", "prometheus")
    place = Place()
    with Nginy(tmp_path, place.config) as nginy:
        place.visit()
        done = subprocess.run(
            [promtool, "check", "metrics"],
            input=place.get()[2],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        nginy.stop()
    rules = [promtool, "check", "rules", str(CHECKOUT / "etc" / "alerts.yml")]
    assert (
        subprocess.run(rules, capture_output=True, timeout=PATIENCE_S, check=False).returncode == 0
    )
