"""BackendPool: a named group of backends, and the methods that sessions pick one with.

A pool joins what the algorithms keep apart. It asks the balancer of the primaries, and if that
finds nobody the balancer of the backups (nginx: `peers->next`); it counts who is busy, so that
`pick` and `release` pair up in one place; and it keeps the books of passive failures, with
nginx's arithmetic (`balancer/peer.py`).

How often a session may try again, and when it counts as failed, is decided by `proxy/upstream.py`;
nothing here touches a socket or reads a clock.

nginx: `ngx_stream_upstream_srv_conf_t`, and `peer.get` and `peer.free` in
`ngx_stream_upstream_round_robin.c`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from nginy.backend.backend import Backend
from nginy.backend.waiting import QueueSettings, WaitingLine
from nginy.balancer.least import moving_average_ms
from nginy.balancer.peer import Balancer, failure, has_failed, success
from nginy.balancer.round_robin import pick_smooth

MakeBalancer = Callable[[Sequence[Backend]], Balancer[Backend]]
"""Makes the balancer of a method for a list of backends."""


class BackendPool:
    """One upstream of the configuration. Created by its `Members`; survives reloads."""

    __slots__ = (
        "_backups",
        "_primaries",
        "_unbuilt",
        "backends",
        "ejector",
        "is_fail_open",
        "is_single",
        "key",
        "line",
        "max_session_time_ms",
        "measured",
        "name",
    )

    def __init__(
        self,
        name: str,
        backends: Sequence[Backend],
        make_balancer: MakeBalancer,
        key: str = "",
    ) -> None:
        self.name = name
        self.key = key
        """The text with variables that hash methods hash, as configured; "" if there is none."""
        self.backends: tuple[Backend, ...] = ()
        self._unbuilt: tuple[Backend, ...] = ()
        """The list that there are no tables of yet; empty if there are."""
        self.measured = ""
        """The time that the method chooses by: connect, first_byte or last_byte; "" for none."""
        self.ejector: Callable[[Backend], None] | None = None
        """Puts a backend out that has reached `max_fails`; None without `eject`."""
        self.is_fail_open = False
        """Whether so few backends are up that health is ignored (`fail_open`)."""
        self.line: WaitingLine | None = None
        """Who waits because all backends are at `max_conns`; None without `queue`."""
        self.max_session_time_ms: int | None = None
        """How long a session may last; None: no limit."""
        self.rebuild(backends, make_balancer)

    def rebuild(self, backends: Sequence[Backend], make_balancer: MakeBalancer) -> None:
        """Take a changed list of backends, or another method; those that stay keep their state."""
        self.replace(backends)
        for _ in self.build_steps(make_balancer):
            pass

    def replace(self, backends: Sequence[Backend]) -> None:
        """Take a changed list of backends, whose tables `build_steps` has to make then.

        Until they are done, those that joined get sessions only if nobody else is usable; those
        that left are down.
        """
        for backend in set(self.backends) - set(backends):
            backend.down = True
        self.backends = self._unbuilt = tuple(backends)
        self.is_single = len(backends) == 1 and not backends[0].settings.backup
        """One primary and no backup: passive failures never take it out, as in nginx."""
        if self.is_single:
            backends[0].fails = 0

    def build_steps(self, make_balancer: MakeBalancer) -> Iterator[None]:
        """Build the tables of a method for the list as it is now, in steps of a millisecond or so.

        The present ones serve until the last step.
        """
        backends = self.backends
        primaries = [b for b in backends if not b.settings.backup]
        backups = [b for b in backends if b.settings.backup]
        # An empty balancer costs nothing; it is the filling that takes time.
        for_primaries = make_balancer(())
        yield from for_primaries.rebuild_steps(primaries)
        for_backups = make_balancer(()) if backups else None
        if for_backups is not None:
            yield from for_backups.rebuild_steps(backups)
        self._primaries = for_primaries
        self._backups = for_backups
        if self._unbuilt is backends:
            self._unbuilt = ()

    def __repr__(self) -> str:
        """Show the name and the backends."""
        return f"<BackendPool {self.name} {list(self.backends)}>"

    def pick(self, key: bytes, tried: Collection[Backend], now_s: int) -> Backend | None:
        """Choose a backend for a session and count it as busy; None if there is no usable one.

        `tried` are those that failed this session before. Each backend picked has to be given back
        by one call of `release`.
        """
        backend = self._primaries.pick(key, tried, now_s)
        if backend is None:
            if self._backups is not None:
                backend = self._backups.pick(key, tried, now_s)
            if backend is None and self._unbuilt:
                backend = self._pick_unbuilt(tried, now_s)
            if backend is None:
                return None
        backend.conns += 1
        return backend

    def _pick_unbuilt(self, tried: Collection[Backend], now_s: int) -> Backend | None:
        """Choose by turns from a list whose tables are not done; all of the old one may be gone."""
        primaries = [b for b in self._unbuilt if not b.settings.backup]
        backups = [b for b in self._unbuilt if b.settings.backup]
        return pick_smooth(primaries, tried, now_s) or pick_smooth(backups, tried, now_s)

    def release(self, backend: Backend) -> None:
        """Give back what `pick` returned: the session has ended, or its attempt has failed."""
        backend.conns -= 1
        if self.line is not None:
            self.line.call_next()

    def line_up(self, settings: QueueSettings | None) -> None:
        """Have clients wait as `settings` say, or no longer: those who wait choose again."""
        if self.line is not None:
            if settings is not None:
                self.line.settings = settings
            line = self.line
            self.line = None if settings is None else line
            line.call_all()
        elif settings is not None:
            self.line = WaitingLine(settings)

    def is_full(self, tried: Collection[Backend], now_s: int) -> bool:
        """Whether some backend would serve the session if it were not at `max_conns`."""
        return any(
            0 < backend.max_conns <= backend.conns and not has_failed(backend, now_s)
            for backend in self.backends
            if not backend.down and backend not in tried
        )

    def failed(self, backend: Backend, now_s: int) -> None:
        """Count an attempt that failed."""
        backend.failures += 1
        failure(backend, now_s, single=self.is_single)
        if self.ejector is not None and 0 < backend.max_fails <= backend.fails:
            self.ejector(backend)

    def succeeded(self, backend: Backend) -> None:
        """Forget the failures of a backend that has answered its probe."""
        if backend.fails:
            success(backend)

    def reweigh(self) -> None:
        """Have weights that have changed count; at once, so not for methods with large tables."""
        self._primaries.rebuild([b for b in self.backends if not b.settings.backup])
        if self._backups is not None:
            self._backups.rebuild([b for b in self.backends if b.settings.backup])

    def measure(self, backend: Backend, duration_ms: int) -> None:
        """Take the time of a session that went well into a backend's average."""
        backend.average_ms = moving_average_ms(backend.average_ms, duration_ms)

    def choose_by(self, measured: str) -> None:
        """Measure another time from now on; what was measured before says nothing about it."""
        if measured != self.measured:
            self.measured = measured
            for backend in self.backends:
                backend.average_ms = 0

    @property
    def tries(self) -> int:
        """How many backends a session may try unless it is configured: those that are not down."""
        return sum(not backend.down for backend in self.backends)
