"""News: what happens to the backends of a pool, told once: to the log, and to whoever listens.

`monitor` decides what is news; this module has the words. A listener, such as the admin interface,
gets each piece as a `BackendEvent`. With several workers, one of them reports what checks have
found, and each reports what its own sessions have found.

Tested in tests/backend/checks/test_monitor.py.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass

from nginy.backend.backend import Backend
from nginy.backend.health.states import TROUBLES, StateChange
from nginy.backend.pool import BackendPool
from nginy.log.levels import NOTICE
from nginy.log.limit import RateLimited, similar
from nginy.text.counts import counted

logger = logging.getLogger("nginy.backend")


@dataclass(frozen=True, slots=True)
class BackendEvent:
    """One thing that has happened to a backend, or to its pool."""

    upstream: str
    backend: str | None
    """Its address; None if the news is about the whole pool."""
    kind: str
    """state, out, back or fail_open."""
    text: str
    before: str | None = None
    after: str | None = None
    cause: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return asdict(self)


class News:
    """Tells of one pool. Created by its `PoolMonitor`."""

    __slots__ = ("_limited", "_pool", "listener")

    def __init__(self, pool: BackendPool) -> None:
        self._pool = pool
        self._limited = RateLimited(60_000)
        self.listener: Callable[[BackendEvent], None] | None = None

    def changed(self, backend: Backend, *changes: StateChange | None) -> None:
        """Tell of changes of a backend's state."""
        for change in changes:
            if change is not None:
                level = logging.WARNING if change.after in TROUBLES else NOTICE
                logger.log(level, "%s: %s", self._subject(backend), change)
                words = str(change.before), str(change.after), change.cause.value
                self._tell(backend, "state", change.reason, *words)

    def out(self, backend: Backend, *, is_alone: bool) -> None:
        """Report that failed sessions have taken a backend out; `is_alone` if no other is
        usable."""
        failures = counted(backend.fails, "failure")
        text = f"out for {backend.settings.fail_timeout_s}s after {failures} (max_fails)"
        if is_alone:
            text += "; still tried while no other is usable"
        logger.warning("%s: %s", self._subject(backend), text)
        self._tell(backend, "out", text)

    def back(self, backend: Backend) -> None:
        """Report that a backend works again after failures took it out."""
        logger.log(NOTICE, "%s: back", self._subject(backend))
        self._tell(backend, "back", "back")

    def fail_open(self, up: int, total: int) -> None:
        """Report that so few are up that nginy ignores health, or that it heeds it again."""
        is_open = self._pool.is_fail_open
        text = f"{up} of {total} backends are up, health is "
        text += "ignored (fail_open)" if is_open else "heeded again"
        level = logging.WARNING if is_open else NOTICE
        logger.log(level, 'upstream "%s": %s', self._pool.name, text)
        self._tell(None, "fail_open", text)

    def not_checked(self, backend: Backend, reason: str, now_ms: int) -> None:
        """Log that we could not make a check, once a minute for each backend."""
        suppressed = self._limited.admit(backend, now_ms)
        if suppressed is not None:
            text = "%s was not checked: %s%s"
            logger.error(text, self._subject(backend), reason, similar(suppressed))

    def _tell(self, backend: Backend | None, kind: str, text: str, *words: str) -> None:
        if self.listener is not None:
            address = None if backend is None else backend.addr_text
            self.listener(BackendEvent(self._pool.name, address, kind, text, *words))

    def _subject(self, backend: Backend) -> str:
        name = backend.name
        if backend.addr_text != name:
            name = f"{name} ({backend.addr_text})"
        return f'backend {name} in upstream "{self._pool.name}"'
