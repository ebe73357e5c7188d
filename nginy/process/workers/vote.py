"""Vote: a reload of several workers on its way, from the question to the change.

It is the two-phase commit of the textbooks, with the supervisor as coordinator: first each worker
opens what the new configuration needs and says whether that worked, then all of them change or none
does. Nothing is written down for a crash: a worker that dies simply starts again with what was
decided. A worker that does not answer in time has no vote: the supervisor kills it, and its
replacement starts with what the others have.

This module has the questions, the answers and the count. `supervisor.py` opens and changes its own
part, `worker.py` answers.

Tested in tests/run/test_workers.py.
"""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nginy.config import schema
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.process.admin import PreparedAdmin
from nginy.process.workers.crew import PING_MS, Crew, WorkerProcess
from nginy.process.workers.ports import OpenPorts
from nginy.process.workers.worker import write_config


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits for workers before it kills them."""

    ping_ms: int = PING_MS
    """A worker has three times this to say anything at all."""
    vote_ms: int = 10_000
    """How long an answer in a vote may take; a worker answers between two turns of its loop."""
    stop_ms: int = 5_000
    """How long a worker may take to stop."""


class Vote:
    """A reload: the workers vote on it, and then do it."""

    __slots__ = ("admin", "config", "is_decided", "number", "ports", "text", "waiting")

    def __init__(self, number: int, config: schema.Config, text: str) -> None:
        self.number = str(number)
        """Tells answers to this vote from late ones to an earlier vote."""
        self.config = config
        self.text = text
        self.ports: OpenPorts = {}
        self.admin = PreparedAdmin(config)
        self.waiting: set[int] = set()
        """The workers that have not answered yet."""
        self.is_decided = False
        """Whether all can change, and have been told to."""


class Chair(Protocol):
    """The supervisor, as a vote sees it: it has its own part in the change."""

    def open(self, vote: Vote) -> None:
        """Open what the supervisor has to open, all or nothing; raises NginyError."""

    def undo(self, vote: Vote) -> None:
        """Go on as before: close what was opened."""

    def change(self, vote: Vote) -> None:
        """Go over to what was opened."""

    def sockets_for(self, process: WorkerProcess, vote: Vote) -> Sequence[int]:
        """Return the descriptors of the listening sockets that a worker needs for the change."""

    def refused(self, reason: str) -> None:
        """Learn that nothing changes, and why."""

    def changed(self, vote: Vote) -> None:
        """Learn that all have changed."""


class Voting:
    """Holds one vote at a time. Created and closed by the supervisor."""

    __slots__ = ("_chair", "_crew", "_loop", "_number", "_patience_ms", "_timer", "_vote")

    def __init__(self, loop: Loop, crew: Crew, chair: Chair, patience_ms: int) -> None:
        """Ask nobody yet; each of the two phases may take `patience_ms`."""
        self._loop = loop
        self._crew = crew
        self._chair = chair
        self._patience_ms = patience_ms
        self._number = 0
        self._vote: Vote | None = None
        """The vote that is under way."""
        self._timer = Timer(self._timeout_handler, self)

    def begin(self, config: schema.Config, text: str) -> None:
        """Ask the workers whether they can change to `config`; raises NginyError if we cannot."""
        self._number += 1
        vote = Vote(self._number, config, text)
        self._chair.open(vote)
        self._vote = vote
        self._crew.is_held = True
        self._start_timer()
        self._ask(vote, self._crew.serving())
        if self._vote is vote and not vote.waiting:
            self._decide(vote)

    def joined(self, process: WorkerProcess) -> None:
        """Ask a worker that has begun to serve: it has the configuration from the time of its
        fork.
        """
        if self._vote is not None and not self._vote.is_decided:
            self._ask(self._vote, [process])

    def answered(self, process: WorkerProcess, number: str, refusal: str | None) -> None:
        """Take the answer of a worker: why it cannot change, or None if it can, or has done so."""
        vote = self._vote
        if vote is None or number != vote.number:
            return
        if refusal is None:
            self.died(process)
        else:
            self._call_off(vote, refusal)

    def died(self, process: WorkerProcess) -> None:
        """Wait no longer for a worker's answer."""
        vote = self._vote
        if vote is None:
            return
        vote.waiting.discard(process.index)
        if vote.waiting:
            return
        if vote.is_decided:
            self._finish(vote)
        else:
            self._decide(vote)

    def end(self) -> None:
        """Change nothing any more: nginy is about to end."""
        if self._vote is not None and not self._vote.is_decided:
            self._call_off(self._vote, "nginy is about to end")
        self.close()

    def close(self) -> None:
        """Forget the vote."""
        self._vote = None
        self._loop.timers.cancel(self._timer)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the vote of the workers"

    def abort(self) -> None:
        """Go on: a bug in the timer does not end the workers."""

    def _ask(self, vote: Vote, processes: Sequence[WorkerProcess]) -> None:
        fd = write_config(vote.config)
        try:
            for process in processes:
                vote.waiting.add(process.index)
                is_told = process.send("sockets", fds=self._chair.sockets_for(process, vote))
                if not (is_told and process.send("reload", vote.number, [fd])):
                    self._call_off(vote, f"{process} does not accept the message")
                    return
        finally:
            os.close(fd)

    def _call_off(self, vote: Vote, reason: str) -> None:
        """Go on as before: a worker cannot make the change."""
        for process in self._crew.serving():
            process.send("abort", vote.number)
        self._chair.undo(vote)
        self._end_vote()
        self._chair.refused(reason)

    def _decide(self, vote: Vote) -> None:
        """Make the workers change, and then the supervisor."""
        vote.is_decided = True
        for process in self._crew.processes.values():
            if process.is_serving and process.send("commit", vote.number):
                vote.waiting.add(process.index)
            else:
                # It forked with the old configuration, or does not listen.
                process.send_signal(signal.SIGKILL)
        self._chair.change(vote)
        self._start_timer()
        if not vote.waiting:
            self._finish(vote)

    def _finish(self, vote: Vote) -> None:
        self._end_vote()
        self._chair.changed(vote)

    def _end_vote(self) -> None:
        self.close()
        self._crew.is_held = False
        self._crew.start()

    def _start_timer(self) -> None:
        self._loop.timers.start(self._timer, self._loop.clock.now_ms + self._patience_ms)

    def _timeout_handler(self, _timer: Timer) -> None:
        """Go on without the workers that have not answered in time."""
        if self._vote is None:
            return
        for index in sorted(self._vote.waiting):
            process = self._crew.processes[index]
            process.kill("has not reloaded")
            # It may take a while to die, if it is waiting for a disk.
            process.is_serving = False
            self.died(process)
