"""Totals of JSON: they never fall with a worker, and begin anew if an operator wants it."""

import contextlib
import os
import pathlib
import re
import signal
import socket

import pytest

from kit.admin import UnixConnection
from kit.place import Place
from kit.program import PATIENCE_S, Nginy, wait_until

CLIENTS = 6


def visit(place: Place, port: int) -> None:
    with socket.create_connection((place.host, port), timeout=PATIENCE_S) as client:
        assert client.recv(100) == b"hello"
        assert client.recv(100) == b""


def told(place: Place) -> list[int]:
    """Return the same totals of four answers."""
    overview = place.ask("GET", "/overview")[1]
    [row] = [e for e in overview["listeners"] if e["to"] is None]
    [listener] = [e for e in place.ask("GET", "/listeners")[1]["listeners"] if e["to"] is None]
    assert listener["sent"] == 5 * listener["sessions_total"]
    assert sum(listener["ended"].values()) == listener["sessions_total"]
    totals = overview["sessions"]["total"], row["sessions_total"], listener["sessions_total"]
    return [*totals, overview["bytes"]["sent"] // 5]


def metric(place: Place) -> int:
    connection = UnixConnection(place.socket)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics?scope=listener")
        text = connection.getresponse().read().decode()
    found = re.findall(r"nginy_listener_sessions_total\{.*\} (\d+)", text)
    return sum(map(int, found))


@pytest.mark.parametrize("workers", [1, 2])
def test_totals_outlive_workers_and_begin_anew(workers: int, tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, workers)
    text = place.config().replace("listeners: {", "listeners:\n- {")
    with socket.create_server((place.host, 0)) as spare:
        port = spare.getsockname()[1]
    text += f"- {{listen: '{place.host}:{port}', return: hello}}\n"
    with contextlib.closing(place), Nginy(tmp_path, text) as nginy:
        for _ in range(CLIENTS):
            visit(place, port)
        wait_until(lambda: told(place) == [CLIENTS] * 4)
        target = f"/upstreams/web/backends/{place.addresses[0]}"
        if workers > 1:
            for line in nginy.said(r"worker \d, process \d+ started", 2):
                os.kill(int(re.sub(r".*process (\d+) started.*", r"\1", line)), signal.SIGKILL)
            nginy.said(r"worker \d, process \d+ started", 4)
            wait_until(lambda: place.ask("GET", "/overview")[1]["workers"]["answered"] == 2)
            assert told(place) == [CLIENTS] * 4
        visit(place, port)
        wait_until(lambda: told(place) == [CLIENTS + 1] * 4)
        assert place.ask("GET", "/overview")[1]["counters_reset_at"] is None
        assert place.ask("POST", "/counters/reset", {"what": 1})[0] == 400
        counted = metric(place)
        assert place.ask("POST", "/counters/reset")[0] == 200
        assert told(place) == [0] * 4
        assert place.ask("GET", target)[1]["sessions_total"] == 0
        assert place.ask("GET", "/upstreams/web")[1]["sessions_total"] == 0
        assert place.ask("GET", "/overview")[1]["counters_reset_at"] is not None
        assert metric(place) == counted
        visit(place, port)
        wait_until(lambda: told(place) == [1] * 4)
        if workers > 1:
            # A worker that dies now takes neither side of the difference along.
            line = nginy.said(r"worker \d, process \d+ started", 4)[-1]
            os.kill(int(re.sub(r".*process (\d+) started.*", r"\1", line)), signal.SIGKILL)
            nginy.said(r"worker \d, process \d+ started", 5)
            wait_until(lambda: place.ask("GET", "/overview")[1]["workers"]["answered"] == 2)
            assert told(place) == [1] * 4
        nginy.stop()


def test_counts_do_not_begin_anew_without_a_worker_that_is_late(tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, 2)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:
        [line, _] = nginy.said(r"worker \d, process \d+ started", 2)
        pid = int(re.sub(r".*process (\d+) started.*", r"\1", line))
        os.kill(pid, signal.SIGSTOP)
        try:
            status, answer = place.ask("POST", "/counters/reset")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (status, answer["error"]["code"]) == (503, "workers_late")
        assert place.ask("GET", "/overview")[1]["counters_reset_at"] is None
        nginy.stop()
