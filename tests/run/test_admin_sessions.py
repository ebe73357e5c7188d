"""Sessions of a running nginy: listed, filtered, followed and ended, also with several workers."""

import contextlib
import pathlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from kit.admin import ask
from kit.program import (
    ENVIRONMENT,
    PATIENCE_S,
    PROGRAM,
    Nginy,
    free_port,
    own_host,
    run_once,
    typed,
    wait_until,
)

CLIENTS = 6


class Place:
    """A backend that only listens, and a nginy in front of it."""

    def __init__(self, directory: pathlib.Path, workers: int) -> None:
        self.host = own_host()
        self.port = free_port(self.host)
        self.server = socket.create_server((self.host, 0))
        self.backend = "{}:{}".format(*self.server.getsockname())
        self.socket = directory / "nginy.pid.sock"
        self.config = (
            f"workers: {workers}\nupstreams: {{web: {{backends: ['{self.backend}']}}}}\n"
            f"listeners: {{listen: '{self.host}:{self.port}', name: front, proxy_pass: web}}\n"
        )
        self.clients: list[socket.socket] = []

    def connect(self, count: int) -> None:
        for _ in range(count):
            address = self.host, self.port
            self.clients.append(socket.create_connection(address, timeout=PATIENCE_S))
        wait_until(lambda: len(self.sessions("state=established")) == len(self.clients))

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return ask(self.socket, method, path, body)

    def sessions(self, query: str = "") -> list[dict[str, Any]]:
        status, answer = self.ask("GET", f"/sessions?{query}")
        assert status == 200, answer
        found: list[dict[str, Any]] = answer["sessions"]
        return found

    def close(self) -> None:
        for each in (*self.clients, self.server):
            each.close()


@pytest.fixture(params=[1, 2])
def place(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Place]:
    made = Place(tmp_path, request.param)
    yield made
    made.close()


def test_pages_cover_all_sessions_once(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config) as nginy:
        place.connect(CLIENTS)
        seen: list[str] = []
        after = ""
        while True:
            _, answer = place.ask("GET", f"/sessions?limit=4{after}")
            seen += [each["id"] for each in answer["sessions"]]
            if answer["next"] is None:
                break
            after = f"&after={answer['next']}"
        assert len(seen) == len(set(seen)) == CLIENTS
        assert answer["matched"] == CLIENTS
        status, one = place.ask("GET", f"/sessions/{seen[0]}")
        assert (status, one["attempts"][0]["address"]) == (200, place.backend)
        assert len(place.sessions("top=2&by=age")) == 2
        nginy.stop()


def test_one_session_is_ended(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config) as nginy:
        place.connect(2)
        first = place.sessions()[0]["id"]
        assert place.ask("DELETE", f"/sessions/{first}")[0] == 204
        wait_until(lambda: len(place.sessions()) == 1)
        assert place.ask("DELETE", f"/sessions/{first}")[0] == 404
        assert nginy.session()["reason"] == "closed by an operator"
        nginy.said(f"operator uid .* ended session {first}")
        nginy.stop()


def test_those_of_a_filter_are_ended_and_no_more_than_asked_for(
    place: Place, tmp_path: pathlib.Path
) -> None:
    with Nginy(tmp_path, place.config) as nginy:
        place.connect(CLIENTS)
        chosen = {"filter": {"listener": "front", "client": f"{place.host.split('.')[0]}.0.0.0/8"}}
        dry = place.ask("POST", "/sessions/kill", {**chosen, "dry_run": True})[1]
        assert (dry["matched"], dry["killed"]) == (CLIENTS, 0)
        some = place.ask("POST", "/sessions/kill", {**chosen, "max": 4})[1]
        assert (some["matched"], some["killed"], some["pending"]) == (CLIENTS, 4, 0)
        wait_until(lambda: len(place.sessions()) == 2)
        status, out, errors = run_once("sessions", "--kill", str(nginy.path), "listener=front")
        assert (status, out, errors) == (0, "2 of 2 sessions ended\n", [])
        assert {each["termination"] for each in nginy.sessions(CLIENTS)} == {"KD"}
        nginy.stop()


def test_the_command_shows_a_table(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config) as nginy:
        assert run_once("sessions", str(nginy.path))[1] == "no sessions\n"
        place.connect(2)
        status, out, _ = run_once("sessions", str(nginy.path), f"backend={place.backend}")
        assert status == 0
        heading, *lines = out.splitlines()
        assert heading.split()[:3] == ["ID", "PROTO", "LISTENER"]
        assert len(lines) == 2
        assert all(place.backend in line and "established" in line for line in lines)
        assert len(run_once("sessions", "--top", "bytes", str(nginy.path))[1].splitlines()) == 3
        nginy.stop()


def test_who_follows_sees_sessions_begin_and_end(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config) as nginy:
        command = [*PROGRAM, "sessions", "--follow", str(nginy.path)]
        with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            place.connect(1)
            assert process.stdout.readline().startswith(b"+ ")
            identity = place.sessions()[0]["id"]
            place.ask("DELETE", f"/sessions/{identity}")
            assert process.stdout.readline().startswith(f"- {identity}".encode())
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0
        nginy.stop()


def test_what_is_wrong_is_said(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(tmp_path, 1)
    with contextlib.closing(place), Nginy(tmp_path, place.config) as nginy:
        for query, code in (
            ("limit=1001", "bad_parameter"),
            ("limit=x", "bad_parameter"),
            ("after=x", "bad_parameter"),
            ("top=20", "bad_parameter"),
            ("top=20&by=size", "bad_parameter"),
            ("state=open", "bad_value"),
            ("client=10.0.0.1/8", "bad_value"),
            ("client=ten", "bad_value"),
            ("min_bytes=-1", "bad_value"),
            ("min_age=old", "bad_parameter"),
            ("clinet=10.0.0.0/8", "unknown_parameter"),
        ):
            status, answer = place.ask("GET", f"/sessions?{query}")
            assert (status, answer["error"]["code"]) == (400, code), query
        assert answer["error"]["hint"] == 'did you mean "client"?'
        for body, code in (
            ({}, "filter_missing"),
            ({"filter": {}}, "filter_missing"),
            ({"filter": []}, "filter_missing"),
            ({"filter": {"evil": 1}}, "unknown_parameter"),
            ({"filter": {"listener": 1}}, "bad_value"),
            ({"filter": {"listener": "a"}, "max": 0}, "bad_value"),
            ({"filter": {"listener": "a"}, "per_second": "x"}, "bad_value"),
            ({"filter": {"listener": "a"}, "dry_run": 1}, "bad_value"),
            ({"filters": {"listener": "a"}}, "unknown_field"),
        ):
            status, answer = place.ask("POST", "/sessions/kill", body)
            assert (status, answer["error"]["code"]) == (400, code), body
        assert place.ask("GET", "/sessions/1.1")[0] == 404
        assert place.ask("GET", "/sessions/one")[0] == 400
        for arguments, said in (
            (("--kill", str(nginy.path)), "--kill needs a filter"),
            ((str(nginy.path), "client"), '"client" is not a filter, expected one such as'),
            (("--top", "size", str(nginy.path)), "by is not one of bytes, age, idle"),
        ):
            status, out, errors = typed(capsys, "sessions", *arguments)
            assert (status, out) == (1, "")
            assert said in errors[0]
        nginy.stop()
