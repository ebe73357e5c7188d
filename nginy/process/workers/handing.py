"""Handing: the workers of a supervisor hand over to a new program, each on a lane of its own.

The supervisor makes the lanes, and adds up what the workers report. It touches no session. A worker
that dies meanwhile has nothing left to hand over.

`process/upgrade.py` decides what follows; `process/takeover/giving.py` is what a worker does.

Tested in tests/run/test_upgrade.py.
"""

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace

from nginy.process.takeover.link import link_pair
from nginy.process.takeover.messages import MessageError
from nginy.process.takeover.tally import Moved, tally_of, total
from nginy.process.workers.crew import Crew, WorkerProcess

logger = logging.getLogger("nginy.server")


class Handing:
    """One hand-over at a time. Owned by the supervisor."""

    __slots__ = ("_crew", "_report", "_tallies", "lanes")

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._report: Callable[[Moved], None] | None = None
        self._tallies: dict[int, Moved] = {}
        """How far each worker has come, by its number."""
        self.lanes: Sequence[socket.socket] = ()
        """The lanes of the workers that this crew takes over from, until its own workers have
        them."""

    def leave_to(self, worker: int, workers: int) -> Sequence[socket.socket]:
        """Return the lanes of one of `workers`, and close all others; worker -1 has none."""
        kept = self.lanes[worker::workers] if worker >= 0 else []
        for lane in self.lanes:
            if lane not in kept:
                lane.close()
        self.lanes = ()
        return kept

    def begin(self, report: Callable[[Moved], None]) -> Sequence[socket.socket]:
        """Make each worker hand over, and return the far ends of the lanes; raises OSError."""
        self._report = None
        self._tallies.clear()
        lanes: list[socket.socket] = []
        for process in self._crew.serving():
            ours, theirs = link_pair()
            with ours:
                is_told = process.send("give", fds=[ours.fileno()])
            lanes.append(theirs)
            problem = "" if is_told else f"{process} does not accept the message"
            self._tallies[process.index] = Moved(is_final=not is_told, problem=problem)
        self._report = report
        return lanes

    def heard(self, process: WorkerProcess, text: str) -> None:
        """Take the tally of a worker."""
        try:
            tally = tally_of(text)
        except (ValueError, MessageError):
            tally = Moved(is_final=True, problem=f"{process} says what nobody understands")
        if process.index in self._tallies:
            self._tallies[process.index] = tally
            self._tell()

    def died(self, process: WorkerProcess) -> None:
        """Wait no longer for a worker."""
        before = self._tallies.get(process.index)
        if before is not None and not before.is_final:
            self._tallies[process.index] = replace(before, pending=0, is_final=True)
            self._tell()

    def take_back(self) -> None:
        """Make the workers keep what they have not handed over, and accept clients again."""
        for process in self._crew.processes.values():
            process.send("keep")

    def _tell(self) -> None:
        if self._report is not None and any(
            t.is_final or t.pending for t in self._tallies.values()
        ):
            self._report(total(list(self._tallies.values())))
