"""nginy started by a fork of a process that has imported it, which saves most of a start's time.

A start takes a fifth of a second of a processor, nearly all of it for imports, and the tests of the
running program make some six hundred. So a test run has one more process, the starter, which
becomes nginy as often as it is told to. It is the parent of its forks, so it must say how each has
ended.

Not here: what the starter does (`kit/forking.py`), and which tests start nginy in this way
(tests/run/conftest.py).
"""

import functools
import json
import os
import pathlib
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

from kit.share import AT_END

STARTER = pathlib.Path(__file__).with_name("forking.py")
MESSAGE_BYTES = 4096
COMMAND_LINE_BYTES = 4096
"""Room for the command line of a fork, which others read in /proc."""


class Forked:
    """A process as `subprocess.Popen` has it: nginy, forked from the starter."""

    def __init__(
        self, arguments: Sequence[str], environ: Mapping[str, str], stdout: int, stderr: int
    ) -> None:
        """Start nginy with these arguments; `stderr` may be `subprocess.PIPE`."""
        self.stderr = None
        self.returncode: int | None = None
        self._starter = starter(tuple(environ.items()))
        if stderr == subprocess.PIPE:
            reading, stderr = os.pipe()
            self.stderr = os.fdopen(reading, "rb", buffering=0)
        try:
            self.pid = self._starter.start(arguments, (0, stdout, stderr))
        finally:
            if self.stderr is not None:
                os.close(stderr)
        self._end = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """Return the exit status if the process has ended."""
        return self._look(0)

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end of the process and return its exit status."""
        status = self._look(None if timeout_s is None else timeout_s * 1000)
        if status is None:
            raise subprocess.TimeoutExpired("nginy", timeout_s or 0)
        return status

    def _look(self, timeout_ms: float | None) -> int | None:
        if self.returncode is None:
            waiting = select.poll()
            waiting.register(self._end, select.POLLIN)
            if waiting.poll(timeout_ms):
                os.close(self._end)
                self.returncode = self._starter.status_of(self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)


class Starter:
    """The process that forks, as the tests see it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(STARTER), str(theirs.fileno()), " " * COMMAND_LINE_BYTES],
                pass_fds=[theirs.fileno()],
                cwd="/",
                env=environ,
            )

    def start(self, arguments: Sequence[str], fds: Sequence[int]) -> int:
        """Start nginy with these as its standard streams; return its process id."""
        # What a test has set for itself, and would be inherited.
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        socket.send_fds(self._link, [json.dumps([arguments, limits]).encode()], fds)
        return int(self._link.recv(MESSAGE_BYTES))

    def status_of(self, pid: int) -> int:
        """Return the exit status of a process that has ended."""
        self._link.send(json.dumps(pid).encode())
        return int(self._link.recv(MESSAGE_BYTES))

    def close(self) -> None:
        """End the starter."""
        self._link.close()
        self._process.wait()


@functools.cache
def starter(environ: tuple[tuple[str, str], ...]) -> Starter:
    """Return the starter of this process."""
    made = Starter(dict(environ))
    AT_END.append(made.close)
    return made
