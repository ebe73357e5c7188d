"""bin/nginy as a process of its own, as its users run it: started, listened to, signalled, ended.

    with Nginy(tmp_path, f"listeners: {{listen: {host}:{port}, return: hello}}") as nginy:
        ...
        assert nginy.session()["termination"] == "--"
        nginy.stop()

Nothing here waits for a length of time: `said` and `sessions` wait for what nginy says, and fail
the test if it does not within `PATIENCE_S`.

Addresses: `own_host` draws one of 127.0.0.0/8, where nobody else is likely to be, and `free_port` a
port that the kernel gives nobody by itself, so it stays free until nginy binds it.
"""

import contextlib
import itertools
import json
import os
import pathlib
import random
import re
import resource
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from nginy import __file__ as package_file
from nginy.cli import main
from nginy.errors import NginyError
from nginy.process.pidfile import read_running

from kit.starter import Forked
from kit.waiting import comes_true

CHECKOUT = pathlib.Path(package_file).parent.parent
PROGRAM = tuple(shlex.split(os.environ.get("NGINY_PROGRAM", ""))) or (
    sys.executable,
    str(CHECKOUT / "bin" / "nginy"),
)
"""What the tests start. With NGINY_PROGRAM, a command line, they try another build of nginy."""
PATIENCE_S = 25.0
# With this variable in it, each start would compile all of nginy anew: a tenth of a second.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"))

IS_FORKED = False
"""Whether nginy is started by a fork of a process that has imported it (`kit.starter`)."""

GIVEN: set[tuple[object, ...]] = set()
"""The ports that `free_port` has given."""
RANDOM = random.SystemRandom()

Fields = dict[str, str | int | float]
"""One line of the ready-made access log format `json`."""


def own_host() -> str:
    """Return an address of this machine that nobody else is likely to use."""
    number = RANDOM.randrange(1 << 16, 1 << 24)
    return socket.inet_ntoa((127 << 24 | number & ~1 | 2).to_bytes(4, "big"))


def unchosen_ports(first: int, last: int) -> Sequence[int]:
    """Return ports that the kernel gives nobody who leaves the choice to it, from `first` to
    `last`; 0, which leaves it to the kernel, if these are nearly all.
    """
    ports = max(range(10_000, first), range(last + 1, 65_536), key=len)
    return ports if len(ports) >= PORTS_MIN else (0,)


PORTS_MIN = 2000
"""More than all tests together need at one address."""
PORTS = unchosen_ports(
    *map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
)


def open_paths(pid: int) -> list[str]:
    """Return what the descriptors of a process lead to; one may be closed while one looks."""
    paths = []
    for each in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            paths.append(os.readlink(each))
    return paths


def free_port(host: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port of `host` that nobody uses, and another one each time.

    The kernel would not choose it, so no server of the test that binds port 0, and no client, gets
    it before nginy does: that happened once in some 20 runs of all tests.
    """
    while True:
        with contextlib.suppress(OSError), socket.socket(type=kind) as sock:
            sock.bind((host, RANDOM.choice(PORTS)))
            place = (*sock.getsockname(), kind)
            if place not in GIVEN:
                GIVEN.add(place)
                return int(place[1])


def needs(program: str, package: str) -> str:
    """Return the path of a program; without it the test is skipped, naming Debian's package."""
    path = shutil.which(program, path=SYSTEM_PATH)
    if path is None:
        pytest.skip(f"{program} is not installed (Debian package {package})")
    return path


def wait_until(condition: Callable[[], object], waiting_for: str = "") -> None:
    """Return as soon as `condition()` is true; fail the test if it is not within `PATIENCE_S`."""
    came = comes_true(condition, PATIENCE_S)
    assert came, f"waited in vain for {waiting_for or condition}"


def run_once(*arguments: str, prefix: Sequence[str] = ()) -> tuple[int, str, list[str]]:
    """Run bin/nginy until it ends; return status, standard output, and the lines of errors.

    `prefix` is the beginning of a command line that starts it.
    """
    if IS_FORKED and not prefix:
        return run_forked(arguments)
    done = subprocess.run(
        [*prefix, *PROGRAM, *arguments],
        cwd="/",
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.splitlines()


def run_forked(arguments: Sequence[str]) -> tuple[int, str, list[str]]:
    """Do the same with a fork of the starter."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = Forked(arguments, ENVIRONMENT, out.fileno(), errors.fileno())
        try:
            status = process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        errors.seek(0)
        return status, out.read().decode(), errors.read().decode().splitlines()


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, list[str]]:
    """Return the same for a command line that asks a running nginy, carried out in this process.

    A start takes a fifth of a second, too long for one mistake out of many.
    """
    status = main(arguments)
    printed = capsys.readouterr()
    return status, printed.out, printed.err.splitlines()


@contextlib.contextmanager
def ending(pid: int) -> Iterator[None]:
    """Kill the process, a stranger to subprocess, whatever happens to the test."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Nginy:
    """A running bin/nginy. `close` kills it; leaving the `with` block does, too.

    The directory holds nginy.yml, nginy.pid and access.log. What the configuration does not say is
    added: a pid file, which tells when nginy is ready, and an access log in JSON.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        config: str,
        *,
        prefix: Sequence[str] = (),
        program: Sequence[str] = PROGRAM,
        stderr: int = subprocess.PIPE,
    ) -> None:
        """Start nginy and wait until it serves; `prefix` is a command line that starts it.

        Only the very `PROGRAM`, without a prefix, may be forked.
        """
        self.path = directory / "nginy.yml"
        self.pid_path = directory / "nginy.pid"
        self.access_path = directory / "access.log"
        self.write(config)
        self.process: subprocess.Popen[bytes] | Forked
        if IS_FORKED and not prefix and program is PROGRAM:
            self.process = Forked([str(self.path)], ENVIRONMENT, 1, stderr)
        else:
            command = [*prefix, *program, str(self.path)]
            self.process = subprocess.Popen(command, cwd="/", env=ENVIRONMENT, stderr=stderr)
        self._poll = select.poll()
        self._errors = b""
        self._is_silent = self.process.stderr is None
        if self.process.stderr is not None:
            self._poll.register(self.process.stderr, select.POLLIN)
        try:
            wait_until(self._is_ready, "nginy to be ready")
            self._idle_sockets = self.sockets()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Nginy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, config: str) -> None:
        """Write the configuration file anew."""
        text = f"pid: {self.pid_path.name}\n{textwrap.dedent(config)}"
        if not re.search("^access_log:", text, re.MULTILINE):
            text = f"access_log: {{path: {self.access_path.name}, format: json}}\n{text}"
        self.path.write_text(text)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"nginy has ended:\n{self.errors}"
        # The second file, which this reads, is the last that a start opens, and stays open: from
        # here on the number of descriptors tells something.
        with contextlib.suppress(NginyError):
            return bool(read_running(str(self.pid_path)))
        return False

    # What nginy says.

    @property
    def errors(self) -> list[str]:
        """The lines of the error log so far."""
        while self._read(0):
            pass
        return self._errors.decode().splitlines()

    def said(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until `count` lines of the error log have a match of `pattern`; return them."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            lines = [line for line in self.errors if re.search(pattern, line)]
            if len(lines) >= count:
                return lines
            may_come = time.monotonic() < deadline_s and not self._is_silent
            assert may_come, f"nothing like {pattern!r} in {self.errors}"
            self._read(PATIENCE_S)

    def _read(self, timeout_s: float) -> bool:
        """Take what nginy has written to standard error; return whether there was any."""
        if self._is_silent or self.process.stderr is None or not self._poll.poll(timeout_s * 1000):
            return False
        data = os.read(self.process.stderr.fileno(), 65536)
        self._errors += data
        self._is_silent = not data
        return not self._is_silent

    def sessions(self, count: int) -> list[Fields]:
        """Wait until `count` sessions have ended; return them, read from the access log."""
        wait_until(lambda: len(self.access_lines()) >= count, f"{count} lines in the access log")
        lines = self.access_lines()
        assert len(lines) == count, lines
        return [json.loads(line) for line in lines]

    def session(self) -> Fields:
        """Wait until a session, the only one so far, has ended, and return it."""
        (fields,) = self.sessions(1)
        return fields

    def access_lines(self) -> list[str]:
        """The complete lines of the access log."""
        text = self.access_path.read_text() if self.access_path.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    # What the system knows.

    @property
    def pid(self) -> int:
        """The number of the process."""
        return int(self.pid_path.read_text())

    def descriptors(self) -> int:
        """How many descriptors nginy has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def wait_idle(self) -> None:
        """Wait until there is no session any more."""
        wait_until(lambda: self.sockets() == self._idle_sockets, "the end of all sessions")

    def sockets(self) -> int:
        """How many sockets nginy has open."""
        return sum(path.startswith("socket:") for path in open_paths(self.process.pid))

    def limit(self, what: int, soft: int) -> None:
        """Change a soft limit (setrlimit(2)) of the running process."""
        _, hard = resource.prlimit(self.process.pid, what)
        resource.prlimit(self.process.pid, what, (soft, hard))

    def allow_descriptors(self, more: int) -> None:
        """Let nginy open this many descriptors beside those it has, and not one more."""
        taken = set(os.listdir(f"/proc/{self.process.pid}/fd"))
        free = (number for number in itertools.count() if str(number) not in taken)
        self.limit(resource.RLIMIT_NOFILE, next(itertools.islice(free, more, None)))

    # The end.

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> list[str]:
        """Send a signal, wait for the end, which must be a success, and return the error log."""
        self.send_signal(number)
        errors = self.wait()
        assert self.process.returncode == 0, errors
        return errors

    def wait(self) -> list[str]:
        """Wait for the end and return the lines of the error log; no bug may be among them."""
        while self._read(PATIENCE_S):
            pass
        self.process.wait(PATIENCE_S)
        assert not [line for line in self.errors if "Traceback" in line], self.errors
        return self.errors

    def close(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            while self._read(0):
                pass
            self.process.stderr.close()
            self._is_silent = True
