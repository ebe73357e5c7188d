"""One suite for every selector, and what is particular to each of them."""

import fcntl
import os
import resource
import select
import selectors
import socket
from collections.abc import Callable

import pytest
from nginy.event.connection import Connection
from nginy.event.epoll import EVENT_EOF, EVENT_ERROR, EpollSelector
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.selector import FD_SETSIZE, EdgeInterest, LevelInterest, open_selector

from kit.ends import RESET_ON_CLOSE, pair

OpenPair = Callable[[], tuple[Connection, socket.socket]]


class Calls:
    """Stands in for a handler: counts, and does nothing about the readiness."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def count(self) -> int:
        return len(self.events)


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    peer.close()


# -- what all of them do --


def test_only_the_direction_that_is_waited_for_is_called(loop: Loop, open_pair: OpenPair) -> None:
    c, peer = open_pair()
    reads = c.read.handler = Calls()
    writes = c.write.handler = Calls()
    peer.send(b"x")
    loop.turn(0)
    assert (reads.count, writes.count) == (0, 0)
    c.resume_read()
    loop.turn(0)
    assert (reads.count, writes.count) == (1, 0)
    c.pause_read()
    c.resume_write()
    loop.turn(0)
    assert (reads.count, writes.count) == (1, 1)


def test_both_directions_can_be_ready_in_one_turn(loop: Loop, open_pair: OpenPair) -> None:
    c, peer = open_pair()
    reads = c.read.handler = Calls()
    writes = c.write.handler = Calls()
    c.resume_read()
    c.resume_write()
    peer.send(b"x")
    loop.turn(0)
    assert (reads.count, writes.count) == (1, 1)


def test_what_was_ready_while_paused_is_reported_on_resuming(
    loop: Loop, open_pair: OpenPair
) -> None:
    c, peer = open_pair()
    calls = c.read.handler = Calls()
    peer.send(b"x")
    loop.turn(0)
    loop.turn(0)
    c.resume_read()
    loop.turn(0)
    assert calls.count == 1


def test_pausing_and_resuming_twice_is_the_same_as_once(loop: Loop, open_pair: OpenPair) -> None:
    c, peer = open_pair()
    calls = c.read.handler = Calls()
    peer.send(b"x")
    c.resume_read()
    c.resume_read()
    c.pause_read()
    c.pause_read()
    c.pause_write()
    loop.turn(0)
    assert calls.count == 0
    c.resume_read()
    loop.turn(0)
    assert calls.count == 1


@pytest.mark.parametrize("had_interest", [False, True])
@pytest.mark.parametrize("how", [reset, socket.socket.close])
def test_a_connection_that_nobody_waits_for_does_not_keep_the_loop_awake(
    loop: Loop,
    open_pair: OpenPair,
    had_interest: bool,
    how: Callable[[socket.socket], None],
) -> None:
    c, peer = open_pair()
    if had_interest:
        c.resume_read()
        c.resume_write()
        c.pause_read()
        c.pause_write()
    how(peer)
    loop.selector.select(0)  # edge-triggered epoll says it once
    assert loop.selector.select(0) == []
    assert loop.selector.select(0) == []


def test_the_end_of_a_stream_does_not_keep_the_loop_awake_once_it_was_read(
    loop: Loop, open_pair: OpenPair
) -> None:
    c, peer = open_pair()
    c.resume_read()
    peer.close()
    loop.turn(0)
    assert c.recv(loop.memory) == 0
    c.pause_read()
    assert loop.selector.select(0) == []


def test_a_closed_connection_is_not_known_any_more(loop: Loop, open_pair: OpenPair) -> None:
    c, peer = open_pair()
    c.resume_read()
    c.close()
    assert not loop.selector.get_map()
    peer.close()
    assert loop.selector.select(0) == []


def test_an_event_of_a_connection_closed_in_the_same_batch_reaches_nobody(
    loop: Loop, open_pair: OpenPair
) -> None:
    """Nor a new connection that got the same descriptor number meanwhile."""
    both = [open_pair() for _ in range(2)]
    spare, spare_peer = pair()
    called: list[Connection] = []
    opened: list[Connection] = []

    def close_the_other(event: Event) -> None:
        called.append(event.data)
        event.data.pause_read()
        (other,) = [c for c, _ in both if c is not event.data]
        number = other.fd
        other.close()
        os.dup2(spare.fileno(), number)
        new = Connection(loop, socket.socket(fileno=number), ("127.0.0.1", 1))
        new.read.handler = calls
        new.resume_read()
        opened.append(new)

    calls = Calls()
    for c, peer in both:
        c.read.handler = close_the_other
        c.resume_read()
        peer.send(b"x")
    loop.turn(0)
    assert len(called) == 1
    assert calls.count == 0
    spare_peer.send(b"y")
    loop.turn(0)
    assert calls.count == 1
    opened[0].close()
    spare.close()
    spare_peer.close()


def test_a_peer_that_has_ended_is_readable_to_the_end(loop: Loop, open_pair: OpenPair) -> None:
    """A short read is not the end of reading: the FIN came with the bytes, and no other edge."""
    c, peer = open_pair()
    got = bytearray()

    def read(event: Event) -> None:
        while (count := c.recv(loop.memory[:100])) > 0:
            got.extend(loop.memory[:count])
            if not event.ready:
                return

    c.read.handler = read
    peer.send(b"x" * 150)
    peer.shutdown(socket.SHUT_WR)
    c.resume_read()
    for _ in range(3):
        loop.turn(0)
    assert len(got) == 150
    assert c.read.eof


# -- edge-triggered epoll --


def test_only_epoll_is_edge_triggered() -> None:
    kinds = {}
    for method in ("auto", "epoll", "poll", "select"):
        selector, interest = open_selector(method)
        kinds[method] = (type(interest), interest.is_edge_triggered)
        selector.close()
    assert kinds == {
        "auto": (EdgeInterest, True),
        "epoll": (EdgeInterest, True),
        "poll": (LevelInterest, False),
        "select": (LevelInterest, False),
    }


@pytest.mark.parametrize("method", ["kqueue", "", "Epoll"])
def test_a_method_that_the_system_lacks_is_an_error(method: str) -> None:
    with pytest.raises(ValueError, match=f'event_method "{method}" is not available'):
        open_selector(method)


@pytest.fixture
def epoll() -> EpollSelector:  # type: ignore[misc]
    selector = EpollSelector()
    yield selector
    selector.close()


def test_epoll_says_end_and_error_beside_readable(epoll: EpollSelector) -> None:
    readable = selectors.EVENT_READ
    writable = selectors.EVENT_WRITE
    ours, theirs = pair()
    epoll.register(ours, readable, "ours")
    theirs.send(b"x")
    assert [(key.data, mask) for key, mask in epoll.select(0)] == [("ours", readable)]
    theirs.shutdown(socket.SHUT_WR)
    assert [mask for _, mask in epoll.select(0)] == [readable | EVENT_EOF]
    reset(theirs)
    assert [mask for _, mask in epoll.select(0)] == [readable | writable | EVENT_EOF | EVENT_ERROR]
    ours.close()


def test_epoll_reports_a_change_once(epoll: EpollSelector) -> None:
    ours, theirs = pair()
    epoll.register(ours.fileno(), selectors.EVENT_WRITE)
    assert [mask for _, mask in epoll.select(0)] == [selectors.EVENT_WRITE]
    assert epoll.select(0) == []
    ours.close()
    theirs.close()


def test_epoll_refuses_a_second_registration_and_a_bad_descriptor(epoll: EpollSelector) -> None:
    ours, theirs = pair()
    epoll.register(ours, selectors.EVENT_READ)
    with pytest.raises(KeyError, match="already registered"):
        epoll.register(ours.fileno(), selectors.EVENT_READ)
    number = theirs.fileno()
    theirs.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        epoll.register(number, selectors.EVENT_READ)
    assert list(epoll.get_map()) == [ours.fileno()]
    assert epoll.get_key(ours.fileno()).fileobj is ours
    assert epoll.unregister(ours).fd == ours.fileno()
    assert not epoll.get_map()
    ours.close()


def test_an_event_of_a_description_that_outlives_its_descriptor_is_nobodys(
    epoll: EpollSelector,
) -> None:
    """A child process between fork and exec holds such a description."""
    ours, theirs = pair()
    kept = ours.dup()
    epoll.register(ours, selectors.EVENT_READ)
    epoll.unregister(ours)
    ours.close()
    theirs.send(b"x")
    assert epoll.select(0) == []
    kept.close()
    theirs.close()


def test_epoll_waits_no_longer_than_it_is_told(epoll: EpollSelector) -> None:
    assert epoll.select(0.001) == []


# -- level-triggered ones --


@pytest.mark.parametrize("method", ["level", "poll", "select"])
def test_no_interest_means_not_registered(loop: Loop, open_pair: OpenPair) -> None:
    c, _peer = open_pair()
    known = loop.selector.get_map()
    assert not known
    c.resume_write()
    c.resume_read()
    assert [key.events for key in known.values()] == [selectors.EVENT_READ | selectors.EVENT_WRITE]
    c.pause_write()
    assert [key.events for key in known.values()] == [selectors.EVENT_READ]
    c.pause_read()
    assert not known


def test_the_system_has_epoll() -> None:
    """Else half of this file would test nothing."""
    assert hasattr(select, "epoll")


# -- select() and poll() --


@pytest.mark.parametrize("method", ["select"])
def test_select_refuses_a_descriptor_that_it_cannot_name(loop: Loop, open_pair: OpenPair) -> None:
    """Handed to select(), it would make every call fail."""
    c, peer = open_pair()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FD_SETSIZE + 8), hard))
    try:
        with socket.socket(fileno=fcntl.fcntl(peer, fcntl.F_DUPFD, FD_SETSIZE)) as high:
            with pytest.raises(OSError, match="Too many open files"):
                Connection(loop, high, "")
            assert high.fileno() >= FD_SETSIZE  # left open for its owner
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert loop.connections == 1
    c.read.handler = handler = Calls()
    c.resume_read()
    peer.send(b"x")
    loop.turn(0)
    assert handler.count == 1


@pytest.mark.parametrize("method", ["poll"])
def test_a_limit_of_files_below_what_is_open_stops_no_connection(
    loop: Loop, open_pair: OpenPair
) -> None:
    pairs = [open_pair() for _ in range(40)]
    for c, _ in pairs:
        c.read.handler = Calls()
        c.resume_read()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, hard))
    try:
        loop.turn(0)
        for c, peer in pairs:
            peer.send(b"x")
            loop.turn()
            loop.turn(0)
            assert c.recv(loop.memory) == 1
        pairs[0][0].pause_read()
        pairs[0][0].write.handler = writable = Calls()
        pairs[0][0].resume_write()
        loop.turn()
        assert writable.count == 1
        pairs[0][0].pause_write()
        loop.turn(10)  # and does not fail, with nothing to report
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    counts = [c.read.handler.count for c, _ in pairs]  # type: ignore[attr-defined]
    assert counts == [2] * len(pairs)
