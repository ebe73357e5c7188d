"""Server: the part that serves clients, be it all of nginy or one of several workers.

A `Server` owns the loop, the logs, the pools and the listeners. Starting and reloading are one
thing: `apply` brings what runs in step with a configuration, and at the start nothing runs yet. The
server first does what can fail (opening a log, binding an address), and changes nothing until all
of it has worked. So a bad configuration leaves everything as it was.

A server hears no signal, reads no configuration file and writes no pid file: its owner does, which
is `single.py` or `workers/worker.py`. `config/building/build.py` makes objects of the
configuration; `event/loop.py` has the turn itself.

nginx: `ngx_init_cycle`, `ngx_worker_process_cycle`.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nginy.backend.shared import WorkerCounts
from nginy.config import schema
from nginy.config.building.tls import TlsContexts
from nginy.event.bind import ListenKey
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE
from nginy.process.collector import resume_collector
from nginy.process.gradual import Steps, at_once
from nginy.process.logs import LogSet
from nginy.process.pools import PoolSet, PreparedPool
from nginy.process.privileges import cap_descriptors, raise_descriptor_limit
from nginy.process.services import ServiceSet, close_listeners
from nginy.text.counts import counted

logger = logging.getLogger("nginy.server")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration, and what was opened for it."""

    config: schema.Config
    listeners: Mapping[ListenKey, Listener]
    pools: dict[str, PreparedPool]
    tls: TlsContexts


class Server:
    """A loop and all that it serves. Created, run and closed by its owner."""

    def __init__(self, event_method: str = "auto", counts: WorkerCounts | None = None) -> None:
        """Open nothing but the loop.

        `counts` is for one of several workers, which count sessions together.
        """
        self._is_worker = counts is not None
        self.loop = Loop(event_method)
        cap_descriptors(self.loop.interest.descriptors_max)
        self.logs = LogSet(self.loop)
        self.pools = PoolSet(self.loop, counts)
        self.services = ServiceSet(self.loop, self.logs, self.pools)
        self.config = schema.Config()
        self._timer = Timer(self._grace_time_handler, self)
        self._is_draining = self._is_stopped = self._has_successor = False
        self.before_serving: Callable[[], None] = lambda: None
        """Called by a start once the pools are there, and before it serves anybody."""

    # Starting and reloading.

    def apply(self, config: schema.Config) -> None:
        """Bring everything in step with `config`, or raise NginyError and change nothing."""
        at_once(self.commit(at_once(self.prepare(config))))

    def prepare(self, config: schema.Config) -> Steps[Prepared]:
        """Do what can fail: open what `config` needs, or raise NginyError and change nothing.

        Give the result to `commit` or to `undo`. The last step opens sockets and logs.
        """
        pools = yield from self.pools.prepare(config)
        tls = yield from self.services.prepare_tls(config)
        with contextlib.ExitStack() as undo:
            opened = self.services.open(config)
            undo.callback(close_listeners, opened)
            self.logs.open(config)
            undo.pop_all()
        return Prepared(config, opened, pools, tls)

    def commit(self, prepared: Prepared) -> Steps[None]:
        """Bring everything in step with what was prepared. The first steps make new pools, and what
        the handlers of listeners need. One step changes all the rest; the last one drops what is no
        longer needed.
        """
        config = prepared.config
        yield from self.pools.add(config, prepared.pools)
        self.logs.define(config.variables)
        yield from self.services.begin(config, prepared.tls)
        descriptors_max = self.loop.interest.descriptors_max
        raise_descriptor_limit(
            config.worker_connections, descriptors_max, is_worker=self._is_worker
        )
        self.config = config
        self.loop.max_connections = config.worker_connections
        self.pools.apply()
        if not self.services:
            self.before_serving()
            self.pools.await_names()
        self.services.apply(config, prepared.listeners)
        yield
        self.pools.finish()
        self.logs.close_unused(config)

    def undo(self, prepared: Prepared) -> None:
        """Close what was prepared, and go on as before."""
        close_listeners(prepared.listeners)
        self.logs.open(self.config)
        self.logs.close_unused(self.config)

    def set_log_level(self, level: str | None) -> None:
        """Have the error log take another level; None is the configured one."""
        self.logs.set_level(level)
        for front in self.services.fronts():
            # Handlers have looked at the level, to know what their sessions need to log.
            front.handler.use_logger(front.handler.logger)

    # Running and ending.

    def run(self, started: Callable[[], None]) -> None:
        """Serve until `stop`, or until `quit` has let the last session finish.

        It calls `started` right before the first turn.
        """
        started()
        resume_collector()
        while not self._is_stopped:
            try:
                self.loop.turn()
            except MemoryError:
                self.loop.starve()
            if self.services.retiring:
                self.services.let_go()
            if self._is_draining and not self.services.retiring:
                self._is_stopped = True

    def stop(self) -> None:
        """End at once, after this turn."""
        self._is_stopped = True

    def quit(self, *, has_successor: bool) -> str:
        """End gracefully: after `shutdown_grace` accept no more, then let the sessions finish.

        `has_successor`: another process has copies of the listening sockets, and serves. Returns
        what that waits for, and until when.
        """
        self._has_successor = has_successor
        grace_ms = self.config.shutdown_grace_ms
        if self._is_draining:
            self.services.limit(self.config.worker_shutdown_timeout_ms)
            return draining_status(self.sessions, self.config.worker_shutdown_timeout_ms)
        if grace_ms is None:
            return self._drain(self.config.worker_shutdown_timeout_ms)
        self.loop.timers.start(self._timer, self.loop.clock.now_ms + grace_ms)
        return f"accepting clients until {_time_in(grace_ms)}, then waiting for sessions to end"

    def retire(self) -> str:
        """Take no new clients, and end when the last session has ended: a successor has all that
        could move.

        Returns what that waits for.
        """
        self._has_successor = True
        return self._drain(None)

    @property
    def sessions(self) -> int:
        """How many sessions are left of listeners that take no new clients."""
        return sum(each.handler.sessions for each in self.services.retiring)

    def _grace_time_handler(self, _timer: Timer) -> None:
        logger.log(NOTICE, "%s", self._drain(self.config.worker_shutdown_timeout_ms))

    def _drain(self, timeout_ms: int | None) -> str:
        self.services.retire_all(timeout_ms, has_successor=self._has_successor)
        self._is_draining = True
        return draining_status(self.sessions, timeout_ms)

    def close(self) -> None:
        """End every session with KD, close the listeners and the logs."""
        self.services.close()
        self.pools.close()
        self.loop.timers.cancel(self._timer)
        self.services.inherited.close()
        self.logs.close()
        self.loop.close()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the listeners of this process"

    def abort(self) -> None:
        """Go on: a bug in one timer of the server does not end the sessions."""


def ends_in_ms(config: schema.Config) -> int | None:
    """Return how long a graceful end takes at most; None without a limit."""
    timeout_ms = config.worker_shutdown_timeout_ms
    return None if timeout_ms is None else (config.shutdown_grace_ms or 0) + timeout_ms


def draining_status(sessions: int, timeout_ms: int | None) -> str:
    """Return what a graceful end waits for, and until when."""
    if not sessions:
        return "no sessions are left"
    until = "" if timeout_ms is None else f", until {_time_in(timeout_ms)} at most"
    return f"waiting for {counted(sessions, 'session')} to end{until}"


def _time_in(delay_ms: int) -> str:
    """Return the time of day after a delay."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() + delay_ms / 1000))
