"""The parent of several workers: it binds, forks, reloads and ends, and touches no client's byte.

The supervisor keeps what must outlive a worker: the listening sockets (`ports.py`), the shared
counts (`backend/shared.py`), the pid file, and the right to bind privileged ports, which workers
give up with `user`. A worker that dies is replaced by one with the same sockets, so clients wait a
moment in the kernel's queue and nobody is refused.

A reload is checked whole here, and everything is opened that the supervisor has to open; then the
workers vote (`worker.py`). Only if all are ready does anything change. A worker that does not
answer in time counts as a no; one that is silent after a yes is killed, and its successor starts
with what the others have.

Signals are those of `process/server.py`; workers get them from here.

nginx: `ngx_master_process_cycle` in `ngx_process_cycle.c`.
"""

import contextlib
import logging
import os
import pwd
import signal
import socket
from collections.abc import Mapping
from typing import Final

from nginy.backend.shared import SharedCounts
from nginy.commands.plan import plan
from nginy.config import schema
from nginy.config.dump import dump
from nginy.errors import NginyError
from nginy.event.loop import Loop
from nginy.event.signals import SignalReceiver
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE
from nginy.process.logs import LogSet
from nginy.process.pidfile import PidFile, open_pid_file, replace_pid_file
from nginy.process.reader import read
from nginy.process.server import (
    SIGNALS,
    naming_holder,
    raise_descriptor_limit,
    tell_changes,
    tell_refusal,
)
from nginy.process.systemd import Notifier, passed_descriptors
from nginy.process.upgrade import Upgrade, handed_descriptors
from nginy.process.workers.crew import Crew, WorkerProcess
from nginy.process.workers.ports import PortSet
from nginy.process.workers.vote import Vote
from nginy.process.workers.worker import serve, write_config

logger = logging.getLogger("nginy.server")

VOTE_MS: Final = 10_000
"""How long a worker may take to answer: it does so between two turns of its loop."""
STOP_MS: Final = 5_000
"""How long a worker may take to end at once; then it is killed."""


class Supervisor:
    """The process that starts the workers. Created and run by `run`."""

    def __init__(self, path: str, environ: Mapping[str, str], workers: int, method: str) -> None:
        """Open nothing but the loop; `path` is the configuration file that a reload reads."""
        self.loop = Loop(method)
        self.logs = LogSet(self.loop)
        self.ports = PortSet(workers)
        self.crew = Crew(self.loop, workers, self._run_worker, self._answered, self._worker_died)
        self.config = schema.Config()
        self.notifier = Notifier({})
        """Says what is going on to whoever has started this process."""
        self._path = path
        self._environ = environ
        self._counts = SharedCounts(workers)
        self._signals: SignalReceiver | None = None
        self._pid_file: PidFile | None = None
        self._text = ""
        self._upgrade = Upgrade(self.loop)
        self._vote: Vote | None = None
        self._votes = 0
        self._wants_reload = self._has_started = self._is_ending = False
        self._failure = ""
        self._timer = Timer(self._timeout_handler, self)
        self._retire_timer = Timer(self._retire_handler, self)

    # Starting.

    def start(self, config: schema.Config, text: str) -> None:
        """Open what `config` needs and start the workers, or raise NginyError."""
        self.logs.open(config)
        self._give_logs(config)
        raise_descriptor_limit(config.worker_connections)
        self.ports.apply(config, self.ports.open(config))
        self.config = config
        self._text = text
        signals = (*SIGNALS, signal.SIGCHLD)
        self._signals = SignalReceiver(self.loop, signals, self._signal_received)
        self.crew.start()

    def run(self) -> None:
        """Watch over the workers until the end; NginyError: they could not be started."""
        self.loop.run()
        if self._failure:
            raise NginyError(self._failure)

    def _run_worker(self, index: int, sock: socket.socket) -> int:
        """Be a worker: this process has just been forked."""
        if self._signals is not None:
            self._signals.close()
        sockets = self.ports.leave_to(index)
        self.logs.close()
        self.loop.close()
        return serve(self.config, sock, sockets, self._counts.backend_maker(index))

    def _all_serve(self) -> None:
        """Go from starting to watching: the workers have got through their start."""
        self._has_started = True
        try:
            self._pid_file = open_pid_file(None, self.config.pid, self._text)
        except NginyError as error:
            self._fail(str(error))
            return
        self.ports.inherited.warn_and_close()
        self._tell_ready()

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self.stop()

    def _tell_ready(self) -> None:
        self.notifier.ready(f"Serving with {len(self.crew.processes)} workers")

    def _give_logs(self, config: schema.Config) -> None:
        """Let workers open the logs, whom `user` may not allow to create them."""
        if config.user is not None and os.geteuid() == 0:
            entry = pwd.getpwnam(config.user)
            self.logs.give_to(entry.pw_uid, entry.pw_gid)

    # What the workers say, and how they fare.

    def _answered(self, process: WorkerProcess, word: str, text: str) -> None:
        if word == "serving":
            process.is_serving = True
            if self.crew.are_serving and not self._has_started:
                self._all_serve()
            return
        number, _, reason = text.partition(" ")
        vote = self._vote
        if vote is not None and number == vote.number:
            if word == "refused":
                self._call_off(reason)
            else:
                self._count(process.index)
        elif word == "refused" and not process.is_serving:
            logger.error("%s cannot start: %s", process, reason)
            if not self._has_started:
                self._fail(reason)

    def _worker_died(self, process: WorkerProcess) -> None:
        self._counts.clear(process.index)
        if self._is_ending:
            if not self.crew.processes:
                self.loop.running = False
        elif not self._has_started:
            self._fail(f"{process} has ended before it could serve")
        else:
            self._count(process.index)

    # Signals.

    def _signal_received(self, number: signal.Signals) -> None:
        if number == signal.SIGCHLD:
            self.logs.flush()
            self.crew.reap()
            return
        logger.log(NOTICE, "signal %d (%s) received", number, number.name)
        if number == signal.SIGHUP:
            if not self._is_ending:
                self.reload()
        elif number == signal.SIGUSR1:
            self.logs.reopen()
            self._give_logs(self.config)
            self.crew.signal(number)
        elif number == signal.SIGUSR2:
            environ = {**os.environ, **self.notifier.variables}
            self._upgrade.start(self.ports.listeners(), self._pid_file, environ)
        elif number == signal.SIGQUIT and not self._is_ending:
            self.quit()
        else:
            self.stop()

    # Reloading.

    def reload(self) -> None:
        """Read the configuration anew and ask the workers; later, if a reload is going on."""
        if self._vote is not None or not self._has_started:
            self._wants_reload = True
            return
        self.notifier.reloading()
        reading = read(self._path, self._environ)
        if reading.config is None:
            self._refuse(*map(str, reading.problems))
            return
        self._votes += 1
        vote = Vote(self._votes, self.config, reading.config, reading.text)
        try:
            with naming_holder():
                self._open(vote)
        except NginyError as error:
            self._refuse(str(error))
            return
        self._vote = vote
        self.crew.is_held = True
        self._ask(vote)

    def _open(self, vote: Vote) -> None:
        """Open what the supervisor has to open, all or nothing; raises NginyError."""
        with contextlib.ExitStack() as undo:
            vote.ports = self.ports.open(vote.config)
            undo.callback(self.ports.undo, vote.ports)
            vote.pid_file = open_pid_file(self._pid_file, vote.config.pid, vote.text)
            if vote.pid_file is not None and vote.pid_file is not self._pid_file:
                undo.callback(vote.pid_file.remove)
            self.logs.open(vote.config)
            self._give_logs(vote.config)
            undo.pop_all()

    def _ask(self, vote: Vote) -> None:
        self._start_timer(VOTE_MS)
        fd = write_config(vote.config)
        try:
            for process in self.crew.serving():
                vote.waiting.add(process.index)
                sockets = self.ports.sockets_of(process.index, vote.ports)
                fds = [sock.fileno() for sock in sockets]
                if not (
                    process.send("sockets", fds=fds) and process.send("reload", vote.number, [fd])
                ):
                    self._call_off(f"{process} cannot be told")
                    return
        finally:
            os.close(fd)
        if not vote.waiting:
            self._decide(vote)

    def _count(self, index: int) -> None:
        """Take the answer of a worker, or that there will be none: it has died."""
        vote = self._vote
        if vote is None:
            return
        vote.waiting.discard(index)
        if vote.waiting:
            return
        if vote.is_decided:
            self._finish(vote)
        else:
            self._decide(vote)

    def _call_off(self, reason: str) -> None:
        """Go on as before: somebody cannot do what the vote is about."""
        vote, self._vote = self._vote, None
        if vote is None:
            return
        for process in self.crew.serving():
            process.send("abort", vote.number)
        self.ports.undo(vote.ports)
        if vote.pid_file is not None and vote.pid_file is not self._pid_file:
            vote.pid_file.remove()
        self.logs.open(self.config)
        self.logs.close_unused(self.config)
        self._end_vote()
        self._refuse(reason)

    def _decide(self, vote: Vote) -> None:
        """Change what is the supervisor's, and have the workers change what is theirs."""
        vote.is_decided = True
        for process in self.crew.processes.values():
            if process.is_serving and process.send("commit", vote.number):
                vote.waiting.add(process.index)
            else:
                # One that has got the old configuration at its fork, or that does not listen.
                os.kill(process.pid, signal.SIGKILL)
        self.config = vote.config
        self._text = vote.text
        self.ports.apply(vote.config, vote.ports)
        if self.ports.has_retired() and vote.config.worker_shutdown_timeout_ms is not None:
            deadline_ms = vote.config.worker_shutdown_timeout_ms + VOTE_MS
            self.loop.timers.start(self._retire_timer, self.loop.clock.now_ms + deadline_ms)
        self._pid_file = replace_pid_file(self._pid_file, vote.pid_file, vote.text)
        raise_descriptor_limit(vote.config.worker_connections)
        self.logs.close_unused(vote.config)
        self._start_timer(VOTE_MS)
        if not vote.waiting:
            self._finish(vote)

    def _finish(self, vote: Vote) -> None:
        self._vote = None
        tell_changes(plan(vote.before, vote.config).changes, vote.config)
        self._end_vote()
        self._tell_ready()
        self._reload_again()

    def _refuse(self, *problems: str) -> None:
        tell_refusal(*problems)
        self._tell_ready()
        self._reload_again()

    def _end_vote(self) -> None:
        self.loop.timers.cancel(self._timer)
        self.crew.is_held = False
        self.crew.start()

    def _reload_again(self) -> None:
        """Do what was asked for while a reload was going on: the file may have changed since."""
        if self._wants_reload and not self._is_ending:
            self._wants_reload = False
            self.reload()

    def _retire_handler(self, _timer: Timer) -> None:
        self.ports.close_retired()

    def _start_timer(self, delay_ms: int) -> None:
        self.loop.timers.start(self._timer, self.loop.clock.now_ms + delay_ms)

    def _timeout_handler(self, _timer: Timer) -> None:
        vote = self._vote
        if self._is_ending:
            self.crew.signal(signal.SIGKILL)
        elif vote is not None and vote.is_decided:
            for index in vote.waiting:
                logger.error("%s has not reloaded, killing it", self.crew.processes[index])
                os.kill(self.crew.processes[index].pid, signal.SIGKILL)
        elif vote is not None:
            silent = ", ".join(str(self.crew.processes[index]) for index in sorted(vote.waiting))
            self._call_off(f"no answer from {silent}")

    # Ending.

    def quit(self) -> None:
        """End gracefully: the workers let their sessions finish."""
        self._end(signal.SIGQUIT, "Waiting for sessions to end")
        # Now, though the workers may accept for a while: a socket of theirs has to be closed with
        # the worker that has it.
        self.ports.retire_all()

    def stop(self) -> None:
        """End now."""
        self._end(signal.SIGTERM, "Ending")
        self.ports.close()
        self._start_timer(STOP_MS)

    def _end(self, number: signal.Signals, status: str) -> None:
        self._wants_reload = False
        if self._vote is not None and not self._vote.is_decided:
            self._call_off("nginy is about to end")
        self._vote = None
        self._is_ending = True
        self.crew.dismiss()
        self.crew.signal(number)
        self.notifier.stopping(status)
        if not self.crew.processes:
            self.loop.running = False

    def close(self) -> None:
        """Close everything; a worker that is still there ends with its channel."""
        self.crew.close()
        self.ports.close()
        self._upgrade.close()
        self.loop.timers.cancel(self._timer)
        self.loop.timers.cancel(self._retire_timer)
        self._pid_file = replace_pid_file(self._pid_file, None)
        if self._signals is not None:
            self._signals.close()
            logger.log(NOTICE, "exit")
        self.logs.close()
        self.loop.close()

    def abort(self) -> None:
        """Go on: a bug in one timer is not the end of the workers."""


def run(config: schema.Config, path: str, workers: int) -> int:
    """Serve with `workers` processes as `config`, read from `path`, says; return the exit status.

    Raises NginyError if it cannot begin.
    """
    supervisor = Supervisor(path, os.environ, workers, config.event_method)
    supervisor.notifier = Notifier(os.environ)
    supervisor.ports.inherited.adopt(
        passed_descriptors(os.environ, os.getpid()), handed_descriptors(os.environ)
    )
    try:
        with naming_holder():
            supervisor.start(config, dump(config) if config.pid is not None else "")
        supervisor.run()
    finally:
        supervisor.close()
    return 0
