"""A crowd around a running nginy: clients and backends, TCP and UDP, whose sessions last.

    with Crowd(seed) as crowd:
        ...  # start nginy in front of crowd.tcp_backend() and crowd.udp_backend()
        crowd.arrive(1000, tcp_address, 1000, udp_address)
        crowd.hear_from_all()
        ...  # whatever happens to nginy; meanwhile call `step`
        for ended in crowd.finish():
            ...  # what the access log has to say

Both ends of each session are in one selector (`kit.flows`). At most `IN_FLIGHT` datagrams are under
way, so that the kernel's buffers never have a reason to drop one.

Not here: nginy, and what happens to it (`kit.takeover`). `kit.traffic` has messages and echoes,
which is enough where nothing is said about time, half-closes and readers that are stuck.
"""

import collections
import contextlib
import heapq
import itertools
import random
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from kit.flows import MAX_BYTES, PATTERN_BYTES, Caller, Side, SockAddr, connecting
from kit.servers import address_text

HELLO_BYTES = 8
IN_FLIGHT = 64
CONNECTING = 100
SMALL_BYTES = 200_000
"""More than the reader's own buffer holds, and less than all buffers on the way."""
LAST_SHARE = 0.1
BUFFER_BYTES = 32768
PATIENCE_S = 30.0
LOST_S = 20.0
AGAIN_S = 1.0
STEP_S = 0.005
NEWCOMER_S = 0.02
"""The time from one newcomer to the next."""
SHOWN_PAUSES = 5

KINDS = {"paced": 68, "half": 20, "bulk": 2, "idle": 10}
"""How many of a hundred sessions, and at least two, send now and then; do so until one side ends
early; send as much as the other side takes, which stops reading; are silent until the end."""


@dataclass
class Session:
    """A TCP session: its two ends, and what the access log has to say in the end."""

    number: int
    kind: str
    client: Side
    server: Side
    address: str = ""
    """The client's own."""
    began_s: float = 0.0
    ended_s: float = 0.0

    @property
    def is_established(self) -> bool:
        """Whether both ends know of each other."""
        return self.server.sock is not None

    @property
    def bytes_received(self) -> int:
        """What the client has sent."""
        return HELLO_BYTES + self.client.sent


class Crowd:
    """Owns everything around nginy; leaving the `with` block closes it."""

    def __init__(self, seed: int, slowest_s: float = 2.0) -> None:
        """Make each end that sends now and then do so every `slowest_s` seconds at least."""
        self.slowest_s = slowest_s
        self.rng = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        data = self.rng.randbytes(PATTERN_BYTES)
        self.pattern = data + data[:MAX_BYTES]
        self.context = ""
        self.sessions: dict[int, Session] = {}
        self.callers: list[Caller] = []
        self.ended: list[Session] = []
        """The sessions that are over, those of newcomers among them."""
        self.may_cut = False
        """Whether sessions may end early, because the process that had them was killed."""
        self.cut: list[Session] = []
        """Those that did. Their bytes were right until then."""
        self.anew: set[str] = set()
        """The callers whose sessions did."""
        self.newcomers = 0
        """How many clients come and go at a time."""
        self.watch: Callable[[], None] = lambda: None
        """Called with each step."""
        self.pauses: list[tuple[float, str]] = []
        """The longest times that something was under way, in milliseconds."""
        self.own_ms = 0.0
        """The longest time that the crowd itself needed for a step."""
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._newcomers = 0
        self._is_leaving = False
        self._in_flight = 0
        self._patient: collections.deque[Caller] = collections.deque()
        self._udp_sessions: dict[bytes, SockAddr] = {}
        self._tcp_address: SockAddr = ("", 0)
        self._coming: set[int] = set()
        self._looked_s = self._next_s = 0.0

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for session in self.sessions.values():
            session.client.close()
            session.server.close()
        for key in list(self.selector.get_map().values()):
            self.selector.unregister(key.fileobj)
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self.selector.close()

    # Backends.

    def tcp_backend(self) -> str:
        """Listen for the server's ends of the sessions; return the address."""
        server = socket.socket()
        server.setblocking(False)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        server.bind(("127.0.0.1", 0))
        server.listen(4096)
        self.selector.register(server, selectors.EVENT_READ, lambda _mask: self._accept(server))
        return address_text(server)

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = server.accept()
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ, lambda _mask: self._hear(sock))

    def _hear(self, sock: socket.socket) -> None:
        """Learn whose session this is."""
        try:
            hello = sock.recv(HELLO_BYTES)
        except ConnectionError:
            hello = b""
        self.selector.unregister(sock)
        session = self.sessions.get(int(hello or b"-1"))
        if session is None:
            assert self.may_cut, f"a session began with {hello!r}; {self.context}"
            sock.close()
            return
        assert not session.is_established, f"{session.client} is connected twice"
        session.server.attach(sock)
        self._begin(session)

    def udp_backend(self) -> str:
        """Serve echoes of datagrams; return the address."""
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))

        def echo(_mask: int) -> None:
            data, sender = sock.recvfrom(MAX_BYTES)
            name = data.split()[0]
            known = self._udp_sessions.setdefault(name, sender)
            assert known == sender or self.may_cut, f"{data!r} came anew; {self.context}"
            if known != sender:
                self._udp_sessions[name] = sender
                self.anew.add(name.decode())
            sock.sendto(data, sender)

        self.selector.register(sock, selectors.EVENT_READ, echo)
        return address_text(sock)

    # Clients.

    def arrive(
        self, sessions: int, tcp: SockAddr, callers: int = 0, udp: SockAddr = ("", 0)
    ) -> None:
        """Begin this many sessions, and return when all are established."""
        self._tcp_address = tcp
        kinds = [
            kind for kind, share in KINDS.items() for _ in range(max(sessions * share // 100, 2))
        ]
        self.rng.shuffle(kinds)
        for kind in kinds:
            self.step_until(lambda: len(self._coming) < CONNECTING, "room for another client")
            self._connect(kind)
        self.step_until(lambda: not self._coming, "all sessions to be established")
        for number in range(callers):
            caller = Caller(self, f"u{number}", udp)
            self.callers.append(caller)
            caller.call()
        self.step_until(lambda: all(caller.calls for caller in self.callers), "first answers")

    def _connect(self, kind: str) -> None:
        number = next(self._count)
        is_timed = kind in ("paced", "half")
        client = Side(self, f"client {number} ({kind})", is_timed)
        server = Side(self, f"server {number} ({kind})", is_timed)
        client.peer, server.peer = server, client
        session = self.sessions[number] = Session(number, kind, client, server)
        self._coming.add(number)
        sock = connecting(self._tcp_address, socket.SOCK_STREAM, BUFFER_BYTES)
        session.began_s = time.monotonic()

        def connected(_mask: int) -> None:
            self.selector.unregister(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            assert not code, f"{client} is not connected ({code}); {self.context}"
            session.address = address_text(sock)
            client.attach(sock)
            assert sock.send(b"%08d" % number) == HELLO_BYTES

        self.selector.register(sock, selectors.EVENT_WRITE, connected)

    def _begin(self, session: Session) -> None:
        """Make an established session behave as its kind does."""
        self._coming.discard(session.number)
        sides = (session.client, session.server)
        now_s = time.monotonic()
        if session.kind in ("paced", "half"):
            for side in sides:
                self.at(now_s + self.rng.random(), side.send_now_and_then)
        if session.kind == "half":
            self.at(now_s + self.rng.uniform(0, 10 * self.slowest_s), self.rng.choice(sides).finish)
        if session.kind == "newcomer":
            for side in sides:
                side.owe(self.rng.randrange(20_000))
                side.finish()

    def stick(self, share: float = 1.0) -> None:
        """Make bulk sessions send to a side that does not read, or that stops after a while.

        Some of them end their stream as well, so that its end waits behind the bytes.
        """
        for session in self._bulk(share):
            sides = [session.client, session.server]
            self.rng.shuffle(sides)
            source, sink = sides
            if source.total is not None or not sink.is_reading:
                continue
            sink.stop_at = sink.received + self.rng.choice((0, 1 << 18, 1 << 20))
            is_last = self.rng.random() < LAST_SHARE
            if sink.stop_at == sink.received:
                sink.is_reading = False
                sink.watch()
            if is_last:
                source.owe(SMALL_BYTES)
                source.finish()
            else:
                source.flood()

    def unstick(self, share: float = 1.0) -> None:
        """Let the sides that stopped reading read on."""
        for session in self._bulk(share):
            session.client.resume()
            session.server.resume()

    def _bulk(self, share: float) -> list[Session]:
        bulk = [session for session in self.sessions.values() if session.kind == "bulk"]
        return self.rng.sample(bulk, round(share * len(bulk)))

    def stuck(self) -> int:
        """How many ends have sent what fills all buffers on its way."""
        return sum(s.client.is_stuck + s.server.is_stuck for s in self.sessions.values())

    # What the ends say.

    def at(self, when_s: float, call: Callable[[], None]) -> None:
        """Make a call at that time."""
        heapq.heappush(self._timers, (when_s, next(self._count), call))

    def waited(self, seconds: float, who: str) -> None:
        """Note how long something was under way."""
        if len(self.pauses) < SHOWN_PAUSES:
            heapq.heappush(self.pauses, (seconds * 1000, who))
        elif seconds * 1000 > self.pauses[0][0]:
            heapq.heapreplace(self.pauses, (seconds * 1000, who))

    def forget_pauses(self) -> tuple[float, str]:
        """Return the longest pause, and begin anew."""
        longest = max(self.pauses, default=(0.0, "nobody"))
        self.pauses.clear()
        self.own_ms = 0.0
        return longest

    def is_over(self, side: Side) -> None:
        """Learn that one direction of a session is over."""
        peer = side.peer
        if side.has_fin and side.has_eof and peer.has_fin and peer.has_eof:
            number = int(side.name.split()[1])
            session = self.sessions.pop(number)
            session.ended_s = time.monotonic()
            self._newcomers -= session.kind == "newcomer"
            self.ended.append(session)
            side.close()
            peer.close()

    def is_cut(self, side: Side, why: str) -> bool:
        """Learn that an end hears nothing more; return whether that may be."""
        if self.may_cut:
            session = self.sessions.pop(int(side.name.split()[1]))
            self._newcomers -= session.kind == "newcomer"
            self._coming.discard(session.number)
            self.cut.append(session)
            session.client.close()
            session.server.close()
        return self.may_cut

    def may_call(self, caller: Caller) -> bool:
        """Tell whether one datagram more may be under way; if not, the caller is asked later."""
        if self._is_leaving:
            return False
        if self._in_flight >= IN_FLIGHT:
            self._patient.append(caller)
            return False
        self._in_flight += 1
        return True

    def is_answered(self, _caller: Caller) -> None:
        """Learn that a caller has its answer."""
        self._in_flight -= 1
        if self._patient:
            self._patient.popleft().call()

    # Time.

    def step(self) -> None:
        """Do what can be done now; wait a little where that is nothing."""
        self.watch()
        began_s = time.monotonic()
        while self._timers and self._timers[0][0] <= began_s:
            heapq.heappop(self._timers)[2]()
        if self._newcomers < self.newcomers and began_s >= self._next_s:
            self._next_s = began_s + NEWCOMER_S
            self._newcomers += 1
            self._connect("newcomer")
        if began_s - self._looked_s > 1:
            self._looked_s = began_s
            for caller in self.callers if self.may_cut else ():
                if began_s - caller.said_at_s > AGAIN_S:
                    caller.call_again()
            lost = [c.name for c in self.callers if c.is_waiting and began_s - c.said_at_s > LOST_S]
            assert not lost, f"{lost} have no answer; {self.context}"
        batch = self.selector.select(STEP_S)
        began_s = time.monotonic()
        for key, mask in batch:
            key.data(mask)
        self.own_ms = max(self.own_ms, 1000 * (time.monotonic() - began_s))

    def step_until(
        self, condition: Callable[[], object], waiting_for: str, patience_s: float = PATIENCE_S
    ) -> None:
        """Go on until `condition()` is true."""
        deadline_s = time.monotonic() + patience_s
        while not condition():
            is_late = time.monotonic() > deadline_s
            assert not is_late, f"waited in vain for {waiting_for}; {self.context}; {self.left()}"
            self.step()

    def left(self) -> str:
        """Describe some of the sessions that there are."""
        shown = [repr(side) for s in self.sessions.values() for side in (s.client, s.server)]
        return f"{len(self.sessions)} sessions: " + " ".join(shown[:6])

    def hear_from_all(self) -> None:
        """Go on until each side that sends now and then was heard once more, and each caller."""
        sides = [
            side
            for session in self.sessions.values()
            for side in (session.client, session.server)
            if side.is_timed and not side.peer.has_fin
        ]
        before = [side.received for side in sides]
        calls = [caller.calls for caller in self.callers]

        def are_heard() -> bool:
            return all(
                side.received > count or side.has_eof or side.sock is None
                for side, count in zip(sides, before, strict=True)
            ) and all(
                caller.calls > count for caller, count in zip(self.callers, calls, strict=True)
            )

        self.step_until(are_heard, "everybody to be heard again")

    def finish(self) -> list[Session]:
        """Let all read to the end, and end; return what there was."""
        self.newcomers = 0
        self._is_leaving = True
        self.step_until(lambda: not self._coming, "those who have just come")
        for session in list(self.sessions.values()):
            for side in (session.client, session.server):
                side.resume()
                side.finish()
        self.step_until(lambda: not self.sessions, "the end of all sessions")
        self.step_until(lambda: not any(c.is_waiting for c in self.callers), "the last answers")
        for caller in self.callers:
            caller.close()
        return self.ended
