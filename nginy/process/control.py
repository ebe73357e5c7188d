"""Control: the way in for operators and service managers, in the one process that they deal with.

It receives the signals, reads the configuration when told to, keeps the pid file and, beside it,
the text of the running configuration, informs the service manager, and starts a successor. The
`Controlled` carries out what a signal asks for: it is the one process that serves (`single.py`), or
the supervisor of several workers (`workers/supervisor.py`).

The signals are nginx's (`ngx_process_cycle.c`): TERM and INT end at once, QUIT ends gracefully, HUP
reads the configuration again, USR1 reopens the logs, USR2 starts a successor (`upgrade.py`). nginy
receives them from the first moment of a start, and puts off those that need a process that serves.

Tested in tests/run/test_reload.py.
"""

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Final, Protocol

from nginy import __version__
from nginy.config import schema
from nginy.event.child import reap_children
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.event.signals import SignalReceiver
from nginy.log.levels import NOTICE
from nginy.process.collector import resume_collector
from nginy.process.inherited import Inherited
from nginy.process.pidfile import PidFile, open_pid_file, replace_pid_file
from nginy.process.reader import ConfigReader, ReadResult
from nginy.process.report import (
    Difference,
    ReloadOutcome,
    ReopenOutcome,
    monotonic_ms,
    report_refusal,
    report_reload,
)
from nginy.process.systemd import Notifier, Watchdog, passed_descriptors
from nginy.process.takeover.predecessor import Predecessor
from nginy.process.takeover.program import handed_descriptors
from nginy.process.takeover.tally import Moved
from nginy.process.upgrade import Progress, Upgrade

logger = logging.getLogger("nginy.server")

DEFERRED: Final = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
"""Signals that only a process that serves can obey: during a start, they wait."""

CONTROL_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, *sorted(DEFERRED))


class Controlled(Protocol):
    """What a `Control` commands."""

    def listeners(self) -> Sequence[Listener]:
        """Return the listeners that a successor of this process gets copies of."""

    def change_to(self, config: schema.Config, text: str) -> None:
        """Begin to bring everything in step; `Control.reloaded` or `Control.refused` ends it."""

    def reload_ended(self, outcome: ReloadOutcome) -> None:
        """Learn the outcome of a reload."""

    def keep(self) -> None:
        """Write down what a successor reads."""

    def reopen_logs(self) -> None:
        """Begin to open all logs again; `Control.reopened` ends it."""

    def quit(self, *, has_successor: bool) -> str:
        """Begin to end gracefully, and return what that waits for.

        A successor may serve from copies of the listening sockets.
        """

    def give(self, report: Callable[[Moved], None]) -> Sequence[socket.socket]:
        """Begin to hand over to a successor, and return the far ends of the lanes; raises
        OSError.
        """

    def take_back(self) -> None:
        """Keep what is not handed over, and accept clients again."""

    def book(self) -> bytes:
        """Return what operators have set, for a successor."""

    def totals(self) -> Iterator[str]:
        """Yield what dead workers have counted, for a successor."""

    def retire(self) -> None:
        """Take no new clients, and end when the last session that could not move has ended."""

    def stop(self) -> None:
        """End now."""


class Control:
    """The way in for operators. Created and closed by the `Controlled`."""

    def __init__(
        self, loop: Loop, controlled: Controlled, path: str, environ: Mapping[str, str]
    ) -> None:
        """Open nothing; `path` is the configuration file that a reload reads, with `environ`."""
        self._loop = loop
        self._controlled = controlled
        self._path = path
        self._reader = ConfigReader(loop, path, environ, self._running, self._change)
        self._signals: SignalReceiver | None = None
        self._upgrade = Upgrade(loop, controlled, self._upgrade_changed)
        self._inherited: Inherited | None = None
        self.predecessor = Predecessor(loop)
        """The process from which this one takes over, if there is one."""
        self.reopening_ended: Callable[[Sequence[str]], None] = lambda _: None
        """Hears which logs could not be opened again, and why."""
        self._deferred: list[signal.Signals] = []
        """Signals that wait: for the end of the start, or until it is decided who serves."""
        self._serving = ""
        """What to tell the service manager when all is well; "" until the start is over."""
        self._is_changing = self._is_outdated = False
        self._config = schema.Config()
        """What runs."""
        self._difference = Difference()
        """How the file differs from it."""
        self._reopening_began_ms = 0
        self._pid_file: PidFile | None = None
        self._next_pid_file: PidFile | None = None
        self.is_ending = self._is_quitting = False
        """Whether the end has begun, graceful or not; and whether QUIT has come."""
        self.notifier = Notifier({})
        """Tells the service manager what is going on."""
        self._watchdog = Watchdog(loop, self.notifier)

    # Starting.

    def listen(self, environ: MutableMapping[str, str], inherited: Inherited) -> None:
        """Hear signals from now on, and take what other programs left for us in `environ`."""
        signals = (*CONTROL_SIGNALS, signal.SIGCHLD)
        self._signals = SignalReceiver(self._loop, signals, self._signal_received)
        self.notifier = Notifier(environ, os.getpid())
        self._watchdog = Watchdog(self._loop, self.notifier)
        inherited.adopt(passed_descriptors(environ, os.getpid()), handed_descriptors(environ))
        self._inherited = inherited
        self.predecessor.done = self._obey_deferred
        self.predecessor.gone = self._predecessor_gone
        self.predecessor.greet(environ)

    def open_pid_file(self, config: schema.Config, text: str) -> None:
        """Let others find this process; raises NginyError.

        Call this once the process serves: a program that finds it may ask for something at once.
        """
        self._config = config
        self.prepare(config, text)
        self.commit(text)

    def ready(self, workers: int) -> None:
        """Begin to serve: tell the log and the service manager, and obey signals that waited."""
        status = self._serving = f"serving with {workers} worker{'s' if workers > 1 else ''}"
        logger.log(NOTICE, "nginy/%s, %s, %s", __version__, self._path, status)
        self.notifier.ready(status)
        self._watchdog.start()
        self.predecessor.serving(self._config.pid)
        self._obey_deferred()

    def give_to(self, uid: int, gid: int) -> None:
        """Make the pid file the property of the user that nginy becomes."""
        if self._pid_file is not None:
            self._pid_file.give_to(uid, gid)

    # Signals.

    def _signal_received(self, number: signal.Signals) -> None:
        if number == signal.SIGCHLD:
            reap_children(self._loop)
            return
        logger.log(NOTICE, "signal %d (%s) received", number, number.name)
        self.obey(number)

    def is_reloading(self) -> bool:
        """Whether a reload is reading the configuration, or applying it."""
        return self._is_changing or self._reader.is_reading

    def obey(self, number: signal.Signals) -> None:
        """Do what a signal asks for, as soon as that is possible."""
        if self._must_wait(number):
            self._deferred.append(number)
        else:
            self._obey(number)

    def _must_wait(self, number: signal.Signals) -> bool:
        """Whether a signal has to wait for the end of a start, or of a hand-over."""
        if not self._serving:
            return number in DEFERRED
        if number == signal.SIGUSR2 and not self._upgrade.has_successor:
            return self.predecessor.is_busy or self.is_reloading()
        if number == signal.SIGQUIT and self.predecessor.is_busy:
            return True  # what is handed over needs its listeners
        return self._upgrade.is_under_way and number in (signal.SIGHUP, signal.SIGQUIT)

    def _obey_deferred(self) -> None:
        """Obey the signals that have waited, unless they must go on waiting."""
        deferred, self._deferred = self._deferred, []
        for number in deferred:
            self.obey(number)

    def _predecessor_gone(self) -> None:
        """Own the paths of unix sockets, which the previous process has left to this one."""
        for listener in self._controlled.listeners():
            if self._inherited is not None and self._inherited.was_handed(listener.options.key):
                listener.is_inherited = False

    def _upgrade_changed(self) -> None:
        """Act on a successor that has got its role, or has ended."""
        progress = self._upgrade.progress
        if progress is Progress.NONE and self._serving and not self.is_ending:
            self.notifier.ready(self._serving)
        elif progress is Progress.MOVED:
            self.is_ending = True
            self._controlled.retire()
            for _ in range(self._deferred.count(signal.SIGHUP)):
                self._upgrade.send_signal(signal.SIGHUP)
            self._deferred = [each for each in self._deferred if each == signal.SIGQUIT]
        self._obey_deferred()

    def _obey(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            self.reload()
        elif number == signal.SIGUSR1:
            self._reopening_began_ms = monotonic_ms()
            self._controlled.reopen_logs()
        elif number == signal.SIGUSR2:
            environ = {**os.environ, **self.notifier.variables}
            self._controlled.keep()
            self._upgrade.start(self._controlled.listeners(), self._pid_file, environ)
        elif number == signal.SIGQUIT and self._serving and not self._is_quitting:
            self._is_quitting = True
            self._begin_end()
            status = self._controlled.quit(has_successor=self._upgrade.has_successor)
            logger.log(NOTICE, "%s", status)
            self.tell_stopping(status)
        else:
            self._begin_end()
            self.tell_stopping("ending")
            self._controlled.stop()

    def tell_stopping(self, status: str) -> None:
        """Tell the service manager that nginy is ending, unless a successor is the service by
        now.
        """
        if not self._upgrade.has_heir:
            self.notifier.stopping(status)

    def _begin_end(self) -> None:
        self.is_ending = True
        self._reader.close()

    # Reloading.

    def reload(self) -> None:
        """Read the configuration again while the loop goes on, and apply it if it is right."""
        if self.is_ending:
            return
        if self._is_changing:
            self._is_outdated = True
            return
        self.notifier.reloading()
        self._reader.start()

    def _change(self, result: ReadResult) -> None:
        self._is_changing = True
        if result.config is None or result.difference is None:
            self.refused(*map(str, result.problems))
            return
        self._difference = result.difference
        self._controlled.change_to(result.config, result.text)

    def _running(self) -> schema.Config:
        return self._config

    def reloaded(self, config: schema.Config) -> None:
        """Report what has changed, now that `config` runs."""
        self._config = config
        self._reload_ended(report_reload(self._reader.began_ms, self._difference))

    def refused(self, *problems: str) -> None:
        """Report why nothing has changed."""
        self._reload_ended(report_refusal(self._reader.began_ms, problems))

    def _reload_ended(self, outcome: ReloadOutcome) -> None:
        if self._pid_file is not None:
            try:
                self._pid_file.note_outcome(outcome.to_json())
            except OSError as error:
                logger.warning("write() failed (%s: %s)", error.errno, error.strerror)
        self._controlled.reload_ended(outcome)
        is_outdated = self._is_outdated
        self._is_changing = self._is_outdated = False
        resume_collector()
        if self.is_ending:
            return
        self.notifier.ready(f"{self._serving}; {outcome.summary}")
        if is_outdated:
            # Another reload was asked for meanwhile, and the file may have changed since.
            self.reload()
        else:
            self._obey_deferred()

    def reopened(self, problems: Sequence[str]) -> None:
        """Report which logs could not be opened again, and why, to whoever asked."""
        self.reopening_ended(problems)
        if self._pid_file is not None:
            outcome = ReopenOutcome(self._reopening_began_ms, tuple(problems))
            try:
                self._pid_file.note_reopening(outcome.to_json())
            except OSError as error:
                logger.warning("write() failed (%s: %s)", error.errno, error.strerror)

    # The pid file, which a reload changes along with everything else, or not at all.

    def prepare(self, config: schema.Config, text: str) -> None:
        """Open the pid file that `config` names; raises NginyError."""
        self._next_pid_file = open_pid_file(self._pid_file, config.pid, text, self.predecessor.pid)

    def commit(self, text: str) -> None:
        """Go over to what `prepare` has opened, with the configuration that runs now as `text`."""
        self._pid_file = replace_pid_file(self._pid_file, self._next_pid_file, text)
        self._next_pid_file = None

    def undo(self) -> None:
        """Keep the present pid file."""
        opened, self._next_pid_file = self._next_pid_file, None
        if opened is not None and opened is not self._pid_file:
            opened.remove()

    # Ending.

    def leave(self) -> None:
        """Close what belongs to this process alone; a worker calls this in its own process."""
        self._reader.leave()
        self._upgrade.close()
        self.predecessor.close()
        self._watchdog.close()
        self.notifier.close()
        if self._signals is not None:
            self._signals.close()
            self._signals = None

    def close(self) -> None:
        """Remove the pid file, and stop hearing signals."""
        self._reader.close()
        if self._pid_file is not None and self.predecessor.is_there:
            self._pid_file.give_back(self.predecessor.pid)
        self._pid_file = replace_pid_file(self._pid_file, None)
        if self._signals is not None:
            logger.log(NOTICE, "exit")
        self.leave()
