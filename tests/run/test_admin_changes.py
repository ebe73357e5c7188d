"""What operators change while nginy runs, from the command line and by requests."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from kit.admin import UnixConnection
from kit.place import Place
from kit.program import Nginy, free_port, run_once, typed, wait_until


@pytest.fixture(params=[1, 2])
def place(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Place]:
    made = Place(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def alone(tmp_path: pathlib.Path) -> Iterator[Place]:
    """One with a single worker."""
    made = Place(tmp_path, 1)
    yield made
    made.close()


def test_a_backend_is_drained_until_its_last_session_ends(
    place: Place, tmp_path: pathlib.Path
) -> None:
    with Nginy(tmp_path, place.config()) as nginy:
        client = place.connect()
        wait_until(lambda: place.backend(0)["conns"] + place.backend(1)["conns"] == 1)
        busy = 0 if place.backend(0)["conns"] else 1
        name = f"web/{place.addresses[busy]}"
        arguments = "drain", "--reason", "deploy 42", "--wait", "100ms", str(nginy.path), name
        status, out, errors = run_once(*arguments)
        assert (status, errors) == (2, [])
        assert out.splitlines()[0] == f"{name}: draining, 1 session, weight 1"
        [line] = nginy.said("operator uid")
        user = f"uid {os.getuid()} "
        assert re.search(rf"operator {user}\(pid \d+\) set {name} draining: deploy 42", line)
        found = place.backend(busy)
        assert (found["state"], found["cause"], found["reason"]) == (
            "draining",
            "operator",
            "deploy 42",
        )
        assert found["changed_by"].startswith(user)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        status, out, _ = run_once("drain", "--wait", "60s", str(nginy.path), name)
        assert (status, out.splitlines()[1]) == (0, f"{name}: draining, 0 sessions, weight 1")
        status, out, _ = run_once("ready", "--wait", "60s", str(nginy.path), name)
        assert (status, out.splitlines()[1]) == (0, f"{name}: up, 0 sessions, weight 1")
        wait_until(lambda: "up" in [e["after"] for e in place.ask("GET", "/events")[1]["events"]])
        changes = [e for e in place.ask("GET", "/events")[1]["events"] if e["kind"] == "state"]
        assert [(each["before"], each["after"]) for each in changes] == [
            ("up", "draining"),
            ("draining", "up"),
        ]
        assert len(nginy.said(f"{place.addresses[busy]} in upstream .web.: up -> draining")) == 1
        history = place.ask("GET", f"/upstreams/web/backends/{place.addresses[busy]}/health")[1]
        assert [each["after"] for each in history["history"]] == ["up", "draining"]
        nginy.stop()


def test_a_lease_goes_back_by_itself(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config()) as nginy:
        name = f"web/{place.addresses[0]}"
        assert run_once("maint", "--for", "3s", str(nginy.path), name)[0] == 0
        [change] = place.ask("GET", "/changes")[1]["changes"]
        assert (change["key"], change["value"]) == ("state", "maint")
        assert change["until"] is not None
        nginy.said(f"{name} in maintenance has expired")
        wait_until(lambda: place.backend()["state"] == "up")
        assert place.ask("GET", "/changes")[1]["changes"] == []
        nginy.stop()


def test_a_weight_holds_until_the_file_has_another(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config()) as nginy:
        name = f"web/{place.addresses[0]}"
        assert run_once("weight", str(nginy.path), name, "3")[1].endswith("weight 3\n")
        nginy.write(place.config(backend=", max_fails: 2"))
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        assert place.backend()["weight"] == {"file": 1, "now": 3, "effective": 3.0}
        nginy.write(place.config(backend=", weight: 5"))
        status, _, warnings = run_once("-s", "reload", str(nginy.path))
        dropped = "the file now says weight 5, 3 by an operator is dropped"
        assert (status, len(warnings)) == (0, 1)
        assert warnings[0].endswith(f"{name}: {dropped}")
        nginy.said(dropped)
        assert run_once("-s", "reload", str(nginy.path)) == (0, "nothing changes\n", [])
        wait_until(lambda: place.backend()["weight"]["now"] == 5)
        nginy.stop()


def test_a_change_that_is_made_is_never_refused_afterwards(
    alone: Place, tmp_path: pathlib.Path
) -> None:
    with Nginy(tmp_path, alone.config()) as nginy:
        target = f"/upstreams/web/backends/{alone.addresses[0]}?fields=weight,wieght"
        status, answer = alone.ask("PATCH", target, {"weight": 3})
        assert (status, answer["weight"]["now"], "state" in answer) == (200, 3, False)
        assert alone.ask("GET", target)[0] == 400
        nginy.stop()


def test_a_worker_that_starts_later_has_what_holds(tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, 2)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:
        assert run_once("drain", str(nginy.path), f"web/{place.addresses[0]}")[0] == 0
        for line in nginy.said(r"worker \d, process \d+ started", 2):
            os.kill(int(re.sub(r".*process (\d+) started.*", r"\1", line)), signal.SIGKILL)
        nginy.said(r"worker \d, process \d+ started", 4)
        wait_until(lambda: place.backend().get("workers", {}).get("answered") == 2)
        wait_until(lambda: place.backend().get("state") == "draining")
        assert "differs" not in place.backend()
        kinds = [each["kind"] for each in place.ask("GET", "/events")[1]["events"]]
        assert kinds.count("worker") == 2
        nginy.stop()


def test_maintenance_may_end_sessions(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config()) as nginy:
        with place.connect() as client:
            wait_until(lambda: place.backend(0)["conns"] + place.backend(1)["conns"] == 1)
            busy = 0 if place.backend(0)["conns"] else 1
            target = f"/upstreams/web/backends/{place.addresses[busy]}"
            change = {"state": "maint", "sessions": "reset"}
            assert place.ask("PATCH", target, change)[0] == 200
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        session = nginy.session()
        assert (session["termination"], session["reason"]) == ("KD", "closed by an operator")
        nginy.stop()


def test_a_change_can_be_taken_back(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config()) as nginy:
        target = f"/upstreams/web/backends/{place.addresses[0]}"
        place.ask("PATCH", target, {"state": "drain", "weight": 7})
        yaml = UnixConnection(place.socket)
        with contextlib.closing(yaml):
            yaml.request("GET", "/api/v1/changes?format=yaml")
            assert b"weight: 7" in yaml.getresponse().read()
        first = place.ask("GET", "/changes")[1]["changes"][0]["number"]
        assert place.ask("DELETE", f"/changes/{first}")[1]["undone"] == 1
        wait_until(lambda: place.backend()["state"] == "up")
        assert place.backend()["weight"]["now"] == 7
        assert place.ask("DELETE", "/changes/99")[0] == 404
        assert place.ask("DELETE", "/changes")[1]["undone"] == 1
        wait_until(lambda: place.backend()["weight"]["now"] == 1)
        nginy.stop()


def test_what_is_wrong_with_a_change_is_said_and_nothing_changes(
    alone: Place, tmp_path: pathlib.Path
) -> None:
    with Nginy(tmp_path, alone.config()) as nginy:
        target = f"/upstreams/web/backends/{alone.addresses[0]}"

        def refused(method: str, path: str, body: object, **fields: str) -> tuple[int, str]:
            status, answer = alone.ask(method, path, body, **fields)
            return status, answer["error"]["code"]

        for body, code in (
            ({"wieght": 3}, "unknown_field"),
            ({}, "nothing_to_change"),
            ({"reason": "x"}, "nothing_to_change"),
            ({"state": "sleep"}, "bad_value"),
            ({"state": ["up"]}, "bad_value"),
            ({"weight": 0}, "bad_value"),
            ({"weight": "3"}, "bad_value"),
            ({"max_conns": -1}, "bad_value"),
            ({"weight": 3, "for": "soon"}, "bad_parameter"),
            ({"weight": 3, "for": 5}, "bad_parameter"),
            ({"weight": 3, "for": "31d"}, "bad_value"),
            ({"state": "drain", "sessions": "close"}, "bad_value"),
            ({"state": "maint", "sessions": "all"}, "bad_value"),
            ({"weight": 3, "reason": "a\nb"}, "bad_value"),
        ):
            assert refused("PATCH", target, body) == (400, code), body
        assert refused("PATCH", "/upstreams/wbe/backends/1", {"weight": 2})[0] == 404
        assert refused("PATCH", "/upstreams/web/backends/1", {"weight": 2})[0] == 404
        assert refused("PATCH", "/upstreams/web/backends", {"weight": 2}) == (400, "bad_parameter")
        wrong = "DELETE", f"{target}?session=close", {}
        assert refused(*wrong) == (400, "unknown_parameter")
        with contextlib.closing(UnixConnection(alone.socket)) as connection:
            kind = {"Content-Type": "application/json"}
            connection.request("PATCH", "/api/v1/overview", "{}", kind)
            response = connection.getresponse()
            assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
            assert json.loads(response.read())["error"]["code"] == "method_not_allowed"
        assert refused("PATCH", target, {"weight": 2}, Origin="http://x") == (403, "foreign_origin")
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert refused("PATCH", target, {"weight": 2}, **foreign) == (403, "foreign_site")
        status, answer = alone.ask("GET", "/upstreams/webb")
        assert (status, answer["error"]) == (
            404,
            {
                "code": "upstream_not_found",
                "message": 'there is no upstream "webb"',
                "hint": 'did you mean "web"?',
            },
        )
        near = alone.addresses[0][:-1]
        told = alone.ask("GET", f"/upstreams/web/backends/{near}")[1]["error"]
        assert told["message"] == f"there is no backend {near} in web"
        assert told["hint"].startswith("did you mean ")
        assert alone.ask("GET", "/changes")[1]["changes"] == []
        assert alone.backend()["weight"]["now"] == 1
        nginy.stop()


def test_the_command_line_names_what_is_wrong(
    alone: Place, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Nginy(tmp_path, alone.config()) as nginy:
        path = str(nginy.path)
        for arguments, said in (
            (("drain", path, "web"), '"web" is not a backend, expected UPSTREAM/ADDRESS'),
            (("drain", path, "wbe/1"), 'has no upstream "wbe" (did you mean "web"?)'),
            (("drain", path, "web/1:1"), "there is no backend 1:1 in web"),
            (("drain", "--for", "soon", path, "web/1:1"), '--for "soon" is not a duration'),
            (("drain", "--wait", "1", path, "web/1:1"), '--wait "1" is not a duration'),
            (("weight", path, "web/1:1", "many"), 'weight "many" is not a whole number'),
        ):
            status, out, errors = typed(capsys, *arguments)
            assert (status, out) == (1, "")
            assert said in errors[0]
        nginy.stop()


def test_a_reload_by_request_answers_when_it_is_over(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config()) as nginy:
        assert place.ask("GET", "/reload")[1]["result"] is None
        nginy.write(place.config(backend=", weight: 2"))
        status, answer = place.ask("POST", "/reload")
        assert (status, answer["result"], answer["generation"]) == (200, "applied", 2)
        assert answer["changes"] == [
            {
                "op": "~",
                "subject": f"upstream web: backend {place.addresses[0]}",
                "text": f"upstream web: backend {place.addresses[0]} changed: weight 1 -> 2",
            }
        ]
        nginy.path.write_text("listeners: 7\n")
        status, answer = place.ask("POST", "/reload")
        assert (status, answer["result"], answer["generation"]) == (422, "refused", 2)
        [problem] = answer["problems"]
        assert (problem["file"], problem["line"]) == (str(nginy.path), 1)
        assert place.ask("GET", "/reload")[1]["result"] == "refused"
        assert place.ask("POST", "/reload", {"dryrun": True})[0] == 400
        assert place.ask("POST", "/reopen")[0] == 200
        events = place.ask("GET", "/events")[1]["events"]
        assert [each["kind"] for each in events].count("reload") == 2
        nginy.stop()


def test_a_reload_from_the_command_line_takes_the_socket(
    place: Place, tmp_path: pathlib.Path
) -> None:
    with Nginy(tmp_path, place.config()) as nginy:
        nginy.write(place.config(backend=", weight: 2"))
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        assert nginy.said("operator uid .* reloads")
        assert "SIGHUP" not in "".join(nginy.errors)
        nginy.write(f"admin: off\n{place.config()}")
        status, out, _ = run_once("-s", "reload", str(nginy.path))
        assert status == 0
        assert "weight 2 -> 1" in out
        nginy.stop()


def test_a_read_only_listener_changes_nothing(alone: Place, tmp_path: pathlib.Path) -> None:
    port = free_port(alone.host)
    needed = "changes and traces need full, as unix sockets have"
    with Nginy(tmp_path, alone.config(f"admin: '{alone.host}:{port}'\n")) as nginy:
        status, _, errors = run_once("drain", str(nginy.path), f"web/{alone.addresses[0]}")
        assert (status, errors) == (
            1,
            [f"nginy: [emerg] this listener has access read, {needed}"],
        )
        nginy.write(alone.config(f"admin: '{alone.host}:{port}'\nworker_connections: 77\n"))
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        nginy.stop()


def test_events_are_waited_for(alone: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, alone.config()) as nginy:
        last = alone.ask("GET", "/events")[1]["last"]
        # The second number is from before a restart, with more events.
        for weight, after in ((2, last), (3, 99_999)):
            waiting = UnixConnection(alone.socket)
            with contextlib.closing(waiting):
                waiting.request("GET", f"/api/v1/events?after={after}&wait=30s")
                # Once this is answered, the question before it is waiting.
                alone.ask("GET", "/overview")
                body = {"weight": weight}
                alone.ask("PATCH", f"/upstreams/web/backends/{alone.addresses[0]}", body)
                found = json.loads(waiting.getresponse().read())
            assert [each["kind"] for each in found["events"]] == ["operator"]
        assert alone.ask("GET", f"/events?after={found['last']}&wait=50ms")[1]["events"] == []
        nginy.stop()


def test_nginy_ends_by_request(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config()) as nginy:
        with place.connect():
            wait_until(lambda: place.ask("GET", "/overview")[1]["sessions"]["now"] == 1)
            status, answer = place.ask("POST", "/quit")
            assert (status, answer["sessions"]) == (200, 1)
            waiting = "waiting for 1 session to end, until "
            wait_until(lambda: place.ask("GET", "/overview")[1]["draining"].startswith(waiting))
            assert answer["until"] > answer["at"]
            status, answer = place.ask("POST", "/reload")
            assert (status, answer["error"]["code"]) == (409, "ending")
            place.servers[0].close()
            place.servers[1].close()
        nginy.wait()
        assert nginy.process.returncode == 0
    with Nginy(tmp_path, place.config()) as nginy:
        assert place.ask("POST", "/stop")[1]["result"] == "ending"
        nginy.wait()
        assert nginy.process.returncode == 0
