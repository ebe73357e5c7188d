"""bin/nginy with several workers: one supervisor, shared addresses and counts, no shared fate."""

import collections
import contextlib
import os
import pathlib
import signal
import socket
import tempfile
import time
from collections.abc import Iterator

import pytest

from kit.program import (
    PATIENCE_S,
    Nginy,
    free_port,
    open_paths,
    own_host,
    run_once,
    wait_until,
)
from kit.servers import address_text

WORKERS = 3
FORMAT = "log_formats: {pid: '$pid $protocol $termination'}\n"
LOGGED = "access_log: {path: access.log, format: pid}\n" + FORMAT

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


GROWN = 5
"""Tests that replace a worker and do not want to wait for it."""


class Backend:
    """Accepts one after the other, as the test asks."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.socket.settimeout(PATIENCE_S)
        self.address = address_text(self.socket)

    def accept(self) -> socket.socket:
        sock, _ = self.socket.accept()
        sock.settimeout(PATIENCE_S)
        return sock


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.socket.close()


@pytest.fixture
def here() -> tuple[str, int]:
    """An address that is free."""
    host = own_host()
    return host, free_port(host)


@pytest.fixture
def open_sockets() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def connect(target: tuple[str, int]) -> socket.socket:
    return socket.create_connection(target, timeout=PATIENCE_S)


def workers_of(nginy: Nginy) -> list[int]:
    """The process ids of the workers, as only the kernel knows them."""
    path = f"/proc/{nginy.process.pid}/task/{nginy.process.pid}/children"
    return [int(pid) for pid in pathlib.Path(path).read_text().split()]


def config(listeners: str, more: str = LOGGED) -> str:
    return f"workers: {WORKERS}\n{more}listeners:\n{listeners}\n"


def proxying(target: tuple[str, int], backend: Backend) -> str:
    return f"  - {{listen: '{target[0]}:{target[1]}', proxy_pass: '{backend.address}'}}\n"


def answering(target: tuple[str, int], text: str = "hello", protocol: str = "tcp") -> str:
    address = f"{target[0]}:{target[1]}"
    return f"  - {{listen: '{address}', protocol: {protocol}, return: '{text}'}}\n"


class Grown:
    """An nginy of some age, with a listener of every kind.

    A worker is started a second after the one before it at the earliest, so those of an nginy that
    has just started are not replaced at once.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        host = own_host()
        self.backend = Backend()
        self.answering, self.limited = ((host, free_port(host)) for _ in range(2))
        self.udp = host, free_port(host, socket.SOCK_DGRAM)
        listeners = (
            answering(self.answering)
            + answering(self.udp, protocol="udp")
            + f"  - {{listen: '{host}:{self.limited[1]}', proxy_pass: limited}}\n"
        )
        backends = f"[{{address: '{self.backend.address}', max_conns: 4}}]"
        limited = f"upstreams: {{limited: {{backends: {backends}}}}}\n"
        self.nginy = Nginy(directory, config(listeners, LOGGED + limited))

    def close(self) -> None:
        self.nginy.close()
        self.backend.socket.close()


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Grown]]:
    """One for each test, all started before the first of them is used."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(contextlib.closing(Grown(tmp_path_factory.mktemp("grown"))))
            for _ in range(GROWN)
        ]


@pytest.fixture
def grown(growing: list[Grown]) -> Grown:
    return growing.pop(0)


def ask(target: tuple[str, int]) -> str:
    """Connect and read to the end."""
    with connect(target) as client:
        return b"".join(iter(lambda: client.recv(4096), b"")).decode()


def speak(client: socket.socket, server: socket.socket, word: bytes) -> None:
    client.sendall(word)
    assert server.recv(len(word)) == word
    server.sendall(word[::-1])
    assert client.recv(len(word)) == word[::-1]


def has_ended(client: socket.socket) -> bool:
    """Whether the other side has closed or reset the connection."""
    client.setblocking(False)
    try:
        return not client.recv(1)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        client.settimeout(PATIENCE_S)


def has_died(pid: int) -> bool:
    """Whether a process has ended; nobody may have waited for it yet."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def refuses(target: tuple[str, int]) -> bool:
    try:
        connect(target).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # closed in the very moment in which the kernel answered
        return False
    return False


# Serving.


def test_every_worker_serves_tcp_and_unix_and_each_udp_client_stays_with_one(
    tmp_path: pathlib.Path, here: tuple[str, int]
) -> None:
    path = tmp_path / "nginy.sock"
    listeners = (
        answering(here)
        + answering(here, protocol="udp")
        + f"  - {{listen: 'unix:{path}', return: hi}}\n"
    )
    with Nginy(tmp_path, config(listeners)) as nginy:
        assert len(workers_of(nginy)) == WORKERS
        for _ in range(60):
            assert ask(here) == "hello"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert client.recv(10) == b"hi"
        nginy.stop()
        pids = {line.split()[0] for line in nginy.access_lines()}
        assert len(pids) == WORKERS
    assert not path.exists()


def test_auto_is_one_worker_a_processor(tmp_path: pathlib.Path, here: tuple[str, int]) -> None:
    processors = sorted(os.sched_getaffinity(0))[:2]
    taskset = ["taskset", "--cpu-list", ",".join(map(str, processors))]
    text = config(answering(here)).replace(f"workers: {WORKERS}", "workers: auto")
    with Nginy(tmp_path, text, prefix=taskset) as nginy:
        expected = len(processors) if len(processors) > 1 else 0
        assert len(workers_of(nginy)) == expected
        assert ask(here) == "hello"
        nginy.stop()


def test_one_worker_is_one_process(tmp_path: pathlib.Path, here: tuple[str, int]) -> None:
    text = config(answering(here)).replace(f"workers: {WORKERS}", "workers: 1")
    with Nginy(tmp_path, text) as nginy:
        assert workers_of(nginy) == []
        assert ask(here) == "hello"


def test_an_address_in_use_is_not_shared_by_accident(
    tmp_path: pathlib.Path, here: tuple[str, int]
) -> None:
    (tmp_path / "second").mkdir()
    with Nginy(tmp_path, config(answering(here))):
        second = tmp_path / "second" / "nginy.yml"
        second.write_text(config(answering(here), more=""))
        status, _, lines = run_once(str(second))
        assert status == 1
        assert f"bind() to {here[0]}:{here[1]} failed (98: Address already in use)" in lines[-1]


# Counts that are global.


def test_max_conns_holds_for_all_workers_together(
    grown: Grown, open_sockets: contextlib.ExitStack
) -> None:
    nginy, target = grown.nginy, grown.limited
    clients = []
    for _ in range(4):
        clients.append(open_sockets.enter_context(connect(target)))
        open_sockets.enter_context(grown.backend.accept())
    for _ in range(20):
        assert ask(target) == ""
    nginy.said("no usable backend|no live|max_conns|no backend")
    owner = next(pid for pid in workers_of(nginy))
    os.kill(owner, signal.SIGKILL)
    wait_until(lambda: owner not in workers_of(nginy) and len(workers_of(nginy)) == WORKERS)
    ended = sum(has_ended(client) for client in clients)
    for _ in range(ended):
        clients.append(open_sockets.enter_context(connect(target)))
        open_sockets.enter_context(grown.backend.accept())
    assert ask(target) == ""


# A worker dies.


def test_a_killed_worker_takes_only_its_own_sessions_along_and_the_port_never_refuses(
    tmp_path: pathlib.Path,
    here: tuple[str, int],
    backend: Backend,
    open_sockets: contextlib.ExitStack,
) -> None:
    with Nginy(tmp_path, config(proxying(here, backend))) as nginy:
        pairs = []
        for _ in range(60):
            client = open_sockets.enter_context(connect(here))
            pairs.append((client, open_sockets.enter_context(backend.accept())))
        victim, *_ = workers_of(nginy)
        victims_sockets = sockets_of(victim)
        others_sockets = min(sockets_of(pid) for pid in workers_of(nginy)[1:])
        os.kill(victim, signal.SIGKILL)
        for number in range(200):
            with connect(here) as client, backend.accept() as server:
                speak(client, server, b"%d" % number)
        ended = [pair for pair in pairs if has_ended(pair[0])]
        assert 0 < len(ended) < len(pairs)
        # Each of the victim's sessions held two sockets; nobody else's are missing.
        assert len(ended) * 2 <= victims_sockets
        assert others_sockets > 0
        for client, server in pairs:
            if (client, server) not in ended:
                speak(client, server, b"still here")
        wait_until(lambda: len(workers_of(nginy)) == WORKERS, "another worker")
        assert victim not in workers_of(nginy)
        nginy.said(f"worker 0, process {victim} exited on signal 9")
        for client, server in pairs:
            client.close()
            server.close()
        wait_until(lambda: len(nginy.access_lines()) == 260 - len(ended))
        codes = collections.Counter(line.split()[2] for line in nginy.access_lines())
        assert set(codes) == {"--"}
        nginy.stop()


def sockets_of(pid: int) -> int:
    return sum(path.startswith("socket:") for path in open_paths(pid))


def test_the_queue_of_a_killed_worker_is_served_by_the_next(
    grown: Grown, open_sockets: contextlib.ExitStack
) -> None:
    stopped = workers_of(grown.nginy)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    clients = [open_sockets.enter_context(connect(grown.answering)) for _ in range(30)]
    for pid in stopped:
        os.kill(pid, signal.SIGKILL)
    assert [client.recv(5) for client in clients] == [b"hello"] * 30
    assert not set(stopped) & set(workers_of(grown.nginy))
    grown.nginy.stop()


def test_a_udp_client_is_served_on_after_its_worker_was_killed(grown: Grown) -> None:
    nginy = grown.nginy
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect(grown.udp)
        for _ in range(5):
            client.send(b"?")
            assert client.recv(10) == b"hello"
        wait_until(lambda: len(nginy.access_lines()) == 5)
        (owner,) = {int(line.split()[0]) for line in nginy.access_lines()}
        os.kill(owner, signal.SIGSTOP)
        client.send(b"?")
        os.kill(owner, signal.SIGKILL)
        # The datagram has waited in the socket that the next worker got.
        assert client.recv(10) == b"hello"
        nginy.stop()


def test_workers_end_and_free_the_port_when_the_supervisor_is_killed(
    tmp_path: pathlib.Path, here: tuple[str, int]
) -> None:
    with Nginy(tmp_path, config(answering(here))) as nginy:
        orphans = workers_of(nginy)
        nginy.process.kill()
        nginy.process.wait(PATIENCE_S)  # it has closed its sockets by then, and not before
        wait_until(lambda: all(map(has_died, orphans)), "the end of the workers")
        assert refuses(here)


def test_a_worker_that_cannot_stay_alive_is_started_at_a_bounded_rate(grown: Grown) -> None:
    nginy = grown.nginy
    begun_s = time.monotonic()
    killed = set()
    for _ in range(2):
        victim = int(
            nginy.said("worker 0, process [0-9]+ started", len(killed) + 1)[-1].split()[-2]
        )
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
    nginy.said("worker 0, process [0-9]+ started", 3)
    # Two starts since the clock was read, the second a second after the first at the earliest, by
    # nginy's clock of whole milliseconds.
    assert time.monotonic() - begun_s > 0.999
    nginy.stop()


# Reloading.


def test_a_reload_moves_all_workers_and_keeps_their_sessions(
    tmp_path: pathlib.Path,
    here: tuple[str, int],
    backend: Backend,
    open_sockets: contextlib.ExitStack,
) -> None:
    there = (here[0], free_port(here[0]))
    with Nginy(tmp_path, config(proxying(here, backend))) as nginy:
        before = workers_of(nginy)
        pairs = []
        for _ in range(12):
            client = open_sockets.enter_context(connect(here))
            pairs.append((client, open_sockets.enter_context(backend.accept())))
        for number in range(3):
            gone, come = (here, there) if number % 2 == 0 else (there, here)
            nginy.write(config(answering(come)))
            nginy.send_signal(signal.SIGHUP)
            nginy.said("configuration reloaded", number + 1)
            assert {ask(come) for _ in range(20)} == {"hello"}
            assert refuses(gone)
        for client, server in pairs:
            speak(client, server, b"still here")
        assert workers_of(nginy) == before
        nginy.stop()


def test_a_listener_of_udp_may_go_and_come_back_at_once(
    tmp_path: pathlib.Path, here: tuple[str, int]
) -> None:
    there = (here[0], free_port(here[0]))
    both = config(answering(here, protocol="udp") + answering(there))
    with Nginy(tmp_path, both) as nginy:
        for number in range(4):
            nginy.write(config(answering(there)) if number % 2 == 0 else both)
            nginy.send_signal(signal.SIGHUP)
            nginy.said("configuration reloaded", number + 1)
        for _ in range(20):
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.settimeout(PATIENCE_S)
                client.connect(here)
                client.send(b"?")
                assert client.recv(10) == b"hello"
        nginy.stop()


def test_a_reload_that_cannot_bind_changes_nothing(
    tmp_path: pathlib.Path, here: tuple[str, int]
) -> None:
    with (
        Nginy(tmp_path, config(answering(here))) as nginy,
        socket.create_server((own_host(), 0)) as taken,
    ):
        free = (here[0], free_port(here[0]))
        nginy.write(config(answering(free) + answering(taken.getsockname())))
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration not changed")
        nginy.said("bind.*Address already in use")
        assert ask(here) == "hello"
        assert refuses(free)
        nginy.stop()


@as_root
def test_a_reload_that_one_worker_refuses_changes_nothing(
    tmp_path: pathlib.Path, here: tuple[str, int]
) -> None:
    free = (here[0], free_port(here[0]))
    with (
        Nginy(tmp_path, config(answering(here), "user: nobody\naccess_log: off\n")) as nginy,
        # Beside pytest's directories, which are all for one user alone.
        tempfile.TemporaryDirectory() as name,
    ):
        hidden = pathlib.Path(name)
        logged = f"user: nobody\naccess_log: {hidden}/access.log\n"
        nginy.write(config(answering(free), logged))
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration not changed")
        assert ask(here) == "hello"
        # One refusal is enough to say so; the other workers have sockets until they hear of it.
        wait_until(lambda: refuses(free), "the last worker to close the new address")
        hidden.chmod(0o755)
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded")
        wait_until(lambda: refuses(here), "the last worker to close the old address")
        assert ask(free) == "hello"
        nginy.stop()


def test_a_stopped_worker_cannot_hold_up_a_reload_for_ever(grown: Grown) -> None:
    nginy = grown.nginy
    victim, *_ = workers_of(nginy)
    os.kill(victim, signal.SIGSTOP)
    nginy.write(config(answering(grown.answering, "changed")))
    nginy.send_signal(signal.SIGHUP)
    nginy.said("SIGHUP")
    os.kill(victim, signal.SIGKILL)
    nginy.said("configuration reloaded")
    wait_until(lambda: len(workers_of(nginy)) == WORKERS and victim not in workers_of(nginy))
    assert {ask(grown.answering) for _ in range(20)} == {"changed"}
    nginy.stop()


# Privileges.


@as_root
def test_workers_drop_privileges_and_still_get_privileged_ports(
    tmp_path: pathlib.Path, here: tuple[str, int]
) -> None:
    tmp_path.chmod(0o755)
    with Nginy(tmp_path, config(answering(here), "user: nobody\naccess_log: off\n")) as nginy:
        assert [os.stat(f"/proc/{pid}").st_uid for pid in workers_of(nginy)] == [65534] * WORKERS
        privileged = (here[0], 443)
        nginy.write(config(answering(privileged), "user: nobody\naccess_log: off\n"))
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded")
        assert ask(privileged) == "hello"
        nginy.stop()


# Logs.


def test_reopened_logs_get_the_lines_of_all_workers(
    tmp_path: pathlib.Path, here: tuple[str, int]
) -> None:
    with Nginy(tmp_path, config(answering(here))) as nginy:
        assert ask(here) == "hello"
        wait_until(lambda: len(nginy.access_lines()) == 1)
        nginy.access_path.rename(tmp_path / "old.log")
        nginy.send_signal(signal.SIGUSR1)
        nginy.said("reopening logs", 1 + WORKERS)
        for _ in range(60):
            assert ask(here) == "hello"
        wait_until(lambda: len(nginy.access_lines()) == 60)
        assert len({line.split()[0] for line in nginy.access_lines()}) == WORKERS
        nginy.stop()


# The end.


def test_quit_lets_sessions_finish_in_every_worker(
    tmp_path: pathlib.Path,
    here: tuple[str, int],
    backend: Backend,
    open_sockets: contextlib.ExitStack,
) -> None:
    with Nginy(tmp_path, config(proxying(here, backend))) as nginy:
        pairs = []
        for _ in range(20):
            client = open_sockets.enter_context(connect(here))
            pairs.append((client, open_sockets.enter_context(backend.accept())))
        nginy.send_signal(signal.SIGQUIT)
        nginy.said("no longer listening", WORKERS)
        assert refuses(here)
        for client, server in pairs:
            speak(client, server, b"still here")
            client.close()
            server.close()
        nginy.wait()
        assert nginy.process.returncode == 0
        assert {line.split()[2] for line in nginy.access_lines()} == {"--"}
    assert not nginy.pid_path.exists()


def test_a_second_quit_ends_it_now(
    tmp_path: pathlib.Path,
    here: tuple[str, int],
    backend: Backend,
    open_sockets: contextlib.ExitStack,
) -> None:
    with Nginy(tmp_path, config(proxying(here, backend))) as nginy:
        client = open_sockets.enter_context(connect(here))
        open_sockets.enter_context(backend.accept())
        nginy.send_signal(signal.SIGQUIT)
        nginy.said("no longer listening", WORKERS)
        nginy.stop(signal.SIGQUIT)
        assert has_ended(client)
        assert [line.split()[2] for line in nginy.access_lines()] == ["KD"]
