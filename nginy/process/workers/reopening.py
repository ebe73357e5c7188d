"""Reopening: all workers open their logs again, and report which they could not open.

The supervisor opens its own logs first: it may create files that a worker may not, and gives them
to the workers' user. Then each worker opens its logs and answers with its problems, one a line. The
outcome names those that do not answer within `ANSWER_MS`.

Tested in tests/run/test_ask.py.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.process.workers.crew import Crew, WorkerProcess

ANSWER_MS: Final = 2_000


class Reopening:
    """The latest reopening of all workers' logs. Created and closed by the supervisor."""

    __slots__ = ("_crew", "_ended", "_loop", "_number", "_problems", "_timer", "_waiting")

    def __init__(self, loop: Loop, crew: Crew, ended: Callable[[Sequence[str]], None]) -> None:
        """Ask nobody yet; `ended` is called with the problems."""
        self._loop = loop
        self._crew = crew
        self._ended = ended
        self._number = 0
        self._problems: dict[str, None] = {}
        """Each problem once, though all workers may report it."""
        self._waiting: set[WorkerProcess] = set()
        """The workers that have not answered yet."""
        self._timer = Timer(self._timeout_handler, self)

    def begin(self, problems: Iterable[str]) -> None:
        """Ask all workers; the supervisor itself has `problems`. This ends an earlier reopening."""
        self._number += 1
        self._problems = dict.fromkeys(problems)
        self._waiting.clear()
        for process in self._crew.processes.values():
            if process.send("reopen", str(self._number)):
                self._waiting.add(process)
            else:
                self._problems[f"{process} does not accept the message"] = None
        self._loop.timers.start(self._timer, self._loop.clock.now_ms + ANSWER_MS)
        self._look()

    def answered(self, process: WorkerProcess, text: str) -> None:
        """Take the problems of a worker."""
        number, _, problems = text.partition(" ")
        if number == str(self._number):
            self._problems.update(dict.fromkeys(problems.splitlines()))
            self.died(process)

    def died(self, process: WorkerProcess) -> None:
        """Wait no longer for a worker."""
        if process in self._waiting:
            self._waiting.remove(process)
            self._look()

    def _timeout_handler(self, _timer: Timer) -> None:
        for process in self._waiting:
            self._problems[f"{process} does not answer"] = None
        self._waiting.clear()
        self._look()

    def _look(self) -> None:
        if not self._waiting:
            self._loop.timers.cancel(self._timer)
            self._ended(tuple(self._problems))

    def close(self) -> None:
        """Wait for nobody."""
        self._waiting.clear()
        self._loop.timers.cancel(self._timer)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the logs of the workers"

    def abort(self) -> None:
        """Go on without answers, after a bug."""
        self.close()
