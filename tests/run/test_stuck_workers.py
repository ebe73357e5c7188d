"""Workers that live and do nothing: stopped here, swapped out or waiting for a disk elsewhere."""

import os
import pathlib
import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from kit.program import CHECKOUT, PATIENCE_S, Nginy, free_port, own_host, wait_until

WORKERS = 2

# Takes the arguments of bin/nginy, and waits for workers as long as a test may take; a worker that
# waits for its turn on a busy machine needs some of that time.
IMPATIENT = f"""\
import os, sys
sys.path.insert(0, {str(CHECKOUT)!r})
from nginy.config.load import load
from nginy.process.workers import supervisor
path, patience = sys.argv[-1], supervisor.Patience(PATIENCE)
sys.exit(supervisor.run(load(path, os.environ), path, {WORKERS}, patience))
"""

# Lets a worker that is started after GATE was made wait there, before it begins to serve.
SLOW = f"""\
import os, sys
sys.path.insert(0, {str(CHECKOUT)!r})
from nginy.config.load import load
from nginy.process.workers import supervisor
class Slow(supervisor.Supervisor):
    def _run_worker(self, index, sock):
        if os.path.exists(GATE):
            open(GATE).read()
        return super()._run_worker(index, sock)
supervisor.Supervisor = Slow
path = sys.argv[-1]
sys.exit(supervisor.run(load(path, os.environ), path, {WORKERS}))
"""


@pytest.fixture
def here() -> tuple[str, int]:
    host = own_host()
    return host, free_port(host)


def config(here: tuple[str, int], text: str) -> str:
    address = f"{here[0]}:{here[1]}"
    return f"workers: {WORKERS}\nlisteners: {{listen: '{address}', return: {text}}}\n"


class Scripted(Nginy):
    """An nginy that a script starts."""

    def __init__(self, directory: pathlib.Path, text: str, script: str) -> None:
        path = directory / "script.py"
        path.write_text(script)
        super().__init__(directory, text, prefix=(sys.executable, str(path)))

    def workers(self) -> list[int]:
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in pathlib.Path(path).read_text().split()]


@pytest.fixture
def pinging(tmp_path: pathlib.Path, here: tuple[str, int]) -> Iterator[Scripted]:
    nginy = Scripted(tmp_path, config(here, "one"), IMPATIENT.replace("PATIENCE", "ping_ms=400"))
    yield nginy
    nginy.close()


@pytest.fixture
def voting(tmp_path: pathlib.Path, here: tuple[str, int]) -> Iterator[Scripted]:
    nginy = Scripted(tmp_path, config(here, "one"), IMPATIENT.replace("PATIENCE", "vote_ms=1500"))
    yield nginy
    nginy.close()


def ask(target: tuple[str, int]) -> bytes:
    with socket.create_connection(target, timeout=PATIENCE_S) as client:
        return b"".join(iter(lambda: client.recv(100), b""))


@pytest.mark.slow
def test_a_worker_that_does_not_answer_is_replaced(
    pinging: Scripted, here: tuple[str, int]
) -> None:
    stuck, other = pinging.workers()
    os.kill(stuck, signal.SIGSTOP)
    pinging.said(f"process {stuck} does not answer, killing it")
    pinging.said(f"process {stuck} exited on signal 9")
    pinging.said("worker . process . started|worker ., process [0-9]+ started", WORKERS + 1)
    assert other in pinging.workers()
    for _ in range(20):
        assert ask(here) == b"one"
    assert not [line for line in pinging.stop() if f"process {other} does not answer" in line]


@pytest.mark.slow
def test_a_reload_does_without_a_worker_that_does_not_answer(
    voting: Scripted, here: tuple[str, int]
) -> None:
    stuck, other = voting.workers()
    os.kill(stuck, signal.SIGSTOP)
    voting.write(config(here, "two"))
    voting.send_signal(signal.SIGHUP)
    voting.said("configuration reloaded")
    voting.said(f"process {stuck} has not reloaded, killing it")
    wait_until(lambda: len(voting.workers()) == WORKERS and stuck not in voting.workers())
    assert other in voting.workers()
    for _ in range(20):
        assert ask(here) == b"two"


@pytest.mark.slow
def test_a_graceful_end_does_not_wait_for_a_worker_that_does_not_answer(
    pinging: Scripted,
) -> None:
    stuck, _ = pinging.workers()
    os.kill(stuck, signal.SIGSTOP)
    pinging.stop(signal.SIGQUIT)


@pytest.mark.slow
def test_a_worker_that_begins_to_serve_during_a_reload_takes_part(
    tmp_path: pathlib.Path, here: tuple[str, int]
) -> None:
    gate = tmp_path / "gate"
    nginy = Scripted(tmp_path, config(here, "one"), SLOW.replace("GATE", repr(str(gate))))
    with nginy:
        os.mkfifo(gate)
        victim, other = nginy.workers()
        os.kill(victim, signal.SIGKILL)
        nginy.said("worker ., process [0-9]+ started", WORKERS + 1)
        (newcomer,) = set(nginy.workers()) - {other}
        os.kill(other, signal.SIGSTOP)
        second = here[0], free_port(here[0])
        added = f"  - {{listen: '{second[0]}:{second[1]}', return: two}}\n"
        first = f"  - {{listen: '{here[0]}:{here[1]}', return: two}}\n"
        nginy.write(f"workers: {WORKERS}\nlisteners:\n{first}{added}")
        nginy.send_signal(signal.SIGHUP)
        # The supervisor binds before it asks the workers.
        wait_until(lambda: listens(second), "the vote to begin")
        gate.write_text("go")
        gate.unlink()
        wait_until(lambda: answers(here), "the newcomer to serve")
        os.kill(other, signal.SIGCONT)
        nginy.said("configuration reloaded")
        assert newcomer in nginy.workers()
        assert {ask(address) for address in (here, second) for _ in range(10)} == {b"two"}
        nginy.stop()


def listens(target: tuple[str, int]) -> bool:
    with socket.socket() as client:
        return client.connect_ex(target) == 0


def answers(target: tuple[str, int]) -> bool:
    """Whether a worker answers at once; one that is stopped leaves its clients waiting."""
    with socket.create_connection(target, timeout=0.1) as client:
        try:
            return client.recv(100) != b""
        except TimeoutError:
            return False
