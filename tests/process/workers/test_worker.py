"""A worker by itself: what it does without an order."""

import os
import socket
import time

from nginy.backend.shared import SharedCounts
from nginy.config.schema import Config
from nginy.event.child import Child, fork
from nginy.process.workers.worker import Ends, Worker

from kit.ends import PATIENCE_S
from kit.leaks import no_descriptor_left


def test_a_worker_hears_the_end_of_a_child_for_which_it_had_no_descriptor() -> None:
    def run() -> int:
        """Be a worker, in a process of its own: it reaps whatever child there is."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker = Worker(Config(), Ends(theirs, (), ()), SharedCounts(1).for_worker(0), True)
        loop = worker.server.loop
        codes: list[int] = []
        pid = fork(lambda: 3)
        before = loop.connections
        with no_descriptor_left():
            Child(loop, pid, codes.append)
        assert loop.connections == before
        deadline_s = time.monotonic() + PATIENCE_S
        while not codes and time.monotonic() < deadline_s:
            loop.turn(100)
        worker.close()
        ours.close()
        return 0 if codes == [3] else 2

    _, status = os.waitpid(fork(run), 0)
    assert os.waitstatus_to_exitcode(status) == 0
