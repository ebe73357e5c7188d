"""The admin interface with several workers: one answer for all, even if some are missing."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from nginy.admin.answer import Poll
from nginy.admin.changes.book import Book
from nginy.admin.changes.overriding import OVERRIDING, details
from nginy.admin.facts.tally import Tally
from nginy.admin.subject import Subject
from nginy.event.loop import Loop
from nginy.process.workers.crew import WorkerProcess
from nginy.process.workers.reports import ANSWER_MS, Reporter, Round

from kit.admin import UnixConnection, ask
from kit.clock import FakeClock
from kit.program import PATIENCE_S, Nginy, free_port, own_host, run_once, typed, wait_until

CLIENTS = 20

Capture = pytest.CaptureFixture[str]


def config(host: str, port: int, more: str = "") -> str:
    return (
        f"workers: 2\nupstreams: {{web: {{backends: ['{host}:1', '{host}:2']}}}}\n{more}"
        f"listeners: [{{listen: '{host}:{port}', return: hi}},"
        f" {{listen: '{host}:{free_port(host)}', proxy_pass: web}}]\n"
    )


def visit(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=PATIENCE_S) as client:
        while client.recv(100):
            pass


def overview(nginy: Nginy, capsys: Capture) -> dict:
    status, out, errors = typed(capsys, "status", "--json", str(nginy.path))
    assert (status, errors) == (0, [])
    return json.loads(out)


def probe(path: pathlib.Path, what: str) -> tuple[int, bytes]:
    with contextlib.closing(UnixConnection(path)) as connection:
        connection.request("GET", what)
        response = connection.getresponse()
        return response.status, response.read()


def at_once(*calls: Sequence[Any]) -> list[Any]:
    """Make calls side by side: each waits for a worker that does not answer."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result() for each in [pool.submit(*call) for call in calls]]


def workers_of(nginy: Nginy) -> list[int]:
    started = nginy.said(r"worker \d, process \d+ started", 2)
    return [int(re.sub(r".*process (\d+) started.*", r"\1", line)) for line in started]


def test_the_supervisor_answers_for_all(tmp_path: pathlib.Path, capsys: Capture) -> None:
    host = own_host()
    port = free_port(host)
    with Nginy(tmp_path, config(host, port)) as nginy:
        for _ in range(CLIENTS):
            visit(host, port)
        wait_until(lambda: overview(nginy, capsys)["listeners"][0]["sessions_total"] == CLIENTS)
        found = overview(nginy, capsys)
        assert found["workers"] == {"asked": 2, "answered": 2, "late": []}
        assert found["pid"] == nginy.process.pid
        assert found["sessions"]["total"] == CLIENTS
        [web] = found["upstreams"]
        assert (web["usable"], web["backends"]) == (2, 2)
        assert "2 of 2 workers have answered" in run_once("status", str(nginy.path))[1]
        assert run_once("status", "--check", str(nginy.path))[:2] == (0, "ready\n")
        nginy.write(config(host, port, "ready: {web: 3}\n"))
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        assert overview(nginy, capsys)["generation"] == 2
        status, out, _ = run_once("status", "--check", str(nginy.path))
        assert (status, out) == (2, "web: 2 of 2 backends usable, 3 needed\n")
        nginy.stop()
        assert not list(tmp_path.glob("*.sock"))


def test_a_worker_that_does_not_answer_is_named_and_the_others_count(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    host = own_host()
    port = free_port(host)
    with Nginy(tmp_path, config(host, port)) as nginy:
        stopped, other = workers_of(nginy)
        path = tmp_path / "nginy.pid.sock"
        change = run_once, "weight", str(nginy.path), f"web/{host}:1", "3"
        session = ask, path, "GET", f"/sessions/{stopped}.1"
        backend = ask, path, "GET", f"/upstreams/web/backends/{host}:1"
        everybody = ask, path, "GET", "/overview"
        healthz = probe, path, "/healthz?worker=all"
        assert probe(path, "/healthz?worker=all") == (200, b"ok\n")
        try:
            os.kill(stopped, signal.SIGSTOP)
            (_, found), (code, refused), (status, out, _), health = at_once(
                everybody, session, change, healthz
            )
            assert (found["workers"]["asked"], found["workers"]["answered"]) == (2, 1)
            [late] = found["workers"]["late"]
            assert late.endswith(f"process {stopped}")
            silent = f"there is no answer from {late}"
            assert found["problems"][0] == {"severity": "error", "text": silent, "since": None}
            assert health == (503, f"{silent}\n".encode())
            assert probe(path, "/healthz") == (200, b"ok\n")
            assert (code, refused["error"]["code"]) == (503, "workers_late")
            assert refused["error"]["message"] == f"nobody can tell, as {silent}"
            assert (status, out.splitlines()[1]) == (
                0,
                f"not yet in {late}: no answer",
            )
            os.kill(other, signal.SIGSTOP)
            (code, refused), (_, found), health = at_once(backend, everybody, healthz)
            assert health == (503, b"no worker answers\n")
            assert (code, refused["error"]["code"]) == (503, "workers_late")
            assert found["problems"][0]["text"] == "no worker answers"
        finally:
            os.kill(stopped, signal.SIGCONT)
            os.kill(other, signal.SIGCONT)
        wait_until(lambda: overview(nginy, capsys)["workers"]["answered"] == 2)
        nginy.stop()


def test_a_refused_reload_leaves_the_interface_as_it_is(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    host = own_host()
    port = free_port(host)
    with Nginy(tmp_path, config(host, port)) as nginy:
        with socket.create_server((own_host(), 0)) as taken:
            address = "{}:{}".format(*taken.getsockname())
            nginy.write(config(host, port, f"admin: [{{listen: '{address}'}}]\n"))
            assert run_once("-s", "reload", str(nginy.path))[0] == 1
        nginy.write(config(host, port))
        assert overview(nginy, capsys)["config"]["last_reload"]["result"] == "refused"
        workers = workers_of(nginy)
        os.kill(workers[0], signal.SIGKILL)
        nginy.said("started", 3)
        wait_until(lambda: overview(nginy, capsys)["workers"]["answered"] == 2)
        nginy.stop()


class Told(WorkerProcess):
    """A worker that no process belongs to."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.tally = Tally()


def test_the_answers_of_workers_come_in_their_order_whoever_is_first() -> None:
    asked = Round(1, Poll("backends", {}), lambda _: None)
    with tempfile.TemporaryDirectory() as directory:
        for number in (2, 0, 1):
            process = Told(number)
            path = pathlib.Path(directory, str(number))
            path.write_text(json.dumps({"is_known": True, "backends": [], "matched": number}))
            asked.waiting[process] = os.open(path, os.O_RDONLY)
            asked.take(process)
    assert [facts["matched"] for facts in asked.replies().facts] == [0, 1, 2]


def test_a_worker_leaves_out_a_question_that_nobody_waits_for_any_more() -> None:
    clock = FakeClock()
    loop = Loop(clock=clock)
    subject = Subject(loop)
    changes: list[object] = []
    subject.override = lambda *change: changes.append(change)
    reporter = Reporter(subject, lambda word, number: None)
    wanted = {"level": "notice", "last": 1}
    lines, change = Poll("lines", wanted), Poll(OVERRIDING.name, details(Book()))

    def answers(wait_ms: int) -> list[bool]:
        with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:
            for file, question in ((first, lines), (second, change)):
                file.write(question.to_json().encode())
                file.flush()
                reporter.begin("1", [os.dup(file.fileno())])
            clock.advance(wait_ms)
            for _ in range(20):
                loop.turn(0)
            return [os.fstat(file.fileno()).st_size > 0 for file in (first, second)]

    assert answers(ANSWER_MS - 1) == [True, True]
    assert answers(ANSWER_MS) == [False, True]
    assert len(changes) == 2
    loop.close()
