"""Pipes between two connections; that transfers go through them whole is for test_tcp_live.py."""

import errno
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nginy.event.connection import AGAIN, EOF, ERROR
from nginy.event.loop import Loop
from nginy.event.pipe import UNSUPPORTED, Pipes
from nginy.event.reserve import Reserve

from event.conftest import OpenPair
from kit.harness import descriptor_count
from kit.leaks import no_descriptor_left

DATA = random.Random(9).randbytes(100_000)


@pytest.fixture
def method() -> str:
    return "poll"


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    """Two pipes at most, and none left open in the end."""
    before = descriptor_count()
    made = Pipes(Reserve(), limit=2)
    yield made
    made.close()
    assert (made.opened, descriptor_count()) == (0, before)


def failing(number: int) -> Callable[..., int]:
    def splice(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return splice


# -- bytes --


def test_what_one_connection_receives_the_other_sends(pipes: Pipes, open_pair: OpenPair) -> None:
    (src, client), (dst, backend) = open_pair(), open_pair()
    client.sendall(DATA)
    pipe = pipes.take()
    assert pipe is not None
    received = bytearray()
    while len(received) < len(DATA):
        count = pipe.receive(src)
        assert count == len(pipe) > 0
        assert pipe.send_to(dst) == count
        assert not pipe
        received += backend.recv(len(DATA))
    assert received == DATA
    assert src.received == dst.sent == len(DATA)
    pipe.release()


def test_an_empty_socket_and_its_end_are_told_apart(pipes: Pipes, open_pair: OpenPair) -> None:
    src, client = open_pair()
    pipe = pipes.take()
    assert pipe is not None
    src.read.ready = True
    assert pipe.receive(src) == AGAIN
    assert not src.read.ready
    assert not src.read.eof
    client.close()
    src.read.ready = True
    assert pipe.receive(src) == EOF
    assert not src.read.ready
    assert src.read.eof
    pipe.release()


def test_what_is_not_taken_stays_in_the_pipe(pipes: Pipes, open_pair: OpenPair) -> None:
    (src, client), (dst, backend) = open_pair(), open_pair()
    client.setblocking(False)
    pipe = pipes.take()
    assert pipe is not None
    sent = total = 0
    while not pipe:
        sent += client.send(DATA)
        assert pipe.receive(src) > 0
        dst.write.ready = True
        total += max(0, pipe.send_to(dst))
    assert not dst.write.ready
    rest = len(pipe)
    assert total == dst.sent == src.received - rest
    assert pipe.send_to(dst) == AGAIN
    assert len(pipe) == rest
    backend.settimeout(15)
    while total:
        total -= len(backend.recv(1 << 20))
    assert pipe.send_to(dst) == rest
    assert not pipe
    pipe.release()


def test_a_reset_is_an_error_of_the_side_that_was_reset(pipes: Pipes, open_pair: OpenPair) -> None:
    (src, client), (dst, _backend), (gone, peer) = open_pair(), open_pair(), open_pair()
    pipe = pipes.take()
    assert pipe is not None
    peer.close()
    gone.send(b"x")  # answered by a reset
    client.sendall(DATA)
    assert pipe.receive(src) > 0
    held = len(pipe)
    assert pipe.send_to(gone) == ERROR
    assert gone.errno in {errno.EPIPE, errno.ECONNRESET}
    assert (gone.write.error, src.errno, len(pipe)) == (True, 0, held)
    assert pipe.send_to(dst) == held

    client.close()  # with nothing to read for it, an end like any other
    src.close(reset=True)
    assert pipe.receive(src) == ERROR
    assert src.errno == errno.EBADF
    pipe.release()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EINVAL])
def test_a_system_that_does_not_splice_says_so_before_anything_is_moved(
    open_pair: OpenPair, expect_log: Any, number: int
) -> None:
    pipes = Pipes(Reserve(), limit=2, splice=failing(number))
    src, client = open_pair()
    client.sendall(DATA)
    pipe = pipes.take()
    assert pipe is not None
    src.read.ready = True
    with expect_log(r"splice\(\) failed .*: long transfers are copied from now on"):
        assert pipe.receive(src) == UNSUPPORTED
    assert (src.errno, src.read.ready, src.read.error, src.received) == (0, True, False, 0)
    pipe.release()
    assert (pipes.opened, pipes.take()) == (0, None)


# -- the pool --


def test_there_are_no_more_than_the_limit_says(pipes: Pipes) -> None:
    first, second = pipes.take(), pipes.take()
    assert pipes.take() is None
    assert pipes.opened == 2
    assert first is not None
    assert second is not None
    second.release()
    assert pipes.take() is second
    first.release()
    second.release()


def test_a_pipe_that_is_not_empty_is_not_used_again(pipes: Pipes, open_pair: OpenPair) -> None:
    src, client = open_pair()
    client.sendall(DATA)
    first = pipes.take()
    assert first is not None
    assert first.receive(src) > 0
    before = descriptor_count()
    first.release()
    assert (pipes.opened, descriptor_count()) == (0, before - 2)
    again = pipes.take()
    assert again is not None
    assert not again
    again.release()


def test_without_a_descriptor_there_is_none(pipes: Pipes) -> None:
    with no_descriptor_left():
        assert pipes.take() is None
    pipe = pipes.take()
    assert pipe is not None
    pipe.release()


def test_without_room_for_a_large_pipe_there_is_none() -> None:
    """An unprivileged user's pipes may have this many pages; no pipe has 2 GiB (pipe(7))."""
    before = descriptor_count()
    pipes = Pipes(Reserve(), pipe_bytes=(1 << 31) - 1)
    assert pipes.take() is None
    assert (pipes.opened, descriptor_count()) == (0, before)


def test_a_closed_pool_has_none_left_and_makes_none() -> None:
    before = descriptor_count()
    pipes = Pipes(Reserve())
    pipe = pipes.take()
    assert pipe is not None
    pipe.release()
    pipes.close()
    assert (pipes.take(), pipes.opened, descriptor_count()) == (None, 0, before)


def test_closing_a_connection_gives_its_pipe_back(loop: Loop, open_pair: OpenPair) -> None:
    src, client = open_pair()
    client.sendall(DATA)
    pipe = loop.pipes.take()
    assert pipe is not None
    loop.budget.hold(pipe.receive(src), loop.clock.now_ms)
    src.buffer = pipe
    src.close()
    assert (loop.pipes.opened, loop.budget.used_bytes) == (0, 0)


def test_while_descriptors_are_short_pipes_keep_none(open_pair: OpenPair) -> None:
    reserve = Reserve()
    pipes = Pipes(reserve)
    before = descriptor_count()
    idle, used = pipes.take(), pipes.take()
    assert idle is not None
    assert used is not None
    idle.release()
    reserve.is_short = True
    assert pipes.trim()
    assert not pipes.trim()
    used.release()
    assert (pipes.take(), pipes.opened, descriptor_count()) == (None, 0, before)
    reserve.is_short = False
    pipe = pipes.take()
    assert pipe is not None
    pipe.release()
    pipes.close()
