"""The tables of nginy/tour/states.md agree with the code."""

import itertools
import pathlib
import socket
from collections.abc import Callable, Iterator

import nginy.tour
import pytest
from nginy.backend.waiting import QueueSettings
from nginy.event.connection import Connection
from nginy.event.event import Event, ignore
from nginy.event.loop import Loop
from nginy.proxy.session import Reason
from nginy.proxy.tcp import TcpSession

from kit.clock import FakeClock
from kit.ends import End, pair
from kit.harness import Harness, make_loop
from kit.servers import FullPort, Server

PAGE = pathlib.Path(nginy.tour.__file__).parent / "states.md"
MORE_THAN_THE_KERNEL_HOLDS = bytes(24 << 20)


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below `heading`, without its head, as plain text."""
    text = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.replace("`", "") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# -- active, ready, posted --


@pytest.fixture
def loop(clock: FakeClock) -> Iterator[Loop]:
    made = make_loop("epoll", clock)
    yield made
    made.close()


@pytest.fixture
def connected(loop: Loop) -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = pair()
    c = Connection(loop, ours, ours.getpeername())
    yield c, theirs
    c.close()
    theirs.close()


def set_flags(c: Connection, flags: list[bool]) -> Event:
    """Let the selector report everything, then bring the read event into a state."""
    c.loop.turn(0)
    event = c.read
    event.active, event.ready = flags[0], flags[1]
    if flags[2]:
        c.loop.post(event)
    return event


def test_every_combination_is_in_the_table_once() -> None:
    flags = [tuple(cell == "yes" for cell in row[:3]) for row in rows("Three flags of an event")]
    assert sorted(flags) == sorted(itertools.product([False, True], repeat=3))


@pytest.mark.parametrize("row", rows("Three flags of an event"), ids=lambda row: "-".join(row[:3]))
def test_what_follows_from_active_ready_and_posted(
    loop: Loop, connected: tuple[Connection, socket.socket], row: list[str]
) -> None:
    c, peer = connected
    flags, (by_report, by_step_6, posted_after_resume) = (
        [cell == "yes" for cell in row[:3]],
        [cell == "yes" for cell in row[3:6]],
    )
    calls: list[bool] = []

    def handler(event: Event) -> None:
        # Step 6 takes an event out of the list before it calls it; step 4 leaves it there.
        calls.append(event.posted)

    c.read.handler = handler
    set_flags(c, flags)
    loop.turn(0)
    assert calls == [False] * by_step_6
    calls.clear()
    event = set_flags(c, flags)
    peer.send(b"x")
    loop.turn(0)
    # A report comes in step 4, before the event's turn in the list.
    assert calls == [flags[2]] * by_report + [False] * by_step_6
    event = set_flags(c, flags)
    c.resume_read()
    assert event.posted is posted_after_resume


# -- the states of a session --


def shown(event: Event) -> str:
    """The event's handler, "paused" if nobody waits, as the table writes it."""
    if event.handler is ignore:
        return "-"
    name = event.handler.__name__
    return name if event.active else f"({name})"


def state_of(session: TcpSession) -> list[str]:
    upstream = session.upstream
    events = [session.client.read, session.client.write]
    cells = [shown(event) for event in events]
    return cells + (["", ""] if upstream is None else [shown(upstream.read), shown(upstream.write)])


def session_of(harness: Harness) -> TcpSession:
    (session,) = harness.sessions()
    assert isinstance(session, TcpSession)
    return session


class Scene:
    """An established session, and its two ends."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        server = harness.add(Server())
        self.client = harness.proxy(harness.pool(server.name)).connect()
        harness.turn_until(lambda: harness.loop.connections == 3 and server.ends)
        self.session = session_of(harness)
        harness.turn_until(lambda: self.session.attempt.connected_at_ms)
        self.backend = server.end

    def flood(self, sender: End, reader: End) -> None:
        """Let one side send more than the other takes."""
        reader.is_reading = False
        sender.send(MORE_THAN_THE_KERNEL_HOLDS)
        sender.write_bytes = 1 << 20
        self.harness.turn_until(lambda: self.harness.loop.budget.used_bytes)
        self.harness.settle(20)


def connecting(harness: Harness) -> TcpSession:
    harness.proxy(harness.pool(harness.add(FullPort()).name)).connect()
    harness.turn_until(lambda: harness.loop.connections == 3)
    return session_of(harness)


def queued(harness: Harness) -> TcpSession:
    pool = harness.pool(harness.add(Server()).name, max_conns=1)
    pool.set_queue(QueueSettings(1, timeout_ms=60_000))
    proxy = harness.proxy(pool)
    proxy.connect()
    harness.turn_until(lambda: harness.loop.connections == 3)
    served = session_of(harness)
    proxy.connect()
    harness.turn_until(lambda: len(harness.sessions()) == 2)
    (session,) = (each for each in harness.sessions() if each is not served)
    assert isinstance(session, TcpSession)
    return session


def established(harness: Harness) -> TcpSession:
    return Scene(harness).session


def client_is_slow(harness: Harness) -> TcpSession:
    scene = Scene(harness)
    scene.flood(scene.backend, scene.client)
    return scene.session


def backend_is_slow(harness: Harness) -> TcpSession:
    scene = Scene(harness)
    scene.flood(scene.client, scene.backend)
    return scene.session


def client_has_ended(harness: Harness) -> TcpSession:
    scene = Scene(harness)
    scene.client.finish()
    harness.turn_until(lambda: scene.backend.has_eof)
    return scene.session


def backend_has_ended(harness: Harness) -> TcpSession:
    scene = Scene(harness)
    scene.backend.finish()
    harness.turn_until(lambda: scene.client.has_eof)
    return scene.session


def delivering(harness: Harness) -> TcpSession:
    """The backend has reset, and the client has not taken all that was sent to it."""
    scene = Scene(harness)
    scene.client.is_reading = False
    scene.backend.send(bytes(1 << 20))
    scene.backend.write_bytes = 1 << 20
    harness.turn_until(lambda: scene.session.client.sent == 1 << 20)
    scene.backend.reset()
    harness.turn_until(lambda: not scene.session.client.read.active)
    return scene.session


def closed(harness: Harness) -> TcpSession:
    scene = Scene(harness)
    scene.session.finalize(Reason.COMPLETED)
    return scene.session


STATES: dict[str, Callable[[Harness], TcpSession]] = {
    "connecting": connecting,
    "queued": queued,
    "established": established,
    "client is slow": client_is_slow,
    "backend is slow": backend_is_slow,
    "client has ended": client_has_ended,
    "backend has ended": backend_has_ended,
    "delivering": delivering,
    "closed": closed,
}


def test_every_state_is_in_the_table() -> None:
    assert [row[0] for row in rows("A session's states and handlers")] == list(STATES)


@pytest.mark.slow
@pytest.mark.parametrize("row", rows("A session's states and handlers"), ids=lambda row: row[0])
def test_the_handlers_of_a_state(row: list[str]) -> None:
    with Harness("epoll") as harness:
        assert state_of(STATES[row[0]](harness)) == row[1:]


def test_the_diagram_shows_each_state_once() -> None:
    diagram = PAGE.read_text().partition("```")[2].partition("```")[0]
    text = " ".join(diagram.replace("─", " ").split())
    assert {name: text.count(name) for name in STATES} == dict.fromkeys(STATES, 1)
