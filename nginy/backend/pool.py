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

from collections.abc import Callable, Collection, Sequence

from nginy.backend.backend import Backend
from nginy.balancer.peer import Balancer, failure, success

MakeBalancer = Callable[[Sequence[Backend]], Balancer[Backend]]
"""Makes the balancer of a method for a list of backends."""


class BackendPool:
    """One upstream of the configuration. Created by config/build.py; survives reloads."""

    __slots__ = ("_backups", "_primaries", "backends", "is_single", "key", "name")

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
        self.rebuild(backends, make_balancer)

    def rebuild(self, backends: Sequence[Backend], make_balancer: MakeBalancer) -> None:
        """Take a changed list of backends, or another method; those that stay keep their state."""
        self.backends = tuple(backends)
        primaries = [b for b in backends if not b.settings.backup]
        backups = [b for b in backends if b.settings.backup]
        self._primaries = make_balancer(primaries)
        self._backups = make_balancer(backups) if backups else None
        self.is_single = len(primaries) == 1 and not backups
        """One primary and no backup: passive failures never take it out, as in nginx."""
        if self.is_single:
            primaries[0].fails = 0

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
            if self._backups is None:
                return None
            backend = self._backups.pick(key, tried, now_s)
            if backend is None:
                return None
        backend.conns += 1
        return backend

    def release(self, backend: Backend) -> None:
        """Give back what `pick` returned: the session has ended, or its attempt has failed."""
        backend.conns -= 1

    def failed(self, backend: Backend, now_s: int) -> None:
        """Count an attempt that failed."""
        backend.failures += 1
        failure(backend, now_s, single=self.is_single)

    def succeeded(self, backend: Backend) -> None:
        """Forget the failures of a backend that has answered its probe."""
        if backend.fails:
            success(backend)

    @property
    def tries(self) -> int:
        """How many backends a session may try unless it is configured: those that are not down."""
        return sum(not backend.down for backend in self.backends)
