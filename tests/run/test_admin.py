"""The admin interface of a running nginy: its sockets over a start, reloads and the end."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from kit.admin import UnixConnection
from kit.program import PATIENCE_S, Nginy, free_port, own_host, run_once, wait_until

TOKEN = "0123456789abcdef0123456789abcdef"


def ask(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def overview(path: pathlib.Path) -> Any:
    status, body = ask(UnixConnection(path), "/api/v1/overview")
    assert status == 200
    return json.loads(body)


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory whose path is short enough for a unix socket."""
    yield tmp_path
    assert not list(tmp_path.glob("*.sock"))


def listener(host: str, port: int, text: str = "hi") -> str:
    return f"listeners: {{listen: '{host}:{port}', return: {text}}}\n"


def test_it_is_there_by_itself_for_the_owner_alone_and_goes_in_the_end(
    directory: pathlib.Path,
) -> None:
    host = own_host()
    with Nginy(directory, listener(host, free_port(host))) as nginy:
        path = directory / "nginy.pid.sock"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert ask(UnixConnection(path), "/healthz") == (200, b"ok\n")
        found = overview(path)
        assert (found["pid"], found["status"]) == (nginy.process.pid, "serving")
        nginy.stop()
        assert not path.exists()


def test_a_stale_socket_is_replaced(directory: pathlib.Path) -> None:
    host = own_host()
    config = listener(host, free_port(host))
    with Nginy(directory, config) as nginy:
        nginy.process.kill()
        nginy.process.wait()
    with Nginy(directory, config) as nginy:
        assert ask(UnixConnection(directory / "nginy.pid.sock"), "/readyz")[0] == 200
        nginy.stop()


def test_a_reload_moves_it_and_is_told_of(directory: pathlib.Path) -> None:
    host = own_host()
    port, admin_port = free_port(host), free_port(host)
    admin = f"admin: [unix:{directory}/a.sock, {{listen: '{host}:{admin_port}'}}]\n"
    with Nginy(directory, admin + listener(host, port)) as nginy:
        first = http.client.HTTPConnection(host, admin_port, timeout=PATIENCE_S)
        assert ask(first, "/healthz")[0] == 200
        kept = UnixConnection(directory / "a.sock")
        kept.request("GET", "/healthz")
        kept.getresponse().read()
        moved = f"admin: [unix:{directory}/a.sock, unix:{directory}/b.sock]\n"
        nginy.write(moved + listener(host, port))
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        found = overview(directory / "b.sock")
        assert (found["generation"], found["config"]["last_reload"]["result"]) == (2, "applied")
        kept.request("GET", "/readyz")
        assert kept.getresponse().read() == b"ready\n"
        kept.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, admin_port), timeout=PATIENCE_S)
        with socket.create_server((own_host(), 0)) as taken:
            address = "{}:{}".format(*taken.getsockname())
            nginy.write(f"admin: [{{listen: '{address}'}}]\n" + listener(host, port))
            status, _, errors = run_once("-s", "reload", str(nginy.path))
        assert status == 1
        assert f"bind() to {address} failed" in errors[0]
        found = overview(directory / "b.sock")
        assert (found["generation"], found["config"]["last_reload"]["result"]) == (2, "refused")
        assert found["problems"][0]["text"].startswith("the last reload was refused")
        nginy.write(moved.replace("admin: ", "admin: off #") + listener(host, port))
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        assert not (directory / "b.sock").exists()
        nginy.stop()


def test_a_live_socket_is_named_with_its_holder(directory: pathlib.Path) -> None:
    host = own_host()
    path = directory / "held.sock"
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))
        held.listen()
        config = directory / "other.yml"
        config.write_text(f"admin: unix:{path}\n{listener(host, free_port(host))}")
        status, _, errors = run_once(str(config))
        assert status == 1
        said = f"bind() to unix:{path} failed (98: Address already in use), held by "
        assert any(said in line for line in errors), errors
        status, _, errors = run_once("-t", str(config))
        assert status == 1
        assert any(said in line for line in errors), errors
        path.unlink()


def test_a_token_is_asked_for_and_read_again_at_a_reload(directory: pathlib.Path) -> None:
    host = own_host()
    port, admin_port = free_port(host), free_port(host)
    token = directory / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    admin = f"admin: {{listen: '{host}:{admin_port}', token_file: {token}, access: full}}\n"
    with Nginy(directory, admin + listener(host, port)) as nginy:
        assert run_once("status", "--check", str(nginy.path))[:2] == (0, "ready\n")
        asked = http.client.HTTPConnection(host, admin_port, timeout=PATIENCE_S)
        assert ask(asked, "/healthz")[0] == 401
        token.write_text(TOKEN[::-1])
        assert "is not that of token_file" in run_once("status", str(nginy.path))[2][0]
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        assert run_once("status", "--check", str(nginy.path))[0] == 0
        assert TOKEN not in (directory / "nginy.pid.conf").read_text()
        nginy.stop()


def test_status_says_how_it_is_and_check_makes_it_an_exit_status(directory: pathlib.Path) -> None:
    host = own_host()
    port = free_port(host)
    config = (
        f"upstreams: {{web: {{backends: [{{address: '{host}:1', down: true}}, '{host}:2']}}}}\n"
        f"listeners: {{listen: '{host}:{port}', proxy_pass: web}}\n"
    )
    with Nginy(directory, config) as nginy:
        status, out, errors = run_once("status", str(nginy.path))
        assert (status, errors) == (0, [])
        assert f"PID {nginy.process.pid}, serving" in out
        assert "web: 1 of 2 backends usable" in out
        assert json.loads(run_once("status", "--json", str(nginy.path))[1])["status"] == "serving"
        assert run_once("status", "--check", str(nginy.path))[:2] == (0, "ready\n")
        nginy.write(f"ready: {{web: 2}}\n{config}")
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        status, out, _ = run_once("status", "--check", str(nginy.path))
        assert (status, out) == (2, "web: 1 of 2 backends usable, 2 needed\n")
        nginy.stop()
    status, out, errors = run_once("status", "--check", str(nginy.path))
    assert (status, out) == (1, "")
    assert "is nginy running?" in errors[0]


def test_while_sessions_end_it_says_so(directory: pathlib.Path) -> None:
    host = own_host()
    port = free_port(host)
    with socket.create_server((host, 0)) as backend:
        target = "{}:{}".format(*backend.getsockname())
        config = f"listeners: {{listen: '{host}:{port}', proxy_pass: '{target}'}}\n"
        with (
            Nginy(directory, config) as nginy,
            socket.create_connection((host, port), timeout=PATIENCE_S),
        ):
            path = directory / "nginy.pid.sock"
            wait_until(lambda: overview(path)["sessions"]["now"] == 1)
            nginy.send_signal(signal.SIGQUIT)
            wait_until(lambda: overview(path)["status"] == "draining")
            status, body = ask(UnixConnection(path), "/readyz")
            assert status == 503
            assert body.startswith(b"waiting for 1 session to end")
            assert ask(UnixConnection(path), "/healthz")[0] == 200
            nginy.stop()


def test_it_answers_when_connections_are_used_up(directory: pathlib.Path) -> None:
    host = own_host()
    port = free_port(host)
    with Nginy(directory, f"worker_connections: 2\n{listener(host, port)}") as nginy:
        with socket.create_connection((host, port), timeout=PATIENCE_S):
            assert overview(directory / "nginy.pid.sock")["connections"]["limit"] == 2
        nginy.stop()
