"""poll() with a limit of descriptors that has fallen below what is open."""

import contextlib
import resource
import socket
from collections.abc import Callable, Iterator
from selectors import EVENT_READ, EVENT_WRITE

import pytest
from nginy.event.poll import PollSelector

PAIRS = 5


@contextlib.contextmanager
def descriptor_limit(count: int) -> Iterator[None]:
    """Lower the limit of this process, as prlimit(1) does from outside."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def ends() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as stack:
        made = [socket.socketpair() for _ in range(PAIRS)]
        for pair in made:
            for end in pair:
                stack.enter_context(end)
        yield made


@pytest.fixture
def selector() -> Iterator[PollSelector]:
    with PollSelector() as made:
        yield made


Ends = list[tuple[socket.socket, socket.socket]]


def say(end: socket.socket) -> None:
    end.send(b"x")


@pytest.mark.parametrize("limit", [1, 2, PAIRS - 1])
@pytest.mark.parametrize("act", [say, socket.socket.close])
def test_what_is_ready_is_found_portion_by_portion(
    ends: Ends, selector: PollSelector, limit: int, act: Callable[[socket.socket], None]
) -> None:
    for ours, _ in ends:
        selector.register(ours, EVENT_READ, ours)
    for _, theirs in ends[1:]:
        act(theirs)
    with descriptor_limit(limit):
        ready = selector.select(10)
    assert [(key.data, events) for key, events in ready] == [
        (ours, EVENT_READ) for ours, _ in ends[1:]
    ]


def test_only_the_directions_that_are_waited_for_are_reported(
    ends: Ends, selector: PollSelector
) -> None:
    wanted = [EVENT_READ, EVENT_WRITE, EVENT_READ | EVENT_WRITE, EVENT_READ, EVENT_WRITE]
    for (ours, theirs), events in zip(ends, wanted, strict=True):
        selector.register(ours, events)
        theirs.send(b"x")
    with descriptor_limit(1):
        found = {key.fileobj: events for key, events in selector.select(0)}
    assert [found[ours] for ours, _ in ends] == wanted


def test_nothing_ready_is_an_empty_list(ends: Ends, selector: PollSelector) -> None:
    for ours, _ in ends:
        selector.register(ours, EVENT_READ)
    with descriptor_limit(1):
        assert selector.select(0) == []
        assert selector.select(0.001) == []
