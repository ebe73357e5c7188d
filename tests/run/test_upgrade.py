"""USR2: another nginy takes over the sockets of the one that runs, while clients come and go."""

import contextlib
import os
import pathlib
import signal
import socket
from collections.abc import Iterator
from functools import partial

import pytest

from kit.program import PATIENCE_S, Nginy, free_port, own_host, run_once, wait_until
from kit.servers import address_text

NEW_CLIENTS = 50

WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def backend() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(PATIENCE_S)
        yield sock


@pytest.fixture
def here() -> tuple[str, int]:
    host = own_host()
    return host, free_port(host)


@contextlib.contextmanager
def ending(pid: int) -> Iterator[None]:
    """Kill the process, a stranger to subprocess, whatever happens to the test."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def config(workers: int, here: tuple[str, int], directory: pathlib.Path, to: str) -> str:
    addresses = f"['{here[0]}:{here[1]}', 'unix:{directory}/s']"
    return f"workers: {workers}\nlisteners: {{listen: {addresses}, {to}}}\n"


def ask(target: tuple[str, int] | str) -> bytes:
    family = socket.AF_UNIX if isinstance(target, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(PATIENCE_S)
        client.connect(target)
        return b"".join(iter(lambda: client.recv(100), b""))


def successor_of(nginy: Nginy) -> int:
    """Send USR2 and wait until the pid file has another process's number."""

    def is_another() -> bool:
        try:
            text = nginy.pid_path.read_text()
        except FileNotFoundError:  # renamed, and not written anew yet
            return False
        return text not in ("", f"{nginy.process.pid}\n")

    nginy.send_signal(signal.SIGUSR2)
    wait_until(is_another, "another process in the pid file")
    return nginy.pid


@WORKERS
def test_the_successor_serves_where_the_old_one_did(
    tmp_path: pathlib.Path, here: tuple[str, int], workers: int
) -> None:
    with Nginy(tmp_path, config(workers, here, tmp_path, "return: old")) as nginy:
        assert ask(here) == b"old"
        nginy.write(config(workers, here, tmp_path, "return: new"))
        successor = successor_of(nginy)
        with ending(successor):
            old_path = tmp_path / "nginy.pid.oldbin"
            if workers > 1:
                nginy.said("serves as well, until one of the two gets QUIT")
                assert old_path.read_text() == f"{nginy.process.pid}\n"
                nginy.send_signal(signal.SIGQUIT)
            for _ in range(20):
                assert ask(here) in (b"old", b"new")
            nginy.process.wait(PATIENCE_S)
            assert not old_path.exists()
            assert ask(here) == b"new"
            assert ask(str(tmp_path / "s")) == b"new"
            os.kill(successor, signal.SIGQUIT)
            wait_until(lambda: not nginy.pid_path.exists(), "the end of the successor")
        wait_until(lambda: not (tmp_path / "s").exists(), "the end of its socket's path")


@pytest.mark.parametrize("workers", [2])
def test_sessions_finish_in_the_old_process(
    tmp_path: pathlib.Path, here: tuple[str, int], backend: socket.socket, workers: int
) -> None:
    to = f"proxy_pass: '{address_text(backend)}'"
    with (
        Nginy(tmp_path, config(workers, here, tmp_path, to)) as nginy,
        socket.create_connection(here, timeout=PATIENCE_S) as client,
    ):
        server, _ = backend.accept()
        with server, ending(successor_of(nginy)):
            nginy.send_signal(signal.SIGQUIT)
            nginy.said("no longer listening", workers)
            client.sendall(b"still here")
            assert server.recv(100) == b"still here"
            server.sendall(b"so am I")
            assert client.recv(100) == b"so am I"
            client.close()
            server.close()
            nginy.process.wait(PATIENCE_S)
            assert nginy.process.returncode == 0


def upgrade(nginy: Nginy) -> tuple[int, list[str]]:
    """Type `nginy -s upgrade`; return its status and what it prints."""
    status, _, lines = run_once("-s", "upgrade", str(nginy.path))
    return status, lines


@pytest.mark.parametrize("workers", [1])
@pytest.mark.slow
def test_live_sessions_move_to_the_new_program(
    tmp_path: pathlib.Path, here: tuple[str, int], backend: socket.socket, workers: int
) -> None:
    to = f"proxy_pass: '{address_text(backend)}'"
    with (
        Nginy(tmp_path, config(workers, here, tmp_path, to)) as nginy,
        socket.create_connection(here, timeout=PATIENCE_S) as client,
    ):
        server, _ = backend.accept()
        server.settimeout(PATIENCE_S)
        with server:
            client.sendall(b"one ")
            for word in (b"two ", b"three ", b"four "):
                old = nginy.pid
                status, lines = upgrade(nginy)
                assert status == 0, lines
                assert lines[1:] == [
                    "nginy: moved: 1 sessions, 1 TCP and 0 UDP",
                    f"nginy: process {old} ends",
                ]
                assert nginy.pid != old
                assert not (tmp_path / "nginy.pid.oldbin").exists() or not has_ended(old)
                wait_until(partial(has_ended, old), "the end of the old process")
                assert ask_admin(tmp_path / "nginy.pid.sock")
                client.sendall(word)
            with ending(nginy.pid):
                client.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: server.recv(100), b"")) == b"one two three four "
                server.sendall(b"all of it")
                server.close()
                assert b"".join(iter(lambda: client.recv(100), b"")) == b"all of it"
                fields = nginy.session()
                assert (fields["bytes_received"], fields["bytes_sent"]) == (19, 9)
        wait_until(lambda: nginy.process.poll() is not None)


def has_ended(pid: int) -> bool:
    """Whether a process has ended, if nobody has taken notice yet, too."""
    try:
        return ") Z" in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def ask_admin(path: pathlib.Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return client.recv(1000)


@WORKERS
def test_a_successor_that_cannot_start_changes_nothing(
    tmp_path: pathlib.Path, here: tuple[str, int], workers: int
) -> None:
    with Nginy(tmp_path, config(workers, here, tmp_path, "return: old")) as nginy:
        nginy.write("listeners: nonsense\n")
        nginy.send_signal(signal.SIGUSR2)
        nginy.said("so this one goes on")
        assert nginy.pid == nginy.process.pid
        assert ask(here) == b"old"
        nginy.write(config(workers, here, tmp_path, "return: new"))
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded")
        assert ask(here) == b"new"
        nginy.stop()
        assert not (tmp_path / "s").exists()


@WORKERS
@pytest.mark.slow
def test_the_successor_hears_every_new_udp_client_while_the_old_process_drains(
    tmp_path: pathlib.Path, workers: int
) -> None:
    host = own_host()
    here = host, free_port(host, socket.SOCK_DGRAM)
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        backend.settimeout(PATIENCE_S)
        backend.bind(("127.0.0.1", 0))
        text = (
            f"workers: {workers}\nlisteners: {{listen: '{here[0]}:{here[1]}', protocol: udp,"
            f" proxy_pass: '{address_text(backend)}', proxy_timeout: 60s}}\n"
        )
        nginy = stack.enter_context(Nginy(tmp_path, text))
        known = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        known.settimeout(PATIENCE_S)
        known.sendto(b"known", here)
        _, session = backend.recvfrom(100)
        stack.enter_context(ending(successor_of(nginy)))
        nginy.send_signal(signal.SIGQUIT)
        nginy.said("no longer listening", workers)
        for number in range(NEW_CLIENTS):
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.sendto(b"%d" % number, here)
                assert backend.recvfrom(100)[0] == b"%d" % number
        backend.sendto(b"late answer", session)
        assert known.recv(100) == b"late answer"
