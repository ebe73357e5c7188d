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

# Takes the arguments of bin/nginy, and waits for workers as long as a test may take.
IMPATIENT = f"""\
import os, sys
sys.path.insert(0, {str(CHECKOUT)!r})
from nginy.config.load import load
from nginy.process.workers import supervisor
path, patience = sys.argv[-1], supervisor.Patience(PATIENCE)
sys.exit(supervisor.run(load(path, os.environ), path, {WORKERS}, patience))
"""


@pytest.fixture
def here() -> tuple[str, int]:
    host = own_host()
    return host, free_port(host)


def config(here: tuple[str, int], text: str) -> str:
    address = f"{here[0]}:{here[1]}"
    return f"workers: {WORKERS}\nlisteners: {{listen: '{address}', return: {text}}}\n"


class Impatient(Nginy):
    """An nginy whose supervisor waits for its workers only so long."""

    def __init__(self, directory: pathlib.Path, text: str, patience: str) -> None:
        script = directory / "impatient.py"
        script.write_text(IMPATIENT.replace("PATIENCE", patience))
        super().__init__(directory, text, prefix=(sys.executable, str(script)))

    def workers(self) -> list[int]:
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in pathlib.Path(path).read_text().split()]


@pytest.fixture
def pinging(tmp_path: pathlib.Path, here: tuple[str, int]) -> Iterator[Impatient]:
    nginy = Impatient(tmp_path, config(here, "one"), "ping_ms=50")
    yield nginy
    nginy.close()


@pytest.fixture
def voting(tmp_path: pathlib.Path, here: tuple[str, int]) -> Iterator[Impatient]:
    nginy = Impatient(tmp_path, config(here, "one"), "vote_ms=100")
    yield nginy
    nginy.close()


def ask(target: tuple[str, int]) -> bytes:
    with socket.create_connection(target, timeout=PATIENCE_S) as client:
        return b"".join(iter(lambda: client.recv(100), b""))


@pytest.mark.slow
def test_a_worker_that_does_not_answer_is_replaced(
    pinging: Impatient, here: tuple[str, int]
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
    voting: Impatient, here: tuple[str, int]
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
    pinging: Impatient,
) -> None:
    stuck, _ = pinging.workers()
    os.kill(stuck, signal.SIGSTOP)
    pinging.stop(signal.SIGQUIT)
