"""The exec check: it runs a program of the user's, and the exit status is the answer.

The program gets the backend's address in its environment, no input, and nowhere to write to. Status
0 passes. The program leads a process group, and the deadline kills all of it.

`event/child.py` watches the child process, so the loop never waits for it. Only a few may run at a
time: more would starve the traffic that the checks are for. If the program cannot start, that is
our error, and says nothing about the backend.

`checker` has the other kinds of checks. Source of the idea: HAProxy, `option external-check`.

Tested in tests/backend/checks/test_checker_live.py.
"""

import os
import signal
from collections.abc import Sequence
from typing import Final

from nginy.backend.checks.dialog import PASSED, Ended, Result
from nginy.backend.checks.open_checks import OpenChecks
from nginy.event.child import Child
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.text.address import Address

MAX_PROCESSES: Final = 32
"""How many programs may run at a time; a check beyond them is skipped, and says nothing."""

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Python ignores these two signals, and a new program would inherit that.
RESTORED_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)

FILE_ACTIONS: Final = (
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
)


class ProgramCheck:
    """One run of a program. Created by `Checker`; reaps its process itself.

    It stays in `OpenChecks` until the process has ended, which may be after the result.
    """

    __slots__ = ("_child", "_ended", "_loop", "_open", "_timer")

    def __init__(self, loop: Loop, open_checks: OpenChecks, ended: Ended) -> None:
        self._loop = loop
        self._open = open_checks
        self._ended: Ended | None = ended
        self._child: Child | None = None
        self._timer: Timer | None = None

    def start(
        self, command: Sequence[str], address: Address, deadline_ms: int, name: str = ""
    ) -> None:
        """Run `command` for the backend `name`; `ended` may come before this returns."""
        running = sum(isinstance(check, ProgramCheck) for check in self._open)
        if running >= MAX_PROCESSES:
            self._tell(Result(f"{running} programs are already running", is_ours=True))
            return
        try:
            pid = os.posix_spawn(
                command[0],
                list(command),
                environment(address, name or str(address)),
                file_actions=FILE_ACTIONS,
                setpgroup=0,
                setsigmask=(),
                setsigdef=RESTORED_SIGNALS,
            )
        except OSError as error:
            # It is not there, or nginy may not run it: no backend is to blame.
            self._tell(Result(f"cannot run {command[0]}: {error.strerror}", is_ours=True))
            return
        self._child = Child(self._loop, pid, self._process_ended)
        self._open.add(self)
        self._timer = Timer(self._deadline_handler, self)
        self._loop.timers.start(self._timer, deadline_ms)

    def _process_ended(self, code: int) -> None:
        self._child = None
        self._forget()
        if not code:
            self._tell(PASSED)
        elif code > 0:
            self._tell(Result(f"exit status {code}"))
        else:
            self._tell(Result(f"killed by signal {-code}"))

    def _deadline_handler(self, _timer: Timer) -> None:
        """Kill the program, and tell the owner without waiting until it has ended."""
        self._kill()
        self._tell(Result("the program did not end in time"))

    def _kill(self) -> None:
        # The group exists until its leader is reaped, even if that has ended.
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL, to_group=True)

    def _tell(self, result: Result) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(result)

    def _forget(self) -> None:
        self._open.discard(self)
        if self._timer is not None:
            self._loop.timers.cancel(self._timer)
            # Each refers to the other, which only the cyclic garbage collector could undo.
            self._timer = None
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def cancel(self) -> None:
        """Kill the program without telling the owner; the loop reaps it."""
        self._ended = None
        self._kill()

    def close(self) -> None:
        """Kill the program and forget it; process 1 reaps it as we end."""
        self._ended = None
        self._kill()
        self._forget()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "check by a program"

    def abort(self) -> None:
        """Give up after a bug in a handler; the backend has neither passed nor failed."""
        ended = self._ended
        self.close()
        if ended is not None:
            ended(Result("internal error", is_ours=True))


def environment(address: Address, name: str) -> dict[str, str]:
    """Return the environment of a program.

    This is PATH, the backend as the configuration names it, and its address, whole and in parts.
    """
    return {
        "PATH": os.environ.get("PATH", DEFAULT_PATH),
        "NGINY_NAME": name,
        "NGINY_ADDRESS": str(address),
        "NGINY_HOST": address.path if address.is_unix else address.host,
        "NGINY_PORT": "" if address.is_unix else str(address.port),
    }
