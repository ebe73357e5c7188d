"""DatagramCheck: one inquiry to a server by UDP.

It differs from `dialog` in what UDP lacks: there is no connection to make and to end. An ICMP
message saying that nobody listens fails the check; silence fails it too, unless the talk takes
silence for an answer.

A `Talk` (`wire/checks/talk.py`) knows what to say, and what the answers mean.

Tested in tests/backend/checks/test_checker_live.py.
"""

from nginy.backend.checks.dialog import (
    PASSED,
    PASSED_IN_SILENCE,
    READS,
    Ended,
    Result,
    call_failed,
)
from nginy.backend.checks.open_checks import OpenChecks
from nginy.event.connect import ConnectFailure, connect_datagram
from nginy.event.connection import AGAIN
from nginy.event.datagram import DatagramConnection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.text.address import Address
from nginy.wire.checks.talk import Step, Talk
from nginy.wire.shown import SHOWN_MAX_BYTES


class DatagramCheck:
    """One inquiry on its way. Created by `Checker`; closes its socket itself."""

    __slots__ = (
        "_c",
        "_deadline_ms",
        "_ended",
        "_got",
        "_head",
        "_loop",
        "_open",
        "_sent",
        "_talk",
    )

    def __init__(
        self, loop: Loop, open_checks: OpenChecks, talk: Talk, ended: Ended, head: bytes = b""
    ) -> None:
        """Ask nothing yet; each datagram begins with `head`."""
        self._loop = loop
        self._open = open_checks
        self._talk = talk
        self._head = head
        self._ended: Ended | None = ended
        self._deadline_ms = 0
        self._sent = self._got = b""
        self._c: DatagramConnection | None = None

    def start(self, address: Address, deadline_ms: int) -> None:
        """Send the first datagram; `ended` may come before this returns."""
        c = connect_datagram(self._loop, address)
        if isinstance(c, ConnectFailure):
            self._finish(Result(c.text, c.is_ours))
            return
        self._c = c
        c.data = self
        c.action = "checking a backend"
        c.read.timer = Timer(self._deadline_handler, self)
        self._deadline_ms = deadline_ms
        self._loop.timers.start(c.read.timer, deadline_ms)
        self._open.add(self)
        c.read.handler = self._answer_handler
        c.resume_read()
        self._follow(c, self._talk.begin())

    def _follow(self, c: DatagramConnection, step: Step) -> None:
        """Do what the talk says."""
        for datagram in step.sends:
            self._sent = self._sent or datagram[:SHOWN_MAX_BYTES]
            if c.send(self._head + datagram) < 0:
                self._finish(call_failed("send", c.errno))
                return
        if step.is_over:
            self._finish(Result(step.failure) if step.failure else PASSED)
        elif step.timeout_ms is not None and c.read.timer is not None:
            end_ms = self._loop.clock.now_ms + step.timeout_ms
            self._loop.timers.start(c.read.timer, min(end_ms, self._deadline_ms))

    def _answer_handler(self, event: Event) -> None:
        c, memory = self._c, self._loop.memory
        if c is None:
            return
        for _ in range(READS):
            count = c.recv(memory)
            if count == AGAIN:
                return
            if count < 0:
                self._finish(call_failed("recv", c.errno))
                return
            self._got = self._got or bytes(memory[: min(count, SHOWN_MAX_BYTES)])
            self._follow(c, self._talk.receive(memory[:count]))
            if self._c is None:
                return
        self._loop.post(event)

    def _deadline_handler(self, _timer: Timer) -> None:
        is_fine = self._talk.is_silence_fine
        self._finish(PASSED_IN_SILENCE if is_fine else Result(self._talk.late()))

    def _finish(self, result: Result) -> None:
        ended = self._ended
        self.close()
        if ended is not None:
            ended(result.having(self._sent, self._got))

    def cancel(self) -> None:
        """Give up without telling the owner."""
        self.close()

    def close(self) -> None:
        """Close the socket at once, without telling the owner."""
        self._ended = None
        self._talk.close()
        self._open.discard(self)
        c, self._c = self._c, None
        if c is not None:
            c.close()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f"check of {self._c.addr_text}" if self._c is not None else "check"

    def abort(self) -> None:
        """Give up after a bug in a handler; the backend has neither passed nor failed."""
        self._finish(Result("internal error", is_ours=True))
