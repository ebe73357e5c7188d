"""Pipe: bytes on their way from one socket to another that never leave the kernel.

splice(2) moves what a socket has received into a pipe, and what a pipe holds into a socket. It
passes on pages instead of copying bytes. Short exchanges are faster without it, so the pump
(`proxy/tcp.py`) turns to pipes only when reads have grown large.

A pipe is shared like the memory that all reads of a loop go through: a transfer borrows it for one
event, and gives it back empty. If the receiving socket does not take everything, the pipe stays in
`Connection.buffer`, in the place of a `Buffer`, until it does. So a loop needs few pipes however
many transfers there are, and a transfer that finds none copies.

Linux only. Elsewhere, and where the system forbids splicing, `Pipes.take` returns None. nginx has
no counterpart; HAProxy's is `option splice-auto` (`src/raw_sock.c`).
"""

import errno
import logging
import os
import sys
from collections.abc import Callable
from typing import Final

from nginy.event.connection import AGAIN, EOF, Connection
from nginy.event.reserve import Reserve

if sys.platform == "linux":
    from fcntl import F_SETPIPE_SZ, fcntl
    from os import SPLICE_F_NONBLOCK

Splice = Callable[..., int]
"""os.splice, or a stand-in that fails, for a test."""

logger = logging.getLogger("nginy.event")


def _no_splice(*_arguments: int, **_options: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


SPLICE: Final[Splice] = getattr(os, "splice", _no_splice)

UNSUPPORTED: Final = -3
"""Outcome of `Pipe.receive`: the system does not splice. No byte was moved, and `Pipes` makes no
more pipes."""

PIPE_BYTES: Final = 256 * 1024
"""The most that one call moves: the size of a pipe with all pages full."""

PIPES_MAX: Final = 32
"""Pipes of a loop. All pipes of an unprivileged user may have 64 MiB together (pipe(7),
`pipe-user-pages-soft`); these have 8."""


class Pipe:
    """A pipe, and how many bytes are in it; made by `Pipes`."""

    __slots__ = ("_held", "_pipes", "_read_fd", "_write_fd")

    def __init__(self, pipes: "Pipes", fds: "tuple[int, int] | None" = None, held: int = 0) -> None:
        """Open the pipe, or take over both ends of one with `held` bytes in it.

        Raises OSError if there is no descriptor or no memory for it.
        """
        self._pipes = pipes
        self._held = held
        if fds is not None:
            self._read_fd, self._write_fd = fds
            return
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl(self._write_fd, F_SETPIPE_SZ, pipes.pipe_bytes)
        except OSError:
            self.close()
            raise

    def __len__(self) -> int:
        """Return how many bytes are still to be sent."""
        return self._held

    @property
    def fds(self) -> tuple[int, int]:
        """The descriptors of both ends, for another process."""
        return self._read_fd, self._write_fd

    def receive(self, c: Connection) -> int:
        """Receive from `c` into the pipe, which must be empty; return a count, EOF, AGAIN, ERROR or
        UNSUPPORTED.

        A small count does not mean that nothing is left, as pages may be small. Only AGAIN does; it
        cannot mean the pipe, which has room.
        """
        rev = c.read
        try:
            count = self._pipes.splice(c.fd, self._write_fd, PIPE_BYTES, flags=SPLICE_F_NONBLOCK)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOSYS, errno.EPERM}:
                logger.warning(
                    "splice() failed (%s: %s): long transfers are copied from now on",
                    error.errno,
                    error.strerror,
                )
                self._pipes.close()
                return UNSUPPORTED
            return c.failed(rev, error)
        if not count:
            rev.eof = True
            rev.ready = False
            return EOF
        self._held = count
        c.received += count
        return count

    def send_to(self, c: Connection) -> int:
        """Send to `c` until the pipe is empty or `c` takes no more; return a count, AGAIN or
        ERROR."""
        held = self._held
        while self._held:
            try:
                count = self._pipes.splice(self._read_fd, c.fd, self._held, flags=SPLICE_F_NONBLOCK)
            except OSError as error:
                outcome = c.failed(c.write, error)
                if outcome != AGAIN:
                    return outcome
                break
            self._held -= count
            c.sent += count
        return held - self._held or AGAIN

    def release(self) -> None:
        """Give the pipe back; bytes left in it are lost."""
        self._pipes.take_back(self)

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read_fd)
        os.close(self._write_fd)


class Pipes:
    """The pipes of a loop: made when needed, kept when empty, never more than `limit`."""

    __slots__ = ("_idle", "_reserve", "limit", "opened", "pipe_bytes", "splice")

    def __init__(
        self,
        reserve: Reserve,
        limit: int = PIPES_MAX if sys.platform == "linux" else 0,
        pipe_bytes: int = PIPE_BYTES,
        splice: Splice = SPLICE,
    ) -> None:
        """Make pipes only while `reserve` is not short of descriptors."""
        self._reserve = reserve
        self.limit = limit
        self.pipe_bytes = pipe_bytes
        self.splice = splice
        self._idle: list[Pipe] = []
        self.opened = 0
        """How many are open, in use or not."""

    def take(self) -> Pipe | None:
        """Return an empty pipe; None is no error: copy instead."""
        if self._idle:
            return self._idle.pop()
        if self.opened >= self.limit or self._reserve.is_short:
            return None
        try:
            pipe = Pipe(self)
        except OSError:
            return None
        self.opened += 1
        return pipe

    def adopt(self, fds: tuple[int, int], held: int) -> Pipe:
        """Return the pipe of another process, with `held` bytes in it, as one of these."""
        self.opened += 1
        return Pipe(self, fds, held)

    def take_back(self, pipe: Pipe) -> None:
        """Keep the pipe for the next transfer.

        Close it instead if bytes are left in it, if clients wait for descriptors, or if the pool
        was closed meanwhile.
        """
        if pipe or self.opened > self.limit or self._reserve.is_short:
            pipe.close()
            self.opened -= 1
        else:
            self._idle.append(pipe)

    def trim(self) -> bool:
        """Close the idle pipes; return whether there were any."""
        idle, self._idle = self._idle, []
        for pipe in idle:
            pipe.close()
        self.opened -= len(idle)
        return bool(idle)

    def close(self) -> None:
        """Close the idle pipes, and make no more."""
        self.limit = 0
        self.trim()
