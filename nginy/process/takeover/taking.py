"""The new side: a process takes over, on a lane, what another one has.

It learns what the old process knows before it serves, then says that it is ready. Each session that
comes finds its place in the new configuration, or is refused and stays where it is. A session does
nothing here before its confirmation has left; the head of `messages.py` says why.

Tested in tests/process/takeover/test_giving_live.py.
"""

import logging
import os
import socket
from collections.abc import Sequence
from functools import partial
from typing import Final

from nginy.event.loop import Loop
from nginy.process.takeover.estate import Estate
from nginy.process.takeover.link import Link
from nginy.process.takeover.messages import REST_MAX_BYTES, Members, Message, MessageError
from nginy.process.takeover.session_record import TcpRecord
from nginy.process.takeover.tcp_session import Refusal, made_of
from nginy.proxy.tcp import TcpSession

logger = logging.getLogger("nginy.server")

KNOWN_MS: Final = 5000
"""How long a start waits for what the old process knows; after that it does without."""


class Taker:
    """Takes over what comes on one lane. Created and closed by whoever owns the server."""

    __slots__ = ("_estate", "_link", "_rests", "_undecided", "is_known", "is_over", "taken")

    def __init__(self, estate: Estate, sock: socket.socket) -> None:
        """Learn what the other side knows; raises OSError."""
        self._estate = estate
        self._rests = b""
        self._undecided: list[TcpSession] = []
        """Sessions whose confirmation could not leave: the other side's, unless it is dead."""
        self.is_known = False
        """Whether it has learned everything."""
        self.is_over = False
        """Whether nothing more will come."""
        self.taken = 0
        """Sessions taken over so far."""
        self._link = Link(estate.loop, sock, self._received, self._ended)

    def ready(self) -> None:
        """Say that this process serves, so that sessions may come."""
        if not self.is_over:
            self._link.send(Message("ready", {}))

    def _received(self, message: Message) -> None:
        word = message.word
        if word == "session":
            self._take(message)
            return
        for fd in message.fds:
            os.close(fd)
        if word == "rest":
            self._rests += message.data
            if len(self._rests) > REST_MAX_BYTES:
                raise MessageError(f"more than {REST_MAX_BYTES} bytes of one session")
        elif word == "known":
            self.is_known = True
        elif word in ("back", "bye"):
            self.close()

    def _take(self, message: Message) -> None:
        rests, self._rests = self._rests + message.data, b""
        members = Members(message.members)
        try:
            number = members.count("number")
            record = TcpRecord.parse(members)
        except MessageError:
            for fd in message.fds:
                os.close(fd)
            raise
        try:
            session = made_of(record, rests, message.fds, self._estate, self._loop)
        except Refusal as refusal:
            self._link.send(Message("refused", {"number": number, "why": str(refusal)}))
            return
        self._link.send(Message("took", {"number": number}), partial(self._confirmed, session))

    @property
    def _loop(self) -> Loop:
        return self._estate.loop

    def _confirmed(self, session: TcpSession, is_sent: bool) -> None:
        """Take a session up, now that the other side will hear that it is ours."""
        if not is_sent:
            self._undecided.append(session)
            return
        self.taken += 1
        session.take_up()

    def _ended(self, what: str) -> None:
        """Hear that nothing more will come: the other side is dead, or talks nonsense."""
        if self.is_over:
            return
        if what:
            logger.error("taking sessions over has failed: %s", what)
            self.close()
            return
        self._over()
        orphans, self._undecided = self._undecided, []
        for session in orphans:
            self.taken += 1
            session.take_up()

    def _over(self) -> None:
        """Close the lane; what waits for its confirmation to leave becomes undecided."""
        self.is_over = self.is_known = True
        self._link.close()

    def close(self) -> None:
        """Take nothing more; sessions that are not confirmed are the other side's."""
        self._over()
        undecided, self._undecided = self._undecided, []
        for session in undecided:
            session.let_go()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the sessions of the old process"

    def abort(self) -> None:
        """Take nothing more after a bug."""
        self.close()


class Takers:
    """All lanes of a process, which may have none. Created and closed as `Taker`."""

    __slots__ = ("_estate", "_takers")

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._takers: list[Taker] = []

    def begin(self, lanes: Sequence[socket.socket]) -> None:
        """Learn from the processes behind `lanes`."""
        for lane in lanes:
            try:
                self._takers.append(Taker(self._estate, lane))
            except OSError as error:
                logger.critical("no lane (%s: %s)", error.errno, error.strerror)
                lane.close()

    def await_known(self) -> None:
        """Turn the loop until they have learned everything; it serves nobody yet."""
        loop = self._estate.loop
        deadline_ms = loop.clock.now_ms + KNOWN_MS
        while not all(each.is_known for each in self._takers):
            left_ms = deadline_ms - loop.clock.now_ms
            if left_ms <= 0:
                logger.error("serving without all that the old process knows")
                return
            loop.turn(left_ms)

    def ready(self) -> None:
        """Let sessions come."""
        for taker in self._takers:
            taker.ready()

    def close(self) -> None:
        """Take nothing more."""
        for taker in self._takers:
            taker.close()
