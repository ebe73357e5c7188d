"""Reading a configuration while the loop goes on, for a reload under load.

Reading and checking a file of 1,000 backends takes 50 ms (CPython 3.11), and nothing can cut it
into slices. So a child process does it, and finds the differences from the configuration that runs.
A fork is enough: it has no start-up, and needs nothing but the path. It sends the result back over
a socket and ends. The loop unpacks the result, a piece in each turn.

The child keeps no descriptor of its parent's open (event/child.py). If the system has no room for a
child, or the child dies, the loop reads the file itself, and blocks for once.

`control.py` decides what to do with the result; `load.py` and `dump.py` do the reading.
"""

import contextlib
import io
import os
import pickle
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from nginy.commands.plan import reloadable
from nginy.config.dump import dump
from nginy.config.load import load
from nginy.config.parcel import read_parcel, write_parcel
from nginy.config.schema import Config
from nginy.errors import ConfigError, Problem
from nginy.event.child import Child, fork, keep_only
from nginy.event.connection import AGAIN, Connection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.process.collector import pause_collector
from nginy.process.gradual import Gradual, Steps
from nginy.process.report import Difference, difference, monotonic_ms


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The result of reading: a configuration to change to, or what is wrong with the file."""

    config: Config | None
    """What the file says, except what needs a restart."""
    text: str = ""
    """The configuration as `nginy -T` shows it."""
    difference: Difference | None = None
    problems: tuple[Problem, ...] = ()


def read(path: str, environ: Mapping[str, str], running: Config) -> ReadResult:
    """Read the file `path` and all it includes, here and now."""
    try:
        wanted = load(path, environ)
    except ConfigError as error:
        return ReadResult(None, problems=error.problems)
    config = reloadable(running, wanted)
    return ReadResult(config, dump(config), difference(running, wanted))


def pack(result: ReadResult) -> bytes:
    """Return a result as bytes."""
    file = io.BytesIO()
    pickle.dump(replace(result, config=None), file, pickle.HIGHEST_PROTOCOL)
    if result.config is not None:
        write_parcel(result.config, file)
    return file.getvalue()


def unpack(data: bytes) -> Steps[ReadResult]:
    """Return what `pack` was given, a piece at a time.

    Raises EOFError or pickle.UnpicklingError if the data is not whole.
    """
    file = io.BytesIO(data)
    result: ReadResult = pickle.load(file)
    if result.problems:
        return result
    yield
    config = yield from read_parcel(file)
    return replace(result, config=config)


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
        "_running",
        "_unpacking",
        "began_ms",
    )

    def __init__(
        self,
        loop: Loop,
        path: str,
        environ: Mapping[str, str],
        running: Callable[[], Config],
        finished: Callable[[ReadResult], None],
    ) -> None:
        """Call `finished`, in a turn of `loop`, with the result of each `start`.

        `running` returns the configuration that runs.
        """
        self._loop = loop
        self._path = path
        self._environ = environ
        self._running = running
        self._finished = finished
        self._unpacking = Gradual(loop, self)
        self._child: Child | None = None
        self._connection: Connection | None = None
        self._data = bytearray()
        self._is_outdated = False
        self.began_ms = 0
        """When the last reading began (`report.monotonic_ms`)."""

    def start(self) -> None:
        """Begin to read; if a reading is under way, read once more after it, since the file may
        have changed.
        """
        if self._connection is not None:
            self._is_outdated = True
            return
        self._is_outdated = False
        self._unpacking.close()
        self.began_ms = monotonic_ms()
        try:
            ours, theirs = socket.socketpair()
        except OSError:  # no descriptor left
            self._unpacking.start(self._read_here())
            return
        with theirs:
            try:
                pid = fork(partial(self._send_result, theirs))
            except OSError:
                ours.close()
                self._unpacking.start(self._read_here())
                return
        self._child = Child(self._loop, pid, self._child_ended)
        ours.setblocking(False)
        c = self._connection = Connection(self._loop, ours, "")
        c.data = self
        c.action = "reading the configuration"
        c.read.handler = self._read_handler
        c.resume_read()

    @property
    def is_reading(self) -> bool:
        """Whether a reading is under way."""
        return self._connection is not None

    def close(self) -> None:
        """Abandon a reading that is under way."""
        self._unpacking.close()
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
        """Close the descriptors: in a fork of the process that reads."""
        if self._connection is not None:
            self._connection.close()
        if self._child is not None:
            self._child.close()

    def abort(self) -> None:
        """Go on without the result, after a bug in the use of it."""
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
            self._unpacking.start(self._unpack(bytes(data)))

    def _unpack(self, data: bytes) -> Steps[None]:
        """Hand over what the child has sent; if that is not whole, read here."""
        pause_collector()  # control.py resumes it
        try:
            result = yield from unpack(data)
        except (pickle.UnpicklingError, EOFError):
            result = self._read()
        yield  # using the result takes time as well
        self._finished(result)

    def _read_here(self) -> Steps[None]:
        self._finished(self._read())
        yield

    def _read(self) -> ReadResult:
        return read(self._path, self._environ, self._running())

    def _send_result(self, sock: socket.socket) -> int:
        """Read, and send the result: in the child."""
        keep_only(sock.fileno())
        sock.sendall(pack(self._read()))
        return 0
