"""The server's turns: want of memory for one of them does not end the process."""

import pytest
from nginy.event.loop import Loop
from nginy.process import server as module
from nginy.process.server import Server

from conftest import ExpectLog


def test_a_turn_that_has_no_memory_does_not_end_the_process(
    monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    server = Server()
    turns: list[Loop] = []

    def turn(loop: Loop) -> None:
        turns.append(loop)
        if len(turns) == 1:
            raise MemoryError
        server.stop()

    monkeypatch.setattr(module, "resume_collector", lambda: None)
    monkeypatch.setattr(Loop, "turn", turn)
    try:
        with expect_log("^out of memory, sessions slow down$", count=1):
            server.run(lambda: None)
        assert turns == [server.loop, server.loop]
        assert server.loop.budget.is_spent
    finally:
        server.close()
