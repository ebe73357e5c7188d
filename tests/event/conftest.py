"""A loop for each way to wait, with connected sockets at hand."""

import socket
from collections.abc import Callable, Iterator

import pytest
from nginy.event.connection import Connection
from nginy.event.loop import Loop

from kit.clock import FakeClock
from kit.ends import pair
from kit.harness import make_loop

OpenPair = Callable[[], tuple[Connection, socket.socket]]


@pytest.fixture
def loop(method: str, clock: FakeClock) -> Iterator[Loop]:
    """A loop without connections; those that a test leaves open are closed."""
    made = make_loop(method, clock)
    yield made
    for key in list(made.selector.get_map().values()):
        key.data.close()
    made.close()


@pytest.fixture
def open_pair(loop: Loop) -> Iterator[OpenPair]:
    """Return a function that opens a TCP connection: our end on the loop, and the peer's."""
    opened: list[Connection] = []
    peers: list[socket.socket] = []

    def open_one() -> tuple[Connection, socket.socket]:
        ours, theirs = pair()
        opened.append(Connection(loop, ours, ours.getpeername()))
        peers.append(theirs)
        return opened[-1], theirs

    yield open_one
    for c in opened:
        c.close()
    for peer in peers:
        peer.close()
    assert loop.connections == 0
