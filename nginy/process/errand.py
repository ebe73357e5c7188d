"""Errand: work for an answer that cannot be cut into slices, done by a child process.

Reading a whole configuration, or building the table of a method to see where a client would go,
takes many milliseconds with many backends. A fork has everything it needs, and the loop goes on
meanwhile. The child writes its result as JSON into a nameless file, and ends; the answer polls
until then.

Anybody who may read can ask for an errand, so there are few at a time, and each has a time limit.
One of them is kept for operators. The kernel enforces the limit as well, since a child may outlive
its parent.

Tested in tests/run/test_admin_config.py.
"""

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from nginy.admin.answer import Facts, Pause, Slices
from nginy.event.child import Child, fork, keep_only
from nginy.event.loop import Loop
from nginy.wire.request import RequestError

AT_ONCE: Final = 2
OF_READERS: Final = 1
"""How many errands clients without full access may have."""
LOOK_MS: Final = 10
LIMIT_S: Final = 20


class Errands:
    """The errands of one process."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._under_way = self._of_readers = 0

    def run(self, work: Callable[[], Facts], *, is_reader: bool = False) -> Slices[Any]:
        """Return what `work` returns, in a child; raises RequestError if that is not possible.

        `is_reader` says that the client has no full access.
        """
        if self._under_way >= AT_ONCE or (is_reader and self._of_readers >= OF_READERS):
            raise RequestError(
                503, "busy", "others are asking for as much at the moment, try again"
            )
        try:
            fd = os.memfd_create("nginy-errand")
        except OSError as error:
            raise _no_room(error) from None
        self._under_way += 1
        self._of_readers += is_reader
        try:
            return (yield from self._run(fd, work))
        finally:
            self._under_way -= 1
            self._of_readers -= is_reader
            os.close(fd)

    def _run(self, fd: int, work: Callable[[], Facts]) -> Slices[Any]:
        codes: list[int] = []
        try:
            pid = fork(partial(_work, fd, work))
        except OSError as error:
            raise _no_room(error) from None
        child = Child(self._loop, pid, codes.append)
        deadline_ms = self._loop.clock.now_ms + 1000 * LIMIT_S
        try:
            while not codes and self._loop.clock.now_ms < deadline_ms:
                yield Pause(LOOK_MS)
        finally:
            if not codes:  # its client has left, or it takes too long; the loop reaps it
                child.send_signal(signal.SIGKILL)
        if codes != [0]:
            raise RequestError(503, "no_outcome", "there is no result; see the log")
        return json.loads(os.pread(fd, os.fstat(fd).st_size, 0))


def _work(fd: int, work: Callable[[], Facts]) -> int:
    keep_only(fd)
    # The default action ends even a child that is in the middle of a regular expression.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.alarm(LIMIT_S)
    with open(fd, "wb") as file:
        file.write(json.dumps(work()).encode())
    return 0


def _no_room(error: OSError) -> RequestError:
    text = f"the system has no room for a child process ({error.errno}: {error.strerror})"
    return RequestError(503, "no_room", text)
