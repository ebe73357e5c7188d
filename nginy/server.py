"""One worker's life: begin to listen, turn the loop, obey signals, and end without losing anything.

A `Server` owns the loop, the logs, the pools and the listeners. Starting and reloading are one
thing: `apply` brings what is running in step with a configuration, and at the start nothing is
running yet. What can fail (opening a log, binding an address) is done first; only when all of it
has worked is anything changed, so a bad configuration leaves everything as it was.

Signals are nginx's (`ngx_process_cycle.c`): TERM and INT end at once, QUIT ends gracefully, HUP
reads the configuration anew, USR1 reopens the logs. What each configured thing becomes is in
`config/build.py`; the turn itself is in `event/loop.py`.
"""

import contextlib
import grp
import logging
import os
import pwd
import resource
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from nginy.config import build, schema
from nginy.config.load import load
from nginy.errors import ConfigError, NginyError
from nginy.event.connection import Connection
from nginy.event.datagram import DatagramReceiver
from nginy.event.listener import Listener, ListenKey, ListenOptions
from nginy.event.loop import Loop
from nginy.event.signals import SignalReceiver
from nginy.event.timer import Timer
from nginy.logset import LogSet
from nginy.logtools import NOTICE
from nginy.poolset import PoolSet
from nginy.proxy.handler import ProtocolHandler, ProxyHandler
from nginy.proxy.reply import DatagramReplyHandler, ReplyHandler
from nginy.proxy.session import Session
from nginy.proxy.tcp import TcpHandler
from nginy.proxy.udp import UdpHandler

logger = logging.getLogger("nginy.server")

SIGNALS: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
)

SPARE_DESCRIPTORS: Final = 64
"""Beside `worker_connections`: standard streams, logs, the selector, signals, listeners."""

Wanted = tuple[ListenOptions, schema.Listener]
"""An address to listen on, and the listener of the configuration it belongs to."""


@dataclass(slots=True)
class Service:
    """A listener that is open, and the handler that its clients are given to."""

    listener: Listener
    handler: ProtocolHandler


class Server:
    """One process with one loop. Created and run by `run`."""

    def __init__(self, path: str, environ: Mapping[str, str], event_method: str = "auto") -> None:
        """Open nothing but the loop; `path` is the configuration file that a reload reads."""
        self.loop = Loop(event_method)
        self.logs = LogSet(self.loop)
        self.services: dict[ListenKey, Service] = {}
        self.pools = PoolSet(self.loop)
        self.config = schema.Config()
        self._path = path
        self._environ = environ
        self._signals: SignalReceiver | None = None
        self._timer = Timer(self._grace_handler, self)
        self._is_draining = False
        self._retiring: dict[ListenKey, Service] = {}
        self._pid_file = ""

    # Starting and reloading.

    def apply(self, config: schema.Config) -> None:
        """Bring everything in step with `config`, or raise NginyError and change nothing."""
        wanted = {
            options.key: (options, listener)
            for listener in config.listeners
            for options in build.listen_options(listener)
        }
        self.logs.open(config)
        opened = self._open_listeners(wanted)
        self._take_back(wanted)
        self.config = config
        self.loop.max_connections = config.worker_connections
        self.pools.apply(config)
        if not self.services:
            self.pools.await_names()
        for key in [key for key in self.services if key not in wanted]:
            self._close_service(key)
        for key, (options, settings) in wanted.items():
            if key in opened:
                self._add_service(opened[key], settings)
            else:
                self._change_service(self.services[key], options, settings)
        self.logs.close_unused(config)

    def _open_listeners(self, wanted: Mapping[ListenKey, Wanted]) -> dict[ListenKey, Listener]:
        """Bind every address that is not bound yet: all of them, or none."""
        opened: dict[ListenKey, Listener] = {}
        try:
            for key, (options, _) in wanted.items():
                if key not in self.services and key not in self._retiring:
                    opened[key] = Listener(options)
        except NginyError:
            for listener in opened.values():
                listener.close()
            raise
        return opened

    def _take_back(self, wanted: Mapping[ListenKey, Wanted]) -> None:
        """Go on with UDP listeners that were about to go and are wanted again."""
        for key in [key for key in self._retiring if key in wanted]:
            service = self.services[key] = self._retiring.pop(key)
            if isinstance(service.handler, UdpHandler):
                service.handler.is_draining = False

    def _add_service(self, listener: Listener, settings: schema.Listener) -> None:
        handler = self._handler(settings, listener, None)
        self.services[listener.options.key] = Service(listener, handler)
        if listener.options.udp:
            listener.start_datagrams(self.loop, handler.datagram_handler)
        else:
            listener.start(self.loop, handler.accept_handler)
        logger.log(NOTICE, "listening on %s", listener)

    def _change_service(
        self,
        service: Service,
        options: ListenOptions,
        settings: schema.Listener,
    ) -> None:
        """Give an open listener the options and the handler of a changed configuration."""
        service.listener.apply(options)
        handler = self._handler(settings, service.listener, service.handler)
        service.handler = handler
        receiver = service.listener.connection
        if isinstance(receiver, DatagramReceiver):
            receiver.handler = handler.datagram_handler
        else:
            service.listener.handler = handler.accept_handler

    def _handler(
        self,
        settings: schema.Listener,
        listener: Listener,
        current: ProtocolHandler | None,
    ) -> ProtocolHandler:
        """Return the handler for a listener: `current`, changed in place, wherever that will do."""
        if settings.return_ is not None:
            handler: ProtocolHandler = self._reply_handler(settings, listener, current)
        else:
            handler = self._proxy_handler(settings, listener, current)
        handler.log_session = self.logs.session_logger(settings.access_log, self.config.log_formats)
        return handler

    def _reply_handler(
        self,
        settings: schema.Listener,
        listener: Listener,
        current: ProtocolHandler | None,
    ) -> ProtocolHandler:
        make = DatagramReplyHandler if listener.options.udp else ReplyHandler
        name = build.listener_name(settings, listener.options)
        proxy = build.proxy_settings(settings)
        text = self.logs.compile(settings.return_ or "")
        if isinstance(current, (ReplyHandler, DatagramReplyHandler)):
            handler = current
        else:
            handler = make(self.loop, name, listener.address, proxy)
        handler.settings = proxy
        handler.text = lambda session: text(session).encode()
        return handler

    def _proxy_handler(
        self,
        settings: schema.Listener,
        listener: Listener,
        current: ProtocolHandler | None,
    ) -> ProxyHandler:
        name = build.listener_name(settings, listener.options)
        proxy = build.proxy_settings(settings)
        pool = self.pools[settings.proxy_pass or ""]
        handler = current if isinstance(current, ProxyHandler) else None
        if handler is None:
            make = UdpHandler if listener.options.udp else TcpHandler
            handler = make(self.loop, name, listener.address, pool, proxy)
        handler.apply(pool, proxy)
        handler.hash_key = self.logs.compile(pool.key) if pool.key else None
        return handler

    def _close_service(self, key: ListenKey) -> None:
        """Take no new clients; sessions that have begun go on to their end.

        Those of UDP need the listener's socket to answer, so it is closed after the last of them.
        """
        service = self.services.pop(key)
        logger.log(NOTICE, "no longer listening on %s", service.listener)
        self._retiring[key] = service
        if isinstance(service.handler, UdpHandler):
            service.handler.is_draining = True
        else:
            service.listener.close()

    def _retire(self) -> None:
        """Let go of closed services whose last session has ended."""
        for key, service in list(self._retiring.items()):
            if not service.handler.sessions:
                service.listener.close()
                del self._retiring[key]

    # Running.

    def run(self) -> None:
        """Serve until a signal says to stop."""
        self._signals = SignalReceiver(self.loop, SIGNALS, self._signal_received)
        loop = self.loop
        loop.running = True
        while loop.running:
            loop.turn()
            if self._retiring:
                self._retire()
            if self._is_draining and not self._retiring:
                loop.running = False

    def _sessions(self) -> Iterator[Session]:
        for key in list(self.loop.selector.get_map().values()):
            owner = key.data.data if isinstance(key.data, Connection) else None
            if isinstance(owner, Session):
                yield owner

    def _signal_received(self, number: signal.Signals) -> None:
        logger.log(NOTICE, "signal %d (%s) received", number, number.name)
        if number == signal.SIGHUP:
            self.reload()
        elif number == signal.SIGUSR1:
            self.logs.reopen()
        elif number == signal.SIGQUIT and not self._is_draining and not self._timer.is_running:
            self.quit()
        else:
            self.loop.running = False

    def reload(self) -> None:
        """Read the configuration anew and apply it, or say what is wrong and go on as before."""
        try:
            self.apply(load(self._path, self._environ))
        except ConfigError as error:
            self._refuse(*map(str, error.problems))
        except NginyError as error:
            self._refuse(str(error))
        else:
            logger.log(NOTICE, "configuration reloaded")

    def _refuse(self, *problems: str) -> None:
        for problem in problems:
            logger.error("%s", problem)
        logger.error("configuration not changed")

    # Ending.

    def quit(self) -> None:
        """End gracefully: after `shutdown_grace` accept no more, then let the sessions finish."""
        if self.config.shutdown_grace_ms is None:
            self._drain()
        else:
            self._start_timer(self.config.shutdown_grace_ms)

    def _grace_handler(self, _timer: Timer) -> None:
        self._drain()

    def _drain(self) -> None:
        for key in list(self.services):
            self._close_service(key)
        self._is_draining = True
        if self.config.worker_shutdown_timeout_ms is not None:
            self._timer.handler = self._deadline_handler
            self._start_timer(self.config.worker_shutdown_timeout_ms)

    def _deadline_handler(self, _timer: Timer) -> None:
        """End the sessions that are still open `worker_shutdown_timeout` after a graceful stop."""
        logger.warning("worker_shutdown_timeout is over, closing the sessions that are left")
        self.loop.running = False

    def _start_timer(self, delay_ms: int) -> None:
        self.loop.timers.start(self._timer, self.loop.clock.now_ms + delay_ms)

    def close(self) -> None:
        """End every session with KD, close the listeners and the logs, remove the pid file."""
        for key in list(self.services):
            self._close_service(key)
        for session in list(self._sessions()):
            session.kill()
        self._retire()
        self.pools.close()
        self.loop.timers.cancel(self._timer)
        if self._signals is not None:
            self._signals.close()
        self.remove_pid()
        logger.log(NOTICE, "exit")
        self.logs.close()
        self.loop.close()

    def abort(self) -> None:
        """Go on: a bug in one timer of the server is not the end of the sessions."""

    # The process.

    def write_pid(self) -> None:
        """Write the pid file, if there is to be one; raises NginyError."""
        path = self.config.pid
        if path is None:
            return
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise NginyError(f'open() "{path}" failed ({error.errno}: {error.strerror})') from error
        self._pid_file = path

    def remove_pid(self) -> None:
        """Remove the pid file if it is ours."""
        if self._pid_file:
            with contextlib.suppress(OSError):
                os.unlink(self._pid_file)
            self._pid_file = ""

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
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        logger.log(NOTICE, "running as user %s, group %s", user, group)


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
    raise_descriptor_limit(config.worker_connections)
    server = Server(path, os.environ, config.event_method)
    try:
        server.apply(config)
        server.become(config.user)
        server.write_pid()
        server.run()
    finally:
        server.close()
    return 0
