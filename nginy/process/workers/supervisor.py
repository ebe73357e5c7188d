"""Supervisor: the parent of several workers binds, forks, reloads and ends, and touches no client's
byte.

The supervisor keeps what must outlive a worker: the listening sockets (`ports.py`), the shared
counts (`backend/shared.py`), the pid file, and the right to bind privileged ports, which workers
give up with `user`. It replaces a worker that dies with one that has the same sockets, so clients
wait a moment in the kernel's queue and none is refused.

For a reload, the supervisor opens what it needs; then the workers vote (`vote.py`). Nothing changes
unless all are ready.

`process/control.py` deals with signals and the pid file; the workers get their signals from here.

nginx: `ngx_master_process_cycle` in `ngx_process_cycle.c`.

Tested in tests/run/test_workers.py.
"""

import enum
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from nginy.admin.facts.totals import tell_all
from nginy.backend.shared import SharedCounts
from nginy.config import schema
from nginy.config.dump import dump
from nginy.errors import NginyError
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE
from nginy.process.admin import AdminSet
from nginy.process.collector import resume_collector
from nginy.process.control import Control
from nginy.process.logs import LogSet
from nginy.process.privileges import cap_descriptors, give_away, raise_descriptor_limit
from nginy.process.report import ReloadOutcome
from nginy.process.server import draining_status, ends_in_ms
from nginy.process.takeover.tally import Moved
from nginy.process.workers.crew import Crew, WorkerProcess
from nginy.process.workers.handing import Handing
from nginy.process.workers.lead import Lead
from nginy.process.workers.part import SupervisorPart
from nginy.process.workers.ports import PortSet
from nginy.process.workers.reopening import Reopening
from nginy.process.workers.reports import Reports
from nginy.process.workers.vote import Patience, Voting
from nginy.process.workers.worker import Ends, serve

logger = logging.getLogger("nginy.server")

PATIENCE: Final = Patience()


class Stage(enum.Enum):
    """What the supervisor is doing."""

    STARTING = "starting"
    """Not all of the first workers serve yet; if one of them dies, so does nginy."""
    SERVING = "serving"
    ENDING = "ending"


class Supervisor:
    """The process that starts the workers. Created and run by `run`."""

    def __init__(
        self,
        path: str,
        environ: Mapping[str, str],
        workers: int,
        method: str,
        patience: Patience = PATIENCE,
    ) -> None:
        """Open nothing but the loop; `path` is the configuration file that a reload reads."""
        self.loop = Loop(method)
        self._patience = patience
        cap_descriptors(self.loop.interest.descriptors_max)
        self.logs = LogSet(self.loop)
        self.ports = PortSet(workers)
        self.crew = Crew(
            self.loop,
            workers,
            self._run_worker,
            self._answered,
            self._worker_died,
            patience.ping_ms,
        )
        self.control = Control(self.loop, self, path, environ)
        self.admin = AdminSet(self.loop, path)
        self._reports = Reports(self.loop, self.crew, self.admin.subject)
        self.admin.subject.crew = self._reports
        self.admin.controlled_by(self.control)
        self.admin.subject.set_level = self.logs.set_level
        self._stage = Stage.STARTING
        self._counts = SharedCounts(workers)
        self._text = ""
        self._draining: dict[int, int] = {}
        """The sessions left in each worker, by its number, once they have been told to end."""
        self._lead = Lead(self.crew)
        self._handing = Handing(self.crew)
        self._reopening = Reopening(self.loop, self.crew, self.control.reopened)
        self._part = SupervisorPart(
            self.loop, self.ports, self.admin, self.logs, self.control, self._lead
        )
        self._part.patience_ms = patience.vote_ms
        self._voting = Voting(self.loop, self.crew, self._part, patience.vote_ms)
        self._failure = ""
        self._stop_timer = Timer(self._stop_handler, self)

    # Starting.

    def start(self, config: schema.Config) -> None:
        """Open what `config` needs and start the workers, or raise NginyError."""
        self.logs.open(config)
        give_away(config.user, self.logs)
        raise_descriptor_limit(config.worker_connections, self.loop.interest.descriptors_max)
        self._handing.lanes = self.control.predecessor.await_lanes()
        self.admin.changes.succeed(self.control.predecessor)
        self.admin.subject.gone.add(self.control.predecessor.totals)
        opened = self.ports.open(config)
        self.admin.commit(self.admin.prepare(config, self.ports.inherited))
        self.ports.apply(config, opened)
        give_away(config.user, self.admin)
        self._part.config = config
        self._text = dump(config) if config.pid is not None else ""
        self.crew.start()
        self._handing.leave_to(-1, self._counts.workers)
        self._lead.begin()

    def run(self) -> None:
        """Watch over the workers until the end; raises NginyError if they cannot start."""
        self.loop.run()
        if self._failure:
            raise NginyError(self._failure)

    def _run_worker(self, index: int, sock: socket.socket) -> int:
        """Be a worker: this process has just been forked."""
        self.control.leave()
        self.admin.leave()
        self._reports.close()
        sockets = self.ports.leave_to(index)
        lanes = self._handing.leave_to(index, self._counts.workers)
        self.logs.close()
        self.loop.close()
        # The first leader must know it before it resolves names that need no name server.
        is_leading = index == 0 and self._stage is Stage.STARTING
        counts, book = self._counts.for_worker(index), self.admin.subject.book
        return serve(self._part.config, Ends(sock, sockets, lanes), counts, is_leading, book)

    def _all_serve(self) -> None:
        """Go from starting to serving: all workers have started."""
        try:
            self.control.open_pid_file(self._part.config, self._text)
        except NginyError as error:
            self._fail(str(error))
            return
        self._stage = Stage.SERVING
        self.ports.inherited.warn_and_close()
        resume_collector()
        self.admin.serving()
        self.control.ready(len(self.crew.processes))
        for process in self.crew.processes.values():
            process.send("take")

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self.stop()

    # What the workers say, and what becomes of them.

    def _answered(self, process: WorkerProcess, word: str, text: str) -> None:
        if word == "serving":
            process.is_serving = True
            self._lead.joined(process)
            self._reports.joined(process)
            if self._stage is Stage.STARTING and self.crew.are_serving:
                self._all_serve()
            else:
                self._voting.joined(process)
            return
        if word == "draining":
            self._draining[process.index] = int(text) if text.isdecimal() else 0
            self._tell_draining()
            return
        if word == "reopened":
            self._reopening.answered(process, text)
        elif word == "gave":
            self._handing.heard(process, text)
        elif word == "found":
            self._lead.pass_on(process, text)
        elif not self._reports.heard(process, word, text):
            self._voted(process, word, text)

    def _voted(self, process: WorkerProcess, word: str, text: str) -> None:
        number, _, reason = text.partition(" ")
        self._voting.answered(process, number, reason if word == "refused" else None)
        if word == "refused" and not process.is_serving:
            logger.error("%s cannot start: %s", process, reason)
            if self._stage is Stage.STARTING:
                self._fail(reason)

    def _worker_died(self, process: WorkerProcess) -> None:
        self._counts.clear(process.index)
        self._lead.died(process)
        self._reports.died(process)
        self._reopening.died(process)
        self._handing.died(process)
        if self._stage is Stage.ENDING:
            if not self.crew.processes:
                self.loop.running = False
        elif self._stage is Stage.STARTING:
            self._fail(f"{process} ended before it could serve")
        else:
            self._voting.died(process)

    # What the control asks for.

    def listeners(self) -> Sequence[Listener]:
        """Return the listeners of clients, and those of the admin interface."""
        return [*self.ports.listeners(), *self.admin.listeners()]

    def keep(self) -> None:
        """Write down what operators have set, for a successor."""
        self.admin.changes.keep()

    def reload_ended(self, outcome: ReloadOutcome) -> None:
        """Tell the admin interface the outcome of a reload."""
        self.admin.reload_ended(outcome)

    def reopen_logs(self) -> None:
        """Make all processes open their logs again."""
        problems = self.logs.reopen()
        give_away(self._part.config.user, self.logs)
        self._reopening.begin(problems)

    def change_to(self, config: schema.Config, text: str) -> None:
        """Let the workers vote on a change to `config`."""
        try:
            self._voting.begin(config, text)
        except NginyError as error:
            self.control.refused(*str(error).splitlines())

    # Ending.

    def quit(self, *, has_successor: bool) -> str:
        """End gracefully: the workers let their sessions finish, and say how many there are."""
        self._begin_end()
        # Now, though the workers may accept for a while: a worker's socket must close with the
        # worker.
        self.ports.retire_all()
        for process in self.crew.processes.values():
            if not (has_successor and process.send("succeeded")):
                process.send_signal(signal.SIGQUIT)
        status = f"waiting for the sessions of {len(self.crew.processes)} workers to end"
        self.admin.draining(status, ends_in_ms(self._part.config), has_successor=has_successor)
        return status

    def give(self, report: Callable[[Moved], None]) -> Sequence[socket.socket]:
        """Make the workers hand over, and return the far ends of their lanes; raises OSError."""
        return self._handing.begin(report)

    def take_back(self) -> None:
        """Make the workers keep what is not handed over."""
        self._handing.take_back()

    def book(self) -> bytes:
        """Return what operators have set, for a successor."""
        return self.admin.changes.book()

    def totals(self) -> Iterator[str]:
        """Yield what dead workers have counted, for a successor."""
        return tell_all(self.admin.subject.gone)

    def retire(self) -> None:
        """End when the last session that could not move has ended."""
        self._begin_end()
        self.ports.retire_all()
        for process in self.crew.processes.values():
            if not process.send("retire"):
                process.send_signal(signal.SIGQUIT)
        status = f"waiting for the sessions of {len(self.crew.processes)} workers to end"
        logger.log(NOTICE, "%s", status)
        self.admin.draining(status, None, has_successor=True)

    def _tell_draining(self) -> None:
        """Log how many sessions all workers wait for, once each has said it."""
        if set(self._draining) >= set(self.crew.processes):
            sessions = sum(self._draining.values())
            timeout_ms = self._part.config.worker_shutdown_timeout_ms
            status = self.admin.subject.draining = draining_status(sessions, timeout_ms)
            self.control.tell_stopping(status)

    def stop(self) -> None:
        """End now."""
        self._begin_end()
        self.crew.signal(signal.SIGTERM)
        self.ports.close()
        deadline_ms = self.loop.clock.now_ms + self._patience.stop_ms
        self.loop.timers.start(self._stop_timer, deadline_ms)

    def _stop_handler(self, _timer: Timer) -> None:
        self.crew.signal(signal.SIGKILL)

    def _begin_end(self) -> None:
        self.crew.dismiss()
        self._voting.end()
        self._stage = Stage.ENDING
        if not self.crew.processes:
            self.loop.running = False

    def close(self) -> None:
        """Close everything; any remaining worker ends with its channel."""
        self.crew.close()
        self._reports.close()
        self._reopening.close()
        self.admin.close()
        self.ports.close()
        self._voting.close()
        self.loop.timers.cancel(self._stop_timer)
        self._part.close()
        self.control.close()
        self.logs.close()
        self.loop.close()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the supervisor"

    def abort(self) -> None:
        """Go on: a bug in one timer does not end the workers."""


def run(config: schema.Config, path: str, workers: int, patience: Patience = PATIENCE) -> int:
    """Serve with `workers` processes as `config`, read from `path`, says; return the exit status.

    Raises NginyError if it cannot begin.
    """
    supervisor = Supervisor(path, os.environ, workers, config.event_method, patience)
    try:
        supervisor.control.listen(os.environ, supervisor.ports.inherited)
        supervisor.start(config)
        supervisor.run()
    except NginyError as error:
        supervisor.control.predecessor.failed(str(error).splitlines())
        raise
    finally:
        supervisor.close()
    return 0
