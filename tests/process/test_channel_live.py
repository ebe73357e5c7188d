"""The way between the supervisor and a worker, when the process at the other end is gone."""

import socket

import pytest
from nginy.process.workers.channel import LEFT_MAX, Channel

from kit.harness import Harness


@pytest.mark.parametrize("is_known", [False, True], ids=["unheard of", "heard of"])
def test_that_the_other_process_is_gone_is_no_failure_to_send(
    harness: Harness, is_known: bool
) -> None:
    """Its supervisor hears of a death by itself, and a reload waits for no answer of the dead."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ends: list[str] = []
    channel = Channel(harness.loop, ours, lambda *_: None, lambda: ends.append("gone"))
    theirs.close()
    if is_known:
        harness.turn_until(lambda: ends)
    assert channel.send("reload", "1")
    channel.close()


def test_a_process_that_does_not_read_is_a_failure_to_send(harness: Harness) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(harness.loop, ours, lambda *_: None, lambda: None)
    with theirs:
        assert not all(channel.send("found", "x" * 4000) for _ in range(1000))
        channel.close()


@pytest.mark.parametrize("is_over", [False, True], ids=["its end unheard of", "its end heard of"])
def test_what_a_process_has_said_counts_though_it_left_something_unread(
    harness: Harness, is_over: bool
) -> None:
    """The kernel then reports a reset first, and only once."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    said: list[str] = []
    channel = Channel(
        harness.loop, ours, lambda word, text, _: said.append(word + text), lambda: said.append("")
    )
    assert channel.send("ping")
    for number in range(3):
        theirs.send(f"totals {number}".encode())
    theirs.close()
    if is_over:
        channel.drain()
    else:
        harness.turn_until(lambda: "" in said)
    assert said == ["totals0", "totals1", "totals2", ""]
    channel.close()


def test_a_child_that_goes_on_sending_ends_with_its_turn(harness: Harness) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    said: list[str] = []

    def received(word: str, _text: str, _fds: list[int]) -> None:
        said.append(word)
        theirs.send(b"totals")

    with theirs:
        channel = Channel(harness.loop, ours, received, lambda: None)
        theirs.send(b"totals")
        channel.drain()
        assert len(said) == LEFT_MAX
        channel.close()
