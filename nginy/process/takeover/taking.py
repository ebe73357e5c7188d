"""The new side: a process takes over, on a lane, what another process has.

It learns what the old process knows before it serves, then says that it is ready. Each session that
comes finds its place in the new configuration, or is refused and stays where it is, as does one
that would leave no descriptors for the next new client. A session does nothing here before its
confirmation has left; the head of `messages.py` says why.

Tested in tests/process/takeover/test_giving_live.py.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from nginy.event.loop import Loop
from nginy.process.takeover import tcp_session, udp_session
from nginy.process.takeover.datagrams import deliver
from nginy.process.takeover.estate import Estate
from nginy.process.takeover.link import Link
from nginy.process.takeover.messages import REST_MAX_BYTES, Message, MessageError, MessageMembers
from nginy.process.takeover.session_record import TcpRecord
from nginy.process.takeover.tcp_session import Unmovable
from nginy.process.takeover.udp_session import UdpRecord
from nginy.proxy.tcp import TcpSession
from nginy.proxy.udp.session import UdpSession

logger = logging.getLogger("nginy.server")

OF_LISTENERS: Final = ("announced", "buckets", "counts")
KNOWN_MS: Final = 5000
"""How long a start waits for what the old process knows before it goes on without."""


class Taker:
    """Takes over what comes on one lane. Created and closed by the owner of the server."""

    __slots__ = (
        "_changed",
        "_early",
        "_estate",
        "_is_ready",
        "_link",
        "_rests",
        "_undecided",
        "is_known",
        "is_over",
        "reads",
        "taken",
    )

    def __init__(
        self, estate: Estate, sock: socket.socket, changed: Callable[[], None] = lambda: None
    ) -> None:
        """Learn what the other side knows; raises OSError. Call `changed` when it stops reading
        datagrams.
        """
        self._estate = estate
        self._changed = changed
        self.reads = True
        """Whether the other side still reads the sockets of UDP listeners."""
        self._early: list[MessageMembers] = []
        """What is known about listeners, until they exist."""
        self._is_ready = False
        self._rests = b""
        self._undecided: list[TcpSession | UdpSession] = []
        """Sessions whose confirmation could not leave: they belong to the other side, unless it is
        dead."""
        self.is_known = False
        """Whether it has learned everything."""
        self.is_over = False
        """Whether nothing more will come."""
        self.taken = 0
        """Sessions taken over so far."""
        self._link = Link(estate.loop, sock, self._received, self._ended)

    def ready(self) -> None:
        """Say that this process serves, so that sessions may come."""
        self._is_ready = True
        early, self._early = self._early, []
        for members in early:
            self._estate.learn(members)
        if not self.is_over:
            # One more than usual: without it, sessions could take the last ones, and no client
            # would be accepted before one of them ends.
            self._loop.reserve.promise()
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
        elif word == "datagram":
            deliver(message, self._estate)
        elif word == "state":
            self._learn(MessageMembers(message.members))
        elif word == "known":
            self.is_known = True
        elif word == "read":
            self.reads = False
            self._changed()
        elif word in ("back", "bye"):
            self._part(word)

    def _part(self, word: str) -> None:
        """Take nothing more, and answer a farewell."""
        if word == "bye":
            self._link.send(Message("bye", {}), lambda _is_sent: self.close())
        else:
            self.close()

    def _learn(self, members: MessageMembers) -> None:
        """Take over what the old process knows; if it is about listeners, once they exist."""
        if members.text("kind") in OF_LISTENERS and not self._is_ready:
            self._early.append(members)
        else:
            self._estate.learn(members)

    def _take(self, message: Message) -> None:
        members = MessageMembers(message.members)
        try:
            rests, self._rests = self._rests + message.data, b""
            number = members.count("number")
            is_udp = members.text("protocol") == "UDP"
            record = (UdpRecord if is_udp else TcpRecord).parse(members)
        except (MessageError, MemoryError):
            for fd in message.fds:
                os.close(fd)
            raise
        try:
            session = self._made_of(record, rests, message.fds)
        except Unmovable as refusal:
            self._link.send(Message("refused", {"number": number, "why": str(refusal)}))
            return
        self._link.send(Message("took", {"number": number}), partial(self._confirmed, session))

    def _made_of(
        self, record: TcpRecord | UdpRecord, data: bytes, fds: Sequence[int]
    ) -> TcpSession | UdpSession:
        if not self._loop.reserve.refill():
            for fd in fds:
                os.close(fd)
            raise Unmovable("as no descriptor is free")
        if isinstance(record, UdpRecord):
            return udp_session.made_of(record, data, fds, self._estate, self._loop)
        return tcp_session.made_of(record, data, fds, self._estate, self._loop)

    @property
    def _loop(self) -> Loop:
        return self._estate.loop

    def _confirmed(self, session: TcpSession | UdpSession, is_sent: bool) -> None:
        """Resume a session, now that the other side will hear that it is ours."""
        if not is_sent:
            self._undecided.append(session)
            return
        self._take_up(session)

    def _take_up(self, session: TcpSession | UdpSession) -> None:
        self.taken += 1
        try:
            session.take_up()
        except MemoryError:
            session.abort()

    def _ended(self, what: str) -> None:
        """Act on the end of the link: the other side is dead, or talks nonsense."""
        if self.is_over:
            return
        if what:
            logger.error("taking sessions over has failed: %s", what)
            self.close()
            return
        self._over()
        orphans, self._undecided = self._undecided, []
        for session in orphans:
            self._take_up(session)

    def _over(self) -> None:
        """Close the lane; sessions whose confirmations have not left become undecided."""
        if self._is_ready and not self.is_over:
            self._loop.reserve.redeem()
        self.is_over = self.is_known = True
        self._link.close()
        self.reads = False
        self._changed()

    def close(self) -> None:
        """Take nothing more; unconfirmed sessions belong to the other side."""
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
    """All lanes of a process, which may have none. Created and closed like a `Taker`."""

    __slots__ = ("_estate", "_takers")

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._takers: list[Taker] = []

    def begin(self, lanes: Sequence[socket.socket]) -> None:
        """Learn from the processes behind `lanes`."""
        self._estate.server.services.holds_datagrams = bool(lanes)
        for lane in lanes:
            try:
                self._takers.append(Taker(self._estate, lane, self._changed))
            except OSError as error:
                logger.critical("no lane (%s: %s)", error.errno, error.strerror)
                lane.close()
        self._changed()

    def _changed(self) -> None:
        """Read datagrams once no other process does."""
        if not any(each.reads for each in self._takers):
            self._estate.server.services.read_datagrams()

    def await_known(self) -> None:
        """Turn the loop, which serves nobody yet, until they have learned everything."""
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
