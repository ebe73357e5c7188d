"""Backends that operators add and remove while nginy runs, and what a reload does to them."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
from urllib.parse import quote

import pytest
from nginy.admin.answer import Facts, Slices
from nginy.admin.asked import Asked
from nginy.admin.changes.adding import add
from nginy.admin.changes.book import Newcomer
from nginy.admin.subject import Subject
from nginy.backend.backend import BackendSettings
from nginy.event.loop import Loop
from nginy.text.address import parse_address
from nginy.wire.request import Request, RequestError

from kit.admin import UnixConnection
from kit.clock import FakeClock
from kit.place import Place
from kit.program import PATIENCE_S, Nginy, run_once, wait_until


class Third:
    """A backend that the file does not have."""

    def __init__(self, host: str) -> None:
        self.server = socket.create_server((host, 0))
        self.server.settimeout(PATIENCE_S)
        self.address = "{}:{}".format(*self.server.getsockname())

    def __enter__(self) -> "Third":
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()


def names(place: Place) -> list[str]:
    rows = place.ask("GET", "/upstreams/web/backends")[1]["backends"]
    return sorted(each["address"] for each in rows if not each["leaving"])


def changes(place: Place) -> list[tuple[str, str]]:
    return [(e["name"], e["value"]) for e in place.ask("GET", "/changes")[1]["changes"]]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_backend_is_added_serves_and_leaves(workers: int, tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, workers)
    waiting = UnixConnection(place.socket)
    with contextlib.closing(place), Third(place.host) as third, contextlib.closing(waiting):
        nginy = Nginy(tmp_path, place.config())
        with nginy:
            every = "/upstreams/web/backends"
            body = {"address": third.address, "weight": 2, "reason": "black friday"}
            status, row = place.ask("POST", every, body)
            assert (status, row["address"], row["weight"]["now"]) == (201, third.address, 2)
            assert row["usable"]
            assert "keys_moved_percent" not in row
            nginy.said(f"operator uid .* added web/{third.address}: black friday")
            for address in place.addresses:
                assert place.ask("PATCH", f"{every}/{address}", {"state": "maint"})[0] == 200
            target = f"{every}/{third.address}"
            with place.connect() as client:
                inner, _ = third.server.accept()
                with inner:
                    # It takes part in all that is about backends.
                    assert place.ask("PATCH", target, {"weight": 3})[1]["weight"]["now"] == 3
                    assert place.ask("POST", every, body)[0] == 422
                    # A reload that knows nothing of it keeps it.
                    nginy.write(f"worker_connections: 900\n{place.config()}")
                    assert run_once("-s", "reload", str(nginy.path))[0] == 0
                    assert names(place) == sorted([*place.addresses, third.address])
                    assert place.ask("GET", target)[1]["weight"] == {
                        "file": 2,
                        "now": 3,
                        "effective": 3.0,
                    }
                    assert place.ask("DELETE", f"{target}?sessions=all")[0] == 400
                    status, told = place.ask("DELETE", target)
                    assert (status, told["leaving"], told["conns"]) == (202, True, 1)
                    assert names(place) == sorted(place.addresses)
                    assert place.ask("DELETE", target)[0] == 409
                    assert place.ask("GET", f"{target}?wait=idle&timeout=10ms")[1]["idle"] is False
                    client.sendall(b"still served")
                    assert inner.recv(100) == b"still served"
                    waiting.request("GET", f"/api/v1{target}?wait=idle&timeout=60s")
                    assert place.ask("GET", target)[1]["leaving"]
            assert json.loads(waiting.getresponse().read())["idle"] is True
            assert place.ask("GET", target)[0] == 404
            assert third.address not in dict(changes(place))
            nginy.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_backend_of_the_file_is_hidden_until_the_file_no_longer_has_it(
    workers: int, tmp_path: pathlib.Path
) -> None:
    place = Place(tmp_path, workers)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:
        first, second = place.addresses
        target = f"/upstreams/web/backends/{first}"
        assert place.ask("PATCH", f"/upstreams/web/backends/{second}", {"state": "drain"})[0] == 200
        with place.connect() as client:
            wait_until(lambda: place.backend(0)["conns"] == 1)
            assert place.ask("DELETE", f"{target}?sessions=close")[0] == 202
            client.settimeout(PATIENCE_S)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        assert names(place) == [second]
        status, told = place.ask("DELETE", f"/upstreams/web/backends/{second}")
        assert (status, told["error"]["code"]) == (409, "last_backend")
        assert "removed by an operator" in str(
            place.ask("POST", "/upstreams/web/backends", {"address": first})[1]["problems"]
        )
        if workers > 1:
            # A worker that starts later has never had it.
            [line, *_] = nginy.said(r"worker \d, process \d+ started", 2)
            os.kill(int(re.sub(r".*process (\d+) started.*", r"\1", line)), signal.SIGKILL)
            nginy.said(r"worker \d, process \d+ started", 3)
            wait_until(
                lambda: (
                    place.ask("GET", "/upstreams/web/backends")[1]["workers"]["answered"] == workers
                )
            )
        nginy.write(place.config(backend=", max_fails: 2"))
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        assert names(place) == [second]
        assert changes(place) == [(second, "drain"), (first, "removed")]
        number = place.ask("GET", "/changes")[1]["changes"][1]["number"]
        assert place.ask("DELETE", f"/changes/{number}")[0] == 200
        wait_until(lambda: names(place) == sorted(place.addresses))
        assert place.ask("DELETE", target)[0] == 202
        text = place.config().replace(f"{{address: '{first}'}}, ", "")
        nginy.write(text)
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        nginy.said(f"web/{first} removed by an operator: the file no longer has it either")
        nginy.write(place.config())
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        wait_until(lambda: names(place) == sorted(place.addresses))
        nginy.stop()


def test_what_was_checked_against_an_older_configuration_is_not_added() -> None:
    loop = Loop(clock=FakeClock())
    subject = Subject(loop, balances={"web": "round_robin"})

    def checked(_upstream: str, keys: Facts) -> Slices[Newcomer]:
        yield None
        subject.generation += 1  # a reload has begun and ended
        name = keys["address"]
        return Newcomer((), keys, BackendSettings(name, parse_address(name)))

    subject.newcomer = checked
    body = b'{"address": "10.0.0.9:80"}'
    request = Request("POST", ("x",), {}, {}, "localhost", body, keeps_alive=True)
    steps = add(subject, Asked(request, {"U": "web"}))
    next(steps)
    with pytest.raises(RequestError, match="a reload came in between"):
        next(steps)
    assert len(subject.book) == 0
    loop.close()


def test_the_last_backend_of_a_file_returns(tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, 1)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:
        first, second = place.addresses
        assert place.ask("DELETE", f"/upstreams/web/backends/{first}")[0] == 202
        stays = f"~ web/{first} stays removed by operator"
        assert stays in run_once("plan", str(nginy.path))[1]
        nginy.write(place.config().replace(f", '{second}'", ""))
        assert f"~ web/{first} is no longer removed" in run_once("plan", str(nginy.path))[1]
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        nginy.said(f"web/{first} removed by an operator is dropped: the upstream has no other")
        assert names(place) == [first]
        nginy.stop()


def test_the_file_takes_over_what_was_added_and_bad_input_adds_nothing(
    tmp_path: pathlib.Path,
) -> None:
    place = Place(tmp_path, 1)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:
        every = "/upstreams/web/backends"
        for path, body, expected in (
            ("/upstreams/wbe/backends", {"address": "10.0.0.1:80"}, (404, "upstream_not_found")),
            (every, "x", (400, "bad_json")),
            (every, {"address": "10.0.0.1:80", "reason": "a\nb"}, (400, "bad_value")),
            (every, {"adress": "10.0.0.1:80"}, (422, "bad_backend")),
            (every, {"address": f"{place.host}:{place.port}"}, (422, "bad_backend")),
        ):
            status, answer = place.ask("POST", path, body)
            assert (status, answer["error"]["code"]) == expected, body
        problems = place.ask("POST", every, {"address": "x y", "weight": 0})[1]["problems"]
        assert [each["key"] for each in problems] == ["address", "weight"]
        assert place.ask("DELETE", f"{every}/10.0.0.9:80")[0] == 404
        assert names(place) == sorted(place.addresses)
        app = tmp_path / "app.sock"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(app))
            server.listen()
            server.settimeout(PATIENCE_S)
            unix = f"unix:{app}"
            assert place.ask("POST", every, {"address": unix, "weight": 5})[0] == 201
            for address in place.addresses:
                assert place.ask("PATCH", f"{every}/{address}", {"state": "maint"})[0] == 200
            with place.connect():
                server.accept()[0].close()
            second = f"'{place.addresses[1]}'"
            nginy.write(
                place.config().replace(second, f"{second}, {{address: '{unix}', weight: 7}}")
            )
            assert run_once("-s", "reload", str(nginy.path))[0] == 0
            nginy.said("added by an operator: the file now has it too, and the file wins")
            row = place.ask("GET", f"{every}/{quote(unix, safe='')}")[1]
            assert row["weight"]["now"] == 7
            assert unix not in dict(changes(place))
        nginy.stop()
