import socket
from collections.abc import Callable

import pytest
from nginy.event.connection import Connection
from nginy.event.loop import Loop

OpenPair = Callable[[], tuple[Connection, socket.socket]]
METHODS = ["epoll"]


@pytest.mark.parametrize("method", METHODS)
def test_an_event_shows_its_flags(open_pair: OpenPair, loop: Loop) -> None:
    c, _peer = open_pair()
    assert repr(c.read) == "-"
    c.resume_read()
    assert repr(c.read) == "active"
    c.read.ready = c.read.pending_eof = True
    assert repr(c.read) == "active,ready,pending_eof"
    c.read.eof = c.read.error = True
    loop.post(c.read)
    assert repr(c.read) == "active,ready,eof,pending_eof,error,posted"


@pytest.mark.parametrize("method", METHODS)
def test_nobody_is_called_until_somebody_waits(open_pair: OpenPair, loop: Loop) -> None:
    c, peer = open_pair()
    peer.send(b"x")
    loop.turn(0)
    c.read.handler(c.read)  # the handler of an event that nobody waits for
    assert not c.read.active
    assert c.read.ready
