"""Reads a configuration while the loop goes on, for a reload under load.

Reading and checking a file of 1,000 backends takes 50 ms (CPython 3.11), and cannot be cut into
slices. So a child process does it. It is forked, as it needs no start-up and nothing but the path;
it sends the result back over a socket and ends. Unpacking the result costs the loop 20 ms, and a
turn of its own.

The child keeps no descriptor of its parent's open (event/child.py). Where the system has no room
for a child, or the child dies, the loop reads the file itself, and for once it waits.

`control.py` decides what to do with the result; `load.py` and `dump.py` do the reading.
"""

import contextlib
import os
import pickle
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from nginy.config.dump import dump
from nginy.config.load import load
from nginy.config.schema import Config
from nginy.errors import ConfigError, Problem
from nginy.event.child import Child, fork, keep_only
from nginy.event.connection import AGAIN, Connection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.process.report import monotonic_ms


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What came of reading: a configuration with its text, or what is wrong with it."""

    config: Config | None
    text: str = ""
    """The configuration as `nginy -T` shows it."""
    problems: tuple[Problem, ...] = ()


def read(path: str, environ: Mapping[str, str]) -> ReadResult:
    """Read the file `path` and all it includes, here and now."""
    try:
        config = load(path, environ)
    except ConfigError as error:
        return ReadResult(None, problems=error.problems)
    return ReadResult(config, dump(config))


class ConfigReader:
    """Reads one file again and again. Created and closed by the server."""

    __slots__ = (
        "_child",
        "_connection",
        "_data",
        "_environ",
        "_finished",
        "_is_outdated",
        "_loop",
        "_path",
        "_result",
        "began_ms",
    )

    def __init__(
        self,
        loop: Loop,
        path: str,
        environ: Mapping[str, str],
        finished: Callable[[ReadResult], None],
    ) -> None:
        """Have `finished` called, in a turn of `loop`, with the result of each `start`."""
        self._loop = loop
        self._path = path
        self._environ = environ
        self._finished = finished
        self._child: Child | None = None
        self._connection: Connection | None = None
        self._data = bytearray()
        self._is_outdated = False
        self._result: ReadResult | None = None
        self.began_ms = 0
        """When the last reading began (`report.monotonic_ms`)."""

    def start(self) -> None:
        """Begin to read; if that is under way, read once more after it, for the file may differ."""
        if self._connection is not None:
            self._is_outdated = True
            return
        self._is_outdated = False
        self._result = None
        self.began_ms = monotonic_ms()
        try:
            ours, theirs = socket.socketpair()
        except OSError:  # no descriptor left
            self._finish_soon(read(self._path, self._environ))
            return
        with theirs:
            try:
                pid = fork(partial(_send_result, theirs, self._path, self._environ))
            except OSError:
                ours.close()
                self._finish_soon(read(self._path, self._environ))
                return
        self._child = Child(self._loop, pid, self._child_ended)
        ours.setblocking(False)
        c = self._connection = Connection(self._loop, ours, "")
        c.data = self
        c.action = "reading the configuration"
        c.read.handler = self._read_handler
        c.resume_read()

    def close(self) -> None:
        """Give up a reading that is under way."""
        self._result = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child.pid, 0)
            self._child.close()
            self._child = None

    def leave(self) -> None:
        """Let go of the descriptors: in a fork of the process that reads."""
        if self._connection is not None:
            self._connection.close()
        if self._child is not None:
            self._child.close()

    def abort(self) -> None:
        """Go on without the result, after a bug in what was done with it."""
        self.close()

    def _read_handler(self, _event: Event) -> None:
        c = self._connection
        if c is not None:
            while (count := c.recv(self._loop.memory)) > 0:
                self._data += self._loop.memory[:count]
            if count != AGAIN:
                c.close()

    def _child_ended(self, _code: int) -> None:
        c, self._child = self._connection, None
        if c is None:
            return
        if c.fd >= 0:
            self._read_handler(c.read)
            c.close()
        self._connection = None
        data, self._data = self._data, bytearray()
        if self._is_outdated:
            self.start()
        else:
            self._finish_soon(self._decode(data))

    def _finish_soon(self, result: ReadResult) -> None:
        """Hand the result over soon: what is done with it takes time as well."""
        self._result = result
        self._loop.soon(self._finish, self)

    def _finish(self) -> None:
        result, self._result = self._result, None
        if result is not None:
            self._finished(result)

    def _decode(self, data: bytearray) -> ReadResult:
        """Return what the child has sent; where it has not come to an end, read here."""
        with contextlib.suppress(pickle.UnpicklingError, EOFError):
            result = pickle.loads(data)
            if isinstance(result, ReadResult):
                return result
        return read(self._path, self._environ)


def _send_result(sock: socket.socket, path: str, environ: Mapping[str, str]) -> int:
    """Send what comes of reading: for the child."""
    keep_only(sock.fileno())
    sock.sendall(pickle.dumps(read(path, environ), pickle.HIGHEST_PROTOCOL))
    return 0
