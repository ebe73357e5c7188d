"""The server's turns: want of memory for one of them does not end the process."""

import gc

from nginy.event.loop import Loop
from nginy.process.server import Server

from conftest import ExpectLog


def test_a_turn_that_has_no_memory_does_not_end_the_process(expect_log: ExpectLog) -> None:
    turns: list[Loop] = []

    class StarvedLoop(Loop):
        __slots__ = ()

        def turn(self, _max_wait_ms: int | None = None) -> None:
            turns.append(self)
            if len(turns) == 1:
                raise MemoryError
            server.stop()

    server = Server()
    server.loop.__class__ = StarvedLoop
    threshold = gc.get_threshold()
    try:
        with expect_log("^out of memory, sessions slow down$", count=1):
            server.run(lambda: None)
        assert turns == [server.loop, server.loop]
        assert server.loop.budget.is_spent
    finally:
        server.close()
        gc.unfreeze()  # a server that runs has the collector pass over all that there is
        gc.set_threshold(*threshold)
