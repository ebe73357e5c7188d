"""What one reload keeps, changes and refuses, by what clients, backends and files see of it."""

import contextlib
import os
import pathlib
import signal
import socket
from collections.abc import Iterator

import pytest

from kit.faults import Listening, Site, check, receive_all
from kit.program import (
    PATIENCE_S,
    Nginy,
    free_port,
    open_paths,
    own_host,
    run_once,
    wait_until,
)

LONG = "worker_shutdown_timeout: 1h"


@pytest.fixture
def backend() -> Iterator[Listening]:
    made = Listening()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Listening]:
    made = Listening()
    yield made
    made.close()


def reload(nginy: Nginy, config: str) -> list[str]:
    """Apply a configuration; return what nginy said meanwhile."""
    return _reload(nginy, config, "configuration reloaded")


def refuse(nginy: Nginy, config: str) -> list[str]:
    """Apply a configuration that nginy refuses; return the errors."""
    return [line for line in _reload(nginy, config, "not changed") if "[error]" in line]


def _reload(nginy: Nginy, config: str, last: str) -> list[str]:
    before = nginy.errors
    count = sum(last in line for line in before)
    nginy.write(config)
    nginy.send_signal(signal.SIGHUP)
    nginy.said(last, count + 1)
    return nginy.errors[len(before) :]


def open_files(nginy: Nginy) -> set[pathlib.Path]:
    return set(map(pathlib.Path, open_paths(nginy.process.pid)))


def is_open(host: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((host, port)) == 0


# Backends.


def test_the_place_in_the_round_is_kept(site: Site, tmp_path: pathlib.Path) -> None:
    ports = [free_port(site.host) for _ in range(3)]
    names = [f"{site.host}:{port}" for port in ports]

    def config(timeout: str) -> str:
        answers = ", ".join(f"{{listen: {each}, return: '{each}'}}" for each in names)
        return (
            f"upstreams: {{u: {{backends: [{', '.join(names)}]}}}}\n"
            f"listeners: [{{listen: {site.address}, proxy_pass: u, proxy_timeout: {timeout}}},"
            f" {answers}]\n"
        )

    nginy = site.run(config("5m"))
    answers = []
    for count in range(6):
        answers.append(receive_all(site.connect()).decode())
        reload(nginy, config(f"{count + 6}m"))
    assert answers == names * 2


def test_an_upstream_whose_backends_are_now_all_down_is_warned_of(
    site: Site, backend: Listening
) -> None:
    nginy = site.start([backend.name])
    said = reload(nginy, site.config([{"address": backend.name, "down": True}]))
    assert ["[warn]" in line for line in said if "are down, so its sessions end" in line] == [True]


def test_a_removed_backend_keeps_its_session_and_gets_no_other(
    site: Site, backend: Listening, other: Listening
) -> None:
    nginy = site.start([backend.name])
    ends = site.exchange(backend)
    said = reload(nginy, site.config([other.name]))
    assert any(f"backend {backend.name} removed (drains" in line for line in said)
    check(*ends)
    for _ in range(3):
        site.exchange(other)
    check(*ends)
    ends[1].close()
    assert ends[0].recv(1) == b""


def test_a_removed_backend_keeps_its_udp_session(site: Site) -> None:
    port = free_port(site.host, socket.SOCK_DGRAM)

    def config(name: str) -> str:
        return f"listeners: {{listen: {site.host}:{port}, protocol: udp, proxy_pass: {name}}}\n"

    with (
        socket.socket(type=socket.SOCK_DGRAM) as first,
        socket.socket(type=socket.SOCK_DGRAM) as second,
        socket.socket(type=socket.SOCK_DGRAM) as client,
        socket.socket(type=socket.SOCK_DGRAM) as late,
    ):
        for sock in (first, second):
            sock.bind(("127.0.0.1", 0))
        for sock in (first, second, client, late):
            sock.settimeout(PATIENCE_S)
        nginy = site.run(config("{}:{}".format(*first.getsockname())))
        client.connect((site.host, port))
        late.connect((site.host, port))
        client.send(b"one")
        _, session = first.recvfrom(100)
        reload(nginy, config("{}:{}".format(*second.getsockname())))
        client.send(b"two")
        assert first.recvfrom(100) == (b"two", session)
        late.send(b"three")
        assert second.recv(100) == b"three"
        first.sendto(b"answer", session)
        assert client.recv(100) == b"answer"


def test_changed_settings_hold_for_the_session_that_there_is(
    site: Site, backend: Listening
) -> None:
    nginy = site.start([backend.name], proxy_timeout="10m")
    client, upstream = site.exchange(backend)
    reload(nginy, site.config([backend.name], proxy_timeout="1s"))
    new_client, _ = site.exchange(backend)
    with contextlib.suppress(ConnectionResetError):  # the end of a stream that has only paused
        assert new_client.recv(1) == b""
    check(client, upstream)


def test_a_session_is_logged_where_and_as_it_was_when_it_began(
    site: Site, backend: Listening, tmp_path: pathlib.Path
) -> None:
    head = "log_formats: {{own: '{}: $termination'}}\naccess_log: {{path: {}, format: own}}"
    nginy = site.start([backend.name], head=head.format("before", "before.log"))
    before, after = tmp_path / "before.log", tmp_path / "after.log"
    ends = site.exchange(backend)
    reload(nginy, site.config([backend.name], head=head.format("after", "after.log")))
    assert before.resolve() in open_files(nginy)
    # A rotation is for both files.
    before.unlink()
    nginy.send_signal(signal.SIGUSR1)
    wait_until(before.exists)
    for sock in (*site.exchange(backend), *ends):
        sock.close()
    wait_until(lambda: before.read_text() == "before: --\n")
    wait_until(lambda: after.read_text() == "after: --\n")
    wait_until(lambda: before.resolve() not in open_files(nginy))
    assert after.resolve() in open_files(nginy)


# Listeners.


def two_listeners(site: Site, port: int, name: str, head: str = LONG) -> str:
    return (
        f"{head}\n"
        f"listeners: [{{listen: {site.address}, proxy_pass: {name}}},"
        f" {{listen: {site.host}:{port}, return: extra}}]\n"
    )


def only_extra(site: Site, port: int, head: str = LONG) -> str:
    return f"{head}\nlisteners: [{{listen: {site.host}:{port}, return: extra}}]\n"


def test_a_removed_listener_refuses_and_its_sessions_go_on(site: Site, backend: Listening) -> None:
    port = free_port(site.host)
    nginy = site.run(two_listeners(site, port, backend.name))
    ends = site.exchange(backend)
    reload(nginy, only_extra(site, port))
    assert not is_open(site.host, site.port)
    assert is_open(site.host, port)
    check(*ends)


def test_sessions_of_a_removed_listener_end_at_the_deadline(site: Site, backend: Listening) -> None:
    port = free_port(site.host)
    head = "worker_shutdown_timeout: 300ms"
    nginy = site.run(two_listeners(site, port, backend.name, head))
    client, _ = site.exchange(backend)
    reload(nginy, only_extra(site, port, head))
    assert client.recv(1) == b""
    nginy.said("worker_shutdown_timeout has passed")
    session = nginy.session()
    assert (session["termination"], session["reason"]) == ("KD", "closed at the drain deadline")
    assert is_open(site.host, port)


def test_a_listener_that_comes_back_saves_its_sessions_from_the_deadline(
    site: Site, backend: Listening
) -> None:
    port = free_port(site.host)
    head = "worker_shutdown_timeout: 3s"  # two reloads take less
    whole = two_listeners(site, port, backend.name, head)
    nginy = site.run(whole)
    ends = site.exchange(backend)
    reload(nginy, only_extra(site, port, head))
    reload(nginy, whole)
    # The one listener that is still removed when the deadline comes shows that it is over.
    nginy.write(f"{head}\nlisteners: [{{listen: {site.address}, proxy_pass: {backend.name}}}]\n")
    with socket.create_connection((site.host, port), timeout=PATIENCE_S) as lingering:
        nginy.send_signal(signal.SIGHUP)
        nginy.said("worker_shutdown_timeout has passed, closing the remaining sessions: 1")
        assert lingering.recv(100) == b"extra"
    check(*ends)
    site.exchange(backend)
    site.exchange(backend)
    nginy.stop(signal.SIGTERM)


def test_a_udp_listener_that_comes_back_has_its_sessions_still(site: Site) -> None:
    port = free_port(site.host, socket.SOCK_DGRAM)
    with (
        socket.socket(type=socket.SOCK_DGRAM) as backend,
        socket.socket(type=socket.SOCK_DGRAM) as client,
        socket.socket(type=socket.SOCK_DGRAM) as late,
    ):
        backend.bind(("127.0.0.1", 0))
        for sock in (backend, client, late):
            sock.settimeout(PATIENCE_S)
        tcp = f"{{listen: {site.address}, return: hello}}"
        name = "{}:{}".format(*backend.getsockname())
        udp = f"{{listen: {site.host}:{port}, protocol: udp, proxy_pass: {name}}}"
        nginy = site.run(f"{LONG}\nlisteners: [{tcp}, {udp}]\n")
        client.connect((site.host, port))
        late.connect((site.host, port))
        client.send(b"one")
        _, session = backend.recvfrom(100)
        reload(nginy, f"{LONG}\nlisteners: [{tcp}]\n")
        client.send(b"two")
        assert backend.recvfrom(100) == (b"two", session)
        reload(nginy, f"{LONG}\nlisteners: [{tcp}, {udp}]\n")
        client.send(b"three")
        assert backend.recvfrom(100) == (b"three", session)
        late.send(b"four")
        data, another = backend.recvfrom(100)
        assert data == b"four"
        assert another != session


def test_a_listener_that_answers_itself_from_now_on_leaves_its_sessions_alone(
    site: Site, backend: Listening
) -> None:
    nginy = site.start([backend.name], LONG)
    ends = site.exchange(backend)
    reload(nginy, f"{LONG}\nlisteners: {{listen: {site.address}, return: closed}}\n")
    with site.connect() as late:
        assert receive_all(late) == b"closed"
    check(*ends)
    nginy.send_signal(signal.SIGQUIT)
    nginy.said("no longer listening")
    check(*ends)
    ends[0].close()
    ends[1].close()
    nginy.wait()
    assert nginy.process.returncode == 0


def test_a_name_changes_in_place(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name], name="old")
    reload(nginy, site.config([backend.name], name="new"))
    client, upstream = site.exchange(backend)
    client.close()
    upstream.close()
    assert nginy.session()["listener"] == "new"


# What cannot be applied.


def test_an_address_that_is_taken_leaves_listeners_logs_and_pid_file_as_they_were(
    site: Site, backend: Listening, tmp_path: pathlib.Path
) -> None:
    nginy = site.start([backend.name])
    ends = site.exchange(backend)
    port = free_port(site.host)
    with socket.create_server((site.host, 0)) as holder:
        taken = "{}:{}".format(*holder.getsockname())
        (error, last) = refuse(
            nginy,
            f"error_log: {tmp_path}/other-error.log\n"
            f"access_log: {tmp_path}/other-access.log\n"
            f"listeners: [{{listen: {site.host}:{port}, return: a}},"
            f" {{listen: '{taken}', return: b}}]\n",
        )
    assert f"bind() to {taken} failed (98: Address already in use)" in error
    assert "configuration not changed" in last
    assert not is_open(site.host, port)
    assert sorted(os.listdir(tmp_path)) == [
        *("access.log", "nginy.pid", "nginy.pid.conf", "nginy.pid.reload"),
        *("nginy.pid.reopen", "nginy.pid.sock", "nginy.pid.upgrade", "nginy.yml"),
    ]
    check(*ends)
    site.exchange(backend)


def test_a_file_that_cannot_be_opened_leaves_the_listeners_as_they_were(
    site: Site, backend: Listening, tmp_path: pathlib.Path
) -> None:
    nginy = site.start([backend.name])
    port = free_port(site.host)
    heads = "error_log: gone/error.log", "access_log: gone/access.log", "pid: gone/nginy.pid"
    for count, head in enumerate(heads, 1):
        text = f"{head}\nlisteners: {{listen: {site.host}:{port}, return: a}}\n"
        nginy.write(text)
        if head.startswith("pid"):  # instead of the one that `write` has added
            nginy.path.write_text(text)
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration not changed", count)
        errors = [line for line in nginy.errors if "failed" in line]
        assert len(errors) == count
        assert f'open() "{tmp_path}/{head.partition(" ")[2]}"' in errors[-1]
        assert not is_open(site.host, port)
        site.exchange(backend)
        assert nginy.pid == nginy.process.pid


def test_what_takes_a_restart_is_said(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name], "event_method: poll")
    said = reload(nginy, site.config([backend.name], "event_method: select"))
    assert any("event_method changed: poll -> select (needs a restart)" in line for line in said)
    site.exchange(backend)


# The pid file, and the command line.


def test_a_pid_file_moves(site: Site, backend: Listening, tmp_path: pathlib.Path) -> None:
    nginy = site.start([backend.name])
    other = tmp_path / "other.pid"
    config = site.config([backend.name])
    nginy.path.write_text(f"pid: {other}\n{config}")
    nginy.send_signal(signal.SIGHUP)
    nginy.said("configuration reloaded")
    assert other.read_text() == f"{nginy.process.pid}\n"
    assert sorted(os.listdir(tmp_path)) == [
        *("access.log", "nginy.yml", "other.pid", "other.pid.conf", "other.pid.reload"),
        *("other.pid.reopen", "other.pid.sock", "other.pid.upgrade"),
    ]
    assert run_once("-s", "stop", str(nginy.path)) == (0, "", [])
    nginy.wait()
    assert not other.exists()


def test_the_command_line_reloads_and_plans(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name])
    status, out, _ = run_once("plan", str(nginy.path))
    assert (status, out.splitlines()[-1]) == (0, "nothing changes")
    nginy.write(site.config([backend.name, "127.0.0.1:1"]))
    status, out, _ = run_once("plan", str(nginy.path))
    assert (status, out.splitlines()[0]) == (0, "+ upstream u: backend 127.0.0.1:1 added")
    status, out, _ = run_once("-s", "reload", str(nginy.path))
    assert (status, out) == (0, "+ upstream u: backend 127.0.0.1:1 added\n")
    nginy.said("reload: upstream u: backend 127.0.0.1:1 added")
    nginy.said("configuration reloaded")
    status, out, _ = run_once("plan", str(nginy.path))
    assert (status, out.splitlines()[-1]) == (0, "nothing changes")


def test_a_refused_reload_does_not_count_as_running(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name])
    with socket.create_server((site.host, 0)) as holder:
        text = "{}:{}".format(*holder.getsockname())
        refuse(nginy, f"listeners: {{listen: '{text}', return: a}}\n")
        _, out, _ = run_once("plan", str(nginy.path))
        assert f"+ listener {text} added: returns text" in out.splitlines()


def test_what_a_killed_nginy_has_left_behind_is_not_taken_for_running(
    tmp_path: pathlib.Path,
) -> None:
    host = own_host()
    config = f"listeners: {{listen: {host}:{free_port(host)}, return: a}}\n"
    with Nginy(tmp_path, config) as nginy:
        path = str(nginy.path)
        nginy.process.kill()
        nginy.process.wait()
    status, _, lines = run_once("plan", path)
    assert status == 1
    assert "nothing runs as PID" in lines[0]
    assert lines[0].endswith("with another file, use -c FILE")


def test_two_reloads_in_a_row_end_with_the_second(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name])
    for timeout in ("1m", "2m", "3m"):
        nginy.write(site.config([backend.name], proxy_timeout=timeout))
        nginy.send_signal(signal.SIGHUP)
    running = pathlib.Path(f"{nginy.pid_path}.conf")
    wait_until(lambda: "proxy_timeout: 3m" in running.read_text(), "the last of them to run")
