"""The old side: a process hands its sessions over on a lane, one by one; the others go on
meanwhile.

    KNOWING   tells what it knows; sessions go on as ever
    MOVING    since `ready`: accepts nobody, and goes through its sessions in passes. One that can
              move stops and is sent; one that cannot move yet is looked at again in the next pass
    LEAVING   nothing is left that will move; the other side has not read all of it yet
    OVER      the other side has read everything, or is gone

A giver works in slices, a few sessions in each turn, and no more than `WINDOW` of them are on their
way at a time. Whatever goes wrong, it resumes the sessions that the other side has not confirmed;
the head of `messages.py` says how both know which ones these are.

`upgrade.py` makes givers, and decides what follows.
"""

import enum
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.process.takeover.datagrams import Forwarding
from nginy.process.takeover.estate import Estate
from nginy.process.takeover.known import growth
from nginy.process.takeover.link import Link
from nginy.process.takeover.messages import Message, MessageError, MessageMembers, pieces
from nginy.process.takeover.offers import PENDING, Movable, parts_of, resume, why_unmovable
from nginy.process.takeover.tally import Moved
from nginy.proxy.movable import SOON
from nginy.proxy.session import Session
from nginy.proxy.tcp import TcpSession
from nginy.proxy.udp.session import UdpSession
from nginy.text.counts import counted

logger = logging.getLogger("nginy.server")

WINDOW: Final = 32
"""Sessions on their way at a time, since their descriptors wait in the link."""
OFFERS_A_TURN: Final = 4
"""Sessions sent in one turn: some 0.5 ms, as datagrams of other clients must not wait long."""
LOOKS_A_TURN: Final = 500
"""Sessions looked at in one turn."""
BACKLOG_MAX: Final = 16
"""With more messages than this waiting for room, no further session stops."""
STATES_A_TURN: Final = 4
"""Messages in one turn about what is known; each takes some 0.3 ms to make."""
NEWS_MAX: Final = 5000
"""With more messages than this waiting, no announcement is added; they have some 10 MB. A new
process that starts slowly leaves fewer; one that has stopped must not fill our memory."""
PASS_MS: Final = 20
"""The time to the second pass; it doubles from pass to pass."""
PASS_MAX_MS: Final = 500
PATIENCE_MS: Final = 10_000
"""How long the other side may leave sessions unconfirmed, or the farewell unanswered."""


class Stage(enum.Enum):
    """What a giver is doing."""

    KNOWING = "knowing"
    MOVING = "moving"
    LEAVING = "leaving"
    OVER = "over"


class Giver:
    """Hands over what one process has. Created and closed by the owner of its server."""

    __slots__ = (
        "_counts",
        "_datagrams",
        "_estate",
        "_failed",
        "_in_flight",
        "_link",
        "_loop",
        "_names",
        "_pass",
        "_pass_ms",
        "_patience",
        "_refusals",
        "_report",
        "_seen",
        "_sent",
        "_stays",
        "_telling",
        "_timer",
        "stage",
        "tally",
    )

    def __init__(
        self, estate: Estate, sock: socket.socket, report: Callable[[Moved], None]
    ) -> None:
        """Call `report` after each pass with how far it has come. Raises OSError."""
        self._estate = estate
        self._loop: Loop = estate.loop
        self._report = report
        self.stage = Stage.KNOWING
        self.tally = Moved()
        """The outcome so far."""
        self._in_flight: dict[int, Movable] = {}
        self._sent: set[int] = set()
        """The numbers of those whose messages have left."""
        self._refusals: dict[Session, str] = {}
        """The sessions that the other side has refused, and why."""
        self._seen: set[Session] = set()
        """The sessions that this pass has met."""
        self._pass: Iterator[Session] | None = None
        self._pass_ms = PASS_MS
        self._names: dict[int, str] = {}
        self._stays: Counter[str] = Counter()
        self._failed = ""
        self._timer = Timer(self._next_pass_handler, self)
        self._patience = Timer(self._patience_handler, self)
        self._link = Link(self._loop, sock, self._received, self._ended)
        self._datagrams = Forwarding(estate, self._link, self._go_on)
        self._counts = estate.counts()
        """The counts as they were last sent."""
        estate.tell_news(self._tell_news)
        self._telling: Iterator[Message] | None = estate.known()
        self._loop.soon(self._tell_some, self)

    def _tell_some(self) -> None:
        """Send some of what is known, and the rest once this has left."""
        for number in range(STATES_A_TURN):
            if self._telling is None or not self._link.is_open:
                return
            message = next(self._telling, None)
            if message is None:
                self._telling = None
                for each in growth(self._counts, {}):
                    self._link.send(each)
                self._link.send(Message("known", {}), self._go_on)
            else:
                self._link.send(message, None if number + 1 < STATES_A_TURN else self._told)

    def _told(self, is_sent: bool) -> None:
        if is_sent:
            self._loop.soon(self._tell_some, self)

    def _tell_news(self, message: Message) -> None:
        """Send an announcement, unless the other side does not read."""
        if self._link.backlog < NEWS_MAX:
            self._link.send(message, self._go_on)

    # What the other side says.

    def _received(self, message: Message) -> None:
        members = MessageMembers(message.members)
        if message.word == "ready" and self.stage is Stage.KNOWING:
            self.stage = Stage.MOVING
            self._estate.stop_accepting()
            self._datagrams.begin()
            self._begin_pass()
        elif message.word == "took":
            session = self._arrived(members.number("number"))
            if isinstance(session, UdpSession):
                self.tally.udp += 1
            else:
                self.tally.tcp += 1
            session.let_go()
            self._go_on()
        elif message.word == "refused":
            session = self._arrived(members.number("number"))
            why = self._refusals[session] = members.text("why")
            self._stays[why] += 1
            resume(session)
            self._go_on()
        elif message.word == "bye" and self.stage is Stage.LEAVING:
            self.stage = Stage.OVER
            self._stop()
            self.tally.is_final = True
            self._report(self.tally)

    def _arrived(self, number: int) -> Movable:
        session = self._in_flight.pop(number, None)
        if session is None:
            raise MessageError(f"session {number} was not on its way")
        self._sent.discard(number)
        self._watch_patience()
        return session

    # The passes.

    def _begin_pass(self) -> None:
        self._names = self._estate.names()
        self._seen = set()
        self._stays = Counter()
        self._pass = self._estate.sessions()
        self._loop.soon(self._work, self)

    def _next_pass_handler(self, _timer: Timer) -> None:
        self._begin_pass()

    def _go_on(self, _is_sent: bool = True) -> None:
        if self.stage is Stage.MOVING and self._pass is not None:
            self._loop.soon(self._work, self)

    def _work(self) -> None:
        """Go on with the pass, as far as there is room and a short turn allows."""
        if self.stage is not Stage.MOVING or self._pass is None:
            return
        offers = 0
        for _ in range(LOOKS_A_TURN):
            if offers >= OFFERS_A_TURN:
                break
            if len(self._in_flight) >= WINDOW or self._link.backlog >= BACKLOG_MAX:
                return  # an answer, or room, calls again
            session = next(self._pass, None)
            if session is None:
                self._end_pass()
                return
            if session not in self._seen and session.end is None:
                self._seen.add(session)
                offers += self._look_at(session)
        self._loop.soon(self._work, self)

    def _look_at(self, session: Session) -> bool:
        """Send a session if it can move, and return whether it was sent; otherwise note why not."""
        why = self._why_not(session)
        if not why and isinstance(session, Movable):
            return self._offer(session)
        self._stays[why] += 1
        return False

    def _why_not(self, session: Session) -> str:
        if session in self._refusals:
            return self._refusals[session]
        if id(session.handler.counters) not in self._names or session.number in self._in_flight:
            # Two sessions may have the same number, if one came from an earlier process.
            return SOON
        return why_unmovable(session)

    def _offer(self, session: Movable) -> bool:
        number = session.number
        session.halt()
        self._in_flight[number] = session  # from here on, any failure resumes it
        record, rests, fds = parts_of(
            session, self._names[id(session.handler.counters)], self._estate.zones
        )
        *firsts, last = pieces(rests) if isinstance(session, TcpSession) else [rests]
        message = Message("session", record.to_json(), last, fds)
        try:
            for data in firsts:
                self._link.send(Message("rest", {"number": number}, data))
            self._link.send(message, partial(self._left, number))
        except MessageError as error:
            del self._in_flight[number]
            self._refusals[session] = f"of which too much is known ({error})"
            self._stays[self._refusals[session]] += 1
            resume(session)
            return False
        if not self._patience.is_running:
            self._watch_patience()
        return True

    def _left(self, number: int, is_sent: bool) -> None:
        """Note that a session has left, or never will."""
        if is_sent:
            self._sent.add(number)
            self._go_on()

    def _end_pass(self) -> None:
        """See what is left; with sessions on their way, the last answer calls this again."""
        if self._in_flight:
            self._pass = iter(())
            return
        self._pass = None
        self._datagrams.finish()
        before, self._counts = self._counts, self._estate.counts()
        for message in growth(self._counts, before):
            self._link.send(message)
        tally = self.tally
        tally.stays = self._stays
        tally.pending = sum(count for what, count in tally.stays.items() if what in PENDING)
        # There is no need to remember sessions that have ended.
        self._refusals = {each: why for each, why in self._refusals.items() if each.end is None}
        if tally.pending:
            self._loop.timers.start(self._timer, self._loop.clock.now_ms + self._pass_ms)
            self._pass_ms = min(2 * self._pass_ms, PASS_MAX_MS)
            self._report(tally)
        else:
            self._take_leave()

    def _take_leave(self) -> None:
        """Say that this was all, and wait until the other side has read it.

        `upgrade.py` speaks on another link, where it could be heard first. Then the other side, if
        it has got a QUIT, would retire its listeners before it has read the last datagrams.
        """
        self.stage = Stage.LEAVING
        self._estate.tell_news(None)
        self._link.send(Message("bye", {}))
        self._loop.timers.start(self._patience, self._loop.clock.now_ms + PATIENCE_MS)

    # When it ends early.

    def _watch_patience(self) -> None:
        if self._in_flight:
            deadline_ms = self._loop.clock.now_ms + PATIENCE_MS
            self._loop.timers.start(self._patience, deadline_ms)
        else:
            self._loop.timers.cancel(self._patience)

    def _patience_handler(self, _timer: Timer) -> None:
        self._give_up(f"no answer for {PATIENCE_MS // 1000} s")

    def _ended(self, what: str) -> None:
        """Go on with the sessions that the other side has not confirmed before its end."""
        if self.stage is not Stage.OVER:
            self._give_up(what or "the new process has ended the link", is_gone=not what)

    def take_back(self) -> None:
        """Keep everything that the other side has not got, and accept again: it has failed."""
        if self.stage is not Stage.OVER:
            self._give_up("the new process has failed")
        self._estate.go_on_accepting()
        self._datagrams.take_back()

    def _give_up(self, why: str, *, is_gone: bool = False) -> None:
        """Move nothing more, and take up what is on its way."""
        self.stage = Stage.OVER
        self._loop.timers.cancel(self._timer)
        self._loop.timers.cancel(self._patience)
        self._pass = None
        self._failed = why
        if is_gone or not self._in_flight:
            self._take_up_all(True)
            return
        self._link.cut_off()  # this reads all confirmations; later ones cannot leave
        self._link.send(Message("back", {}), self._take_up_all)

    def _take_up_all(self, _is_sent: bool) -> None:
        """Go on with all sessions that were on their way: they are ours now, or nobody else's."""
        sessions = list(self._in_flight.values())
        self._in_flight.clear()
        self._sent.clear()
        self._stop()
        for session in sessions:
            resume(session)
        if sessions:
            text = "%s on the way to the new process, and here again"
            logger.warning(text, counted(len(sessions), "session"))
        self.tally.is_final, self.tally.problem = True, self._failed
        self._report(self.tally)

    def _stop(self) -> None:
        self._estate.tell_news(None)
        self._loop.timers.cancel(self._timer)
        self._loop.timers.cancel(self._patience)
        self._link.close()

    def close(self) -> None:
        """End along with the process. What has left belongs to the other side, if it takes it."""
        self.stage = Stage.OVER
        self._link.cut_off()
        for number, session in self._in_flight.items():
            if number in self._sent:
                session.let_go()
            else:
                resume(session)
        self._in_flight.clear()
        self._stop()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the hand-over of sessions"

    def abort(self) -> None:
        """Move nothing more after a bug."""
        self._give_up("a bug")
