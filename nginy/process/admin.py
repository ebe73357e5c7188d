"""AdminSet: the admin interface of a process, in step with its configuration.

This is for the admin interface's listeners what `services.py` is for the others: `prepare` does
what can fail, `commit` cannot fail. A listener whose address stays keeps its socket and its
clients, and gets new settings. A unix socket belongs to the user alone from the moment it exists.

The configuration does not name the socket beside the pid file, so nginy starts without it: if
binding it fails, the log says so.

The package `admin` decides what the interface says, and to whom. `operators.py` applies and keeps
what operators change by it.

Tested in tests/run/test_admin.py.
"""

import contextlib
import errno
import grp
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from nginy import __version__
from nginy.admin.answer import Facts, Slices
from nginy.admin.changes.book import Newcomer
from nginy.admin.configured import problem_row
from nginy.admin.guard import DoorSettings
from nginy.admin.server import AdminServer, Door
from nginy.admin.subject import Subject
from nginy.backend.checks.news import BackendEvent
from nginy.backend.listing import AS_CONFIGURED
from nginy.config import schema
from nginy.config.admin import LOOPBACK, AdminListener, admin_listeners, is_loopback, networks
from nginy.config.checking.files import read_token
from nginy.errors import NginyError
from nginy.event.bind import ListenError, ListenOptions
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.log.levels import NOTICE
from nginy.process.binding import refusal
from nginy.process.control import Control
from nginy.process.inherited import Inherited
from nginy.process.operators import OperatorChanges
from nginy.process.report import ReloadOutcome
from nginy.process.running import RunningConfig
from nginy.process.server import Server
from nginy.proxy.access import Table
from nginy.text.address import Address
from nginy.text.times import utc_text

logger = logging.getLogger("nginy.server")


@dataclass(slots=True)
class PreparedAdmin:
    """What `commit` will make of the interface."""

    config: schema.Config
    settings: dict[Address, DoorSettings] = field(default_factory=dict)
    opened: dict[Address, Listener] = field(default_factory=dict)


class AdminSet:
    """All admin listeners of a process. Created and closed by its owner."""

    def __init__(self, loop: Loop, path: str) -> None:
        """Open nothing; `path` is the configuration file."""
        self.subject = Subject(loop, __version__, os.getpid(), path)
        self._loop = loop
        self._running = self.subject.configuration = RunningConfig(loop, path)
        self._server = AdminServer(loop, self.subject)
        self._doors: dict[Address, tuple[Listener, Door]] = {}
        self._untold: list[str] = []
        self.changes = OperatorChanges(loop, self.subject)
        self._is_begun = False
        """Whether the first configuration is known."""
        self.subject.newcomer = self._newcomer

    def listeners(self) -> Sequence[Listener]:
        """Return the listeners that a successor of this process gets copies of."""
        return [listener for listener, _ in self._doors.values()]

    def give_to(self, uid: int, gid: int) -> None:
        """Make the unix sockets the property of the user that nginy becomes."""
        for address in self._doors:
            if address.is_unix:
                is_own_group = os.stat(address.path).st_gid == os.getegid()
                os.chown(address.path, uid, gid if is_own_group else -1)

    # Starting and reloading.

    def prepare(self, config: schema.Config, inherited: Inherited) -> PreparedAdmin:
        """Read tokens and bind addresses, or raise NginyError and change nothing.

        Give the result to `commit` or to `undo`.
        """
        prepared = PreparedAdmin(config)
        try:
            for entry in admin_listeners(config.admin, config.pid):
                for address in entry.listen:
                    self._prepare(prepared, entry, address, inherited)
        except NginyError as error:
            self.undo(prepared)
            raise refusal([error]) from error
        return prepared

    def _prepare(
        self, prepared: PreparedAdmin, entry: AdminListener, address: Address, inherited: Inherited
    ) -> None:
        prepared.settings[address] = _door_settings(entry, address)
        if address in self._doors:
            return
        try:
            prepared.opened[address] = _open(entry, address, inherited)
        except ListenError as error:
            if prepared.config.admin is not None:
                raise
            del prepared.settings[address]
            # The pid file beside it meets the same trouble, and reports it in better words.
            if error.errno not in (errno.EADDRINUSE, errno.ENOENT):
                logger.warning("no admin interface: %s", error)

    def commit(self, prepared: PreparedAdmin) -> None:
        """Listen where the configuration says and nowhere else."""
        self._follow(prepared.config)
        for address in [each for each in self._doors if each not in prepared.settings]:
            self._close(address)
        for address, settings in prepared.settings.items():
            if address in self._doors:
                self._doors[address][1].settings = settings
                continue
            listener = prepared.opened[address]
            door = Door(self._server, listener.address, settings)
            self._doors[address] = (listener, door)
            listener.start(self._loop, door.accept_handler)
            # Like its clients, it does not count as one of worker_connections.
            self._loop.connections -= 1
            self._untold.append(f"{_to_open(listener)} ({settings.access})")

    def _follow(self, config: schema.Config) -> None:
        """Learn what the configuration says; operators' changes give way to it."""
        subject = self.subject
        self._running.follow(config)
        subject.ready = config.ready
        subject.metrics_backends = config.metrics_backends
        upstreams = config.upstreams.items()
        subject.on_down = {name: each.on_down for name, each in upstreams}
        subject.defined_at = {
            listener.name or str(address): listener.origin.mark
            for listener in config.listeners
            for address in listener.listen
        }
        subject.balances = {name: each.balance.method for name, each in upstreams}
        subject.file_values = {
            (name, backend.address.name): {
                "state": "maint" if backend.down else "ready",
                "weight": backend.weight,
                "max_conns": backend.max_conns,
            }
            for name, each in upstreams
            for backend in each.backends
        }
        if not self._is_begun:
            self._is_begun = True
            subject.ring.attach()
        self.changes.follow(config)

    def _newcomer(self, upstream: str, keys: Facts) -> Slices[Newcomer]:
        listing = self.subject.book.listings().get(upstream, AS_CONFIGURED)
        return self._running.newcomer(upstream, keys, listing)

    def controlled_by(self, control: Control) -> None:
        """Let `control` obey orders that come this way as it obeys signals."""
        self.subject.obey = control.obey
        control.reopening_ended = self.subject.reopening_ended
        self.subject.is_reloading = control.is_reloading

    def note(self, event: BackendEvent) -> None:
        """Add something that has happened to a backend to the events."""
        self.subject.events.add(self._loop.clock.wall_ms(), event.to_json())

    def undo(self, prepared: PreparedAdmin) -> None:
        """Close what was prepared, and go on as before."""
        for listener in prepared.opened.values():
            _close(listener)

    def tell(self) -> None:
        """Say where the interface is now."""
        for text in self._untold:
            logger.log(NOTICE, "admin interface on %s", text)
        self._untold.clear()

    # What the subject hears of.

    def serving(self) -> None:
        """Note that the start is over."""
        self.subject.status = "serving"
        self.tell()

    def draining(self, status: str, ends_ms: int | None, *, has_successor: bool) -> None:
        """Note that the end has begun, and its limit; a successor answers from now on."""
        self.subject.status, self.subject.draining = "draining", status
        self.subject.ends_at_ms = None if ends_ms is None else self._loop.clock.now_ms + ends_ms
        if has_successor:
            self.close()

    def reload_ended(self, outcome: ReloadOutcome) -> None:
        """Note the outcome of a reload."""
        subject = self.subject
        now_ms = self._loop.clock.wall_ms()
        result = "refused" if outcome.problems else "applied"
        subject.last_reload = (result, now_ms)
        subject.reloads[result] += 1
        subject.events.add(now_ms, {"kind": "reload", "text": outcome.summary})
        subject.outcome = {
            "result": result,
            "at": utc_text(now_ms),
            "took_s": outcome.took_ms / 1000,
            "problems": [problem_row(text) for text in outcome.problems],
            "warnings": [*outcome.warnings, *([] if outcome.problems else self.changes.overruled)],
            "changes": [change._asdict() for change in outcome.changes],
            "needs_restart": list(outcome.needs_restart),
        }
        if not outcome.problems:
            subject.generation += 1
            subject.loaded_at_ms = now_ms
            subject.needs_restart = outcome.needs_restart
            self.tell()

    def leave(self) -> None:
        """Close what belongs to the parent of this process, which has just been forked."""
        self.changes.leave()
        self.subject.ring.detach()
        for listener, door in self._doors.values():
            door.close()
            if listener.connection is not None:
                listener.connection.close()
        self._doors.clear()

    def close(self) -> None:
        """Close all listeners and clients."""
        self.changes.close()
        self.subject.ring.detach()
        for address in list(self._doors):
            self._close(address)

    def _close(self, address: Address) -> None:
        listener, door = self._doors.pop(address)
        self._loop.connections += 1
        _close(listener)
        door.close()


def serves(subject: Subject, server: Server) -> None:
    """Tell the interface what a server serves."""
    subject.fronts = server.services.fronts
    subject.pools = server.pools.pools
    subject.monitor = server.pools.monitor
    subject.override = server.pools.override
    subject.set_level = server.set_log_level
    subject.lost_lines = server.logs.lost


def _door_settings(entry: AdminListener, address: Address) -> DoorSettings:
    """Return what the clients of an address need; raises NginyError."""
    allow = entry.allow
    if allow is None and not address.is_unix and entry.token_file is None:
        allow = LOOPBACK if is_loopback(address) else ()
    return DoorSettings(
        access=entry.may(address),
        hosts=frozenset(name.lower() for name in entry.hosts or ()),
        allow=None if allow is None else Table((each, 0) for each in networks(allow)),
        token=b"" if entry.token_file is None else read_token(entry.token_file),
    )


def _open(entry: AdminListener, address: Address, inherited: Inherited) -> Listener:
    """Return a listener; a unix socket has its permissions from the start. Raises NginyError."""
    options = ListenOptions(address)
    if not address.is_unix:
        return inherited.listener(options, ())
    group_id = -1
    if entry.group is not None:
        try:
            group_id = grp.getgrnam(entry.group).gr_gid
        except KeyError:
            raise NginyError(f'group "{entry.group}" of {address} does not exist') from None
    before = os.umask(0o777)
    try:
        listener = inherited.listener(options, ())
    finally:
        os.umask(before)
    try:
        # without a need, make no call: etc/nginy.service forbids it
        if group_id not in (-1, os.stat(address.path).st_gid):
            os.chown(address.path, -1, group_id)
        os.chmod(address.path, entry.mode)
    except OSError as error:
        _close(listener)
        wanted = f'; nginy has to run with the group "{entry.group}"' if entry.group else ""
        raise NginyError(f"{address}: {error.strerror}{wanted}") from error
    return listener


def _to_open(listener: Listener) -> str:
    """Return where a listener is, as an address for a browser if possible."""
    address = listener.address
    return str(listener) if address.is_unix or address.is_wildcard else f"http://{listener}/"


def _close(listener: Listener) -> None:
    """Close a listener, and remove the path of a unix socket if the system permits it.

    The user that nginy has become may not be allowed to; the next start replaces the file.
    """
    is_ours, listener.is_inherited = not listener.is_inherited, True
    listener.close()
    if is_ours and listener.address.is_unix:
        with contextlib.suppress(OSError):
            os.unlink(listener.address.path)
