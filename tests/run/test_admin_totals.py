"""Totals in JSON: they never fall when a worker dies, and an operator can reset them."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import sys

import pytest

from kit.admin import UnixConnection
from kit.place import Place
from kit.program import CHECKOUT, PATIENCE_S, Nginy, ending, free_port, run_once, wait_until

CLIENTS = 6
# Takes the arguments of bin/nginy, and has workers tell what they have counted soon.
PINGING = f"""\
import os, sys
sys.path.insert(0, {str(CHECKOUT)!r})
from nginy.config.load import load
from nginy.process.workers import supervisor
path, patience = sys.argv[-1], supervisor.Patience(ping_ms=400)
sys.exit(supervisor.run(load(path, os.environ), path, 2, patience))
"""


def wakeups(pid: int) -> int:
    """How often a process has waited so far: an idle worker, for pings."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)[0])


def visit(place: Place, port: int) -> None:
    with socket.create_connection((place.host, port), timeout=PATIENCE_S) as client:
        assert client.recv(100) == b"hello"
        assert client.recv(100) == b""


def told(place: Place) -> list[int]:
    """Return the same totals of four answers."""
    overview = place.ask("GET", "/overview")[1]
    [row] = [e for e in overview["listeners"] if e["to"] is None]
    [listener] = [e for e in place.ask("GET", "/listeners")[1]["listeners"] if e["to"] is None]
    sessions = listener["sessions_total"]
    if (listener["sent"], sum(listener["ended"].values())) != (5 * sessions, sessions):
        return []  # one is under way
    totals = overview["sessions"]["total"], row["sessions_total"], sessions
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
    port = free_port(place.host)
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


def test_what_a_worker_has_counted_outlives_it_though_nobody_has_asked(
    tmp_path: pathlib.Path,
) -> None:
    place = Place(tmp_path, 2)
    text = place.config().replace("listeners: {", "listeners:\n- {")
    port = free_port(place.host)
    text += f"- {{listen: '{place.host}:{port}', return: hello}}\n"
    script = tmp_path / "script.py"
    script.write_text(PINGING)
    prefix = sys.executable, str(script)
    with contextlib.closing(place), Nginy(tmp_path, text, prefix=prefix) as nginy:

        def processes(count: int) -> list[int]:
            lines = nginy.said(r"worker \d, process \d+ started", count)
            return [int(re.sub(r".*process (\d+) started.*", r"\1", each)) for each in lines[-2:]]

        def survives(number: signal.Signals, clients: int, count: int) -> None:
            for pid in processes(count):
                os.kill(pid, number)
            processes(count + 2)
            wait_until(lambda: place.ask("GET", "/overview")[1]["workers"]["answered"] == 2)
            assert told(place) == [clients] * 4
            assert metric(place) == clients

        for _ in range(CLIENTS):
            visit(place, port)
        # At its end,
        survives(signal.SIGTERM, CLIENTS, 2)
        for _ in range(CLIENTS):
            visit(place, port)
        survives(signal.SIGQUIT, 2 * CLIENTS, 4)
        # or, if it cannot, at the second ping before.
        for _ in range(CLIENTS):
            visit(place, port)
        woken = {pid: wakeups(pid) for pid in processes(6)}
        wait_until(lambda: all(wakeups(pid) > count + 6 for pid, count in woken.items()))
        survives(signal.SIGKILL, 3 * CLIENTS, 6)
        nginy.stop()


def test_what_dead_workers_have_counted_outlives_an_upgrade(tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, 2)
    text = place.config().replace("listeners: {", "listeners:\n- {")
    port = free_port(place.host)
    text += f"- {{listen: '{place.host}:{port}', return: hello}}\n"
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(place))
        nginy = stack.enter_context(Nginy(tmp_path, text))
        for _ in range(CLIENTS):
            visit(place, port)
        for line in nginy.said(r"worker \d, process \d+ started", 2):
            os.kill(int(re.sub(r".*process (\d+) started.*", r"\1", line)), signal.SIGTERM)
        nginy.said(r"worker \d, process \d+ started", 4)
        wait_until(lambda: place.ask("GET", "/overview")[1]["workers"]["answered"] == 2)
        assert (told(place), metric(place)) == ([CLIENTS] * 4, CLIENTS)
        for _ in range(2):  # the second successor gets what the first one was given
            assert run_once("-s", "upgrade", str(nginy.path))[0] == 0
            stack.enter_context(ending(nginy.pid))
            wait_until(lambda: place.ask("GET", "/overview")[1]["workers"]["answered"] == 2)
            assert metric(place) == CLIENTS
        assert told(place)[1:] == [CLIENTS] * 3


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
