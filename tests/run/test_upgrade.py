"""USR2: another nginy takes over the sockets of the one that runs, while clients come and go."""

import contextlib
import json
import os
import pathlib
import signal
import socket
from collections.abc import Iterator
from functools import partial

import pytest
from nginy.wire.proxy_protocol import build_v2

from kit.program import PATIENCE_S, Nginy, ending, free_port, own_host, run_once, wait_until
from kit.servers import address_text
from kit.tls import make_certificate, trusting

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
            for _ in range(20):
                assert ask(here) in (b"old", b"new")
            nginy.process.wait(PATIENCE_S)
            assert not old_path.exists()
            assert ask(here) == b"new"
            assert ask(str(tmp_path / "s")) == b"new"
            os.kill(successor, signal.SIGQUIT)
            wait_until(lambda: not nginy.pid_path.exists(), "the end of the successor")
        wait_until(lambda: not (tmp_path / "s").exists(), "the end of its socket's path")


def upgrade(nginy: Nginy) -> tuple[int, list[str]]:
    """Type `nginy -s upgrade`; return its status and what it prints."""
    status, _, lines = run_once("-s", "upgrade", str(nginy.path))
    return status, lines


@WORKERS
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
                    "nginy: moved: 1 session, 1 TCP and 0 UDP",
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


@pytest.mark.slow
def test_a_session_with_tls_stays_and_one_in_front_of_its_route_moves_once_it_has_one(
    tmp_path: pathlib.Path, here: tuple[str, int], backend: socket.socket
) -> None:
    """The announced client of a PROXY header stays who it is."""
    pem = make_certificate(tmp_path)
    to = f"proxy_pass: '{address_text(backend)}'"
    secret, routed, announced = (free_port(here[0]) for _ in range(3))
    text = (
        f"listeners:\n- {{listen: '{here[0]}:{secret}', {to},"
        f" tls: {{certificate: {pem}, key: {pem}}}}}"
        f"\n- {{listen: '{here[0]}:{routed}', {to}, routes: [{{starts: X, {to}}}]}}"
        f"\n- {{listen: '{here[0]}:{announced}', {to}, accept_proxy_protocol: {{from: all}}}}\n"
    )

    def connected(port: int) -> socket.socket:
        return stack.enter_context(socket.create_connection((here[0], port), timeout=PATIENCE_S))

    with contextlib.ExitStack() as stack:
        nginy = stack.enter_context(Nginy(tmp_path, text))
        plain, late = connected(announced), connected(routed)
        plain.sendall(b"PROXY TCP4 9.8.7.6 5.4.3.2 11 22\r\none ")
        to_plain, _ = backend.accept()
        tls = trusting(pem).wrap_socket(connected(secret), server_hostname="example.test")
        stack.enter_context(tls)
        to_tls, _ = backend.accept()
        stack.enter_context(to_tls)
        stack.enter_context(to_plain)
        old = nginy.pid
        status, lines = upgrade(nginy)
        stack.enter_context(ending(nginy.pid))
        assert (status, lines[1]) == (0, "nginy: moved: 1 session, 1 TCP and 0 UDP")
        stays = f"nginy: stay with process {old} until they end: 1 that"
        assert sorted(lines[2:]) == [
            f"{stays} are not established yet",
            f"{stays} speak TLS with nginy",
        ]
        late.sendall(b"X")
        to_late, _ = backend.accept()
        stack.enter_context(to_late)
        nginy.said(r"has taken over: 2 sessions moved \(2 TCP, 0 UDP\), 1 stays: 1 that speak TLS")
        for near, far in ((plain, to_plain), (late, to_late), (tls, to_tls)):
            near.sendall(b"two")
            far.settimeout(PATIENCE_S)
            data = b""
            while not data.endswith(b"two"):
                data += far.recv(100)
            far.close()
            assert near.recv(100) == b""
            near.close()
        wait_until(partial(has_ended, old), "the end of the old process")
        addresses = {
            fields["remote_addr"]: fields["bytes_received"] for fields in nginy.sessions(3)
        }
        assert addresses["9.8.7.6"] == len(b"one two")


def has_ended(pid: int) -> bool:
    """Whether a process has ended, even if nobody has reaped it yet."""
    try:
        return ") Z" in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def ask_admin(path: pathlib.Path) -> bytes:
    return asked(path, "/healthz")


def asked(path: pathlib.Path, what: str) -> bytes:
    """Return what the admin interface answers."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(f"GET {what} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(10000), b"")).partition(b"\r\n\r\n")[2]


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
def test_udp_sessions_move_and_no_datagram_is_lost(tmp_path: pathlib.Path, workers: int) -> None:
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
        clients = [
            stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(NEW_CLIENTS)
        ]
        homes: dict[int, object] = {}

        def ask_all(word: bytes) -> None:
            """Let each client ask, and get its answer by the usual way."""
            for number, client in enumerate(clients):
                client.settimeout(PATIENCE_S)
                client.sendto(b"%d %b" % (number, word), here)
                data, way = backend.recvfrom(100)
                assert data == b"%d %b" % (number, word)
                assert homes.setdefault(number, way) == way
                backend.sendto(b"answer to " + data, way)
                assert client.recv(100) == b"answer to " + data

        ask_all(b"before")
        status, lines = upgrade(nginy)
        stack.enter_context(ending(nginy.pid))
        assert status == 0
        assert lines[1] == f"nginy: moved: {NEW_CLIENTS} sessions, 0 TCP and {NEW_CLIENTS} UDP"
        ask_all(b"after")
        clients.append(stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)))
        ask_all(b"with a new one")
        os.kill(nginy.pid, signal.SIGTERM)
        sessions = nginy.sessions(NEW_CLIENTS + 1)
        assert sorted(fields["requests"] for fields in sessions) == [1, *[3] * NEW_CLIENTS]


@pytest.mark.slow
def test_proxies_need_not_announce_their_clients_again(tmp_path: pathlib.Path) -> None:
    """Neither one whose client has a session, nor one that has sent nothing else yet."""
    host = own_host()
    here = host, free_port(host, socket.SOCK_DGRAM)
    with contextlib.ExitStack() as stack:
        backend, known, silent = (
            stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(3)
        )
        backend.bind(("127.0.0.1", 0))
        for sock in (backend, known, silent):
            sock.settimeout(PATIENCE_S)
        text = (
            f"listeners: {{listen: '{here[0]}:{here[1]}', protocol: udp, proxy_pass:"
            f" '{address_text(backend)}', accept_proxy_protocol: {{from: all, standalone: on}}}}\n"
        )
        nginy = stack.enter_context(Nginy(tmp_path, text))
        for number, proxy in enumerate((known, silent)):
            source = f"192.0.2.{number}", 4711
            proxy.sendto(build_v2(source, ("198.51.100.2", 53), is_udp=True), here)

        def way_of(proxy: socket.socket) -> object:
            """Return where a datagram without a header comes out, once it is answered."""
            proxy.sendto(b"?", here)
            _, way = backend.recvfrom(100)
            backend.sendto(b"!", way)
            assert proxy.recv(100) == b"!"
            return way

        way = way_of(known)
        assert upgrade(nginy)[0] == 0
        stack.enter_context(ending(nginy.pid))
        assert way_of(known) == way
        assert way_of(silent) != way


@WORKERS
@pytest.mark.slow
def test_what_the_old_process_knows_goes_along(
    tmp_path: pathlib.Path, here: tuple[str, int], workers: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as good, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        names = [address_text(good), address_text(refusing)]
        text = (
            f"workers: {workers}\nupstreams: {{web: {{backends: ['{names[0]}',"
            f" {{address: '{names[1]}', fail_timeout: 60s}}]}}}}\nlisteners: {{listen:"
            f" '{here[0]}:{here[1]}', proxy_pass: web,"
            " limit_conn_rate: {key: $remote_addr, rate: 1, burst: 50}}\n"
        )
        with Nginy(tmp_path, text) as nginy:
            for _ in range(2 * workers + 8):
                with socket.create_connection(here, timeout=PATIENCE_S):
                    good.accept()[0].close()
            set_weight = ("weight", "--for", "30m", str(nginy.path), f"web/{names[0]}", "7")
            assert run_once(*set_weight)[0] == 0
            before = known(tmp_path, names)
            assert before[names[1]]["fails"]
            assert upgrade(nginy)[0] == 0
            with ending(nginy.pid):
                assert known(tmp_path, names) == before


@pytest.mark.slow
def test_a_session_that_has_moved_and_a_new_one_have_two_numbers(
    tmp_path: pathlib.Path, here: tuple[str, int], backend: socket.socket
) -> None:
    text = config(1, here, tmp_path, f"proxy_pass: '{address_text(backend)}'")
    with contextlib.ExitStack() as stack:
        nginy = stack.enter_context(Nginy(tmp_path, text))

        def connect() -> None:
            stack.enter_context(socket.create_connection(here, timeout=PATIENCE_S))
            stack.enter_context(backend.accept()[0])

        def numbers() -> list[str]:
            rows = json.loads(asked(tmp_path / "nginy.pid.sock", "/api/v1/sessions"))["sessions"]
            return sorted(row["id"].partition(".")[2] for row in rows)

        connect()
        assert upgrade(nginy)[0] == 0
        stack.enter_context(ending(nginy.pid))
        connect()
        assert numbers() == ["1", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 40])
def test_the_round_goes_on_where_it_was(
    tmp_path: pathlib.Path, here: tuple[str, int], count: int
) -> None:
    backends = [f"unix:{tmp_path}/{number}" for number in range(count)]
    answering = [f"{{listen: '{each}', return: '{n}'}}" for n, each in enumerate(backends)]
    text = (
        f"upstreams: {{web: {{backends: {backends}}}}}\n"
        f"listeners: [{{listen: '{here[0]}:{here[1]}', proxy_pass: web}}, {', '.join(answering)}]\n"
    )

    with Nginy(tmp_path, text) as nginy:
        assert [int(ask(here)) for _ in range(count + 3)] == [*range(count), 0, 1, 2]
        assert upgrade(nginy)[0] == 0
        with ending(nginy.pid):
            assert [int(ask(here)) for _ in range(3)] == [3, 4, 5 % count]


@pytest.mark.slow
def test_an_ejected_backend_stays_out(tmp_path: pathlib.Path, here: tuple[str, int]) -> None:
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        name = address_text(refusing)
        text = (
            f"upstreams: {{web: {{backends: ['unix:{tmp_path}/good', '{name}'], eject: on}}}}\n"
            f"listeners: [{{listen: '{here[0]}:{here[1]}', proxy_pass: web}},"
            f" {{listen: 'unix:{tmp_path}/good', return: good}}]\n"
        )

        def facts() -> tuple[object, ...]:
            path = f"/api/v1/upstreams/web/backends/{name}"
            fields = json.loads(asked(tmp_path / "nginy.pid.sock", path))
            return fields["state"], fields["reason"], fields["usable"]

        with Nginy(tmp_path, text) as nginy:
            wait_until(lambda: ask(here) == b"good" and facts()[0] == "ejected", "an ejection")
            before = facts()
            assert upgrade(nginy)[0] == 0
            with ending(nginy.pid):
                assert facts() == before


def known(directory: pathlib.Path, names: list[str]) -> dict[str, dict[str, object]]:
    """Return what the admin interface says about backends and operators' changes."""
    found: dict[str, dict[str, object]] = {}
    for name in names:
        path = f"/api/v1/upstreams/web/backends/{name}"
        fields = json.loads(asked(directory / "nginy.pid.sock", path))
        keys = ("usable", "weight", "sessions_total", "failures", "received", "sent", "changed_by")
        found[name] = {key: fields[key] for key in keys} | {"fails": fields["failures"] > 0}
    found["changes"] = {
        "rows": [
            {key: row[key] for key in ("name", "key", "value", "file_value", "by", "at")}
            for row in json.loads(asked(directory / "nginy.pid.sock", "/api/v1/changes"))["changes"]
        ]
    }
    return found
