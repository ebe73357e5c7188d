"""Listeners that answer by themselves, through real sockets."""

from typing import Any

import pytest
from nginy.proxy.reply import LINGER_MS

from kit.clock import FakeClock
from kit.ends import End
from kit.harness import Ended, Harness

LONG = bytes(range(256)) * 4096 * 16
"""More than the kernel takes for a client that does not read."""


def until_eof(harness: Harness, client: End) -> None:
    harness.turn_until(lambda: client.has_eof)


def test_a_client_gets_the_answer_and_the_end(harness: Harness) -> None:
    front = harness.reply(b"backend one\n")
    client = front.connect()
    harness.turn_until(lambda: client.has_eof)
    assert client.received == b"backend one\n"
    client.finish()
    assert front.only() == Ended("--", 200, "completed", 0, 12, ())


def test_a_client_that_talks_first_does_not_lose_the_answer(harness: Harness) -> None:
    """Closing with bytes unread would reset the connection, and could take the answer along."""
    front = harness.reply(b"answer")
    client = front.connect()
    client.socket.send(b"x" * 50_000)
    client.send(b"x" * 5_000_000)
    client.finish()
    harness.turn_until(lambda: client.is_over and not client.unsent)
    assert client.received == b"answer"
    assert not client.was_reset
    assert front.only().bytes_received == 5_050_000


def test_a_client_that_has_ended_already_gets_the_answer(harness: Harness) -> None:
    front = harness.reply(b"answer")
    client = front.connect()
    client.finish()
    client.step()
    assert front.only().termination == "--"
    harness.turn_until(lambda: client.has_eof)
    assert client.received == b"answer"


def test_an_answer_of_any_length_is_sent_as_the_client_reads(harness: Harness) -> None:
    front = harness.reply(LONG)
    client = front.connect()
    client.read_bytes = 1 << 20
    client.is_reading = False
    harness.turn_until(lambda: harness.loop.connections == 2)
    harness.settle()
    assert 0 < harness.loop.budget.used_bytes < len(LONG)
    client.is_reading = True
    harness.turn_until(lambda: client.has_eof)
    assert client.received == LONG
    assert harness.loop.budget.used_bytes == 0
    client.close()
    assert front.only().termination == "--"


def test_a_long_answer_reaches_a_client_that_has_ended_already(harness: Harness) -> None:
    front = harness.reply(LONG)
    client = front.connect()
    client.read_bytes = 1 << 20
    client.finish()
    harness.turn_until(lambda: client.has_eof)
    assert client.received == LONG
    assert front.only().termination == "--"


def test_an_empty_answer_is_an_end(harness: Harness) -> None:
    front = harness.reply(b"")
    client = front.connect()
    harness.turn_until(lambda: client.has_eof)
    client.close()
    assert front.only().termination == "--"


def test_a_client_that_does_not_close_is_not_waited_for_for_ever(harness: Harness) -> None:
    front = harness.reply(b"answer")
    client = front.connect()
    harness.turn_until(lambda: client.has_eof)
    harness.advance(LINGER_MS - 10)
    assert front.ended == []
    harness.advance(20)
    assert front.only().termination == "--"


def test_a_client_that_does_not_read_is_idle(harness: Harness) -> None:
    front = harness.reply(LONG, timeout_ms=7000)
    client = front.connect()
    client.is_reading = False
    harness.turn_until(lambda: harness.loop.connections == 2)
    harness.settle()
    harness.advance(6990)
    assert front.ended == []
    harness.advance(20)
    if not front.ended:  # its kernel took some of the answer after the first look, and is idle now
        harness.advance(7000)
    assert front.only().termination == "cD"
    assert harness.loop.budget.used_bytes == 0
    client.is_reading = True
    client.read_bytes = 1 << 20
    harness.turn_until(lambda: client.was_reset)


def test_a_client_that_reads_slowly_gets_it_all(harness: Harness, clock: FakeClock) -> None:
    """It sends all the while, and what is unread at a close resets the connection."""
    front = harness.reply(LONG, timeout_ms=7000)
    client = front.connect()
    client.read_bytes = 1 << 20
    client.send(LONG)
    seen = 0

    def is_over() -> bool:
        nonlocal seen
        before, seen = seen, len(client.received)
        if seen > before:
            clock.advance(4000)
        return client.is_over

    harness.turn_until(is_over)
    assert client.received == LONG
    assert client.has_eof
    client.close()
    assert front.only().termination == "--"


def test_an_answer_that_the_end_of_the_process_cuts_short_ends_in_a_reset(
    harness: Harness,
) -> None:
    front = harness.reply(LONG)
    client = front.connect()
    client.is_reading = False
    harness.turn_until(lambda: harness.loop.connections == 2)
    harness.settle()
    harness.sessions()[0].kill()
    assert front.only().termination == "KD"
    client.is_reading = True
    client.read_bytes = 1 << 20
    harness.turn_until(lambda: client.was_reset)


def test_a_client_that_has_not_taken_the_answer_yet_is_given_longer(
    harness: Harness,
) -> None:
    front = harness.reply(LONG[: 1 << 20])
    client = front.connect()
    client.is_reading = False
    client.read_bytes = 100_000
    harness.turn_until(lambda: harness.loop.connections == 2)
    harness.settle()
    assert harness.loop.budget.used_bytes == 0  # the kernel has all of it
    client.is_reading = True
    for _ in range(4):
        harness.turn()
        harness.advance(LINGER_MS + 10)
    assert front.ended == []
    client.send(b"more")
    harness.settle()
    harness.turn_until(lambda: client.has_eof)
    assert client.received == LONG[: 1 << 20]


def test_a_client_that_resets_in_the_middle_of_the_answer(harness: Harness) -> None:
    front = harness.reply(LONG)
    client = front.connect()
    client.is_reading = False
    harness.turn_until(lambda: harness.loop.connections == 2)
    harness.settle()
    client.reset()
    assert front.only().termination == "CD"


def test_a_client_that_resets_after_the_answer_has_had_it(harness: Harness) -> None:
    front = harness.reply(b"answer")
    client = front.connect()
    harness.turn_until(lambda: client.has_eof)
    client.reset()
    assert front.only().termination == "--"


@pytest.mark.parametrize("method", ["epoll"])
def test_the_answer_may_be_about_the_client(harness: Harness, expect_log: Any) -> None:
    front = harness.reply(b"")
    front.handler.text = (  # type: ignore[attr-defined]
        lambda session: session.context.remote_addr.encode()
    )
    client = front.connect()
    harness.turn_until(lambda: client.has_eof)
    assert client.received == b"127.0.0.1"
    client.close()
    front.only()


def test_with_worker_connections_used_up_new_clients_are_refused(
    clock: FakeClock, expect_log: Any
) -> None:
    with Harness(clock=clock, max_connections=3) as harness:
        front = harness.reply(b"answer")
        for _ in range(2):  # and the listener
            client = front.connect()
            until_eof(harness, client)
        refused = front.connect()
        with expect_log("worker_connections are used up", count=1):
            ended = front.only()
        assert (ended.termination, ended.status) == ("PC", 503)
        harness.turn_until(lambda: refused.has_eof)
        assert refused.received == b""
        client.finish()
        harness.turn_until(lambda: len(front.ended) == 2)
        again = front.connect()
        harness.turn_until(lambda: again.received == b"answer")
