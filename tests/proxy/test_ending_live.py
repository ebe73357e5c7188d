"""How TCP sessions end: bytes before resets, progress that only the kernel sees, cut streams."""

import errno
import random
import sys
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any

import pytest
from nginy.proxy.session import Reason

from kit.clock import FakeClock
from kit.ends import End
from kit.harness import Ended, Front, Harness
from kit.servers import Server

ANSWER = bytes(range(256)) * 12_000
"""3 MB, all of which the kernel holds on its way."""
ENDLESS = bytes(64 << 20)
A_SECOND_MS = 1000
READ_A_SECOND = 200_000

SIDES = pytest.mark.parametrize("reader", ["client", "backend"])


@pytest.fixture
def server(harness: Harness) -> Server:
    return harness.add(Server())


def open_session(harness: Harness, server: Server, **settings: Any) -> tuple[Front, End, End]:
    """Return a proxy with one established session, its client, and its end at the backend."""
    return established(harness, server, harness.proxy(harness.pool(server.name), **settings))


def established(harness: Harness, server: Server, proxy: Front) -> tuple[Front, End, End]:
    client = proxy.connect()
    harness.turn_until(lambda: server.ends and harness.loop.connections == 3)
    return proxy, client, server.end


def order(client: End, backend: End, reader: str) -> tuple[End, End]:
    """Return the sender and the reader."""
    return (backend, client) if reader == "client" else (client, backend)


def send_all(harness: Harness, sender: End, reader: End, answer: bytes = ANSWER) -> None:
    """Send until the sender has nothing left, not even in its kernel; the reader reads nothing."""
    reader.is_reading = False
    sender.write_bytes = 1 << 20
    sender.send(answer)
    harness.turn_until(lambda: not sender.unsent and not unacknowledged(sender))


def is_delivering(harness: Harness) -> bool:
    running = (timer.handler for _, timer in harness.loop.timers.running())
    return any(handler.__name__ == "delivery_timer_handler" for handler in running)


def unacknowledged(end: End) -> int:
    return int.from_bytes(ioctl(end.socket.fileno(), TIOCOUTQ, bytes(4)), sys.byteorder)


def read_slowly(harness: Harness, reader: End) -> None:
    """Read to the end, a little each second; waiting for the kernels takes next to no time."""
    reader.is_reading = True
    reader.read_bytes = READ_A_SECOND
    seen = 0

    def is_over() -> bool:
        nonlocal seen
        before, seen = seen, len(reader.received)
        return reader.is_over or advance(harness, A_SECOND_MS if seen > before else 5)

    harness.turn_until(is_over, 20)


def advance(harness: Harness, duration_ms: int) -> bool:
    """Let time pass; return False, for conditions that wait for something else."""
    assert isinstance(harness.clock, FakeClock)
    harness.clock.advance(duration_ms)
    return False


def ended(harness: Harness, proxy: Front) -> Ended:
    """Let time pass, a little in each turn, until the only session has ended."""
    harness.turn_until(lambda: proxy.ended or advance(harness, 10))
    return proxy.ended[0]


# -- what came before a reset arrives --


@SIDES
@pytest.mark.parametrize("splice", [True, False])
def test_what_was_sent_before_a_reset_arrives_however_slowly_it_is_read(
    harness: Harness, server: Server, expect_log: Any, reader: str, splice: bool
) -> None:
    proxy, client, backend = open_session(harness, server, splice=splice, timeout_ms=30_000)
    sends, reads = order(client, backend, reader)
    send_all(harness, sends, reads)
    sends.reset()
    harness.settle()
    with expect_log("backend reset the connection", count=int(reader == "client")):
        read_slowly(harness, reads)
        assert ended(harness, proxy).termination == ("SD" if reader == "client" else "CD")
    assert reads.received == ANSWER
    assert reads.was_reset
    assert harness.loop.pipes.opened == splice


def test_an_upload_arrives_though_the_client_leaves_the_greeting_unread(
    harness: Harness, server: Server
) -> None:
    """Its kernel makes a reset of the close (RFC 2525, section 2.17)."""
    proxy, client, backend = open_session(harness, server)
    client.is_reading = False
    backend.send(b"220 mail.example.test\r\n")
    send_all(harness, client, backend)
    client.close()
    harness.settle()
    read_slowly(harness, backend)
    assert backend.received == ANSWER
    assert backend.was_reset
    assert ended(harness, proxy).termination == "CD"


def test_a_backend_that_closes_under_an_upload_has_its_answer_delivered(
    harness: Harness, server: Server, expect_log: Any
) -> None:
    proxy, client, backend = open_session(harness, server, timeout_ms=30_000)
    client.send(ENDLESS)
    client.write_bytes = 1 << 20
    harness.turn_until(lambda: backend.received)
    send_all(harness, backend, client)
    with expect_log("backend reset the connection", count=1):
        backend.close()
        read_slowly(harness, client)
        assert ended(harness, proxy).termination == "SD"
    assert client.received == ANSWER
    assert client.was_reset
    assert client.unsent or client.is_over


def test_without_half_close_an_answer_arrives_under_an_upload_too(
    harness: Harness, server: Server
) -> None:
    proxy, client, backend = open_session(harness, server, half_close=False, timeout_ms=30_000)
    send_all(harness, backend, client)
    backend.finish()
    client.send(ENDLESS)
    harness.settle()
    read_slowly(harness, client)
    assert ended(harness, proxy).termination == "--"
    assert client.received == ANSWER
    assert client.has_eof


def test_a_delivery_ends_at_once_when_the_reader_breaks_the_connection(
    harness: Harness, server: Server, expect_log: Any
) -> None:
    proxy, client, backend = open_session(harness, server, timeout_ms=None)
    # More than the client's kernel takes, and less than nginy's has room for, even a busy one.
    send_all(harness, backend, client, ANSWER[: 3 << 17])
    backend.reset()
    harness.turn_until(lambda: is_delivering(harness))
    advance(harness, 24 * 3_600_000)
    harness.settle()
    assert proxy.ended == []
    with expect_log("backend reset the connection", count=1):
        client.reset()
        assert ended(harness, proxy).termination == "SD"


@SIDES
def test_a_session_ends_when_both_sides_have_broken_one_after_the_other(
    harness: Harness, server: Server, reader: str, expect_log: Any
) -> None:
    proxy, client, backend = open_session(harness, server, timeout_ms=None)
    first, last = order(client, backend, reader)
    for end in (client, backend):
        end.is_reading = False
        end.write_bytes = 1 << 20
        end.send(ENDLESS)
    harness.turn_until(lambda: all(c.write.active for c in harness.connections()[1:]))
    harness.settle()
    first.reset()
    harness.settle()
    assert proxy.ended == []
    with expect_log("backend reset the connection", count=int(reader == "client")):
        last.reset()
        assert ended(harness, proxy).termination == ("SD" if reader == "client" else "CD")


def test_a_session_may_be_ended_during_a_delivery(harness: Harness, server: Server) -> None:
    proxy, client, backend = open_session(harness, server)
    send_all(harness, backend, client)
    backend.reset()
    harness.settle()
    harness.sessions()[0].kill()
    assert proxy.only().termination == "KD"
    client.is_reading = True
    harness.turn_until(lambda: client.was_reset)


# -- progress --


@SIDES
def test_bytes_that_the_peers_kernel_takes_put_the_idle_end_off(
    harness: Harness, server: Server, reader: str
) -> None:
    _proxy, client, backend = open_session(harness, server, timeout_ms=5000)
    sends, reads = order(client, backend, reader)
    sends.write_bytes = 1 << 20
    sends.send(3 * ANSWER)
    sends.finish()
    reads.is_reading = False
    harness.settle()
    read_slowly(harness, reads)
    assert reads.received == 3 * ANSWER
    assert reads.has_eof


def test_what_is_taken_last_counts_from_when_the_queue_was_seen_empty(
    harness: Harness, server: Server
) -> None:
    proxy, client, backend = open_session(harness, server, timeout_ms=5000)
    send_all(harness, backend, client)
    harness.advance(5010)
    client.is_reading = True
    harness.turn_until(lambda: len(client.received) == len(ANSWER))
    harness.settle()
    harness.advance(5010)
    assert proxy.ended == []
    harness.advance(5010)
    assert proxy.only().termination == "cD"


# -- half-closed --


@SIDES
def test_a_session_that_is_half_closed_may_have_an_idle_time_of_its_own(
    harness: Harness, server: Server, reader: str
) -> None:
    proxy, client, backend = open_session(
        harness, server, timeout_ms=600_000, half_close_timeout_ms=5000
    )
    stays, ends = order(client, backend, reader)
    harness.advance(300_000)
    ends.finish()
    harness.turn_until(lambda: stays.has_eof)
    for _ in range(3):
        ends.received.clear()
        harness.advance(4900)
        stays.send(b"still here")
        harness.turn_until(lambda: ends.received)
    assert proxy.ended == []
    harness.advance(5010)
    assert proxy.only().termination == ("sD" if reader == "client" else "cD")
    harness.turn_until(lambda: ends.was_reset)


@pytest.mark.parametrize("timeout_ms", [None, 5000])
def test_a_half_closed_session_has_the_ordinary_idle_time_unless_told(
    harness: Harness, server: Server, timeout_ms: int | None
) -> None:
    proxy, client, backend = open_session(
        harness, server, timeout_ms=timeout_ms, half_close_timeout_ms=None if timeout_ms else 5000
    )
    client.finish()
    harness.turn_until(lambda: backend.has_eof)
    harness.advance(5010)
    assert proxy.only().termination == "sD"


# -- keep-alive --


class GoneSocket:
    """The socket of a peer that has answered no probe."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def recv_into(self, _memory: memoryview) -> int:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")


def test_a_client_that_keep_alive_has_found_gone_has_not_reset(
    harness: Harness, server: Server
) -> None:
    proxy, client, backend = open_session(harness, server)
    (session,) = harness.sessions()
    session.client.socket = GoneSocket(session.client.socket)  # type: ignore[assignment]
    client.send(b"x")
    end = ended(harness, proxy)
    assert (end.termination, end.reason) == (
        "CD",
        "recv() timed out (110: Connection timed out)",
    )
    harness.turn_until(lambda: backend.was_reset)


# -- what nginy ends by itself --


def end_session(harness: Harness, cause: str) -> None:
    """End the only session as nginy does by itself."""
    (session,) = harness.sessions()
    if cause == "kill":
        session.kill()
    elif cause == "down":
        session.finalize(Reason.BACKEND_DOWN)
    else:
        harness.turn_until(lambda: not harness.sessions() or advance(harness, A_SECOND_MS))


CAUSES = pytest.mark.parametrize("cause", ["kill", "down", "idle", "too long"])


def open_for(harness: Harness, server: Server, cause: str) -> tuple[Front, End, End]:
    pool = harness.pool(server.name)
    if cause == "too long":
        pool.max_session_time_ms = 60_000
    proxy = harness.proxy(pool, timeout_ms=5000 if cause == "idle" else None)
    return established(harness, server, proxy)


@CAUSES
@SIDES
def test_who_has_bytes_to_get_sees_a_reset(
    harness: Harness, server: Server, cause: str, reader: str
) -> None:
    proxy, client, backend = open_for(harness, server, cause)
    sends, reads = order(client, backend, reader)
    send_all(harness, sends, reads)
    harness.settle()
    end_session(harness, cause)
    reads.is_reading = True
    harness.turn_until(lambda: reads.is_over)
    assert reads.was_reset
    assert len(proxy.ended) == 1


@CAUSES
@SIDES
def test_who_is_in_the_middle_of_a_stream_sees_a_reset(
    harness: Harness, server: Server, cause: str, reader: str
) -> None:
    """It takes what comes at once, so that nothing is on its way, and nothing ever goes back."""
    proxy, client, backend = open_for(harness, server, cause)
    sends, reads = order(client, backend, reader)
    sends.send(b"the first half")
    harness.turn_until(lambda: reads.received)
    harness.settle()
    end_session(harness, cause)
    harness.turn_until(lambda: reads.is_over)
    assert reads.was_reset
    assert len(proxy.ended) == 1


@pytest.mark.parametrize("cause", ["kill", "down"])
def test_an_answer_that_keeps_coming_ends_in_a_reset(
    harness: Harness, server: Server, cause: str
) -> None:
    _proxy, client, backend = open_for(harness, server, cause)
    exchange(harness, client, backend)
    for _ in range(3):
        client.received.clear()
        advance(harness, 300)
        backend.send(b"more")
        harness.turn_until(lambda: client.received)
    harness.settle()
    end_session(harness, cause)
    harness.turn_until(lambda: client.is_over and backend.is_over)
    assert client.was_reset
    assert backend.has_eof


@CAUSES
@SIDES
def test_who_has_ended_its_own_stream_and_waits_for_the_other_sees_a_reset(
    harness: Harness, server: Server, cause: str, reader: str
) -> None:
    proxy, client, backend = open_for(harness, server, cause)
    sends, reads = order(client, backend, reader)
    reads.send(b"all I have to say")
    reads.finish()
    harness.turn_until(lambda: sends.has_eof)
    sends.send(b"the first half")
    harness.turn_until(lambda: reads.received)
    harness.settle()
    end_session(harness, cause)
    harness.turn_until(lambda: reads.is_over)
    assert reads.was_reset
    assert len(proxy.ended) == 1


@CAUSES
def test_a_request_without_its_answer_ends_in_a_reset(
    harness: Harness, server: Server, cause: str
) -> None:
    _proxy, client, backend = open_for(harness, server, cause)
    exchange(harness, client, backend)
    advance(harness, 1)
    client.send(b"and now?")
    harness.turn_until(lambda: backend.received == b"pingand now?")
    advance(harness, 2000)
    end_session(harness, cause)
    harness.turn_until(lambda: client.is_over and backend.is_over)
    assert client.was_reset
    assert backend.was_reset


@CAUSES
def test_two_sides_that_have_nothing_to_say_see_a_clean_end(
    harness: Harness, server: Server, cause: str
) -> None:
    _proxy, client, backend = open_for(harness, server, cause)
    exchange(harness, client, backend)
    end_session(harness, cause)
    harness.turn_until(lambda: client.is_over and backend.is_over)
    # Idle after an answer, or in the middle of one: the client is not to take it for complete.
    assert client.was_reset is (cause == "idle")
    assert backend.has_eof


def exchange(harness: Harness, client: End, backend: End) -> None:
    client.send(b"ping")
    harness.turn_until(lambda: backend.received)
    advance(harness, 1)
    backend.send(b"pong")
    harness.turn_until(lambda: client.received)
    harness.settle()


def test_who_has_got_the_end_of_a_stream_does_not_see_it_cut(
    harness: Harness, server: Server
) -> None:
    _proxy, client, backend = open_for(harness, server, "kill")
    send_all(harness, backend, client)
    backend.finish()
    harness.settle()
    client.is_reading = True
    harness.turn_until(lambda: len(client.received) > len(ANSWER) // 2)
    client.is_reading = False
    harness.settle()
    end_session(harness, "kill")
    client.is_reading = True
    harness.turn_until(lambda: client.is_over)
    assert client.received == ANSWER
    assert client.has_eof
    harness.turn_until(lambda: backend.is_over)


# -- any order --


@pytest.mark.slow
def test_no_session_stays_when_both_sides_are_gone_in_whatever_order(
    harness: Harness, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Without any timeout: only what the two sides do ends a session."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    proxy = harness.proxy(harness.pool(server.name), timeout_ms=None, half_close=seed % 3 > 0)
    for _ in range(60):
        client = proxy.connect()
        harness.turn_until(lambda: server.ends and harness.loop.connections == 3)
        ends = [client, server.end]
        for _ in range(rng.randrange(1, 12)):
            do_something(rng, rng.choice(ends))
            for _ in range(rng.randrange(3)):
                harness.turn()
        for end in rng.sample(ends, 2):
            rng.choice((end.close, end.reset))()
            for _ in range(rng.randrange(3)):
                harness.turn()
        ended(harness, proxy)
        proxy.ended.clear()
        server.ends.clear()
        harness.forget(client)
    assert harness.loop.budget.used_bytes == 0


def do_something(rng: random.Random, end: End) -> None:
    end.is_reading = rng.random() < 0.5
    end.write_bytes = 1 << 20
    what = rng.randrange(10)
    if what < 5:
        end.send(ENDLESS[: rng.choice((1, 1000, 100_000, 5 << 20))])
    elif what == 5:
        end.finish()
    elif what == 6:
        end.close()
    elif what == 7:
        end.reset()
