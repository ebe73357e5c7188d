"""The exec check: a program of the user's, whose exit status is the answer.

The program gets the backend's address in its environment, no input, and nowhere to write to. Status
0 passes. At the deadline it is killed, with everything it has started, as it leads a process group
of its own.

The one idea: a process is one more descriptor to the loop. The kernel makes it readable when the
process has ended (pidfd_open(2), Linux 5.3), so no signal has to be handled, and nobody waits. Only
so many may run at a time: more would starve the traffic that the checks are for.

The other kinds of checks are in `checks`. Source of the idea: HAProxy, `option external-check`.
"""

import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Final

from nginy.backend.checks.dialog import OUR_ERRORS, PASSED, Ended, OpenChecks, Result
from nginy.event.connection import Connection
from nginy.event.event import Event, ignore
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.text.address import Address

MAX_PROCESSES: Final = 32
"""Programs that run at a time; a check beyond them is left out, and says nothing."""

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Python ignores these two, and what is ignored stays so in a new program.
RESTORED_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)

FILE_ACTIONS: Final = (
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
)


class ProcessConnection(Connection):
    """A child process as the loop sees it: readable once it has ended, and nothing else.

    Of a connection it has what the loop and the selector touch; there is no socket.
    """

    __slots__ = ()

    def __init__(self, loop: Loop, pid: int) -> None:
        """Watch the child `pid`; raises OSError."""
        self.loop = loop
        self.fd = os.pidfd_open(pid)
        self.sockaddr = ""
        self.number = pid
        self.action = "running a check"
        self.data = self.buffer = None
        self.read = Event(self, ignore)
        self.write = Event(self, ignore)
        self.received = self.sent = self.errno = self.registered = 0
        loop.connections += 1
        loop.interest.add(self)

    def close(self, reset: bool = False) -> None:
        """Watch no more; the process goes on, if it has not ended."""
        loop, fd = self.loop, self.fd
        if self.read.timer is not None:
            loop.timers.cancel(self.read.timer)
            self.read.timer = None
        for event in (self.read, self.write):
            event.posted = event.active = False
            event.handler = ignore
            del event.data
        loop.interest.remove(self)
        loop.connections -= 1
        self.data = None
        self.fd = -1
        os.close(fd)


class ProgramCheck:
    """A run of a program. Created by `checks.Checker`; reaps its process itself.

    Its life in `OpenChecks` ends with that of the process, which may come after the result.
    """

    __slots__ = ("_c", "_ended", "_loop", "_open", "_pid")

    def __init__(self, loop: Loop, open_checks: OpenChecks, ended: Ended) -> None:
        self._loop = loop
        self._open = open_checks
        self._ended: Ended | None = ended
        self._c: ProcessConnection | None = None
        self._pid = 0

    def start(self, command: Sequence[str], address: Address, deadline_ms: int) -> None:
        """Run `command`; the owner may be told before this returns."""
        running = sum(isinstance(check, ProgramCheck) for check in self._open)
        if running >= MAX_PROCESSES:
            self._tell(Result(f"{running} programs run already", is_ours=True))
            return
        try:
            self._pid = os.posix_spawn(
                command[0],
                list(command),
                environment(address),
                file_actions=FILE_ACTIONS,
                setpgroup=0,
                setsigmask=(),
                setsigdef=RESTORED_SIGNALS,
            )
        except OSError as error:
            self._tell(Result(f"{command[0]}: {error.strerror}", error.errno in OUR_ERRORS))
            return
        try:
            c = self._c = ProcessConnection(self._loop, self._pid)
        except OSError as error:
            self._kill()
            os.waitpid(self._pid, 0)
            self._tell(Result(f"pidfd_open() failed ({error.strerror})", is_ours=True))
            return
        self._open.add(self)
        c.data = self
        c.read.handler = self._exit_handler
        c.read.timer = Timer(self._deadline_handler, self)
        self._loop.timers.start(c.read.timer, deadline_ms)
        c.resume_read()

    def _exit_handler(self, _event: Event) -> None:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            return
        self._forget()
        code = os.waitstatus_to_exitcode(status)
        if not code:
            self._tell(PASSED)
        elif code > 0:
            self._tell(Result(f"exit status {code}"))
        else:
            self._tell(Result(f"killed by signal {-code}"))

    def _deadline_handler(self, _timer: Timer) -> None:
        """Kill the program; the handler of its exit reaps it, but nobody waits for that."""
        self._kill()
        self._tell(Result("the program did not end in time"))

    def _kill(self) -> None:
        # The group is there as long as its leader has not been reaped, even if it has ended.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)

    def _tell(self, result: Result) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(result)

    def _forget(self) -> None:
        self._open.discard(self)
        c, self._c = self._c, None
        if c is not None:
            c.close()

    def cancel(self) -> None:
        """Kill the program; the owner is not told, and the process is reaped when it has ended."""
        self._ended = None
        if self._c is not None:
            self._kill()

    def close(self) -> None:
        """Kill the program and let go of it; whoever inherits it, as we end, reaps it."""
        if self._c is not None:
            self._kill()
            os.waitpid(self._pid, os.WNOHANG)
        self._ended = None
        self._forget()

    def abort(self) -> None:
        """Give up after a bug in a handler; the backend has neither passed nor failed."""
        ended = self._ended
        self.close()
        if ended is not None:
            ended(Result("internal error", is_ours=True))


def environment(address: Address) -> dict[str, str]:
    """Return what a program is told: PATH, and the backend's address, whole and in its parts."""
    return {
        "PATH": os.environ.get("PATH", DEFAULT_PATH),
        "NGINY_ADDRESS": str(address),
        "NGINY_HOST": address.path if address.is_unix else address.host,
        "NGINY_PORT": "" if address.is_unix else str(address.port),
    }
