"""Upgrade: after USR2, another nginy program takes over, sessions and all, and no client notices.

The running process starts the program again, from the same command line, and leaves it copies of
its listening sockets: their numbers are in the variable NGINY, as "5;6;7;". Once the new process
serves, it has the pid file, and this one stops accepting and hands its sessions over
(`takeover/giving.py`). What cannot move stays here until it ends; then this process ends.

    STARTING   the new process has been started; nothing has changed
    GREETED    it has said hello, and learns what this process knows
    MOVING     it serves, and sessions move
    MOVED      nothing more will move: this process drains
    BESIDE     it serves, but takes no sessions: both accept until one of them gets QUIT

If the new process ends before MOVED, this one takes back what it has not handed over, and all is as
before. If the new version cannot take sessions over, both serve side by side, as with nginx; by
then, the id of this process is in PATH.oldbin.

nginx: `ngx_exec_new_binary` in `nginx.c`, `ngx_execute_proc`, `ngx_add_inherited_sockets`.

Tested in tests/run/test_upgrade.py.
"""

import contextlib
import enum
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from nginy.event.child import Child
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE
from nginy.process.pidfile import PidFile
from nginy.process.report import monotonic_ms
from nginy.process.takeover.link import Link, link_pair
from nginy.process.takeover.messages import Message, MessageMembers, common_version, pieces
from nginy.process.takeover.program import closed, start_program
from nginy.process.takeover.report import UpgradeOutcome
from nginy.process.takeover.tally import Moved

logger = logging.getLogger("nginy.server")

HELLO_MS: Final = 60_000
"""How long a new process may take to say hello before it is taken to be of a version that does
not."""
DEATH_MS: Final = 2000
"""How long a successor whose link has ended may take to die."""
PENDING_MS: Final = 2000
"""How long to wait for sessions that will move in a moment before telling the outcome."""


class Progress(enum.Enum):
    """How far an upgrade has come."""

    NONE = "none"
    STARTING = "starting"
    GREETED = "greeted"
    MOVING = "moving"
    MOVED = "moved"
    BESIDE = "beside"


class Testator(Protocol):
    """The side that hands over: the process that serves, or the supervisor of several."""

    def listeners(self) -> Sequence[Listener]:
        """Return the listeners that the successor gets copies of."""

    def give(self, report: Callable[[Moved], None]) -> Sequence[socket.socket]:
        """Begin to hand over, and return the far ends of the lanes.

        `report` is called with how far all lanes together have come. Raises OSError.
        """

    def take_back(self) -> None:
        """Keep what is not handed over, and accept clients again."""

    def book(self) -> bytes:
        """Return what operators have set, as the file of `admin_state` has it."""

    def totals(self) -> Iterator[str]:
        """Yield what dead workers have counted (`admin/facts/totals.py`)."""


class Upgrade:
    """The successor of this process, if there is one. Created and closed by the control."""

    __slots__ = (
        "_began_ms",
        "_book",
        "_link",
        "_listeners",
        "_loop",
        "_pid_file",
        "_problems",
        "_successor",
        "_tally",
        "_testator",
        "_timer",
        "changed",
        "progress",
    )

    def __init__(self, loop: Loop, testator: Testator, changed: Callable[[], None]) -> None:
        """Call `changed` when one of the processes has got its final role: see `progress`."""
        self._loop = loop
        self._testator = testator
        self.changed = changed
        self.progress = Progress.NONE
        self._successor: Child | None = None
        self._link: Link | None = None
        self._pid_file: PidFile | None = None
        self._listeners: list[Listener] = []
        self._problems: list[str] = []
        self._tally: Moved | None = None
        self._began_ms = 0
        self._book = b""
        self._timer = Timer(self._hello_handler, self)

    @property
    def has_successor(self) -> bool:
        """Whether another process has copies of the listening sockets."""
        return self._successor is not None

    @property
    def is_under_way(self) -> bool:
        """Whether it is not decided yet which process will serve."""
        return self.progress in (Progress.STARTING, Progress.GREETED, Progress.MOVING)

    @property
    def has_heir(self) -> bool:
        """Whether another process serves, and is the main one for a service manager."""
        return (
            self.progress in (Progress.MOVING, Progress.MOVED, Progress.BESIDE)
            and self.has_successor
        )

    @property
    def pid(self) -> int:
        """The id of the successor, 0 if there is none."""
        return 0 if self._successor is None else self._successor.pid

    def start(
        self, listeners: Sequence[Listener], pid_file: PidFile | None, environ: Mapping[str, str]
    ) -> None:
        """Start the successor, or say why not and go on as before."""
        if self._successor is not None:
            logger.error("process %d is already taking over", self._successor.pid)
            return
        self._began_ms = monotonic_ms()
        self._problems, self._tally, self._book = [], None, b""
        self._pid_file = pid_file
        try:
            ours, theirs = link_pair()
            with theirs:
                try:
                    self._link = Link(self._loop, ours, self._received, self._link_ended)
                except OSError:
                    ours.close()
                    raise
                fds = [listener.socket.fileno() for listener in listeners]
                pid = start_program(fds, theirs.fileno(), environ)
        except OSError as error:
            self._fail(f"new program not started ({error.errno}: {error.strerror})")
            return
        # From now on, the paths of unix sockets are no longer ours alone.
        self._listeners = [each for each in listeners if not each.is_inherited]
        for listener in self._listeners:
            listener.is_inherited = True
        self.progress = Progress.STARTING
        self._successor = Child(self._loop, pid, self._ended)
        self._loop.timers.start(self._timer, self._loop.clock.now_ms + HELLO_MS)
        logger.log(NOTICE, "process %d is taking over", pid)

    def send_signal(self, number: signal.Signals) -> None:
        """Pass a signal on to the successor."""
        if self._successor is not None:
            self._successor.send_signal(number)

    def close(self) -> None:
        """Let the successor go its own way."""
        self._loop.timers.cancel(self._timer)
        if self._successor is not None:
            self._successor.close()
            self._successor = None
        self._close_link()

    # What the successor says.

    def _received(self, message: Message) -> None:
        members = MessageMembers(message.members)
        for fd in message.fds:
            os.close(fd)
        if message.word == "hello" and self.progress is Progress.STARTING:
            self._welcome(members)
        elif message.word == "no" and self.progress is Progress.GREETED:
            self._problems.append(members.text("why"))
            self._testator.take_back()
            self.progress = Progress.STARTING
        elif message.word == "failed":
            self._problems += [str(each) for each in members.items("problems")]
        elif message.word == "serving":
            self._hand_over(members.maybe_text("pid_path"))

    def _welcome(self, members: MessageMembers) -> None:
        """Give a successor of a known version its lanes."""
        link = self._link
        assert link is not None
        version = common_version(members.items("speaks"))
        if version is None:
            theirs = ", ".join(map(str, members.items("speaks")))
            why = f"it speaks version {theirs} of the hand-over, which this one does not"
            self._problems.append(f"process {self.pid} takes no sessions over: {why}")
            link.send(Message("no", {"why": "no version that both speak"}))
            return
        try:
            lanes = self._testator.give(self._heard)
        except OSError as error:
            why = f"no lane ({error.errno}: {error.strerror})"
            self._problems.append(f"process {self.pid} takes no sessions over: {why}")
            link.send(Message("no", {"why": why}))
            return
        self.progress = Progress.GREETED
        link.send(Message("welcome", {"version": version, "lanes": len(lanes)}))
        self._send_book(link)
        for text in self._testator.totals():
            link.send(Message("totals", {}, text.encode()))
        for number, lane in enumerate(lanes):
            message = Message("lane", {"number": number}, b"", [lane.fileno()])
            link.send(message, partial(closed, lane))

    def _send_book(self, link: Link) -> None:
        """Send what operators have set, if that has changed since it was last sent."""
        book = self._testator.book()
        if book != self._book:
            self._book = book
            *firsts, last = pieces(book)
            for data in firsts:
                link.send(Message("book", {"is_last": False}, data))
            link.send(Message("book", {"is_last": True}, last))

    def _hand_over(self, pid_path: str | None) -> None:
        """Leave new clients and the pid file to the successor, which serves."""
        self._loop.timers.cancel(self._timer)
        if self._pid_file is not None and self._pid_file.path == pid_path:
            self._pid_file.lend()
        if self.progress is Progress.GREETED:
            self.progress = Progress.MOVING
            if self._link is not None:
                self._send_book(self._link)
            self.changed()
            self._judge()
        elif self.progress is Progress.STARTING:
            self._be_beside()

    def _heard(self, tally: Moved) -> None:
        """Hear how far the hand-over has come."""
        self._tally = tally
        self._judge()

    def _judge(self) -> None:
        """Decide whether nothing more will move, or waiting takes too long."""
        tally = self._tally
        if self.progress is not Progress.MOVING or tally is None:
            return
        if tally.problem:
            self._timer.handler = self._broken_handler
            self._loop.timers.start(self._timer, self._loop.clock.now_ms + DEATH_MS)
        elif tally.is_final:
            self._moved()
        elif not self._timer.is_running:
            self._timer.handler = self._pending_handler
            self._loop.timers.start(self._timer, self._loop.clock.now_ms + PENDING_MS)

    def _pending_handler(self, _timer: Timer) -> None:
        """Report the outcome, although some sessions are not established yet."""
        if self.progress is Progress.MOVING:
            self._tell(is_serving=True)

    def _moved(self) -> None:
        """Drain the rest: the successor serves, and has all that could move."""
        self.progress = Progress.MOVED
        if self._link is not None:
            self._link.send(Message("done", {}))
        self._tell(is_serving=True)
        self.changed()

    def _broken_handler(self, _timer: Timer) -> None:
        """Accept clients beside the successor, which lives but takes no more sessions."""
        if self.progress is Progress.MOVING and self._tally is not None:
            why = f"the hand-over has ended early: {self._tally.problem}"
            self._problems.append(why)
            self._testator.take_back()
            if self._link is not None:
                self._link.send(Message("no", {"why": why}))
            self._be_beside()

    def _be_beside(self) -> None:
        self.progress = Progress.BESIDE
        logger.warning("%s", "; ".join(self._problems) or "no session moves")
        logger.log(NOTICE, "process %d serves as well, until one of the two gets QUIT", self.pid)
        self._tell(is_serving=True)
        self.changed()

    # When it ends, or does not answer.

    def _hello_handler(self, _timer: Timer) -> None:
        if self.progress is Progress.STARTING:
            self._problems.append(
                f"process {self.pid} has not said within {HELLO_MS // 1000} s that it serves"
            )
            self._be_beside()

    def _link_ended(self, what: str) -> None:
        """Serve beside a successor that has fallen silent, unless it turns out to be dead."""
        self._close_link()
        if self.is_under_way:
            self._problems.append(f"the link to process {self.pid} has ended{what and ': '}{what}")
            self._timer.handler = self._lost_handler
            self._loop.timers.start(self._timer, self._loop.clock.now_ms + DEATH_MS)

    def _lost_handler(self, _timer: Timer) -> None:
        if self.is_under_way:
            self._testator.take_back()
            self._be_beside()

    def _ended(self, code: int) -> None:
        """Go on as before if the successor ends too soon."""
        successor, self._successor = self._successor, None
        if successor is None:
            return
        how = f"on signal {-code}" if code < 0 else f"with code {code}"
        if self._link is not None:
            self._link.cut_off()  # it may have said why before it died
        if self.progress is Progress.MOVED:
            logger.error("process %d, which serves, has exited %s", successor.pid, how)
            return
        logger.error("process %d has ended, so this one goes on", successor.pid)
        self._problems.append(f"process {successor.pid} has exited {how}")
        self._undo()

    def _fail(self, problem: str) -> None:
        logger.critical("%s", problem)
        self._problems.append(problem)
        self._undo()

    def _undo(self) -> None:
        """Be the only process again."""
        self._loop.timers.cancel(self._timer)
        self._close_link()
        had_lanes = self.progress in (Progress.GREETED, Progress.MOVING)
        was_beside = self.progress is Progress.BESIDE
        self.progress = Progress.NONE
        for listener in self._listeners:
            listener.is_inherited = False
        self._listeners = []
        if self._pid_file is not None:
            self._pid_file.take_back()
        if had_lanes:
            self._testator.take_back()
        if not was_beside:
            self._tell(is_serving=False)
        self._pid_file = None
        self.changed()

    def _tell(self, *, is_serving: bool) -> None:
        """Report the outcome to the log, and to whoever waits for it."""
        tally = self._tally or Moved()
        if self.progress is Progress.MOVING:
            logger.log(NOTICE, "process %d is taking over: %s so far", self.pid, tally)
        elif self.progress is Progress.MOVED:
            logger.log(NOTICE, "process %d has taken over: %s", self.pid, tally)
        if self._pid_file is not None:
            took_ms = monotonic_ms() - self._began_ms
            problems = tuple(self._problems)
            is_beside = self.progress is Progress.BESIDE
            outcome = UpgradeOutcome(
                self._began_ms, took_ms, self.pid, is_serving, tally, problems, is_beside
            )
            with contextlib.suppress(OSError):
                self._pid_file.note_upgrade(outcome.to_json())

    def _close_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the upgrade"

    def abort(self) -> None:
        """Go on after a bug: the successor goes its own way."""
