"""Sessions go from one process to another, here from one listener to another of the same loop."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nginy.event.loop import Loop
from nginy.event.pipe import Pipe
from nginy.process.takeover.estate import Estate
from nginy.process.takeover.giving import NEWS_MAX, PATIENCE_MS, Giver
from nginy.process.takeover.known import Grown
from nginy.process.takeover.link import link_pair
from nginy.process.takeover.messages import Message, MessageMembers, encode
from nginy.process.takeover.taking import Taker
from nginy.process.takeover.tally import Moved
from nginy.proxy.handler import ProxyHandler
from nginy.proxy.phases.limiting import Zones
from nginy.proxy.session import Session
from nginy.proxy.tcp import TcpSession

from conftest import ExpectLog
from kit.ends import End
from kit.harness import Front, Harness
from kit.leaks import no_descriptor_left
from kit.servers import EchoBackend, SilentBackend

LISTENER = "127.0.0.1:80"
BULK = bytes(range(251)) * 40_000
"""Ten megabytes: more than all buffers of the kernel on the way hold."""


class House(Estate):
    """One listener of the harness, as the estate of a process."""

    def __init__(self, front: Front, listener: str = LISTENER) -> None:
        self.front = front
        self.listener = listener
        self.is_accepting = True
        self.learned: list[int] = []
        self.tell: Callable[[Message], None] | None = None
        self.counted: Grown = {}
        self._zones = Zones()

    @property
    def loop(self) -> Loop:
        return self.front.harness.loop

    @property
    def zones(self) -> Zones:
        return self._zones

    def sessions(self) -> Iterator[Session]:
        return iter([s for s in self.front.harness.sessions() if self.front.handler.owns(s)])

    def names(self) -> dict[int, str]:
        return {id(self.front.handler.counters): self.listener}

    def towards(self, listener: str, upstream: str) -> ProxyHandler | None:
        if listener != self.listener:
            raise KeyError(listener)
        return self.front.handler.towards(upstream)

    def known(self) -> Iterator[Message]:
        return iter([Message("state", {"kind": "n", "n": n}) for n in range(10)])

    def tell_news(self, tell: Callable[[Message], None] | None) -> None:
        self.tell = tell

    def counts(self) -> Grown:
        return self.counted

    def learn(self, members: MessageMembers) -> None:
        if members.text("kind") == "n":
            self.learned.append(members.number("n"))

    def udp_handlers(self) -> Iterator[Any]:
        return iter(())

    def receivers(self) -> Iterator[Any]:
        return iter(())

    def stop_accepting(self) -> None:
        self.is_accepting = False

    def go_on_accepting(self) -> None:
        self.is_accepting = True


class Move:
    """An old and a new process with the same backend, and a lane between them."""

    def __init__(
        self, harness: Harness, name: str, new_listener: str = LISTENER, **settings: Any
    ) -> None:
        self.harness = harness
        self.old = harness.proxy(harness.pool(name), **settings)
        self.new = harness.proxy(harness.pool(name))
        self.house = House(self.old)
        self.new_house = House(self.new, new_listener)
        self.tallies: list[Moved] = []
        ours, self.far = link_pair()
        self.giver = Giver(self.house, ours, self.tallies.append)
        self.taker: Taker | None = None

    def take(self) -> None:
        """Let the new process read, and say that it serves."""
        self.taker = Taker(self.new_house, self.far)
        self.taker.ready()

    def move(self) -> Moved:
        """Let all sessions move, and return how many have."""
        self.take()
        self.harness.turn_until(lambda: self.tallies and self.tallies[-1].is_final)
        return self.tallies[-1]

    def send_off(self) -> None:
        """Let the old process send its sessions, which the new one does not read."""
        self.far.send(encode(Message("ready", {})))
        self.harness.turn_until(lambda: not any(self.house.sessions()))
        self.harness.settle()

    def close(self) -> None:
        self.giver.close()
        if self.taker is None:
            self.far.close()
        else:
            self.taker.close()


@contextlib.contextmanager
def moving(
    harness: Harness, name: str, new_listener: str = LISTENER, **settings: Any
) -> Iterator[Move]:
    move = Move(harness, name, new_listener, **settings)
    try:
        yield move
    finally:
        move.close()


def connected(harness: Harness, front: Front) -> End:
    client = front.connect()
    client.send(b"before,")
    harness.turn_until(lambda: client.received == b"before,")
    return client


def session_of(front: Front) -> TcpSession:
    (session,) = [s for s in front.harness.sessions() if front.handler.owns(s)]
    assert isinstance(session, TcpSession)
    return session


def test_sessions_go_on_in_the_new_process_and_end_there_with_one_line(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        move.new.log("$session_id $bytes_received $bytes_sent $session_time $upstream_connect_time")
        clients = [connected(harness, move.old) for _ in range(40)]
        numbers = {s.number for s in move.house.sessions()}
        harness.advance(1500)
        tally = move.move()
        assert (tally.tcp, tally.udp, tally.stays, tally.problem) == (40, 0, {}, "")
        assert move.new_house.learned == list(range(10))
        assert move.old.handler.sessions == 0
        assert {s.number for s in move.new_house.sessions()} == numbers
        for client in clients:
            client.send(b"after")
            client.finish()
        harness.turn_until(lambda: len(move.new.ended) == 40)
        assert {bytes(client.received) for client in clients} == {b"before,after"}
        assert move.old.ended == []
        assert {line.partition(" ")[2] for line in move.new.lines} == {"12 12 1.500 0.000"}
        assert move.new.handler.counters.sessions == 40


@pytest.mark.parametrize("splice", [False, True])
def test_rests_and_half_closed_sessions_lose_nothing(harness: Harness, splice: bool) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name, buffer_size=131072, splice=splice) as move:
        client = connected(harness, move.old)
        client.is_reading = False
        session = session_of(move.old)
        assert session.upstream is not None
        session.upstream.full_reads = 4  # as after a while of large reads
        backend.end.is_reading = False
        backend.end.send(BULK)
        backend.end.write_bytes = len(BULK)
        client.send(BULK)
        client.finish()
        harness.settle()
        backend.end.is_reading = True
        assert session.upstream.buffer is not None
        assert isinstance(session.upstream.buffer, Pipe) is splice
        assert move.move().tcp == 1
        client.is_reading = True
        harness.turn_until(lambda: client.has_eof)
        assert bytes(client.received) == b"before," + 2 * BULK
        ended = move.new.only()
        assert ended.termination == "--"
        assert ended.bytes_received == ended.bytes_sent - len(BULK) == len(BULK) + 7


def test_an_end_that_waits_for_its_delivery_goes_on_waiting(
    harness: Harness, expect_log: ExpectLog
) -> None:
    backend = harness.add(SilentBackend())
    with moving(harness, backend.name) as move:
        client = move.old.connect()
        client.is_reading = False
        harness.turn_until(lambda: backend.ends)
        backend.end.send(BULK)
        harness.settle()
        backend.end.is_reading = True
        backend.end.reset()
        harness.settle()
        assert move.move().tcp == 1
        client.is_reading = True
        with expect_log("backend reset the connection"):
            while not move.new.ended:
                harness.settle(1)
                harness.advance(400)
        harness.settle()
        assert move.new.only().termination == "SD"
        assert client.was_reset
        assert BULK.startswith(bytes(client.received))


def test_idle_sessions_have_as_much_time_left_as_before(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        connected(harness, move.old)
        harness.advance(400_000)
        move.move()
        harness.advance(199_000)
        assert move.new.ended == []
        harness.advance(1_020)
        assert move.new.only().termination == "cD"


@pytest.mark.parametrize(
    ("listener", "why"),
    [("127.0.0.1:81", f"of listener {LISTENER}, which the new process lacks"), (LISTENER, "")],
)
def test_a_session_without_a_place_in_the_new_process_stays(
    harness: Harness, listener: str, why: str
) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name, listener) as move:
        if not why:
            move.new.handler = harness.proxy(harness.pool("127.0.0.1:9")).handler
            why = f"with backend backends/{backend.name}, which the new process lacks"
        client = connected(harness, move.old)
        tally = move.move()
        assert (tally.tcp, dict(tally.stays)) == (0, {why: 1})
        client.send(b"after")
        harness.turn_until(lambda: client.received == b"before,after")


def test_a_session_that_is_not_established_yet_moves_once_it_is(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        client = move.old.connect()
        harness.settle()
        session = session_of(move.old)
        session.attempt.connected_at_ms, established = None, session.attempt.connected_at_ms
        move.take()
        harness.turn_until(lambda: move.tallies)
        assert (move.tallies[-1].pending, move.tallies[-1].is_final) == (1, False)
        session.attempt.connected_at_ms = established
        harness.advance(1000)
        harness.turn_until(lambda: move.tallies[-1].is_final)
        assert move.tallies[-1].tcp == 1
        client.send(b"now")
        harness.turn_until(lambda: client.received == b"now")


def test_sessions_with_one_number_move_one_after_the_other(harness: Harness) -> None:
    """One of them has come from the process before, which had counted as far."""
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        clients = [connected(harness, move.old) for _ in range(3)]
        for session in move.house.sessions():
            session.client.number = 7
        move.take()
        while not (move.tallies and move.tallies[-1].is_final):
            harness.settle(1)
            harness.advance(100)
        assert (move.tallies[-1].tcp, move.tallies[-1].problem) == (3, "")
        for client in clients:
            client.send(b"after")
        harness.turn_until(lambda: all(c.received == b"before,after" for c in clients))


def test_what_the_new_process_has_not_confirmed_before_its_end_goes_on_in_the_old_one(
    harness: Harness, expect_log: ExpectLog
) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        client = connected(harness, move.old)
        move.send_off()
        client.send(b"meanwhile,")
        harness.settle()
        assert client.received == b"before,"
        move.far.close()
        with expect_log("1 session on the way to the new process, and here again"):
            harness.turn_until(lambda: client.received == b"before,meanwhile,")
        assert move.tallies[-1].problem
        move.giver.take_back()
        assert move.house.is_accepting


@pytest.mark.parametrize("what", ["answers", "dies", "stops"])
def test_the_hand_over_is_over_once_the_new_process_has_read_everything(
    harness: Harness, what: str
) -> None:
    """What comes later on another link must not overtake it: somebody may have told the new process
    to end as soon as the old one is done.
    """
    backend = harness.add(SilentBackend())
    with moving(harness, backend.name) as move:
        move.far.send(encode(Message("ready", {})))
        move.far.setblocking(False)
        harness.turn_until(lambda: b'"bye"' in received(move.far))
        assert move.house.tell is None
        harness.advance(PATIENCE_MS - 10)
        assert not any(tally.is_final for tally in move.tallies)
        if what == "answers":
            move.far.send(encode(Message("bye", {})))
        elif what == "dies":
            move.far.close()
        else:
            harness.advance(20)
        harness.turn_until(lambda: move.tallies and move.tallies[-1].is_final)
        problems = {"answers": "", "dies": "ended the link", "stops": "no answer for 10 s"}
        assert problems[what] in move.tallies[-1].problem
        assert bool(move.tallies[-1].problem) == (what != "answers")
        harness.advance(PATIENCE_MS)
        move.giver.take_back()  # the new process has died
        harness.settle()
        assert move.house.is_accepting
        assert len(move.tallies) == 1


def test_a_farewell_that_comes_too_early_ends_nothing(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        connected(harness, move.old)
        move.send_off()
        move.far.send(encode(Message("bye", {})))
        harness.settle()
        assert not move.tallies
        move.far.send(encode(Message("took", {"number": 1})))
        harness.turn_until(lambda: b'"bye"' in received(move.far))
        move.far.send(encode(Message("bye", {})))
        harness.turn_until(lambda: move.tallies and move.tallies[-1].is_final)
        assert (move.tallies[-1].tcp, move.tallies[-1].problem) == (1, "")


def test_a_farewell_is_answered_and_ends_the_lane(harness: Harness) -> None:
    backend = harness.add(SilentBackend())
    with moving(harness, backend.name) as move:
        ours, theirs = link_pair()
        ours.setblocking(False)
        with ours:
            taker = Taker(move.new_house, theirs)
            ours.send(encode(Message("bye", {})))
            harness.turn_until(lambda: taker.is_over)
            assert b'"bye"' in received(ours)
            assert ours.recv(1) == b""


def received(sock: socket.socket) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return sock.recv(1 << 17)
    return b""


def test_what_the_old_process_takes_back_the_new_one_drops(
    harness: Harness, expect_log: ExpectLog
) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        client = connected(harness, move.old)
        move.send_off()
        with expect_log("1 session on the way to the new process, and here again"):
            harness.advance(PATIENCE_MS + 10)
            harness.turn_until(lambda: any(move.house.sessions()))
        move.take()
        harness.settle()
        assert not any(move.new_house.sessions())
        assert move.new.handler.sessions == 0
        client.send(b"after")
        harness.turn_until(lambda: client.received == b"before,after")


def test_what_a_dead_process_has_sent_belongs_to_the_new_one(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        client = connected(harness, move.old)
        move.send_off()
        move.giver.close()
        client.send(b"after")
        harness.settle()
        assert client.received == b"before,"
        move.take()
        harness.turn_until(lambda: client.received == b"before,after")
        assert (move.old.handler.sessions, move.new.handler.sessions) == (0, 1)


def test_news_for_a_process_that_does_not_read_have_a_bound(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        tell = move.house.tell
        assert tell is not None
        for _ in range(2 * NEWS_MAX):
            tell(Message("state", {"kind": "n", "n": 99}))
        move.take()
        harness.turn_until(lambda: move.tallies and move.tallies[-1].is_final)
        assert NEWS_MAX <= move.new_house.learned.count(99) < 2 * NEWS_MAX
        assert move.house.tell is None


def test_sessions_move_once_what_is_known_has_left_the_lane(harness: Harness) -> None:
    """The new process says that it serves before it has read all of it, as after a time limit."""
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        names = (str(number).rjust(1000) for number in range(6000))
        move.house.counted.update({("listener", name): {"sessions": 1} for name in names})
        client = connected(harness, move.old)
        assert move.move().tcp == 1
        client.send(b"after")
        harness.turn_until(lambda: client.received == b"before,after")


class StarvedBuffer:
    """The rest of a session: there is no memory for a copy of it."""

    def __init__(self, c: Any) -> None:
        self.pos = 0
        self._c = c

    def __len__(self) -> int:
        return 0

    @property
    def memory(self) -> bytes:
        self._c.buffer = None
        raise MemoryError


class StarvedInterest:
    """What a loop watches: for the first connection that comes, there is no memory."""

    def __init__(self, interest: Any) -> None:
        self.interest = interest
        self.is_starved = True

    def add(self, c: Any) -> None:
        if self.is_starved:
            self.is_starved = False
            raise MemoryError
        self.interest.add(c)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.interest, name)


def test_a_session_for_whose_message_there_is_no_memory_stays(
    harness: Harness, expect_log: ExpectLog
) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        client = connected(harness, move.old)
        (session,) = move.house.sessions()
        buffer: Any = StarvedBuffer(session.client)
        session.client.buffer = buffer
        with expect_log("out of memory"), expect_log("1 session on the way to the new process"):
            move.move()
        client.send(b"after")
        harness.turn_until(lambda: client.received == b"before,after")


def test_a_session_for_whose_connections_there_is_no_memory_stays(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        client = connected(harness, move.old)
        move.send_off()
        interest: Any = StarvedInterest(harness.loop.interest)
        move.take()
        harness.loop.interest = interest
        harness.turn_until(lambda: move.tallies and move.tallies[-1].is_final)
        why = "as the new process has no room (out of memory)"
        assert dict(move.tallies[-1].stays) == {why: 1}
        assert move.new.handler.sessions == 0
        client.send(b"after")
        harness.turn_until(lambda: client.received == b"before,after")


@pytest.mark.parametrize("where", ["old", "new", "new of a dead one"])
def test_a_session_without_memory_to_go_on_ends_and_no_other_one(
    harness: Harness, expect_log: ExpectLog, where: str
) -> None:
    starved: list[TcpSession] = []

    class StarvedSession(TcpSession):
        __slots__ = ()

        def take_up(self) -> None:
            if not starved:
                starved.append(self)
                raise MemoryError
            super().take_up()

    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        handler: Any = (move.old if where == "old" else move.new).handler
        handler.session_class = StarvedSession
        clients = [connected(harness, move.old) for _ in range(2)]
        move.send_off()
        with contextlib.ExitStack() as stack:
            stack.enter_context(expect_log("no descriptor, port or memory"))
            if where == "old":
                stack.enter_context(expect_log("2 sessions on the way"))
                move.far.close()
            else:
                if where != "new":
                    move.giver.close()
                move.take()
            harness.turn_until(lambda: any(client.was_reset for client in clients))
        (alive,) = [client for client in clients if not client.was_reset]
        alive.send(b"after")
        harness.turn_until(lambda: alive.received == b"before,after")


def test_a_session_stays_where_the_new_process_has_no_room(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        client = connected(harness, move.old)
        move.send_off()
        harness.loop.max_connections = 3
        move.take()
        harness.turn_until(lambda: move.tallies and move.tallies[-1].is_final)
        assert dict(move.tallies[-1].stays) == {"as worker_connections are used up": 1}
        client.send(b"after")
        harness.turn_until(lambda: client.received == b"before,after")


def test_a_session_stays_that_would_leave_no_descriptors_for_a_new_client(
    harness: Harness,
) -> None:
    backend = harness.add(EchoBackend())
    with moving(harness, backend.name) as move:
        client = connected(harness, move.old)
        move.send_off()
        with no_descriptor_left() as free_one:
            move.take()
            for _ in range(2):  # just what the session takes
                free_one()
            harness.turn_until(lambda: move.tallies and move.tallies[-1].is_final)
        assert dict(move.tallies[-1].stays) == {"as no descriptor is free": 1}
        client.send(b"after")
        harness.turn_until(lambda: client.received == b"before,after")
        move.close()
        assert harness.loop.reserve.refill()
        assert len(connected(harness, move.new).received) == len(b"before,")
