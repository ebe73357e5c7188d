"""SupervisorPart: what the supervisor itself opens, changes and closes in a reload.

The workers vote on the rest (`vote.py`, whose `Chair` this is). Opening comes before the vote, and
changing after it, so nothing changes unless all can.

Tested in tests/run/test_workers.py.
"""

import contextlib
from collections.abc import Sequence

from nginy.config import schema
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.process.admin import AdminSet
from nginy.process.control import Control
from nginy.process.logs import LogSet
from nginy.process.privileges import give_away, raise_descriptor_limit
from nginy.process.workers.crew import WorkerProcess
from nginy.process.workers.lead import Lead
from nginy.process.workers.ports import PortSet
from nginy.process.workers.vote import Vote


class SupervisorPart:
    """The sockets, the logs, the admin interface and the pid file. Closed by the supervisor."""

    def __init__(
        self,
        loop: Loop,
        ports: PortSet,
        admin: AdminSet,
        logs: LogSet,
        control: Control,
        lead: Lead,
    ) -> None:
        self._loop = loop
        self._ports = ports
        self._admin = admin
        self._logs = logs
        self._control = control
        self._lead = lead
        self._retire_timer = Timer(self._retire_handler, self)
        self.config = schema.Config()
        """What runs."""
        self.patience_ms = 0
        """How long workers may take beyond their deadlines."""

    def open(self, vote: Vote) -> None:
        """Open what the supervisor has to open, all or nothing; raises NginyError."""
        with contextlib.ExitStack() as undo:
            vote.ports = self._ports.open(vote.config)
            undo.callback(self._ports.undo, vote.ports)
            vote.admin = self._admin.prepare(vote.config, self._ports.inherited)
            undo.callback(self._admin.undo, vote.admin)
            self._control.prepare(vote.config, vote.text)
            undo.callback(self._control.undo)
            self._logs.open(vote.config)
            give_away(vote.config.user, self._logs)
            undo.pop_all()

    def undo(self, vote: Vote) -> None:
        """Close what was opened, and go on as before."""
        self._ports.undo(vote.ports)
        self._admin.undo(vote.admin)
        self._control.undo()
        self._logs.open(self.config)
        self._logs.close_unused(self.config)

    def change(self, vote: Vote) -> None:
        """Change what is the supervisor's."""
        self.config = vote.config
        self._ports.apply(vote.config, vote.ports)
        self._admin.commit(vote.admin)
        give_away(vote.config.user, self._admin)
        if self._ports.has_retired() and vote.config.worker_shutdown_timeout_ms is not None:
            deadline_ms = vote.config.worker_shutdown_timeout_ms + self.patience_ms
            self._loop.timers.start(self._retire_timer, self._loop.clock.now_ms + deadline_ms)
        self._control.commit(vote.text)
        raise_descriptor_limit(vote.config.worker_connections, self._loop.interest.descriptors_max)
        self._logs.close_unused(vote.config)

    def sockets_for(self, process: WorkerProcess, vote: Vote) -> Sequence[int]:
        """Return what a worker listens on, with what the vote has opened."""
        return [sock.fileno() for sock in self._ports.sockets_of(process.index, vote.ports)]

    def refused(self, reason: str) -> None:
        """Say why nothing has changed."""
        self._control.refused(reason)

    def changed(self, vote: Vote) -> None:
        """Say what has changed."""
        # A worker may have heard about a new backend before it knew that backend.
        self._lead.recite()
        self._control.reloaded(vote.config)

    def _retire_handler(self, _timer: Timer) -> None:
        self._ports.close_retired()

    def close(self) -> None:
        """Wait for no retired socket any more."""
        self._loop.timers.cancel(self._retire_timer)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the sockets that retire"

    def abort(self) -> None:
        """Go on: a bug in closing retired sockets does not end the workers."""
