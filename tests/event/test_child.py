"""Children of this process: their end is heard once, with a pidfd and without, and orphans go."""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import pytest
from nginy.event.child import CODE_UNKNOWN, Child, fork, keep_only, reap_children

from kit.harness import Harness

PR_SET_CHILD_SUBREAPER = 36


def exits_with(status: int) -> Callable[[], int]:
    return lambda: status


def waits_for(sock: socket.socket) -> Callable[[], int]:
    return lambda: len(sock.recv(1))


@pytest.fixture
def codes() -> list[int]:
    return []


@pytest.fixture
def gate() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Closing the first lets a child go on that waits for the second."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_the_owner_hears_the_exit_code_once(harness: Harness, codes: list[int]) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    child = Child(harness.loop, fork(exits_with(7)), codes.append)
    harness.turn_until(lambda: codes)
    harness.settle()
    assert codes == [7]
    assert harness.loop.children == {}
    assert len(os.listdir("/proc/self/fd")) == descriptors
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, 0)


def test_a_signal_that_kills_is_a_code_below_zero(
    harness: Harness, codes: list[int], gate: tuple[socket.socket, socket.socket]
) -> None:
    child = Child(harness.loop, fork(waits_for(gate[1])), codes.append)
    child.send_signal(signal.SIGKILL)
    harness.turn_until(lambda: codes)
    assert codes == [-signal.SIGKILL]
    child.send_signal(signal.SIGKILL)  # the number may be somebody else's by now


def test_a_child_raising_ends_with_status_1_and_goes_no_further(
    harness: Harness, codes: list[int]
) -> None:
    def run() -> int:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the child's own, until it ends
        raise SystemExit(5)

    Child(harness.loop, fork(run), codes.append)
    harness.turn_until(lambda: codes)
    assert codes == [1]


def test_a_status_that_was_taken_by_others_is_unknown(harness: Harness, codes: list[int]) -> None:
    child = Child(harness.loop, fork(exits_with(0)), codes.append)
    os.waitpid(child.pid, 0)
    child.reap()
    assert codes == [CODE_UNKNOWN]


def test_one_who_has_closed_hears_nothing(
    harness: Harness, codes: list[int], gate: tuple[socket.socket, socket.socket]
) -> None:
    child = Child(harness.loop, fork(waits_for(gate[1])), codes.append)
    child.close()
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    harness.settle()
    assert codes == []


def test_signals_are_blocked_in_a_child_and_not_here(harness: Harness, codes: list[int]) -> None:
    def blocked() -> int:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return 0 if mask >= {signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD} else 2

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    Child(harness.loop, fork(blocked), codes.append)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    harness.turn_until(lambda: codes)
    assert codes == [0]


def test_keeping_one_descriptor_closes_the_others(
    harness: Harness, codes: list[int], gate: tuple[socket.socket, socket.socket]
) -> None:
    kept = gate[1].fileno()

    def run() -> int:
        keep_only(kept)
        opened = {int(name) for name in os.listdir("/proc/self/fd")}
        # One more is the directory's, which is closed again.
        left = {fd for fd in opened if os.path.exists(f"/proc/self/fd/{fd}")}
        return 0 if left - {0, 1, 2} == {kept} else 2

    Child(harness.loop, fork(run), codes.append)
    harness.turn_until(lambda: codes)
    assert codes == [0]


def in_a_process_of_its_own(test: Callable[[], int]) -> None:
    """Run `test` where there is no other child: reaping takes whatever there is."""
    _, status = os.waitpid(fork(test), 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_reaping_tells_an_owner_whose_child_has_no_descriptor(method: str) -> None:
    def run() -> int:
        codes: list[int] = []
        with Harness(method) as harness:
            pid = fork(exits_with(3))
            child = Child(harness.loop, pid, codes.append)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            reap_children(harness.loop)
            assert child.pid not in harness.loop.children
        return 0 if codes == [3] else 2

    in_a_process_of_its_own(run)


def test_reaping_buries_orphans() -> None:
    """As process 1 does; here, as a subreaper (prctl(2)). One signal may stand for several."""

    def run() -> int:
        assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        reading, writing = os.pipe()

        def parent() -> int:
            os.write(writing, b"%d %d" % (fork(exits_with(0)), fork(exits_with(0))))
            return 0

        os.waitpid(fork(parent), 0)
        orphans = os.read(reading, 40).decode().split()
        for orphan in orphans:
            os.waitid(os.P_PID, int(orphan), os.WEXITED | os.WNOWAIT)
        with Harness("select") as harness:
            reap_children(harness.loop)
        return 2 if any(os.path.exists(f"/proc/{orphan}") for orphan in orphans) else 0

    in_a_process_of_its_own(run)
