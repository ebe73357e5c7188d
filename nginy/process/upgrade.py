"""What USR2 begins: another nginy program takes over, and no client notices.

The running process starts the program again, from the same command line, and leaves it copies of
its listening sockets: their numbers are in the variable NGINY, as "5;6;7;". From then on both
accept. To go on with the new process, send QUIT to the old one, whose id is in PATH.oldbin by now;
its sessions finish there. To go back, send QUIT to the new one. If the new process ends first, the
old one takes its pid file's name back, and all is as before.

nginx: `ngx_exec_new_binary` in `nginx.c`, `ngx_execute_proc`, `ngx_add_inherited_sockets`.

Tested in tests/run/test_upgrade.py.
"""

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from nginy.event.child import Child
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.event.signals import HELD_SIGNALS
from nginy.log.levels import NOTICE
from nginy.process.pidfile import PidFile

logger = logging.getLogger("nginy.server")

VARIABLE: Final = "NGINY"
OLD_SUFFIX: Final = ".oldbin"


def handed_descriptors(environ: MutableMapping[str, str]) -> list[int]:
    """Return the descriptors that the process before us has left, and remove the variable."""
    texts = environ.pop(VARIABLE, "").split(";")
    return [int(text) for text in texts if text.isdecimal()]


class Upgrade:
    """The successor of this process, if there is one. Created and closed by the server."""

    __slots__ = ("_listeners", "_loop", "_pid_file", "_successor")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._successor: Child | None = None
        self._pid_file: PidFile | None = None
        self._listeners: list[Listener] = []

    @property
    def has_successor(self) -> bool:
        """Whether another process has copies of the listening sockets."""
        return self._successor is not None

    def start(
        self, listeners: Sequence[Listener], pid_file: PidFile | None, environ: Mapping[str, str]
    ) -> None:
        """Start the successor, or say why not and go on as before."""
        if self._successor is not None:
            logger.error("process %d is already taking over", self._successor.pid)
            return
        try:
            if pid_file is not None:
                pid_file.rename(f"{pid_file.path}{OLD_SUFFIX}")
            self._pid_file = pid_file
            pid = _spawn([listener.socket.fileno() for listener in listeners], environ)
        except OSError as error:
            logger.critical("new program not started (%s: %s)", error.errno, error.strerror)
            self._undo()
            return
        # The paths of unix sockets are the successor's from now on.
        self._listeners = [each for each in listeners if not each.is_inherited]
        for listener in self._listeners:
            listener.is_inherited = True
        self._successor = Child(self._loop, pid, self._ended)
        logger.log(NOTICE, "process %d is taking over", pid)

    def close(self) -> None:
        """Let the successor go its own way."""
        if self._successor is not None:
            self._successor.close()
            self._successor = None

    def _ended(self, _code: int) -> None:
        successor, self._successor = self._successor, None
        if successor is not None:
            logger.error("process %d has ended, so this one goes on", successor.pid)
            self._undo()

    def _undo(self) -> None:
        for listener in self._listeners:
            listener.is_inherited = False
        self._listeners = []
        if self._pid_file is not None and self._pid_file.path.endswith(OLD_SUFFIX):
            try:
                self._pid_file.rename(self._pid_file.path.removesuffix(OLD_SUFFIX))
            except OSError as error:
                logger.critical("rename() failed (%s: %s)", error.errno, error.strerror)
        self._pid_file = None


def _spawn(fds: Sequence[int], environ: Mapping[str, str]) -> int:
    """Start this program anew with `fds`; return its process id, raise OSError."""
    variables = {**environ, VARIABLE: "".join(f"{fd};" for fd in fds)}
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            variables,
            setsigmask=HELD_SIGNALS,
        )
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)
