"""The first moments of a start: signals that come early, and standard streams that are closed."""

import itertools
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from nginy import __main__ as entry
from nginy.event.signals import HELD_SIGNALS

from kit.program import (
    CHECKOUT,
    ENVIRONMENT,
    PATIENCE_S,
    PROGRAM,
    Nginy,
    free_port,
    own_host,
    wait_until,
)

ENTRIES = {"bin/nginy": PROGRAM, "installed": (sys.executable, "-m", "nginy")}
MANY = 300
"""Listeners, so that a start takes long enough to be met by a signal. `free_port` gives their ports
to nobody, not even for a wildcard."""
CLOSING = ("<&-", ">&-", "2>&-")
CLOSED = [
    pytest.param(subset, id="".join(map(str, subset)) or "none")
    for count in range(4)
    for subset in itertools.combinations(range(3), count)
]


@pytest.fixture
def here() -> tuple[str, int]:
    host = own_host()
    return host, free_port(host)


class Start:
    """A start that is under way, in a directory with a configuration."""

    def __init__(self, directory: pathlib.Path, command: tuple[str, ...], config: str) -> None:
        self.pid_path = directory / "nginy.pid"
        self.log_path = directory / "error.log"
        path = directory / "nginy.yml"
        path.write_text(f"pid: nginy.pid\nerror_log: error.log\n{config}")
        # bin/nginy, started by its first line, finds the Python of the tests.
        env = {**ENVIRONMENT, "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.process = subprocess.Popen([*command, str(path)], cwd=CHECKOUT, env=env)

    def blocks(self, number: signal.Signals) -> bool:
        """Whether the process has blocked a signal."""
        return self._has(number, "SigBlk")

    def ignores(self, number: signal.Signals) -> bool:
        """Whether the process ignores a signal."""
        return self._has(number, "SigIgn")

    def hears(self, number: signal.Signals) -> bool:
        """Whether the process has a handler for a signal."""
        return self._has(number, "SigCgt")

    def _has(self, number: signal.Signals, mask: str) -> bool:
        """Whether a signal is in one of the masks of proc(5)."""
        assert self.process.poll() is None
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        (bits,) = (line.split()[1] for line in status.splitlines() if line[:6] == mask)
        return bool(int(bits, 16) & 1 << number - 1)

    def has_said(self, text: str) -> bool:
        assert self.process.poll() is None
        return self.log_path.exists() and text in self.log_path.read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=ENTRIES)
def start(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Start]:
    host = own_host()
    listeners = "".join(f"  - {{listen: '{host}:{4000 + n}', return: hi}}\n" for n in range(MANY))
    made = Start(tmp_path, ENTRIES[request.param], f"listeners:\n{listeners}")
    yield made
    made.close()


def test_the_entry_holds_what_is_heard_later() -> None:
    assert entry.HELD_SIGNALS == HELD_SIGNALS


@pytest.mark.parametrize("command", [(sys.executable, "bin/nginy"), ENTRIES["installed"]])
def test_signals_are_held_before_anything_that_takes_time(
    tmp_path: pathlib.Path, command: tuple[str, ...]
) -> None:
    """The first of the slow modules tells which signals are blocked by then."""
    status = "open('/proc/self/status').read().split('SigBlk:')[1].split()[0]"
    (tmp_path / "signal.py").write_text(f"import os\nprint({status}, flush=True)\nos._exit(0)\n")
    said = subprocess.check_output(command, cwd=CHECKOUT, env={"PYTHONPATH": str(tmp_path)})
    assert all(int(said, 16) & 1 << number - 1 for number in HELD_SIGNALS)


@pytest.mark.slow
def test_signals_to_reload_and_reopen_wait_for_the_end_of_a_start(start: Start) -> None:
    wait_until(lambda: start.blocks(signal.SIGHUP))
    start.process.send_signal(signal.SIGHUP)
    start.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: start.has_said("configuration reloaded"))
    assert start.has_said("SIGUSR1")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nginy", "installed/nginy"])
def test_a_signal_that_comes_before_python_runs_ends_nothing(
    tmp_path: pathlib.Path, name: str
) -> None:
    """The shell that runs the first lines of the command has done that."""
    host = own_host()
    config = f"listeners: {{listen: '{host}:{free_port(host)}', return: hi}}\n"
    command = ("env", f"PYTHONPATH={CHECKOUT}", str(CHECKOUT / "bin" / name))
    start = Start(tmp_path, command, config)
    try:
        wait_until(lambda: start.ignores(signal.SIGUSR2))
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP):
            start.process.send_signal(number)
        wait_until(lambda: start.hears(signal.SIGHUP) and start.pid_path.exists())
    finally:
        start.close()


@pytest.mark.slow
def test_a_signal_to_quit_ends_a_start_in_good_order(start: Start) -> None:
    wait_until(lambda: start.blocks(signal.SIGQUIT))
    start.process.send_signal(signal.SIGQUIT)
    assert start.process.wait(PATIENCE_S) == 0
    assert not start.pid_path.exists()


@pytest.mark.slow
def test_a_successor_asked_for_during_a_start_comes_after_it(start: Start) -> None:
    wait_until(lambda: start.blocks(signal.SIGUSR2))
    start.process.send_signal(signal.SIGUSR2)
    assert start.process.wait(PATIENCE_S) == 0
    successor = int(start.pid_path.read_text())
    assert successor != start.process.pid
    os.kill(successor, signal.SIGTERM)
    wait_until(lambda: not start.pid_path.exists(), "the end of the successor")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_start_that_waits_for_names_can_be_ended(
    tmp_path: pathlib.Path, workers: int, number: signal.Signals
) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind((own_host(), 0))
        server = "{}:{}".format(*silent.getsockname())
        start = Start(
            tmp_path,
            PROGRAM,
            f"workers: {workers}\nresolver: {{nameservers: ['{server}']}}\n"
            "upstreams: {web: {backends: {address: 'web.test:80', resolve: true}}}\n"
            f"listeners: {{listen: 'unix:{tmp_path}/front', proxy_pass: web}}\n",
        )
        try:
            wait_until(lambda: start.hears(number) and (tmp_path / "front").exists())
            start.process.send_signal(number)
            assert start.process.wait(PATIENCE_S) == 0
        finally:
            start.close()
    assert not (tmp_path / "front").exists()
    assert not start.pid_path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("workers", [1, 2])
def test_it_starts_with_standard_streams_closed(
    tmp_path: pathlib.Path, here: tuple[str, int], workers: int, closed: tuple[int, ...]
) -> None:
    script = f'exec "$@" {" ".join(CLOSING[fd] for fd in closed)}'
    listener = f"listeners: {{listen: '{here[0]}:{here[1]}', return: hello}}"
    with Nginy(
        tmp_path, f"workers: {workers}\n{listener}", prefix=("sh", "-c", script, "sh")
    ) as nginy:
        for fd in closed:
            assert os.readlink(f"/proc/{nginy.process.pid}/fd/{fd}") == "/dev/null"
        with socket.create_connection(here, timeout=PATIENCE_S) as client:
            assert client.recv(100) == b"hello"
            assert client.recv(100) == b""
        nginy.stop()


@pytest.mark.slow
def test_a_start_with_ten_thousand_backends_takes_about_a_second_of_processor_time(
    tmp_path: pathlib.Path,
) -> None:
    host = own_host()
    backends = "\n".join(f"      - 10.0.0.{n}:80" for n in range(1, 11))
    upstreams = "".join(f"  u{n}:\n    backends:\n{backends}\n" for n in range(1000))
    listeners = "".join(
        f"  - {{listen: '{host}:{7000 + n}', proxy_pass: u{n}}}\n" for n in range(1000)
    )
    with Nginy(tmp_path, f"upstreams:\n{upstreams}listeners:\n{listeners}") as nginy:
        fields = pathlib.Path(f"/proc/{nginy.process.pid}/stat").read_text().split(")")[1].split()
        ticks = sum(map(int, fields[11:13]))  # utime and stime of proc(5)
        # Four times as much as on an idle machine: this one may be shared.
        assert ticks / os.sysconf("SC_CLK_TCK") < 3.5


@pytest.mark.parametrize("command", ENTRIES.values(), ids=ENTRIES)
def test_ctrl_c_ends_a_command_without_a_traceback(
    tmp_path: pathlib.Path, command: tuple[str, ...]
) -> None:
    # The process that it asks to reload does not answer.
    waits = "from signal import *; signal(SIGHUP, lambda *_: print(flush=True)); "
    waits += "print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as silent:
        assert silent.stdout is not None
        silent.stdout.readline()
        (tmp_path / "nginy.pid").write_text(f"{silent.pid}\n")
        (tmp_path / "nginy.pid.reload").touch()
        listener = "listeners: {listen: '[::1]:1', return: x}\n"
        (tmp_path / "nginy.yml").write_text(f"pid: nginy.pid\n{listener}")
        with subprocess.Popen(
            [*command, "-s", "reload", str(tmp_path / "nginy.yml")],
            cwd=CHECKOUT,
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
        ) as asking:
            silent.stdout.readline()
            asking.send_signal(signal.SIGINT)
            _, errors = asking.communicate(timeout=PATIENCE_S)
        silent.communicate()
    assert (asking.returncode, errors) == (130, b"")
