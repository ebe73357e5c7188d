import errno
import socket
from collections.abc import Callable

import pytest
from nginy.event.buffer import Buffer
from nginy.event.connection import AGAIN, EOF, ERROR, Connection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.timer import Timer

from kit.clock import FakeClock
from kit.ends import RESET_ON_CLOSE, pair

OpenPair = Callable[[], tuple[Connection, socket.socket]]


@pytest.fixture
def method() -> str:
    """Which selector there is makes no difference to a connection."""
    return "epoll"


class Owner:
    """Owns a connection; closes it when it is ended."""

    def __init__(self, c: Connection) -> None:
        self.c = c

    def abort(self) -> None:
        self.c.close()


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    peer.close()


def fill(c: Connection) -> int:
    """Send until the kernel takes no more; return how many bytes it took."""
    data = bytes(1 << 20)
    total = 0
    while (sent := c.send(data)) > 0:
        total += sent
    assert sent == AGAIN
    return total


def read_all(peer: socket.socket) -> int:
    """Read what there is; return how many bytes it was."""
    total = 0
    while True:
        try:
            data = peer.recv(1 << 20)
        except BlockingIOError:
            return total
        if not data:
            return total
        total += len(data)


# -- the outcomes of recv --


def test_recv_returns_a_count_then_again(loop: Loop, open_pair: OpenPair) -> None:
    c, peer = open_pair()
    c.read.ready = True
    peer.send(b"hello")
    assert c.recv(loop.memory) == 5
    assert bytes(loop.memory[:5]) == b"hello"
    assert not c.read.ready  # a short read: there is no more
    assert c.recv(loop.memory) == AGAIN
    assert (c.received, c.errno) == (5, 0)


def test_a_full_read_leaves_the_event_ready(loop: Loop, open_pair: OpenPair) -> None:
    c, peer = open_pair()
    c.read.ready = True
    peer.send(b"hello")
    assert c.recv(loop.memory[:5]) == 5
    assert c.read.ready
    assert c.recv(loop.memory[:5]) == AGAIN
    assert not c.read.ready


def test_a_short_read_leaves_the_event_ready_if_the_end_was_reported(
    loop: Loop, open_pair: OpenPair
) -> None:
    c, peer = open_pair()
    peer.send(b"hello")
    peer.close()
    loop.turn(0)
    assert c.read.pending_eof
    assert c.recv(loop.memory) == 5
    assert c.read.ready
    assert c.recv(loop.memory) == EOF
    assert c.read.eof
    assert not c.read.ready


def test_recv_of_a_reset_is_an_error_with_its_errno(loop: Loop, open_pair: OpenPair) -> None:
    c, peer = open_pair()
    reset(peer)
    assert c.recv(loop.memory) == ERROR
    assert c.errno == errno.ECONNRESET
    assert c.read.error
    assert not c.read.ready


# -- the outcomes of send --


def test_send_returns_what_the_kernel_took_then_again(open_pair: OpenPair) -> None:
    c, peer = open_pair()
    c.write.ready = True
    taken = fill(c)
    assert c.sent == taken
    assert not c.write.ready
    assert read_all(peer) == taken


def test_a_partial_send_is_the_last_that_the_kernel_takes(open_pair: OpenPair) -> None:
    c, _peer = open_pair()
    c.write.ready = True
    assert 0 < c.send(bytes(64 << 20)) < 64 << 20
    assert not c.write.ready


def test_send_after_a_reset_is_an_error_with_its_errno(open_pair: OpenPair) -> None:
    c, peer = open_pair()
    reset(peer)
    assert c.send(b"x") == ERROR
    assert c.errno == errno.ECONNRESET
    assert c.write.error
    assert c.send(b"x") == ERROR
    assert c.errno == errno.EPIPE


# -- peek --


def test_peek_takes_nothing(loop: Loop, open_pair: OpenPair) -> None:
    c, peer = open_pair()
    c.read.ready = True
    assert c.peek() == AGAIN
    assert not c.read.ready
    peer.send(b"x")
    assert c.peek() == 1
    assert c.recv(loop.memory) == 1
    peer.close()
    assert c.peek() == EOF
    assert c.received == 1


def test_peek_sees_a_reset(open_pair: OpenPair) -> None:
    c, peer = open_pair()
    reset(peer)
    assert c.peek() == ERROR
    assert c.errno == errno.ECONNRESET


# -- the end --


def test_after_shutdown_the_peer_reads_the_end_and_can_still_send(
    loop: Loop, open_pair: OpenPair
) -> None:
    c, peer = open_pair()
    c.send(b"x")
    c.shutdown()
    assert c.write.eof
    assert peer.recv(10) == b"x"
    assert peer.recv(10) == b""
    peer.send(b"answer")
    assert c.recv(loop.memory) == 6


def test_shutdown_of_a_connection_that_was_reset_is_left_to_the_reader(
    loop: Loop, open_pair: OpenPair
) -> None:
    c, peer = open_pair()
    reset(peer)
    c.shutdown()
    assert not c.write.error
    assert c.recv(loop.memory) == ERROR


def test_shutdown_of_a_descriptor_that_is_gone_is_an_error(open_pair: OpenPair) -> None:
    c, _peer = open_pair()
    c.close()
    c.shutdown()
    assert c.errno == errno.EBADF


def test_take_error_returns_the_pending_error_once(open_pair: OpenPair) -> None:
    c, peer = open_pair()
    assert c.take_error() == 0
    reset(peer)
    assert c.take_error() == errno.ECONNRESET
    assert c.take_error() == 0
    c.close()
    assert c.take_error() == errno.EBADF


@pytest.mark.parametrize("how", [True, False])
def test_close_sends_fin_or_reset(open_pair: OpenPair, how: bool) -> None:
    c, peer = open_pair()
    c.close(reset=how)
    if how:
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
    else:
        assert peer.recv(1) == b""


def test_close_gives_everything_back_and_lets_go_of_the_owner(
    loop: Loop, open_pair: OpenPair, clock: FakeClock
) -> None:
    c, _peer = open_pair()
    called: list[Event | Timer] = []
    c.data = Owner(c)
    timer = c.read.timer = Timer(called.append, c.data)
    loop.timers.start(timer, clock.now_ms)
    c.read.handler = c.write.handler = called.append
    c.resume_read()
    loop.post(c.read)
    c.buffer = Buffer(b"unsent")
    loop.budget.hold(len(c.buffer), loop.clock.now_ms)
    c.close()
    loop.turn(0)
    assert called == []
    assert not timer.is_running
    assert c.fd == -1
    assert all(each is None for each in (c.data, c.buffer, c.read.timer))
    assert (loop.connections, loop.budget.used_bytes) == (0, 0)
    assert repr((c.read, c.write)) == "(-, -)"


def test_closing_again_does_nothing(loop: Loop, open_pair: OpenPair) -> None:
    c, _peer = open_pair()
    c.close()
    c.close(reset=True)
    c.abort()
    assert loop.connections == 0


def test_a_close_that_fails_is_a_close(loop: Loop, open_pair: OpenPair) -> None:
    c, _peer = open_pair()
    c.socket.detach()
    c.close(reset=True)
    assert (c.fd, c.errno) == (-1, errno.EBADF)
    assert loop.connections == 0


def test_abort_is_the_owners_affair_if_there_is_one(open_pair: OpenPair) -> None:
    c, _peer = open_pair()
    other, _other_peer = open_pair()
    c.data = Owner(other)
    c.abort()
    assert c.fd >= 0
    assert other.fd == -1
    c.data = None
    c.abort()
    assert c.fd == -1


# -- what it knows --


def test_it_shows_number_descriptor_peer_and_both_events(open_pair: OpenPair) -> None:
    c, peer = open_pair()
    host, port = peer.getsockname()
    c.number = 7
    c.resume_read()
    c.read.ready = True
    assert repr(c) == f"<Connection 7 fd={c.fd} {host}:{port} read=active,ready write=->"


def test_our_own_address_is_asked_for_once(open_pair: OpenPair) -> None:
    c, peer = open_pair()
    other, _ = open_pair()
    assert c.local_sockaddr == peer.getpeername()
    c.close()
    other.close()
    assert c.local_sockaddr == peer.getpeername()
    assert other.local_sockaddr == ""


def test_it_counts_as_soon_as_it_is_opened(loop: Loop, clock: FakeClock) -> None:
    ours, theirs = pair()
    clock.advance(5)
    c = Connection(loop, ours, ours.getpeername())
    assert loop.connections == 1
    assert c.start_time_ms == c.active_at_ms == clock.now_ms
    c.close()
    theirs.close()
