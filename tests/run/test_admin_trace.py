"""Traces of a running nginy, with one worker and with two: what they show, and how they end."""

import json
import pathlib
import signal
import socket
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from kit.admin import ask
from kit.chrome import Events, check_trace
from kit.program import PATIENCE_S, Nginy, free_port, own_host, run_once

SESSIONS = 12


class Place:
    """A nginy that is its own backend, so that each client makes two sessions."""

    def __init__(self, directory: pathlib.Path, workers: int = 1) -> None:
        self.host = own_host()
        self.port, back = free_port(self.host), free_port(self.host)
        self.socket = directory / "nginy.pid.sock"
        self.workers = workers
        self.config = (
            f"workers: {workers}\nupstreams: {{web: {{backends: ['{self.host}:{back}']}}}}\n"
            "listeners:\n"
            f"- {{listen: '{self.host}:{self.port}', name: front, proxy_pass: web}}\n"
            f"- {{listen: '{self.host}:{back}', name: back, return: hello}}\n"
        )

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return ask(self.socket, method, path, body, number=Decimal)

    def visit(self) -> None:
        with socket.create_connection((self.host, self.port), timeout=PATIENCE_S) as sock:
            assert sock.recv(100) == b"hello"
            assert sock.recv(100) == b""

    def trace(self, duration: str, **more: Any) -> int:
        status, answer = self.ask("POST", "/trace", {"for": duration, **more})
        assert status == 202, answer
        assert len(answer["processes"]) == self.workers
        return int(answer["id"])


@pytest.fixture(params=[1, 2])
def place(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Place:
    return Place(tmp_path, request.param)


def of_sessions(events: Events, kind: str) -> Events:
    return [each for each in events if each["ph"] == kind]


def test_a_trace_shows_each_session_and_what_its_handlers_did(
    place: Place, tmp_path: pathlib.Path
) -> None:
    with Nginy(tmp_path, place.config) as nginy:
        identity = place.trace("3s")
        status, answer = place.ask("POST", "/trace", {})
        assert (status, answer["error"]["code"]) == (409, "trace_running")
        for _ in range(SESSIONS):
            place.visit()
        nginy.send_signal(signal.SIGHUP)
        status, found = place.ask("GET", f"/trace/{identity}")
        assert status == 200
        events = check_trace(found)
        begun = of_sessions(events, "b")
        listeners = [each["args"]["listener"] for each in begun]
        assert listeners.count("front") == SESSIONS
        ends = {each["id"]: each["args"] for each in of_sessions(events, "e")}
        fronts = [each for each in begun if each["args"]["listener"] == "front"]
        assert all(ends[each["id"]]["code"] == "--" for each in fronts)
        assert all(":" in each["args"]["client"] for each in fronts)
        for each in fronts:
            names = [e["name"] for e in of_sessions(events, "n") if e["id"] == each["id"]]
            assert names[0] == "connecting"
            assert {"connected", "first byte"} <= set(names)
        spans = of_sessions(events, "X")
        assert {"turn", "select", "read", "write", "accept", "posted"} <= {
            each["name"] for each in spans
        }
        told = [each["args"] for each in spans]
        read = [e["bytes"] for e in told if "upstream" in (e.get("side"), e.get("what", "")[:8])]
        assert sum(read) == 5 * SESSIONS
        processes = {each["pid"] for each in spans}
        assert len(processes) <= place.workers
        instants = [each["name"] for each in of_sessions(events, "i")]
        assert "reload" in instants
        assert "signal" in instants or place.workers > 1
        assert found["otherData"]["generation"] == 2
        assert "truncated" not in found["otherData"]
        status, again = place.ask("GET", f"/trace/{identity}")
        assert (status, again["traceEvents"]) == (200, found["traceEvents"])
        nginy.stop()


def test_a_full_trace_and_one_without_clients_say_so(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config) as nginy:
        identity = place.trace("2s", max_events=20, anonymous=True)
        for _ in range(SESSIONS):
            place.visit()
        _, found = place.ask("GET", f"/trace/{identity}")
        assert found["otherData"]["truncated"] is True
        events = check_trace(found)
        kept = [each for each in events if each["ph"] in "Xbni" and each["name"] != "select"]
        assert len(kept) <= 40 * place.workers
        assert all("client" not in each["args"] for each in of_sessions(events, "b"))
        assert place.trace("1ms") == identity + 1
        status, answer = place.ask("GET", f"/trace/{identity}")
        assert (status, answer["error"]["code"]) == (404, "trace_not_found")
        nginy.stop()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"for": "61s"}, "for is not from 1ms to 60s"),
        ({"for": 5}, "for is not a duration such as 30s or 5m"),
        ({"max_events": 0}, "max_events is not a whole number from 1 to 200000"),
        ({"anonymous": "yes"}, "anonymous is not true or false"),
        ({"four": "5s"}, '"four" is not known, did you mean "for"?'),
    ],
)
def test_a_wrong_wish_is_refused_in_a_sentence(
    running: Place, body: dict[str, object], told: str
) -> None:
    status, answer = running.ask("POST", "/trace", body)
    said = ", ".join(filter(None, (answer["error"]["message"], answer["error"]["hint"])))
    assert (status, said) == (400, told)
    assert running.ask("GET", "/trace/1")[0] == 404


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("running")
    place = Place(directory)
    with Nginy(directory, place.config) as nginy:
        yield place
        nginy.stop()


def test_the_command_writes_a_file(tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path)
    with Nginy(tmp_path, place.config) as nginy:
        file = tmp_path / "t.json"
        code, out, said = run_once("trace", "--for", "50ms", "-o", str(file), str(nginy.path))
        assert (code, said) == (0, [])
        assert out.startswith(f"{file}: ")
        assert "; https://ui.perfetto.dev opens it" in out
        check_trace(json.loads(file.read_text(), parse_float=Decimal))
        code, _, said = run_once("trace", "--for", "2m", str(nginy.path))
        assert (code, said) == (1, ["nginy: [emerg] for is not from 1ms to 60s"])
        code, _, said = run_once("trace", "--for", "1ms", "-o", "/no/t.json", str(nginy.path))
        assert code == 1
        assert "/no/t.json cannot be written (No such file or directory)" in said[0]
        nginy.stop()
