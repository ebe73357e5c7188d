"""Handlers that get no new clients: their sessions end at the deadline, a slice a turn."""

import pytest
from nginy.process.retiring import KILL_SLICE, Retiring

from kit.ends import End
from kit.harness import Front, Harness
from kit.servers import Server


@pytest.fixture
def method() -> str:
    """Which selector there is makes no difference."""
    return "epoll"


@pytest.fixture
def front(harness: Harness) -> Front:
    """A proxy with one session more than end in a slice; each has two connections."""
    server = harness.add(Server())
    front = harness.proxy(harness.pool(server.name))
    clients: list[End] = []
    while len(clients) <= KILL_SLICE // 2:
        clients.append(front.connect())
        harness.turn_until(lambda: len(server.ends) == len(clients))
    return front


def retiring(harness: Harness, front: Front) -> Retiring:
    return Retiring(harness.loop, front.listener.options.key, front.handler, None)


def test_the_sessions_end_at_the_deadline_in_slices(
    harness: Harness, front: Front, expect_log: object
) -> None:
    sessions = front.handler.sessions
    retired = retiring(harness, front)
    retired.limit(1000)
    harness.advance(900)
    assert front.handler.sessions == sessions
    with expect_log("worker_shutdown_timeout has passed"):  # type: ignore[operator]
        harness.clock.advance(200)  # type: ignore[attr-defined]
        harness.loop.turn(0)
    assert front.handler.sessions == sessions - KILL_SLICE // 2
    harness.loop.turn()
    assert front.handler.sessions == 0
    retired.close()


def test_one_that_is_taken_back_ends_no_further_session(
    harness: Harness, front: Front, expect_log: object
) -> None:
    retired = retiring(harness, front)
    retired.limit(1000)
    with expect_log("worker_shutdown_timeout has passed"):  # type: ignore[operator]
        harness.clock.advance(1100)  # type: ignore[attr-defined]
        harness.loop.turn(0)
    left = front.handler.sessions
    assert left > 0
    retired.cancel()
    harness.settle()
    assert front.handler.sessions == left
