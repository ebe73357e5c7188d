"""Child: a child process that the loop watches, to tell its owner once how it ended.

A check's program, the process that reads a configuration, a worker and the successor of this
process are all children, and no call waits for any of them. The kernel makes a descriptor readable
when a process has ended (pidfd_open(2), Linux 5.3), so to the loop it is one more descriptor. If
the kernel lacks that, or has no descriptor left, SIGCHLD takes its place: its handler calls
`reap_children`, which also reaps the orphans that process 1 of a container inherits.

`fork` makes a child that runs our own code. To run a program, use os.posix_spawn.

nginx: `ngx_spawn_process`, `ngx_process_get_status` in `ngx_process.c`.
"""

import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from nginy.event.connection import Connection, ConnectionBase
from nginy.event.event import Event, ignore

if TYPE_CHECKING:
    from nginy.event.loop import Loop

logger = logging.getLogger("nginy.event")

FIRST_DESCRIPTOR: Final = 3
"""After the standard streams."""
CODE_UNKNOWN: Final = 255
"""Exit code of a child whose status another part of the process has taken."""


class Child:
    """One child process. Its owner creates it; it closes itself when the process has ended."""

    __slots__ = ("_connection", "_ended", "_loop", "pid")

    def __init__(self, loop: "Loop", pid: int, ended: Callable[[int], None]) -> None:
        """Watch the child process `pid`, and call `ended` with its exit code, once.

        The code is that of os.waitstatus_to_exitcode: below zero, it is the signal that killed it.
        """
        self.pid = pid
        self._loop = loop
        self._ended = ended
        self._connection: _ProcessConnection | None = None
        loop.children[pid] = self
        with contextlib.suppress(AttributeError, OSError):
            c = self._connection = _ProcessConnection(loop, pid)
            c.data = self
            c.read.handler = self._exit_handler
            c.resume_read()

    def send_signal(self, number: signal.Signals, *, to_group: bool = False) -> None:
        """Send a signal to the process, or to the group that it leads.

        The number cannot belong to another process, as nobody has reaped this one yet.
        """
        if self._loop.children.get(self.pid) is self:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if to_group else os.kill)(self.pid, number)

    def reap(self) -> None:
        """Take the exit status if there is one, and tell the owner."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            self.finish(CODE_UNKNOWN)
        else:
            if pid:
                self.finish(os.waitstatus_to_exitcode(status))

    def finish(self, code: int) -> None:
        """Tell the owner that the process has ended and has been reaped."""
        self.close()
        self._ended(code)

    def close(self) -> None:
        """Watch no more; the process goes on, if it has not ended."""
        if self._loop.children.get(self.pid) is self:
            del self._loop.children[self.pid]
        c, self._connection = self._connection, None
        if c is not None:
            c.close()

    def abort(self) -> None:
        """Watch no more, after a bug in the handling of its end."""
        self.close()

    def _exit_handler(self, _event: Event) -> None:
        self.reap()


class _ProcessConnection(Connection):
    """A process as the loop sees it: readable once it has ended, and nothing else.

    It has the parts of a connection that the loop and the selector touch, but no socket.
    """

    __slots__ = ()

    def __init__(self, loop: "Loop", pid: int) -> None:
        """Open a descriptor of the process; raises OSError."""
        ConnectionBase.__init__(self, loop, os.pidfd_open(pid), "")
        self.number = pid
        self.action = "waiting for a process"
        self.read = Event(self, ignore)
        self.write = Event(self, ignore)
        try:
            loop.interest.add(self)
        except OSError:
            os.close(self.fd)
            raise
        loop.connections += 1

    def close(self, reset: bool = False) -> None:
        """Close the descriptor; the process goes on."""
        if self.fd < 0:
            return
        loop, fd = self.loop, self.fd
        self.read.close(loop.timers)
        self.write.close(loop.timers)
        loop.interest.remove(self)
        loop.connections -= 1
        self.data = None
        self.fd = -1
        os.close(fd)


def reap_children(loop: "Loop") -> None:
    """Take the status of every child that has ended, and tell its owner if it has one."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        child = loop.children.get(pid)
        if child is not None:
            child.finish(os.waitstatus_to_exitcode(status))


def fork(run: Callable[[], int]) -> int:
    """Fork a child that calls `run` and ends with the status that it returns; return its id.

    The child begins with all signals blocked: until it unblocks them, it cannot take one for its
    parent. No clean-up code of the parent's runs in it. Raises OSError if the system refuses a
    child.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if not pid:
            _be_child(run)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _be_child(run: Callable[[], int]) -> NoReturn:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        status = run()
    except BaseException:
        # Whatever happens, this process must not go on as a second parent.
        logger.critical("bug in nginy, child process %d ends", os.getpid(), exc_info=True)
    finally:
        os._exit(status)


def keep_only(fd: int) -> None:
    """Close all descriptors but the standard streams and `fd`, in a child that needs no other.

    An open copy would keep a closed connection from sending its FIN.
    """
    # Collecting the parent's garbage would close descriptors by their old numbers.
    gc.disable()
    os.closerange(FIRST_DESCRIPTOR, fd)
    os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))
