"""Subject: what the admin interface is about, and all that it knows of the process around it.

The process fills it in, and changes it at a reload (`process/admin.py`). Nothing is copied for it:
listeners and upstreams are asked for when somebody asks.

Tested in tests/admin/test_overview.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nginy.admin.merge import Facts
from nginy.backend.pool import BackendPool
from nginy.event.loop import Loop
from nginy.proxy.handler import ProtocolHandler
from nginy.text.times import utc_text


@dataclass(frozen=True, slots=True)
class Front:
    """A listener as it is now."""

    address: str
    handler: ProtocolHandler
    is_retiring: bool = False
    """Whether it takes no new clients, and waits for its last session."""


class Crew(Protocol):
    """The workers, for a supervisor, which serves nothing itself."""

    reports: Sequence[Facts]
    """What those who have answered report of themselves."""

    def stamp(self) -> dict[str, object]:
        """Return how many were asked, and how many have answered."""

    def ask(self, done: Callable[[], None]) -> None:
        """Ask all for new reports, and call when they are there or take too long."""


@dataclass(slots=True)
class Subject:
    """A process that serves. Written by its owner, read by `routes.py`."""

    loop: Loop
    version: str = ""
    pid: int = 0
    file: str = ""
    """The configuration file."""
    fronts: Callable[[], Sequence[Front]] = tuple
    pools: Callable[[], Sequence[BackendPool]] = tuple
    crew: Crew | None = None
    """Who serves, if this process does not."""
    status: str = "starting"
    """starting, serving or draining."""
    draining: str | None = None
    """What is waited for before the end; None before that."""
    started_at_ms: int = 0
    """By the wall clock, as the following."""
    generation: int = 1
    """How many configurations have run so far, with the present one."""
    loaded_at_ms: int = 0
    last_reload: tuple[str, int] | None = None
    """applied or refused, and when; None before the first one."""
    needs_restart: tuple[str, ...] = ()
    """Keys that the file has new values for, which wait for a restart."""
    ready: Mapping[str, int] = field(default_factory=dict)
    """How many usable backends an upstream needs, by name; `min_up` is for all others."""

    def __post_init__(self) -> None:
        self.started_at_ms = self.loaded_at_ms = self.loop.clock.wall_ms()

    def wall_text(self, at_ms: int) -> str:
        """Return an instant of the loop's clock as text."""
        clock = self.loop.clock
        return utc_text(clock.wall_ms() - (clock.now_ms - at_ms))

    def stamp(self) -> dict[str, object]:
        """Return the members that every answer has."""
        at = utc_text(self.loop.clock.wall_ms())
        return {"at": at, "generation": self.generation, "pid": self.pid}
