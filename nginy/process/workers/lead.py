"""Lead: which worker asks backends and name servers for all, and how the others learn the answers.

From the start, one worker leads, and its findings go to the others through the supervisor. If it
dies, another one takes its place; a worker that joins hears all earlier findings again.
`backend/checks/relay.py` knows what a finding is, and what follows from it; here it is text.

Tested in tests/run/test_one_asks.py.
"""

from nginy.process.workers.crew import Crew, WorkerProcess


class Lead:
    """The leading worker of a crew, if there is one."""

    __slots__ = ("_crew", "_leader")

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._leader: WorkerProcess | None = None

    def begin(self) -> None:
        """Let a worker lead before any of them serves: they wait for the names that it looks up."""
        for process in [*self._crew.processes.values()][:1]:
            self.joined(process)

    def joined(self, process: WorkerProcess) -> None:
        """Let a worker lead if none does; otherwise let it hear what the leader has found."""
        if self._leader is None:
            self._leader = process
            process.send("lead")
        else:
            self.recite()

    def died(self, process: WorkerProcess) -> None:
        """Let another worker lead if this one did."""
        if process is self._leader:
            self._leader = None
            for heir in self._crew.serving()[:1]:
                self.joined(heir)

    def recite(self) -> None:
        """Make the leader tell all findings again: a worker may have missed one."""
        if self._leader is not None:
            self._leader.send("recite")

    def pass_on(self, process: WorkerProcess, text: str) -> None:
        """Tell all other workers what `process` has found.

        A worker that does not listen hears the next finding, or is killed for not answering pings.
        """
        for other in self._crew.processes.values():
            if other is not process:
                other.send("found", text)
