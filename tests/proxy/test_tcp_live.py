"""Sessions with an established connection, through real sockets, for every way to wait."""

import errno
import os
import pathlib
import random
import socket
import time
from typing import Any

import pytest
from nginy.event import pipe
from nginy.proxy.session import Session
from nginy.proxy.tcp import QUOTA_BYTES
from nginy.text.address import parse_address

from kit.clock import FakeClock
from kit.ends import End, connect
from kit.harness import ANY_PORT, ANY_PORT_V6, Ended, Front, Harness, descriptor_count
from kit.leaks import alive, no_garbage
from kit.servers import EchoBackend, RefusingPort, Resetter, Server, SilentBackend

MORE_THAN_THE_KERNEL_HOLDS = bytes(32 * 1024 * 1024)
MORE_THAN_A_WINDOW = bytes(1024 * 1024)
READ_AT_MOST = 1024 * 1024
RANDOM_BYTES = random.Random(6).randbytes(20 << 20)


class Closer(Server):
    """Closes whatever it accepts, at once."""

    def step(self) -> bool:
        has_moved = super().step()
        for end in self.ends:
            end.close()
        return has_moved


def open_session(
    harness: Harness, backend: Server | None = None, **settings: Any
) -> tuple[Front, End, End]:
    """Return a proxy with one established session, its client, and its end at the backend."""
    server = harness.add(backend or Server())
    proxy = harness.proxy(harness.pool(server.name), **settings)
    client = proxy.connect()
    harness.turn_until(lambda: server.ends)
    harness.turn_until(lambda: harness.loop.connections == 3)
    return proxy, client, server.end


def used_bytes(harness: Harness) -> int:
    return harness.loop.budget.used_bytes


def stall(harness: Harness, sender: End, reader: End) -> None:
    """Let `sender` send to a `reader` that does not read, until nothing moves any more."""
    reader.is_reading = False
    sender.send(MORE_THAN_THE_KERNEL_HOLDS)
    sender.write_bytes = 1 << 20
    harness.turn_until(lambda: used_bytes(harness))
    harness.settle(20)


# -- the normal case --


def test_what_the_backend_answers_reaches_the_client(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(backend.name))
    client = proxy.connect()
    client.send(b"hello")
    harness.turn_until(lambda: client.received == b"hello")
    client.finish()
    harness.turn_until(lambda: client.has_eof)
    assert proxy.only() == Ended("--", 200, "completed", 5, 5, (backend.name,))


def test_a_backend_may_speak_first(harness: Harness) -> None:
    _proxy, client, backend = open_session(harness)
    backend.send(b"220 ready")
    harness.turn_until(lambda: client.received == b"220 ready")


def test_bytes_sent_before_the_backend_was_connected_are_not_lost(harness: Harness) -> None:
    server = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(server.name))
    client = proxy.connect()
    client.socket.send(b"early")  # before the loop had its first turn
    harness.turn_until(lambda: client.received == b"early")


def test_sessions_take_turns_at_the_backends(harness: Harness) -> None:
    backends = [harness.add(SilentBackend()) for _ in range(3)]
    proxy = harness.proxy(harness.pool(*(backend.name for backend in backends)))
    for _ in range(6):
        proxy.connect()
    harness.turn_until(lambda: [len(backend.ends) for backend in backends] == [2, 2, 2])
    (pool,) = harness.pools
    assert [backend.conns for backend in pool.backends] == [2, 2, 2]


def test_sessions_are_counted_for_listener_and_backend(harness: Harness) -> None:
    proxy, client, _backend = open_session(harness, EchoBackend())
    assert proxy.handler.sessions == 1
    client.send(b"hello")
    client.finish()
    proxy.only()
    assert proxy.handler.sessions == 0
    for counters in (proxy.handler.counters, harness.pools[0].backends[0].counters):
        assert (counters.sessions, counters.bytes_received, counters.bytes_sent) == (1, 5, 5)
        assert counters.terminations == {"--": 1}


@pytest.mark.parametrize("side", ["front", "backend", "both"])
def test_both_sides_may_be_unix_sockets(
    harness: Harness, tmp_path: pathlib.Path, side: str
) -> None:
    server = Server(str(tmp_path / "backend")) if side != "front" else Server()
    server.end_class = EchoBackend.end_class
    harness.add(server)
    address = ANY_PORT if side == "backend" else parse_address(f"unix:{tmp_path}/front")
    proxy = harness.proxy(harness.pool(server.name), address)
    client = proxy.connect()
    client.send(b"hello" * 100_000)
    client.finish()
    assert proxy.only().bytes_sent == 500_000
    harness.turn_until(lambda: client.has_eof)
    assert client.received == b"hello" * 100_000


def test_both_sides_may_be_ipv6(harness: Harness) -> None:
    server = harness.add(EchoBackend(("::1", 0)))
    proxy = harness.proxy(harness.pool(server.name), ANY_PORT_V6)
    client = proxy.connect()
    client.send(b"hello")
    harness.turn_until(lambda: client.received == b"hello")


# -- half-close --


def test_a_client_that_ends_first_still_gets_its_answer(harness: Harness) -> None:
    proxy, client, backend = open_session(harness)
    client.send(b"request")
    client.finish()
    harness.turn_until(lambda: backend.has_eof)
    assert backend.received == b"request"
    harness.settle()
    assert proxy.ended == []
    backend.send(b"answer")
    backend.finish()
    harness.turn_until(lambda: client.has_eof)
    assert client.received == b"answer"
    assert proxy.only().termination == "--"


def test_a_backend_that_ends_first_still_gets_what_the_client_sends(harness: Harness) -> None:
    proxy, client, backend = open_session(harness)
    backend.send(b"answer")
    backend.finish()
    harness.turn_until(lambda: client.has_eof)
    assert client.received == b"answer"
    client.send(b"more")
    client.finish()
    harness.turn_until(lambda: backend.has_eof)
    assert backend.received == b"more"
    assert proxy.only().termination == "--"


def test_the_end_of_a_stream_follows_its_bytes_however_many_wait(harness: Harness) -> None:
    _proxy, client, backend = open_session(harness)
    stall(harness, client, backend)
    client.finish()
    harness.turn_until(lambda: not client.unsent or used_bytes(harness))
    backend.is_reading = True
    backend.read_bytes = 1 << 20
    harness.turn_until(lambda: backend.has_eof)
    assert backend.received == MORE_THAN_THE_KERNEL_HOLDS


@pytest.mark.parametrize("first", ["client", "backend"])
def test_without_half_close_the_first_end_is_the_end(harness: Harness, first: str) -> None:
    proxy, client, backend = open_session(harness, half_close=False)
    ends, stays = (client, backend) if first == "client" else (backend, client)
    ends.send(b"last words")
    ends.finish()
    assert end_of_delivery(harness, proxy).termination == "--"
    harness.turn_until(lambda: stays.has_eof)
    assert stays.received == b"last words"


def test_a_backend_that_closes_at_once_is_an_end_like_any_other(harness: Harness) -> None:
    server = harness.add(Closer())
    proxy = harness.proxy(harness.pool(server.name))
    client = proxy.connect()
    harness.turn_until(lambda: client.has_eof)
    client.finish()
    assert proxy.only().termination == "--"


# -- resets --


def test_a_reset_of_the_client_is_forwarded(harness: Harness) -> None:
    proxy, client, backend = open_session(harness)
    client.send(b"x")
    harness.turn_until(lambda: backend.received)
    client.reset()
    ended = proxy.only()
    assert (ended.termination, ended.status) == ("CD", 200)
    harness.turn_until(lambda: backend.was_reset)


def test_a_reset_of_the_backend_is_forwarded(harness: Harness, expect_log: Any) -> None:
    proxy, client, backend = open_session(harness)
    backend.send(b"half an ans")
    harness.turn_until(lambda: client.received)
    with expect_log("backend reset the connection while proxying connection", count=1):
        backend.reset()
        ended = proxy.only()
    assert (ended.termination, ended.status) == ("SD", 502)
    harness.turn_until(lambda: client.was_reset)
    assert client.received == b"half an ans"


def test_a_backend_that_resets_whatever_it_accepts(harness: Harness, expect_log: Any) -> None:
    server = harness.add(Resetter())
    proxy = harness.proxy(harness.pool(server.name))
    client = proxy.connect()
    # The reset comes before we had a look at the connection: that is one that failed.
    with expect_log(r"connect\(\) failed \(104: Connection reset by peer\)", count=1):
        assert proxy.only().termination == "SC"
    harness.turn_until(lambda: client.has_eof)


def test_a_client_that_goes_away_after_its_end_is_a_reset(harness: Harness) -> None:
    """It closes without reading: its kernel resets what the backend answers."""
    proxy, client, backend = open_session(harness)
    client.finish()
    harness.turn_until(lambda: backend.has_eof)
    client.close()
    harness.settle()
    assert proxy.ended == []
    backend.send(b"answer")
    harness.settle()
    backend.send(b"more")
    assert proxy.only().termination == "CD"
    # After an EOF the kernel says EPIPE instead of ECONNRESET.
    assert backend.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EPIPE


@pytest.mark.parametrize("method", ["epoll"])
def test_a_reset_after_the_end_of_the_stream_is_noticed_at_once(harness: Harness) -> None:
    proxy, client, backend = open_session(harness)
    client.finish()
    harness.turn_until(lambda: backend.has_eof)
    client.reset()
    assert proxy.only().termination == "CD"


def test_a_reset_while_bytes_wait_gives_them_up(harness: Harness, expect_log: Any) -> None:
    proxy, client, backend = open_session(harness)
    stall(harness, client, backend)
    with expect_log("backend reset the connection"):
        backend.reset()
        assert proxy.only().termination == "SD"
    assert used_bytes(harness) == 0
    harness.turn_until(lambda: client.errno)


def test_the_answer_of_a_backend_that_did_not_read_everything_arrives(
    harness: Harness, expect_log: Any
) -> None:
    """A server that refuses an upload: 413, and away."""
    proxy, client, backend = open_session(harness)
    stall(harness, client, backend)
    backend.send(b"too much")
    client.is_reading = False
    harness.turn_until(lambda: not backend.unsent)
    with expect_log("backend reset the connection"):
        backend.close()  # with bytes that it has not read: its kernel makes a reset of it
        assert proxy.only().termination == "SD"
    client.is_reading = True
    harness.turn_until(lambda: client.is_over)
    assert client.received == b"too much"


def test_the_request_of_a_client_that_did_not_read_everything_arrives(harness: Harness) -> None:
    proxy, client, backend = open_session(harness)
    stall(harness, backend, client)
    client.send(b"enough")
    harness.turn_until(lambda: backend.received == b"enough")
    client.close()
    assert proxy.only().termination == "CD"


def test_a_reset_that_is_met_by_sending_first_is_still_a_reset(
    harness: Harness, expect_log: Any
) -> None:
    """The failed send() takes the error along, and recv() then says EOF."""
    proxy, client, backend = open_session(harness)
    client.socket.send(b"x")
    backend.reset()
    with expect_log("backend reset the connection", count=1):
        assert proxy.only().termination == "SD"
    harness.turn_until(lambda: client.was_reset)


def end_of_delivery(harness: Harness, proxy: Front) -> Ended:
    """Let time pass, a little in each turn, until the only session has ended."""
    harness.turn_until(lambda: proxy.ended or harness.clock.advance(1))  # type: ignore[attr-defined]
    return proxy.ended[0]


def test_a_reset_of_the_backend_lets_the_client_have_its_answer_first(
    harness: Harness, expect_log: Any
) -> None:
    proxy, client, backend = open_session(harness)
    client.is_reading = False
    answer = bytes(300_000)
    backend.send(answer)
    harness.turn_until(lambda: not backend.unsent)
    harness.settle()
    backend.reset()
    harness.settle()
    assert proxy.ended == []
    client.is_reading = True
    with expect_log("backend reset the connection", count=1):
        assert end_of_delivery(harness, proxy).termination == "SD"
    harness.turn_until(lambda: client.is_over)
    assert client.received == answer
    assert client.was_reset


def test_a_reset_waits_for_a_client_that_takes_nothing_until_it_is_idle(
    harness: Harness, expect_log: Any
) -> None:
    proxy, client, backend = open_session(harness, timeout_ms=30_000)
    client.is_reading = False
    backend.send(MORE_THAN_A_WINDOW)
    harness.turn_until(lambda: not backend.unsent)
    harness.settle()
    backend.reset()
    harness.settle()
    harness.advance(29_900)
    assert proxy.ended == []
    with expect_log("backend reset the connection", count=1):
        harness.advance(200)
        if not proxy.ended:  # the client's kernel took some more, on a busy machine: progress
            harness.advance(30_000)
        assert proxy.only().termination == "SD"


def test_a_reset_with_both_directions_stalled_lets_the_answer_through(
    harness: Harness, expect_log: Any
) -> None:
    proxy, client, backend = open_session(harness)
    stall(harness, client, backend)
    stall(harness, backend, client)
    unsent = len(backend.unsent)
    backend.reset()
    harness.settle()
    assert proxy.ended == []
    client.is_reading = True
    client.read_bytes = 1 << 20
    with expect_log("backend reset the connection", count=1):
        assert end_of_delivery(harness, proxy).termination == "SD"
    assert used_bytes(harness) == 0
    assert 0 < proxy.ended[0].bytes_sent <= len(MORE_THAN_THE_KERNEL_HOLDS) - unsent


# -- long transfers, within the kernel --


def transfer(harness: Harness, **settings: Any) -> Front:
    """Send much both ways at once, through one session, and see that it arrives."""
    front, client, backend = open_session(harness, **settings)
    for end, data in ((client, RANDOM_BYTES), (backend, RANDOM_BYTES[::-1])):
        end.write_bytes = end.read_bytes = 1 << 20
        end.send(data)
        end.finish()
    harness.turn_until(lambda: client.is_over and backend.is_over)
    assert (backend.received, client.received) == (RANDOM_BYTES, RANDOM_BYTES[::-1])
    assert used_bytes(harness) == 0
    size = len(RANDOM_BYTES)
    assert front.only() == Ended("--", 200, "completed", size, size, (backend_name(harness),))
    return front


def backend_name(harness: Harness) -> str:
    return harness.pools[0].backends[0].name


def test_a_long_transfer_goes_through_pipes(harness: Harness) -> None:
    transfer(harness)
    assert harness.loop.pipes.opened


def test_a_long_transfer_is_copied_if_that_is_wanted(harness: Harness) -> None:
    transfer(harness, splice=False)
    assert not harness.loop.pipes.opened


def test_a_long_transfer_that_finds_no_pipe_is_copied(harness: Harness) -> None:
    harness.loop.pipes.limit = 0
    transfer(harness)
    assert not harness.loop.pipes.opened


def test_a_system_that_does_not_splice_copies(harness: Harness, expect_log: Any) -> None:
    asked: list[object] = []

    def splice(*arguments: object, **_: object) -> int:
        asked.append(arguments)
        raise OSError(errno.ENOSYS, "Function not implemented")

    harness.loop.pipes.splice = splice
    with expect_log(r"splice\(\) failed"):
        transfer(harness)
    assert len(asked) == 1
    assert not harness.loop.pipes.opened


def test_a_short_transfer_opens_no_pipe(harness: Harness) -> None:
    _front, client, backend = open_session(harness)
    for _ in range(10):
        client.send(bytes(50_000))
        harness.turn_until(lambda: backend.received)
        backend.received.clear()
    harness.settle()
    assert not harness.loop.pipes.opened


@pytest.mark.parametrize("reader", ["client", "backend"])
def test_a_reset_leaves_no_pipe_behind_that_is_not_empty(
    harness: Harness, expect_log: Any, reader: str
) -> None:
    before = descriptor_count()
    front, client, backend = open_session(harness)
    stall(harness, *((client, backend) if reader == "backend" else (backend, client)))
    (session,) = harness.sessions()
    assert session.upstream is not None
    assert isinstance((session.client.buffer or session.upstream.buffer), pipe.Pipe)
    if reader == "client":
        client.reset()
        front.only()
    else:
        with expect_log("backend reset the connection"):
            backend.reset()
            front.only()
    harness.loop.pipes.close()
    assert (harness.loop.pipes.opened, used_bytes(harness)) == (0, 0)
    for end in (client, backend):
        end.close()
    harness.turn()
    assert descriptor_count() == before + 3  # two listeners, and what the loop holds back


def test_a_piece_that_cannot_be_sent_at_all_is_given_up_with_its_pipe(
    harness: Harness, expect_log: Any
) -> None:
    front, client, backend = open_session(harness)
    splice = os.splice
    moved: list[int] = []

    def failing_splice(src: int, dst: int, count: int, flags: int) -> int:
        if moved:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        moved.append(splice(src, dst, count, flags=flags))
        return moved[0]

    harness.loop.pipes.splice = failing_splice
    client.send(RANDOM_BYTES)
    client.write_bytes = 1 << 20
    with expect_log("backend reset the connection"):
        harness.turn_until(lambda: moved)
        backend.reset()
        front.only()
    assert (harness.loop.pipes.opened, used_bytes(harness)) == (0, 0)


def test_a_rest_that_is_sent_in_part_before_it_fails_leaves_the_budget_even(
    harness: Harness, expect_log: Any
) -> None:
    front, client, backend = open_session(harness)
    stall(harness, client, backend)
    splice = os.splice
    calls = 0

    def failing_splice(src: int, dst: int, count: int, flags: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return splice(src, dst, min(count, 1000), flags=flags)

    harness.loop.pipes.splice = failing_splice
    backend.is_reading = True
    with expect_log("backend reset the connection"):
        harness.turn_until(lambda: calls == 2)
        backend.reset()
        front.only()
    assert used_bytes(harness) == 0


# -- back-pressure --


@pytest.mark.parametrize("sender", ["client", "backend"])
def test_a_reader_that_stalls_holds_no_more_than_one_read(harness: Harness, sender: str) -> None:
    _proxy, client, backend = open_session(harness)
    if sender == "client":
        stall(harness, client, backend)
        sends, reads = client, backend
    else:
        stall(harness, backend, client)
        sends, reads = backend, client
    assert 0 < used_bytes(harness) <= READ_AT_MOST
    assert sends.unsent
    reads.is_reading = True
    reads.read_bytes = 1 << 20
    harness.turn_until(lambda: len(reads.received) == len(MORE_THAN_THE_KERNEL_HOLDS))
    assert used_bytes(harness) == 0
    assert reads.received == MORE_THAN_THE_KERNEL_HOLDS


def test_an_idle_session_holds_nothing(harness: Harness) -> None:
    _proxy, client, _backend = open_session(harness, EchoBackend())
    client.send(b"x" * 1000)
    harness.turn_until(lambda: len(client.received) == 1000)
    assert used_bytes(harness) == 0
    assert [c.buffer for c in harness.connections()] == [None] * 3


def test_a_reader_that_stalls_in_one_direction_does_not_hold_up_the_other(
    harness: Harness,
) -> None:
    _proxy, client, backend = open_session(harness)
    stall(harness, client, backend)
    backend.send(b"still here")
    harness.turn_until(lambda: client.received == b"still here")


@pytest.mark.parametrize("method", ["epoll", "poll"])
def test_all_sessions_together_keep_to_the_budget(harness: Harness) -> None:
    """Above the budget they read in small pieces: what counts is how many they are, not what."""
    count, buffer_size, limit = 20, 4096, 256 * 1024
    harness.loop.budget.limit_bytes = limit
    server = harness.add(Server())
    proxy = harness.proxy(harness.pool(server.name), buffer_size=buffer_size)
    clients = [proxy.connect() for _ in range(count)]
    harness.turn_until(lambda: len(server.ends) == count)
    for end in server.ends:
        end.is_reading = False
    for client in clients:
        client.send(MORE_THAN_THE_KERNEL_HOLDS[: 8 << 20])
        client.write_bytes = 1 << 20
    harness.turn_until(lambda: sum(c.write.active for c in harness.connections()) == count, 15)
    assert used_bytes(harness) <= limit + READ_AT_MOST + count * buffer_size


def spend_budget(harness: Harness) -> None:
    harness.loop.budget.limit_bytes = 0
    harness.loop.budget.measure(harness.loop.clock.now_ms)


def test_with_the_budget_spent_bytes_stay_in_the_kernel_and_all_arrive(harness: Harness) -> None:
    spend_budget(harness)
    _proxy, client, backend = open_session(harness)
    client.send(MORE_THAN_THE_KERNEL_HOLDS)
    client.write_bytes = 1 << 20
    client.finish()
    backend.is_reading = False
    harness.turn_until(lambda: any(c.write.active for c in harness.connections()))
    harness.settle(20)
    assert used_bytes(harness) == 0
    backend.is_reading = True
    backend.read_bytes = 1 << 20
    harness.turn_until(lambda: backend.has_eof)
    assert backend.received == MORE_THAN_THE_KERNEL_HOLDS
    backend.send(b"the answer")
    backend.finish()
    harness.turn_until(lambda: client.has_eof)
    assert client.received == b"the answer"
    assert harness.fronts[0].only().termination == "--"


@pytest.mark.parametrize("method", ["epoll", "select"])
def test_a_session_that_began_within_the_budget_goes_on_without(harness: Harness) -> None:
    _proxy, client, backend = open_session(harness)
    stall(harness, client, backend)
    assert used_bytes(harness)
    spend_budget(harness)
    backend.is_reading = True
    backend.read_bytes = 1 << 20
    harness.turn_until(lambda: len(backend.received) == len(MORE_THAN_THE_KERNEL_HOLDS))
    assert backend.received == MORE_THAN_THE_KERNEL_HOLDS
    assert used_bytes(harness) == 0


@pytest.mark.parametrize("method", ["epoll", "select"])
def test_with_the_budget_spent_a_reset_is_still_a_reset(harness: Harness, expect_log: Any) -> None:
    spend_budget(harness)
    proxy, client, backend = open_session(harness)
    client.send(b"question")
    harness.turn_until(lambda: backend.received == b"question")
    backend.send(b"half an ans")
    harness.turn_until(lambda: client.received)
    with expect_log("backend reset the connection", count=1):
        backend.reset()
        assert proxy.only().termination == "SD"
    harness.turn_until(lambda: client.was_reset)


@pytest.mark.parametrize("method", ["epoll"])
def test_a_rest_for_which_there_is_no_memory_ends_its_session(
    harness: Harness, expect_log: Any
) -> None:
    proxy, client, backend = open_session(harness)
    session = harness.sessions()[0]

    def no_memory(_event: object) -> None:
        raise MemoryError

    session.client.read.handler = no_memory
    client.send(b"x")
    with expect_log("out of memory"), expect_log("no descriptor, port or memory", count=1):
        ended = proxy.only()
    assert (ended.termination, ended.status) == ("RC", 500)
    harness.turn_until(lambda: client.was_reset and backend.was_reset)


@pytest.mark.parametrize("method", ["epoll", "select"])
def test_a_bulk_transfer_does_not_starve_a_short_one(harness: Harness) -> None:
    server = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(server.name))
    bulk = proxy.connect()
    bulk.send(MORE_THAN_THE_KERNEL_HOLDS)
    bulk.write_bytes = bulk.read_bytes = 1 << 20
    harness.turn_until(lambda: len(bulk.received) > 1 << 20)
    short = proxy.connect()
    short.send(b"me too")
    harness.turn_until(lambda: short.received == b"me too")
    assert bulk.unsent or len(bulk.received) < len(MORE_THAN_THE_KERNEL_HOLDS)


@pytest.mark.parametrize("method", ["epoll", "level"])
def test_a_transfer_that_stops_at_its_quota_goes_on(harness: Harness) -> None:
    """An edge that was reported is not reported again: what is left has to be posted."""
    _proxy, client, backend = open_session(harness)
    client.read_bytes = backend.write_bytes = 1 << 20
    backend.send(MORE_THAN_THE_KERNEL_HOLDS)  # so that the kernel's buffers grow
    harness.turn_until(lambda: len(client.received) == len(MORE_THAN_THE_KERNEL_HOLDS))
    (session,) = harness.sessions()
    before = session.client.sent
    backend.send(bytes(3 << 20))
    while backend.step():
        pass
    waiting = (3 << 20) - len(backend.unsent)
    if waiting <= QUOTA_BYTES:
        pytest.skip("the kernel holds less than the quota of one event")
    harness.turn_until(lambda: session.client.sent - before == 3 << 20)


# -- idleness --


def test_a_client_that_says_nothing_is_idle(harness: Harness, clock: FakeClock) -> None:
    proxy, client, backend = open_session(harness, timeout_ms=5000)
    harness.advance(4990)
    assert proxy.ended == []
    harness.advance(20)
    ended = proxy.only()
    assert (ended.termination, ended.status) == ("cD", 200)
    assert ended.reason == "idle timeout, client was silent"
    harness.turn_until(lambda: client.has_eof and backend.has_eof)


def test_a_backend_that_never_answers_is_idle(harness: Harness) -> None:
    proxy, client, backend = open_session(harness, timeout_ms=5000)
    client.send(b"request")
    harness.turn_until(lambda: backend.received)
    harness.advance(5010)
    assert proxy.only().termination == "sD"


def test_a_backend_that_does_not_even_accept_is_idle(harness: Harness) -> None:
    """A stopped process: its kernel completes connections, and nobody is there."""
    server = harness.add(Server())
    server.is_accepting = False
    proxy = harness.proxy(harness.pool(server.name), timeout_ms=5000)
    client = proxy.connect()
    client.send(b"request")
    harness.turn_until(lambda: harness.loop.connections == 3 and not client.unsent)
    harness.settle()
    harness.advance(5010)
    assert proxy.only().termination == "sD"


def test_a_client_that_got_its_answer_is_to_speak_next(harness: Harness) -> None:
    proxy, client, _backend = open_session(harness, EchoBackend(), timeout_ms=5000)
    client.send(b"request")
    harness.turn_until(lambda: client.received)
    harness.advance(5010)
    assert proxy.only().termination == "cD"


@pytest.mark.parametrize(("stalled", "code"), [("client", "cD"), ("backend", "sD")])
def test_who_does_not_take_what_waits_is_to_act(harness: Harness, stalled: str, code: str) -> None:
    proxy, client, backend = open_session(harness, timeout_ms=5000)
    if stalled == "client":
        stall(harness, backend, client)
    else:
        stall(harness, client, backend)
    harness.advance(5010)  # nobody knows yet since when nothing was taken
    assert proxy.ended == []
    harness.advance(5010)
    assert proxy.only().termination == code
    assert used_bytes(harness) == 0


@pytest.mark.parametrize(("ended", "code"), [("client", "sD"), ("backend", "cD")])
def test_who_has_not_ended_yet_is_to_speak(harness: Harness, ended: str, code: str) -> None:
    proxy, client, backend = open_session(harness, timeout_ms=5000)
    ends, stays = (client, backend) if ended == "client" else (backend, client)
    ends.finish()
    harness.turn_until(lambda: stays.has_eof)
    harness.advance(5010)
    assert proxy.only().termination == code


@pytest.mark.parametrize("direction", ["to backend", "to client"])
def test_bytes_in_either_direction_put_the_end_off(harness: Harness, direction: str) -> None:
    proxy, client, backend = open_session(harness, timeout_ms=5000)
    sends, reads = (client, backend) if direction == "to backend" else (backend, client)
    for count in range(1, 6):
        harness.advance(4000)
        sends.send(b"x")
        harness.turn_until(lambda: len(reads.received) == count)  # noqa: B023 - called at once
    harness.advance(4990)
    assert proxy.ended == []
    harness.advance(20)
    assert len(proxy.ended) == 1


def test_bytes_that_a_slow_reader_takes_put_the_end_off(harness: Harness) -> None:
    proxy, client, backend = open_session(harness, timeout_ms=5000)
    stall(harness, backend, client)
    client.read_bytes = 1 << 20
    for _ in range(3):
        harness.advance(4000)
        before = len(client.received)
        client.is_reading = True
        harness.turn_until(lambda: len(client.received) > before + (2 << 20))  # noqa: B023
        client.is_reading = False
        harness.settle()
    harness.advance(5010)  # what was taken last was taken a moment ago, for all that is known
    assert proxy.ended == []
    harness.advance(5010)
    assert proxy.only().termination == "cD"


def test_the_last_bytes_that_are_taken_put_the_end_off_too(harness: Harness) -> None:
    proxy, client, backend = open_session(harness, timeout_ms=5000)
    client.is_reading = False
    while not used_bytes(harness):
        backend.send(bytes(65536))
        harness.turn()
    backend.unsent.clear()
    harness.settle()
    harness.advance(4000)
    client.is_reading = True
    harness.turn_until(lambda: not used_bytes(harness))
    harness.settle()
    harness.advance(4900)
    assert proxy.ended == []
    harness.advance(200)
    assert proxy.only().termination == "cD"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["epoll", "poll"])
def test_a_client_that_reads_one_byte_a_second_gets_it_all(harness: Harness) -> None:
    """Its kernel lets more in only when much has been read; there is no hurry here."""
    server = harness.add(Server())
    proxy = harness.proxy(harness.pool(server.name), timeout_ms=3_600_000)
    client = proxy.connect(rcvbuf_bytes=2048)
    client.read_bytes = 1
    harness.turn_until(lambda: server.ends)
    server.end.send(bytes(range(256)) * 40)
    server.end.finish()
    client.finish()
    deadline_s = time.monotonic() + 15
    while not client.is_over and time.monotonic() < deadline_s:
        harness.advance(1000)
    assert client.received == bytes(range(256)) * 40
    assert proxy.only().termination == "--"


def test_a_session_without_a_timeout_is_never_idle(harness: Harness) -> None:
    proxy, client, _backend = open_session(harness, EchoBackend(), timeout_ms=None)
    harness.advance(30 * 24 * 3_600_000)
    client.send(b"still here")
    harness.turn_until(lambda: client.received == b"still here")
    assert proxy.ended == []


@pytest.mark.parametrize("timeout_ms", [40_000, 60_000, 90_000])
def test_idleness_begins_when_the_connection_is_established(
    harness: Harness, clock: FakeClock, timeout_ms: int
) -> None:
    """Not when connecting to the backend began, however long that took."""
    server = harness.add(Server())
    proxy = harness.proxy(
        harness.pool(server.name), timeout_ms=timeout_ms, connect_timeout_ms=60_000
    )
    proxy.connect()
    harness.loop.turn(0)
    harness.turn_until(lambda: harness.loop.connections >= 2)
    clock.advance(50_000)
    harness.turn_until(lambda: harness.loop.connections == 3 and server.ends)
    harness.advance(timeout_ms - 100)
    harness.settle()
    assert proxy.ended == []
    harness.advance(200)
    assert proxy.only().termination == "cD"


# -- the end of the process, and bugs --


def test_a_session_that_the_process_ends_was_killed(harness: Harness) -> None:
    proxy, client, backend = open_session(harness)
    (session,) = harness.sessions()
    session.kill()
    ended = proxy.only()
    assert (ended.termination, ended.status) == ("KD", 200)
    harness.turn_until(lambda: client.has_eof and backend.has_eof)


def test_a_bug_in_a_session_ends_that_session_alone(harness: Harness, expect_log: Any) -> None:
    def bug(_event: object) -> None:
        raise ZeroDivisionError

    server = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(server.name))
    broken, healthy = proxy.connect(), proxy.connect()
    harness.turn_until(lambda: len(server.ends) == 2)
    harness.turn_until(lambda: harness.loop.connections == 5)
    harness.settle()
    session = next(s for s in harness.sessions() if s.client.sockaddr == broken.address)
    session.client.read.handler = bug
    with expect_log("bug in nginy", count=1), expect_log("internal error", count=1):
        broken.send(b"x")
        assert proxy.only().termination == "ID"
    harness.turn_until(lambda: broken.was_reset)
    healthy.send(b"still here")
    harness.turn_until(lambda: healthy.received == b"still here")


def test_a_bug_in_the_access_log_leaves_no_connection(harness: Harness, expect_log: Any) -> None:
    def bug(_session: Session) -> None:
        raise ZeroDivisionError

    proxy, client, backend = open_session(harness)
    proxy.handler.log_session = bug
    with expect_log("bug in nginy", count=1):
        client.finish()
        backend.finish()
        harness.turn_until(lambda: harness.loop.connections == 1)


# -- crowds and leaks --


@pytest.mark.slow
@pytest.mark.parametrize("method", ["epoll", "poll"])
def test_ten_thousand_connections_opened_and_dropped_at_once(
    harness: Harness, method: str, expect_log: Any
) -> None:
    server = harness.add(Server(backlog=4096))
    server.is_accepting = False
    proxy = harness.proxy(harness.pool(server.name))
    descriptors = descriptor_count()
    count = 10_000 if method == "epoll" else 2000
    wave = 250
    started_s = time.monotonic()
    for number in range(0, count, wave):
        ends = [connect(proxy.listener.address.sockaddr) for _ in range(wave)]
        for i, end in enumerate(ends):
            if i % 2:
                end.reset()
            else:
                end.close()
        # The backend is one that closes what was dropped, as any does.
        for _ in range(100):
            harness.turn()
            drop_all(server)
            if len(proxy.ended) == number + wave:
                break
    harness.turn_until(lambda: len(proxy.ended) == count)
    elapsed_s = time.monotonic() - started_s
    print(f"{count} in {elapsed_s:.1f} s")
    assert set(proxy.terminations) <= {"--", "CC", "CD"}
    assert harness.loop.connections == 1
    assert descriptor_count() == descriptors


def drop_all(server: Server) -> None:
    """Accept and close whatever waits at `server`."""
    while True:
        try:
            sock, _ = server.socket.accept()
        except BlockingIOError:
            return
        sock.close()


@pytest.mark.parametrize("ending", ["complete", "reset", "idle"])
def test_no_session_leaves_an_object_behind(harness: Harness, ending: str) -> None:
    server = harness.add(Server())
    proxy = harness.proxy(harness.pool(server.name), timeout_ms=5000)
    objects, descriptors = alive(), descriptor_count()
    with no_garbage():
        for _ in range(3):
            client = connect(proxy.listener.address.sockaddr)
            harness.turn_until(lambda: server.ends)
            if ending == "reset":
                client.reset()
            elif ending == "idle":
                harness.advance(5010)
            else:
                client.finish()
                client.step()
                server.end.finish()
            harness.turn_until(lambda: harness.loop.connections == 1)
            client.close()
            server.end.close()
            server.ends.clear()
    proxy.ended.clear()
    assert alive() == objects
    assert descriptor_count() == descriptors


def test_no_session_that_failed_leaves_an_object_behind(harness: Harness, expect_log: Any) -> None:
    proxy = harness.proxy(harness.pool(harness.add(RefusingPort()).name))
    objects, descriptors = alive(), descriptor_count()
    with no_garbage(), expect_log(r"connect\(\) failed \(111", count=3):
        for count in range(1, 4):
            client = connect(proxy.listener.address.sockaddr)
            harness.turn_until(lambda: len(proxy.ended) == count)  # noqa: B023 - called at once
            client.close()
    proxy.ended.clear()
    assert alive() == objects
    assert descriptor_count() == descriptors
