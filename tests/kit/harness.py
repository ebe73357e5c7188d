"""A loop with listeners, pools and backends around it, all turned by the test, in its own thread.

    harness = Harness("poll")
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(backend.name), timeout_ms=5000)
    client = proxy.connect()
    client.send(b"hello")
    harness.turn_until(lambda: client.received == b"hello")

Nothing here sleeps or waits for a length of time: `turn_until` turns until a condition holds, and
fails the test if that takes unreasonably long. Time is a `FakeClock` unless a test brings another,
so no timer fires unless the test lets time pass.
"""

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.pool import BackendPool, MakeBalancer
from nginy.balancer.round_robin import RoundRobin
from nginy.event.bind import ListenOptions
from nginy.event.clock import Clock
from nginy.event.datagram import DatagramReceiver
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.event.selector import LevelInterest
from nginy.event.traced import end_recording
from nginy.process.retiring import sessions_of
from nginy.proxy.handler import ProtocolHandler, ProxySettings
from nginy.proxy.reply import ReplyHandler
from nginy.proxy.session import Session
from nginy.proxy.tcp import TcpHandler
from nginy.proxy.texts import Variables
from nginy.proxy.udp.handler import UdpHandler
from nginy.text.address import Address, parse_address

from kit.clock import FakeClock
from kit.ends import PATIENCE_S, End, connect

METHODS = ("epoll", "level", "poll", "select")
"""Every way to wait. "level" is the standard library's epoll, as where `event_method: auto` finds
no edge-triggered selector."""

ANY_PORT = Address(socket.AF_INET, "127.0.0.1")
ANY_PORT_V6 = Address(socket.AF_INET6, "::1")


def make_loop(
    method: str = "auto", clock: Clock | None = None, max_connections: int = 16384
) -> Loop:
    """Return a loop that waits by one of `METHODS`."""
    if method != "level":
        return Loop(method, clock, max_connections)
    loop = Loop("poll", clock, max_connections)
    loop.selector.close()
    loop.selector = selectors.DefaultSelector()
    loop.interest = LevelInterest(loop.selector)
    return loop


def descriptor_count() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd")) - 1


class Steps(Protocol):
    """An actor of a test beside the loop."""

    def step(self) -> bool:
        """Do what can be done now; return whether anything was."""

    def close(self) -> None:
        """Give all descriptors back."""


S = TypeVar("S", bound=Steps)


@dataclass(frozen=True)
class Ended:
    """What is left of a session that has ended: plain values, so that nothing is kept alive."""

    termination: str
    status: int
    reason: str
    bytes_received: int
    bytes_sent: int
    upstreams: tuple[str, ...]
    """The addresses that were tried."""


class Front:
    """A listener with its handler, and the sessions that have ended there."""

    def __init__(self, harness: "Harness", listener: Listener, handler: ProtocolHandler) -> None:
        self.harness = harness
        self.listener = listener
        self.handler = handler
        self.ended: list[Ended] = []
        self.lines: list[str] = []
        """What `log` has made of the sessions that have ended."""
        self._render: Callable[[Session], str] | None = None
        handler.log_session = self._session_ended

    def _session_ended(self, session: Session) -> None:
        self.ended.append(
            Ended(
                session.termination,
                session.status,
                session.reason,
                session.bytes_received,
                session.bytes_sent,
                tuple(attempt.address for attempt in session.attempts),
            )
        )
        if self._render is not None:
            self.lines.append(self._render(session))

    def log(self, text: str) -> None:
        """Fill in the variables of `text` for each session that ends, into `lines`."""
        self._render = Variables(self.harness.loop.clock).compile(text)

    @property
    def terminations(self) -> list[str]:
        """The termination codes of the sessions that have ended."""
        return [ended.termination for ended in self.ended]

    def reload(
        self, pool: BackendPool | None = None, settings: ProxySettings | None = None
    ) -> None:
        """Serve the listener with another upstream or other settings from now on."""
        before = self.handler
        assert isinstance(before, (TcpHandler, UdpHandler))
        handler = type(before)(
            before.loop,
            before.name,
            self.listener.address,
            pool or before.pool,
            settings or before.settings,
        )
        handler.hash_key, handler.log_session = before.hash_key, before.log_session
        handler.take_over(before)
        self.handler = handler
        receiver = self.listener.connection
        if isinstance(receiver, DatagramReceiver):
            receiver.handler = handler.datagram_handler
        else:
            self.listener.handler = handler.accept_handler

    def connect(self, rcvbuf_bytes: int = 0) -> End:
        """Return a new client of the listener."""
        return self.harness.add(connect(self.listener.address.sockaddr, rcvbuf_bytes))

    def only(self) -> Ended:
        """Turn until a session has ended, and return it; it must be the only one so far."""
        self.harness.turn_until(lambda: self.ended)
        (ended,) = self.ended
        return ended


class Harness:
    """Owns the loop and everything around it; `close` ends it all and fails if anything is left."""

    def __init__(
        self,
        method: str = "auto",
        clock: Clock | None = None,
        max_connections: int = 16384,
    ) -> None:
        self.clock = clock or FakeClock()
        self.loop = make_loop(method, self.clock, max_connections)
        self.pools: list[BackendPool] = []
        self.fronts: list[Front] = []
        self.listeners: list[Listener] = []
        self._around: list[Steps] = []
        self._has_moved = False

    def __enter__(self) -> "Harness":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            with contextlib.suppress(AssertionError):  # the test has failed already
                self.close()

    # What is around the loop.

    def add(self, thing: S) -> S:
        """Let `thing` have its step before each turn, and close it in the end."""
        self._around.append(thing)
        return thing

    def forget(self, thing: Steps) -> None:
        """Take out what `add` has added; it was closed already."""
        self._around.remove(thing)

    def pool(
        self,
        *names: str,
        backups: Sequence[str] = (),
        make_balancer: MakeBalancer = RoundRobin,
        **settings: int | bool,
    ) -> BackendPool:
        """Return a pool of backends, and backups, with these addresses and settings."""
        backends = [
            Backend(BackendSettings(name, parse_address(name), backup=is_backup, **settings))  # type: ignore[arg-type]
            for is_backup, group in ((False, names), (True, backups))
            for name in group
        ]
        return self.add_pool(BackendPool("backends", backends, make_balancer))

    def add_pool(self, pool: BackendPool) -> BackendPool:
        """Make `close` check that all of its backends were given back."""
        self.pools.append(pool)
        return pool

    def proxy(
        self,
        pool: BackendPool,
        address: Address = ANY_PORT,
        settings: ProxySettings | None = None,
        **changes: object,
    ) -> Front:
        """Listen, and pass TCP clients on to `pool`; `changes` are fields of `ProxySettings`."""
        if settings is None:
            settings = ProxySettings(**changes)  # type: ignore[arg-type]
        listener = self.listen(address)
        handler = TcpHandler(self.loop, "front", listener.address, pool, settings)
        listener.start(self.loop, handler.accept_handler)
        return self.front(listener, handler)

    def reply(self, text: bytes, address: Address = ANY_PORT, **changes: object) -> Front:
        """Listen, and answer with `text`."""
        listener = self.listen(address)
        settings = ProxySettings(**changes)  # type: ignore[arg-type]
        handler = ReplyHandler(self.loop, "front", listener.address, settings)
        handler.text = lambda _session: text
        listener.start(self.loop, handler.accept_handler)
        return self.front(listener, handler)

    def listen(self, address: Address = ANY_PORT, **options: object) -> Listener:
        """Return an open listener, not yet started."""
        listener = Listener(ListenOptions(address, **options))  # type: ignore[arg-type]
        self.listeners.append(listener)
        return listener

    def front(self, listener: Listener, handler: ProtocolHandler) -> Front:
        """Watch the sessions of a listener that end."""
        front = Front(self, listener, handler)
        self.fronts.append(front)
        return front

    # Time and turns.

    def advance(self, duration_ms: int) -> None:
        """Let fake time pass, and fire the timers that are due by then."""
        assert isinstance(self.clock, FakeClock)
        self.clock.advance(duration_ms)
        self.turn()

    def turn(self, wait_ms: int = 1) -> None:
        """Let everybody do a step, then do a turn of the loop, which waits if none had to do."""
        self._has_moved = False
        for thing in self._around:
            self._has_moved |= thing.step()
        self.loop.turn(0 if self._has_moved else wait_ms)

    def turn_until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Turn until `condition()` is true; fail the test if it is not within `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, f"waited in vain:\n{self.describe()}"
            self.turn()

    def settle(self, turns: int = 5) -> None:
        """Turn until nobody had anything to do `turns` times in a row: the network is quiet.

        For tests that say what must not happen.
        """
        quiet = 0
        while quiet < turns:
            before = self._activity()
            self.turn()
            quiet = 0 if self._has_moved or self._activity() != before else quiet + 1

    def _activity(self) -> object:
        moved = [(c.number, c.received, c.sent) for c in self.connections()]
        return moved, [len(front.ended) for front in self.fronts]

    def sessions(self) -> list[Session]:
        """The open sessions."""
        return list({id(session): session for session in sessions_of(self.loop)}.values())

    def connections(self) -> list:
        """The connections that the selector knows."""
        return self.loop.interest.connections()

    def describe(self) -> str:
        """Return the state of everything, for the message of a failed test."""
        things = [*self.connections(), *self._around, *self.pools]
        things += [ended for front in self.fronts for ended in front.ended]
        return "\n".join(map(repr, things))

    # The end.

    def close(self) -> None:
        """End everything; fail if a connection, a byte of the budget or a backend is left over."""
        for session in self.sessions():
            session.kill()
        for thing in self._around:
            thing.close()
        self._around.clear()
        for listener in self.listeners:
            listener.close()
        try:
            assert self.loop.connections == 0, f"still open:\n{self.describe()}"
            assert self.loop.budget.used_bytes == 0
            assert [b for pool in self.pools for b in pool.backends if b.conns] == []
            assert [front.handler.sessions for front in self.fronts if front.handler.sessions] == []
        finally:
            for c in self.connections():
                c.close()
            end_recording(self.loop)
            self.loop.close()
