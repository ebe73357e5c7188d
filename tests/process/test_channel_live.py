"""The way between the supervisor and a worker, when the process at the other end is gone."""

import socket

import pytest
from nginy.process.workers.channel import Channel

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
