"""How nginy ends: gracefully, at a deadline, or at once, as the signals say."""

import contextlib
import pathlib
import signal
import socket
from collections.abc import Iterator

import pytest

from kit.faults import Listening, check, was_reset
from kit.program import PATIENCE_S, Nginy, free_port, own_host, run_once

LONG = "1h"


class Place:
    """An address for nginy to listen on, with a backend behind it."""

    def __init__(self) -> None:
        self.host = own_host()
        self.port = free_port(self.host)
        self.backend = Listening()
        self.clients: list[socket.socket] = []

    def config(self, **settings: str) -> str:
        lines = "".join(f"{key}: {value}\n" for key, value in settings.items())
        address = f"{self.host}:{self.port}"
        return f"{lines}listeners: {{listen: {address}, proxy_pass: {self.backend.name}}}\n"

    def connect(self) -> socket.socket:
        client = socket.create_connection((self.host, self.port), timeout=PATIENCE_S)
        self.clients.append(client)
        return client

    def session(self) -> tuple[socket.socket, socket.socket]:
        """Begin a session; return its two ends, which have talked already."""
        ends = self.connect(), self.backend.accept()
        check(*ends)
        return ends

    @property
    def is_open(self) -> bool:
        """Whether anybody accepts there."""
        try:
            self.connect()
        except ConnectionRefusedError:
            return False
        except ConnectionResetError:  # closed in the very moment in which the kernel answered
            return True
        return True

    def close(self) -> None:
        self.backend.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def place() -> Iterator[Place]:
    with contextlib.closing(Place()) as made:
        yield made


def test_after_quit_sessions_go_on_and_the_last_one_ends_the_process(
    place: Place, tmp_path: pathlib.Path
) -> None:
    with Nginy(tmp_path, place.config(worker_shutdown_timeout=LONG)) as nginy:
        client, upstream = place.session()
        nginy.send_signal(signal.SIGQUIT)
        nginy.said("no longer listening")
        nginy.said("waiting for 1 session to end, until ..:..:.. at most")
        assert not place.is_open
        check(client, upstream)
        client.close()
        upstream.close()
        nginy.wait()
        assert nginy.process.returncode == 0
        assert nginy.session()["termination"] == "--"
        assert not nginy.pid_path.exists()
        assert not pathlib.Path(f"{nginy.pid_path}.conf").exists()


def test_without_sessions_quit_ends_at_once(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config(worker_shutdown_timeout=LONG, shutdown_grace="off")) as nginy:
        nginy.stop(signal.SIGQUIT)


def test_sessions_that_outlast_the_deadline_are_closed(
    place: Place, tmp_path: pathlib.Path
) -> None:
    with Nginy(tmp_path, place.config(worker_shutdown_timeout="300ms")) as nginy:
        client, upstream = place.session()
        assert any("remaining sessions: 1" in line for line in nginy.stop(signal.SIGQUIT))
        assert (client.recv(1), upstream.recv(1)) == (b"", b"")
        session = nginy.session()
        assert session["termination"] == "KD"
        assert session["reason"] == "closed at the drain deadline"


def test_more_sessions_than_one_turn_closes_are_all_closed(
    place: Place, tmp_path: pathlib.Path
) -> None:
    with Nginy(tmp_path, place.config(worker_shutdown_timeout="300ms")) as nginy:
        for _ in range(300):
            place.connect()
            place.backend.accept()
        nginy.stop(signal.SIGQUIT)
        assert {session["termination"] for session in nginy.sessions(300)} == {"KD"}


def test_within_the_grace_clients_are_still_accepted(place: Place, tmp_path: pathlib.Path) -> None:
    config = place.config(worker_shutdown_timeout=LONG, shutdown_grace="1500ms")
    with Nginy(tmp_path, config) as nginy:
        nginy.send_signal(signal.SIGQUIT)
        nginy.said("SIGQUIT")
        client, upstream = place.session()
        nginy.said("no longer listening")
        assert not place.is_open
        check(client, upstream)
        client.close()
        upstream.close()
        nginy.wait()
        assert nginy.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("grace", ["off", LONG])
def test_a_second_signal_ends_now(
    place: Place, tmp_path: pathlib.Path, number: signal.Signals, grace: str
) -> None:
    config = place.config(worker_shutdown_timeout=LONG, shutdown_grace=grace)
    with Nginy(tmp_path, config) as nginy:
        client, upstream = place.session()
        nginy.send_signal(signal.SIGQUIT)
        nginy.said("SIGQUIT")
        check(client, upstream)
        nginy.stop(number)
        assert nginy.session()["termination"] == "KD"


def test_term_does_not_wait_for_sessions(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config(worker_shutdown_timeout=LONG)) as nginy:
        client, _ = place.session()
        nginy.stop(signal.SIGTERM)
        assert client.recv(1) == b""
        assert nginy.session()["termination"] == "KD"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_an_answer_that_is_cut_short_ends_in_a_reset(
    place: Place, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    with Nginy(tmp_path, place.config(worker_shutdown_timeout="100ms")) as nginy:
        client, upstream = place.session()
        upstream.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while upstream.send(bytes(65536)):
                pass
        nginy.stop(number)
        assert was_reset(client)
        assert nginy.session()["termination"] == "KD"


def test_who_is_ending_does_not_reload(place: Place, tmp_path: pathlib.Path) -> None:
    with Nginy(tmp_path, place.config(worker_shutdown_timeout=LONG)) as nginy:
        client, upstream = place.session()
        nginy.send_signal(signal.SIGQUIT)
        nginy.said("no longer listening")
        nginy.send_signal(signal.SIGHUP)
        nginy.said("SIGHUP")
        check(client, upstream)
        assert not place.is_open
        said = nginy.stop(signal.SIGTERM)
        assert not [line for line in said if "reloaded" in line]


def test_a_udp_client_is_served_to_its_end_and_a_new_one_is_not(tmp_path: pathlib.Path) -> None:
    host = own_host()
    port = free_port(host, socket.SOCK_DGRAM)
    with (
        socket.socket(type=socket.SOCK_DGRAM) as backend,
        socket.socket(type=socket.SOCK_DGRAM) as client,
        socket.socket(type=socket.SOCK_DGRAM) as late,
    ):
        backend.bind(("127.0.0.1", 0))
        for sock in (backend, client, late):
            sock.settimeout(PATIENCE_S)
        client.connect((host, port))
        late.connect((host, port))
        config = (
            f"worker_shutdown_timeout: {LONG}\n"
            f"listeners: {{listen: {host}:{port}, protocol: udp,"
            f" proxy_pass: 127.0.0.1:{backend.getsockname()[1]}}}\n"
        )
        with Nginy(tmp_path, config) as nginy:
            client.send(b"one")
            _, session = backend.recvfrom(100)
            nginy.send_signal(signal.SIGQUIT)
            nginy.said("no longer listening")
            late.send(b"too late")
            client.send(b"two")
            assert backend.recvfrom(100) == (b"two", session)
            backend.sendto(b"answer", session)
            assert client.recv(100) == b"answer"
            nginy.said("takes no new clients")
            nginy.stop(signal.SIGTERM)


@pytest.mark.parametrize(("word", "termination"), [("stop", "KD"), ("quit", "--")])
def test_the_command_line_ends_it_either_way(
    place: Place, tmp_path: pathlib.Path, word: str, termination: str
) -> None:
    with Nginy(tmp_path, place.config(worker_shutdown_timeout=LONG)) as nginy:
        client, upstream = place.session()
        assert run_once("-s", word, str(nginy.path)) == (0, "", [])
        nginy.said("received")
        if word == "quit":
            check(client, upstream)
        client.close()
        upstream.close()
        nginy.wait()
        assert nginy.process.returncode == 0
        assert nginy.session()["termination"] == termination
