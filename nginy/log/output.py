"""The outputs of logs, each with a `write` that never waits.

Three outputs, all with the contract of `Output`:

- `FileOutput`    a path: a regular file, a FIFO, a device;
- `SharedOutput`  standard error or output, whose open file description others use as well;
  `JournalOutput` where systemd's journal reads it;
- `SyslogOutput`  datagrams in the form of RFC 3164, over UDP or a unix socket.

`file.LogFile` keeps lines that wait, and counts those that are lost.

The one idea: the way not to wait depends on the file behind the descriptor.
- A regular file takes a plain write, as in nginx: it ends in the page cache. RWF_NOWAIT would not
  help: ext4 and tmpfs refuse it for writes that grow a file (EOPNOTSUPP), and file systems that
  know it may answer EAGAIN for as long as they like.
- A FIFO, a terminal or a socket of our own is O_NONBLOCK.
- O_NONBLOCK belongs to the open file description, not to the descriptor. On an inherited standard
  error it would change the terminal of the shell and the pipe of other processes. So nginy writes
  there with RWF_NOWAIT or, where the kernel refuses that, after poll() has found room.

Source: nginx ngx_log.c, ngx_syslog.c; libuv src/unix/tty.c uv_tty_init for terminals.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import select
import socket
import stat
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from nginy.text.times import TimeText

PIPE_BUF: Final = select.PIPE_BUF
"""A pipe takes this many bytes whole or not at all, so that writers do not interleave (4096)."""

FILE_CHUNK_BYTES: Final = 65536
"""The longest write to a file: it takes some 20 µs of the loop's time."""

SYSLOG_LINE_BYTES: Final = 8192
"""The longest syslog message, the usual receiver's limit (rsyslog's $MaxMessageSize)."""

RWF_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)
"""Linux; pipes and sockets know it, terminals and devices do not."""

STANDARD_STREAMS: Final = {"stdout": 1, "stderr": 2}

LOG_MODE: Final = 0o644  # nginx NGX_FILE_DEFAULT_ACCESS

_FACILITY: Final = 23  # local7, nginx's default
_SYSLOG_PORT: Final = 514
_HOST_PORT: Final = re.compile(r"(?:\[(?P<v6>[^]]*)\]|(?P<v4>[0-9.]*))(?::(?P<port>[0-9]{1,5}))?")


class Output(Protocol):
    """The end of a log: takes bytes now or says that it cannot. Its `LogFile` closes it."""

    chunk_bytes: int
    """How many bytes one `write` should be given at most."""

    def frame(self, line: bytes, severity: int) -> bytes:
        """Return `line` (one or more, each ended by a newline) as this output carries it.

        `severity` is syslog's: 0 is emerg, 7 debug.
        """

    def write(self, chunk: bytes | bytearray) -> int:
        """Write as much of `chunk` as possible without waiting. Returns how many bytes were taken;
        0 means none fits now. Raises `DatagramReturnedError`, or another OSError when nothing was
        taken and waiting does not help. After EPIPE the next reader has not seen the beginning of
        the line; after EMSGSIZE the first line can never leave.
        """

    def reopen(self) -> bool:
        """Open the destination again; return whether it may now be another one.

        Raises OSError and keeps the old one open when the new one cannot be opened.
        """

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""


class DatagramReturnedError(OSError):
    """The host has refused an earlier datagram; nothing of this chunk was sent yet."""


def open_output(path: str, now_s: Callable[[], float]) -> Output:
    """Open the output that `path` names: ``stderr``, ``stdout``, ``syslog:…`` or a path.

    Raises OSError when a file cannot be opened, ValueError for a malformed syslog server.
    """
    if path in STANDARD_STREAMS:
        fd = STANDARD_STREAMS[path]
        return (JournalOutput if is_journal(fd, os.environ) else SharedOutput)(fd)
    if path.startswith("syslog:"):
        return SyslogOutput(path, now_s)
    return FileOutput(path)


class FileOutput:
    """A path opened for appending, by a description of our own.

    A FIFO without a reader is no failure at the start: each write tries to open it again.
    """

    __slots__ = ("_fd", "_path", "chunk_bytes")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self.chunk_bytes = FILE_CHUNK_BYTES
        try:
            self._adopt(self._open())
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise

    def frame(self, line: bytes, severity: int) -> bytes:
        """As `Output.frame`: a file has no use for the severity."""
        return line

    def write(self, chunk: bytes | bytearray) -> int:
        """As `Output.write`."""
        if self._fd < 0:
            self._adopt(self._open())
        try:
            return os.write(self._fd, chunk)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            self.close()
            raise

    def reopen(self) -> bool:
        """As `Output.reopen`."""
        new_fd = self._open()
        self.close()
        self._adopt(new_fd)
        return True

    def close(self) -> None:
        """As `Output.close`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        # O_NONBLOCK: without it, opening a FIFO waits for a reader. For a regular file it is void.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        return os.open(self._path, flags, LOG_MODE)

    def _adopt(self, fd: int) -> None:
        self._fd = fd
        is_regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self.chunk_bytes = FILE_CHUNK_BYTES if is_regular else PIPE_BUF


class SharedOutput:
    """An inherited descriptor, whose open file description other processes use as well.

    It is duplicated at once: if somebody closed the original, its number could come back as a
    client's connection, and log lines must not go there. The caller keeps the original.
    `rwf_nowait` is the kernel's flag for a write that does not wait, 0 where there is none.
    """

    __slots__ = ("_fd", "_nowait", "_poll", "chunk_bytes")

    def __init__(self, fd: int, rwf_nowait: int = RWF_NOWAIT) -> None:
        self._fd = _reopen_terminal(fd) if os.isatty(fd) else os.dup(fd)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        # Not for regular files, where EAGAIN may never end.
        self._nowait = 0 if stat.S_ISREG(os.fstat(self._fd).st_mode) else rwf_nowait
        self.chunk_bytes = PIPE_BUF

    def frame(self, line: bytes, severity: int) -> bytes:
        """As `Output.frame`."""
        return line

    def write(self, chunk: bytes | bytearray) -> int:
        """As `Output.write`.

        Without RWF_NOWAIT there is a gap between poll() and write() in which another process may
        fill the pipe; only then could this wait.
        """
        try:
            if self._nowait:
                try:
                    return os.pwritev(self._fd, (chunk,), -1, self._nowait)
                except OSError as error:
                    if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                        raise
                    self._nowait = 0
            return os.write(self._fd, chunk) if self._poll.poll(0) else 0
        except BlockingIOError:
            return 0

    def reopen(self) -> bool:
        """As `Output.reopen`: there is no name to open again."""
        return False

    def close(self) -> None:
        """As `Output.close`."""
        if self._fd >= 0:
            self._poll.unregister(self._fd)
            os.close(self._fd)
            self._fd = -1


class JournalOutput(SharedOutput):
    """A standard stream that systemd's journal reads: each line tells its priority.

    The form is that of sd-daemon(3): "<4>" before a warning, so that `journalctl -p warning` finds
    it.
    """

    __slots__ = ()

    def frame(self, line: bytes, severity: int) -> bytes:
        """As `Output.frame`."""
        return b"".join([b"<%d>%s\n" % (severity, part) for part in line.split(b"\n")[:-1]])


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether systemd's journal reads `fd`: JOURNAL_STREAM names it (systemd.exec(5))."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _reopen_terminal(fd: int) -> int:
    """Return a non-blocking descriptor of the same terminal, with a description of our own.

    A terminal of another user (after su) cannot be opened; then a duplicate serves, with poll()
    before each write. Such a write may wait: poll() promises room for some bytes, not for a whole
    line, and a terminal emulator that hangs would block it.
    """
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


class SyslogOutput:
    """A syslog server as ``syslog:HOST:PORT`` or ``syslog:unix:/path``: a datagram a line.

    The first line opens the socket, and so does the first one after the receiver of a unix socket
    went away. Over UDP a loss shows only where the host sends ICMP back.
    """

    __slots__ = ("_address", "_family", "_host", "_now_s", "_socket", "_time", "chunk_bytes")

    def __init__(self, server: str, now_s: Callable[[], float]) -> None:
        self._family, self._address = syslog_address(server)
        self._socket: socket.socket | None = None
        self._now_s = now_s
        self._time = TimeText(now_s())
        # On a local socket the receiver knows the host and expects the tag right after the time.
        is_local = self._family is socket.AF_UNIX
        self._host = "" if is_local else f"{socket.gethostname()} "
        self.chunk_bytes = SYSLOG_LINE_BYTES

    def frame(self, line: bytes, severity: int) -> bytes:
        """Return each line with the header of RFC 3164 §4.1: priority, time, host and tag."""
        self._time.update(self._now_s())
        header = f"<{_FACILITY * 8 + severity}>{self._time.syslog} {self._host}nginy: ".encode()
        return b"".join([b"%s%s\n" % (header, part) for part in line.split(b"\n")[:-1]])

    def write(self, chunk: bytes | bytearray) -> int:
        """Send the first line of `chunk`; as `Output.write`."""
        line, newline, _ = chunk.partition(b"\n")
        if not newline:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        try:
            if self._socket is None:
                self._socket = self._connect()
            self._socket.send(line)
        except BlockingIOError:
            return 0
        except ConnectionRefusedError as error:
            if self._family is not socket.AF_UNIX:
                raise DatagramReturnedError(error.errno, error.strerror) from error
            self.close()
            raise
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return 0
            if error.errno != errno.EMSGSIZE:
                self.close()
            raise
        return len(line) + 1

    def reopen(self) -> bool:
        """As `Output.reopen`: connects again at the next line."""
        self.close()
        return True

    def close(self) -> None:
        """As `Output.close`."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(self._address)
        except OSError:
            sock.close()
            raise
        return sock


def syslog_address(server: str) -> tuple[socket.AddressFamily, tuple[str, int] | str]:
    """Return family and address of ``syslog:127.0.0.1:514``, ``syslog:[::1]``, ``syslog:unix:/p``.

    The port defaults to 514. Only literal addresses: a log must not wait for a name server.
    Raises ValueError with a sentence for the user.
    """
    rest = server.removeprefix("syslog:")
    if rest.startswith("unix:/"):
        return socket.AF_UNIX, rest.removeprefix("unix:")
    wrong = ValueError(f'"{server}": expected syslog:ADDRESS:PORT or syslog:unix:/path')
    match = _HOST_PORT.fullmatch(rest)
    if match is None:
        raise wrong
    try:
        address = ipaddress.ip_address(match["v6"] or match["v4"])
    except ValueError:
        raise wrong from None
    port = int(match["port"] or _SYSLOG_PORT)
    if not 1 <= port <= 65535:
        raise wrong
    return (socket.AF_INET if address.version == 4 else socket.AF_INET6), (str(address), port)
