"""One worker's life: begin to listen, turn the loop, obey signals, and end without losing anything.

A `Server` owns the loop, the logs, the pools and the listeners. Starting and reloading are one
thing: `apply` brings what is running in step with a configuration, and at the start nothing is
running yet. What can fail (opening a log, binding an address) is done first; only when all of it
has worked is anything changed, so a bad configuration leaves everything as it was.

Signals are nginx's (`ngx_process_cycle.c`): TERM and INT end at once, QUIT ends gracefully, HUP
reads the configuration anew, USR1 reopens the logs, USR2 starts a successor (`upgrade.py`). What
each configured thing becomes is in `config/build.py`; the turn itself is in `event/loop.py`.
"""

import contextlib
import errno
import gc
import grp
import logging
import os
import pwd
import resource
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.backend.shared import MakeSharedBackend
from nginy.commands.plan import Change, plan
from nginy.config import schema
from nginy.config.check import surprises
from nginy.config.dump import dump
from nginy.errors import NginyError
from nginy.event.listener import Listener, ListenError, ListenKey
from nginy.event.loop import Loop
from nginy.event.pipe import PIPES_MAX
from nginy.event.signals import SignalReceiver
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE
from nginy.process.holder import holder_of
from nginy.process.logs import LogSet
from nginy.process.pidfile import PidFile, open_pid_file, replace_pid_file
from nginy.process.pools import PoolSet
from nginy.process.reader import ConfigReader, ReadResult
from nginy.process.services import ServiceSet, close_listeners
from nginy.process.systemd import Notifier, passed_descriptors
from nginy.process.upgrade import Upgrade, handed_descriptors

logger = logging.getLogger("nginy.server")

SIGNALS: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

SPARE_DESCRIPTORS: Final = 64 + 2 * PIPES_MAX
"""Beside `worker_connections`: standard streams, logs, the selector, signals, listeners, pipes."""

YOUNG_OBJECTS: Final = 10_000
"""New objects after which the cyclic garbage collector looks through them: those of some 700
sessions, which takes 0.2 ms (Python's own threshold is 700 objects)."""

CHANGES_LOGGED: Final = 100
"""Of one reload; whoever changes more than that has other ways to know it: `nginy plan`."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration, and what was opened for it."""

    config: schema.Config
    text: str
    listeners: Mapping[ListenKey, Listener]
    pid_file: PidFile | None


class Server:
    """One process with one loop. Created and run by `run`."""

    def __init__(
        self,
        path: str,
        environ: Mapping[str, str],
        event_method: str = "auto",
        make_backend: MakeSharedBackend | None = None,
    ) -> None:
        """Open nothing but the loop; `path` is the configuration file that a reload reads.

        `make_backend` is for one of several workers, which count sessions together.
        """
        self.loop = Loop(event_method)
        self.logs = LogSet(self.loop)
        self.pools = PoolSet(self.loop, make_backend)
        self.services = ServiceSet(self.loop, self.logs, self.pools)
        self.config = schema.Config()
        self._reader = ConfigReader(self.loop, path, environ, self._finish_reload)
        self._signals: SignalReceiver | None = None
        self._timer = Timer(self._grace_handler, self)
        self._upgrade = Upgrade(self.loop)
        self._is_draining = False
        self.notifier = Notifier({})
        """Says what is going on to whoever has started this process."""
        self._text = ""
        self._pid_file: PidFile | None = None

    # Starting and reloading.

    def apply(self, config: schema.Config, text: str = "") -> None:
        """Bring everything in step with `config`, or raise NginyError and change nothing.

        `text` is the configuration as text, for those who want to know what runs.
        """
        self.commit(self.prepare(config, text))

    def prepare(self, config: schema.Config, text: str = "") -> Prepared:
        """Do what can fail: open what `config` needs, or raise NginyError and change nothing.

        What is returned goes to `commit` or to `undo`.
        """
        with contextlib.ExitStack() as undo:
            opened = self.services.open(config)
            undo.callback(close_listeners, opened)
            pid_file = None
            if self._signals is not None:
                pid_file = self.open_pid_file(config.pid, text)
            if pid_file is not None and pid_file is not self._pid_file:
                undo.callback(pid_file.remove)
            self.logs.open(config)
            undo.pop_all()
        return Prepared(config, text, opened, pid_file)

    def commit(self, prepared: Prepared) -> None:
        """Bring everything in step with what was prepared."""
        config = prepared.config
        self._pid_file = replace_pid_file(self._pid_file, prepared.pid_file, prepared.text)
        raise_descriptor_limit(config.worker_connections)
        self.config = config
        self._text = prepared.text
        self.loop.max_connections = config.worker_connections
        self.pools.apply(config)
        if not self.services:
            self.pools.await_names()
        self.services.apply(config, prepared.listeners)
        self.logs.close_unused(config)

    def undo(self, prepared: Prepared) -> None:
        """Close what was prepared, and go on as before."""
        close_listeners(prepared.listeners)
        if prepared.pid_file is not None and prepared.pid_file is not self._pid_file:
            prepared.pid_file.remove()
        self.logs.open(self.config)
        self.logs.close_unused(self.config)

    # Running.

    def run(self) -> None:
        """Serve until a signal says to stop; NginyError: the pid file cannot be written."""
        self._signals = SignalReceiver(self.loop, SIGNALS, self._signal_received)
        # Not before: whoever finds the process by this file may send it a signal at once.
        self._pid_file = self.open_pid_file(self.config.pid, self._text)
        self.become(self.config.user)
        self.started()
        # Sessions and backends that end leave no cycle behind (see `Connection.close`), so there is
        # next to nothing to be found: what lives is looked through less often, which saves 2 to 5 %
        # of a short UDP session, and what is there from the start never again.
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        loop = self.loop
        loop.running = True
        while loop.running:
            loop.turn()
            if self.services.retiring:
                self.services.let_go()
            if self._is_draining and not self.services.retiring:
                loop.running = False

    def started(self) -> None:
        """Tell those who wait for it that clients are served and signals are heard."""
        self.services.inherited.warn_and_close()
        self.notifier.ready("Serving")

    def _signal_received(self, number: signal.Signals) -> None:
        logger.log(NOTICE, "signal %d (%s) received", number, number.name)
        if number == signal.SIGHUP:
            if not self._is_ending:
                self.reload()
        elif number == signal.SIGUSR1:
            self.logs.reopen()
        elif number == signal.SIGUSR2:
            self.hand_over()
        elif number == signal.SIGQUIT and not self._is_ending:
            self.quit()
        else:
            self.notifier.stopping("Ending")
            self.loop.running = False

    @property
    def _is_ending(self) -> bool:
        """Whether a graceful end has begun."""
        return self._is_draining or self._timer.is_running

    def reload(self) -> None:
        """Read the configuration anew, while the loop goes on, and apply it if it is right."""
        self.notifier.reloading()
        self._reader.start()

    def _finish_reload(self, reading: ReadResult) -> None:
        """Apply what was read, or say what is wrong and go on as before."""
        before, config = self.config, reading.config
        if config is None:
            tell_refusal(*map(str, reading.problems))
        else:
            try:
                self.apply(config, reading.text)
            except NginyError as error:
                tell_refusal(str(error))
            else:
                tell_changes(plan(before, config).changes, config)
        self.notifier.ready("Serving")

    def hand_over(self) -> None:
        """Start the program anew, beside this process; both serve then."""
        environ = {**os.environ, **self.notifier.variables}
        self._upgrade.start(self.services.listeners(), self._pid_file, environ)

    # Ending.

    def quit(self) -> None:
        """End gracefully: after `shutdown_grace` accept no more, then let the sessions finish."""
        self._reader.close()
        self.notifier.stopping("Waiting for sessions to end")
        if self.config.shutdown_grace_ms is None:
            self._drain()
        else:
            self._start_timer(self.config.shutdown_grace_ms)

    def _grace_handler(self, _timer: Timer) -> None:
        self._drain()

    def _drain(self) -> None:
        self.services.retire_all(self.config.worker_shutdown_timeout_ms)
        self._is_draining = True

    def _start_timer(self, delay_ms: int) -> None:
        self.loop.timers.start(self._timer, self.loop.clock.now_ms + delay_ms)

    def close(self) -> None:
        """End every session with KD, close the listeners and the logs, remove the pid file."""
        self.services.close()
        self.pools.close()
        self.loop.timers.cancel(self._timer)
        self._reader.close()
        self._pid_file = replace_pid_file(self._pid_file, None)
        self.services.inherited.close()
        self._upgrade.close()
        if self._signals is not None:
            self._signals.close()
            logger.log(NOTICE, "exit")
        self.logs.close()
        self.loop.close()

    def abort(self) -> None:
        """Go on: a bug in one timer of the server is not the end of the sessions."""

    # The process.

    def open_pid_file(self, path: str | None, text: str) -> PidFile | None:
        """Return the pid file that is to be; raises NginyError."""
        return open_pid_file(self._pid_file, path, text)

    def become(self, user: str | None) -> None:
        """Drop root's privileges for those of `user`; raises NginyError if there is no such
        user."""
        if user is None:
            return
        if os.geteuid() != 0:
            logger.warning('"user" has no effect: nginy was not started by root')
            return
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise NginyError(f'user "{user}" does not exist') from None
        group = grp.getgrgid(entry.pw_gid).gr_name
        self.logs.give_to(entry.pw_uid, entry.pw_gid)
        if self._pid_file is not None:
            self._pid_file.give_to(entry.pw_uid, entry.pw_gid)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        logger.log(NOTICE, "running as user %s, group %s", user, group)


def tell_changes(changes: Sequence[Change], config: schema.Config) -> None:
    """Log what a reload has changed, and what of the new configuration may surprise."""
    for warning in surprises(config):
        logger.warning("%s", warning)
    for change in changes[:CHANGES_LOGGED]:
        logger.log(NOTICE, "reload: %s", change)
    if len(changes) > CHANGES_LOGGED:
        logger.log(NOTICE, "reload: %d more changes", len(changes) - CHANGES_LOGGED)
    logger.log(NOTICE, "configuration reloaded")


def tell_refusal(*problems: str) -> None:
    """Log why a reload has changed nothing."""
    for problem in problems:
        logger.error("%s", problem)
    logger.error("configuration not changed")


def raise_descriptor_limit(connections: int) -> None:
    """Allow as many descriptors as `worker_connections` may need, as far as the system lets us."""
    wanted = connections + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft not in (resource.RLIM_INFINITY, wanted) and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < connections:
        logger.warning(
            "%d worker_connections exceed the limit of %d open files", connections, wanted
        )


def run(config: schema.Config, path: str) -> int:
    """Serve as `config`, which was read from `path`, says; return the exit status.

    Raises NginyError if it cannot begin.
    """
    server = Server(path, os.environ, config.event_method)
    server.notifier = Notifier(os.environ)
    server.services.inherited.adopt(
        passed_descriptors(os.environ, os.getpid()), handed_descriptors(os.environ)
    )
    try:
        with naming_holder():
            server.apply(config, dump(config) if config.pid is not None else "")
        server.run()
    finally:
        server.close()
    return 0


@contextlib.contextmanager
def naming_holder() -> Iterator[None]:
    """Have the error of an address that is in use say who uses it."""
    try:
        yield
    except ListenError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        holder = holder_of(error.options.address, udp=error.options.udp)
        raise NginyError(f"{error}, held by {holder}" if holder else str(error)) from error
