"""Child processes that cannot outlive the benchmark, and what the system knows about them.

A `ProcessGroup` is one program with everything it forks: nginx's workers die with their master.
Each is a session of its own, so that the terminal's Ctrl-C reaches the benchmark alone, and three
things end it: leaving the `with` block, whatever raised; for a benchmark that is killed outright,
the kernel's parent-death signal; and SIGKILL for what ignores the rest.

CPU time is not read here but by the generator, at the instant it counts operations (load.c).
What runs in the groups is in contenders.py and generator.py. Linux only, by /proc.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from kit.waiting import comes_true

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER: Final = 36
END_TIMEOUT_S: Final = 5.0


class ProcessGroup:
    """A running program and its children, in a session and process group of their own.

    `cpus` is the set it is pinned to. Standard output and error go to `log`; with `is_piped`
    standard input and output are pipes instead, `process.stdin` and `process.stdout`.
    Raises OSError if the program cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        cpus: set[int],
        log: Path,
        *,
        inherited_fd: int | None = None,
        is_piped: bool = False,
    ) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if is_piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_piped else output,
                stderr=output,
                pass_fds=() if inherited_fd is None else (inherited_fd,),
                start_new_session=True,
                preexec_fn=_bind_to_parent(os.getpid(), cpus),  # noqa: PLW1509, there are no threads
            )

    def __enter__(self) -> "ProcessGroup":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def pids(self) -> list[int]:
        """Return the ids of the session's living processes, zombies left out."""
        return [pid for pid, state, sid in _all_processes() if sid == self.id and state != "Z"]

    @property
    def id(self) -> int:
        """The process group's id, which is also the first process's."""
        return self.process.pid

    def end(self) -> None:
        """Kill the whole group and return when none of it is left. May be called again."""
        # Workers whose master is killed become children of this process, and are reaped here.
        _adopt_orphans(True)
        if self.process.poll() is None or self.pids():
            # the first process is not reaped before the signal, so the id cannot be another's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.id, signal.SIGKILL)
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(END_TIMEOUT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        comes_true(self._is_reaped, END_TIMEOUT_S)
        _adopt_orphans(False)

    def _is_reaped(self) -> bool:
        """Reap what can be reaped. Return whether nothing of the group is left."""
        try:
            while os.waitpid(-self.id, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return not self.pids()
        return False


def _bind_to_parent(parent: int, cpus: set[int]) -> Callable[[], None]:
    """Return what a child does before exec: die with `parent`, stay on `cpus`."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def bind() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before prctl() could know
            os.kill(os.getpid(), signal.SIGKILL)
        os.sched_setaffinity(0, cpus)

    return bind


def _adopt_orphans(is_wanted: bool) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(is_wanted))


def _all_processes() -> list[tuple[int, str, int]]:
    """Return (pid, state, session) of every process. Cost: one small read each."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = Path("/proc", name, "stat").read_text(errors="replace")
        except OSError:  # gone since the listing
            continue
        # proc(5): the name may hold spaces. Not the group: workers may have groups of their own.
        state, _, _, session = stat.rpartition(")")[2].split()[:4]
        found.append((int(name), state, int(session)))
    return found


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the proportional resident memory (Pss) of the processes, shared pages shared out."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def wakeups(pids: Sequence[int]) -> int:
    """Return how often the processes have gone to sleep of their own will since they started."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def cpu_ns(pids: Sequence[int]) -> int:
    """Return the CPU time, user and system, of the processes: their POSIX CPU clocks.

    The clock's number is clock_getcpuclockid(3)'s: ~pid << 3, with CPUCLOCK_SCHED = 2.
    """
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def is_serving_tcp(port: int) -> bool:
    """Tell whether the local `port` takes a connection; it is closed at once."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def is_serving_udp(port: int) -> bool:
    """Tell whether a local IPv4 UDP socket has `port`, without a datagram to find out.

    The table that tells the same of TCP is no good here: after a work it has a line for each of
    many thousand connections in TIME_WAIT.
    """
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") for line in lines)
