"""Predecessor: the nginy that started this process to take over from it.

Most processes have none. Otherwise, this process greets it before it opens anything, gets the lanes
on which sessions will come (`taking.py`), and tells it once it serves; from then on the pid file
belongs to this process. If this one cannot start, it says why, for whoever typed `nginy -s
upgrade`.

`messages.py` describes the main link; `process/upgrade.py` is the other side.

Tested in tests/run/test_upgrade.py.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Final

from nginy.admin.facts.merge import parse
from nginy.admin.facts.tally import Tally
from nginy.admin.facts.totals import TOTALS
from nginy.event.loop import Loop
from nginy.process.takeover.link import Link
from nginy.process.takeover.messages import (
    LINK_VARIABLE,
    VERSIONS,
    Message,
    MessageError,
    MessageMembers,
    common_version,
    encode,
)

logger = logging.getLogger("nginy.server")

BOOK_MAX_BYTES: Final = 4 << 20
"""The longest book, as for the file (`process/state_file.py`)."""
PROBLEMS_MAX: Final = 20
PROBLEM_CHARACTERS: Final = 400
"""That many problems of that many characters fit into a message: JSON takes up to 12 bytes for
one."""
GREETING_MS: Final = 5000
"""How long the other process may take to answer before this one serves beside it."""


class Predecessor:
    """The process before this one, if there is one. Created and closed by the control."""

    __slots__ = (
        "_awaited",
        "_is_leaving",
        "_lanes",
        "_link",
        "_loop",
        "_pages",
        "book",
        "book_changed",
        "done",
        "gone",
        "is_busy",
        "pid",
        "totals",
    )

    def __init__(self, loop: Loop) -> None:
        """Have none."""
        self._loop = loop
        self._link: Link | None = None
        self._lanes: list[socket.socket] = []
        self._awaited: int | None = 0
        """How many lanes are still to come; None: not even the answer has come."""
        self.pid = 0
        """Its id; 0 without a predecessor."""
        self.is_busy = False
        """Whether it is still handing over."""
        self._is_leaving = False
        """Whether it has handed over everything it could, and will end."""
        self.book: bytes | None = None
        """What operators have set there, as the file of `admin_state` has it; None: unknown."""
        self.book_changed: Callable[[bytes], None] = lambda _: None
        """Called if operators set something else while this process starts."""
        self._pages = b""
        self.totals = Tally()
        """The counts of workers that have died there."""
        self.done: Callable[[], None] = lambda: None
        """Called once it has handed over everything; it may live on for a while."""
        self.gone: Callable[[], None] = lambda: None
        """Called once it has ended."""

    @property
    def is_there(self) -> bool:
        """Whether it has not ended yet, and can go on if this process ends."""
        return self._link is not None and self._link.is_open and not self._is_leaving

    def greet(self, environ: MutableMapping[str, str]) -> None:
        """Say hello on the link that `environ` names, if there is one, and remove the variable."""
        found = _link_in(environ)
        environ.pop(LINK_VARIABLE, None)
        if found is None:
            return
        sock, self.pid = found
        self._link = Link(self._loop, sock, self._received, self._ended)
        self._awaited, self.is_busy = None, True
        self._link.send(Message("hello", {"speaks": list(VERSIONS), "pid": os.getpid()}))

    def await_lanes(self) -> Sequence[socket.socket]:
        """Return the lanes, after turning the loop until they are there; none if none will come."""
        deadline_ms = self._loop.clock.now_ms + GREETING_MS
        while self._awaited is None or len(self._lanes) < self._awaited:
            left_ms = deadline_ms - self._loop.clock.now_ms
            if left_ms <= 0:
                logger.error("process %d does not answer, so its sessions stay there", self.pid)
                self._decline(f"process {self.pid} has not answered within {GREETING_MS // 1000} s")
                break
            self._loop.turn(left_ms)
        self._awaited = 0
        lanes, self._lanes = self._lanes, []
        return lanes

    def _decline(self, why: str) -> None:
        """Take nothing over: an answer from now on comes too late."""
        self._close_lanes()
        if self._link is not None:
            self._link.send(Message("no", {"why": why}))
        self._done()

    def serving(self, pid_path: str | None) -> None:
        """Tell it that this process serves, and keeps its pid file at `pid_path`."""
        if self._link is not None and self._link.is_open:
            self._link.send(Message("serving", {"pid_path": pid_path}))

    def failed(self, problems: Sequence[str]) -> None:
        """Tell it that this process cannot start."""
        if self._link is not None and self._link.is_open:
            self._link.send(_failure(problems))

    def close(self) -> None:
        """Close the link."""
        if self._link is not None:
            self._link.close()
            self._link = None
        self._close_lanes()

    def _close_lanes(self) -> None:
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()

    def _received(self, message: Message) -> None:
        members = MessageMembers(message.members)
        if message.word == "lane" and len(message.fds) == 1 and self._awaited:
            self._lanes.append(socket.socket(fileno=message.fds[0]))
            return
        for fd in message.fds:
            os.close(fd)
        if message.word == "welcome" and self._awaited is None:
            if common_version([members.number("version")]) is None:
                raise MessageError("a version that was not offered")
            self._awaited = members.count("lanes")
        elif message.word == "no":
            logger.warning("process %d keeps its sessions: %s", self.pid, members.text("why"))
            self._awaited = 0
            self._done()
        elif message.word == "book":
            self._take_page(message.data, is_last=members.flag("is_last"))
        elif message.word == "totals":
            self.totals.take("totals", parse(message.data, TOTALS) or {})
        elif message.word == "done":
            self._is_leaving = True
            self._done()

    def _take_page(self, data: bytes, *, is_last: bool) -> None:
        """Take a part of the book."""
        self._pages += data
        if is_last:
            self.book, self._pages = self._pages, b""
            self.book_changed(self.book)
        elif len(self._pages) > BOOK_MAX_BYTES:
            raise MessageError("the book is too long")

    def _ended(self, what: str) -> None:
        if what:
            logger.error("process %d is not understood: %s", self.pid, what)
            # It would wait for us, as we read nothing that it has sent since.
            self._decline(f"process {self.pid} is not understood: {what}")
        self._awaited, self._is_leaving = 0, True
        self._done()
        self.gone()

    def _done(self) -> None:
        if self.is_busy:
            self.is_busy = False
            self.done()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the process before this one"


def tell_failure(environ: Mapping[str, str], problems: Sequence[str]) -> None:
    """Tell the process that waits for this one that it failed before it had a loop."""
    with contextlib.suppress(OSError):
        found = _link_in(environ)
        if found is not None:
            sock, _ = found
            with sock:
                sock.setblocking(False)
                sock.send(encode(_failure(problems)))


def _failure(problems: Sequence[str]) -> Message:
    told = [each[:PROBLEM_CHARACTERS] for each in problems[:PROBLEMS_MAX]]
    return Message("failed", {"problems": told})


def _link_in(environ: Mapping[str, str]) -> tuple[socket.socket, int] | None:
    """Return the link that an environment names, and the process at its other end; None if there is
    none.
    """
    fd, _, pid = environ.get(LINK_VARIABLE, "").partition(";")
    if not fd.isdecimal() or not pid.isdecimal():
        return None
    try:
        os.set_inheritable(int(fd), False)
        return socket.socket(fileno=int(fd)), int(pid)
    except OSError as error:
        logger.warning("%s is no link (%s: %s)", LINK_VARIABLE, error.errno, error.strerror)
        return None
