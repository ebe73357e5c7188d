"""Subject: what the admin interface is about, and all that it knows of the process around it.

The process fills it in, and changes it at a reload (`process/admin.py`). It copies nothing: it
looks listeners and upstreams up for each answer.

Tested in tests/admin/facts/test_overview.py.
"""

import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from nginy.admin.answer import Facts, Poll, Replies, Slices
from nginy.admin.changes.book import Book, FileValues, Newcomer
from nginy.admin.events import Events
from nginy.admin.facts.sampling import Samples
from nginy.admin.facts.tally import Tally
from nginy.admin.loop.recording import Recording, TraceOrder
from nginy.admin.thrift import Thrift
from nginy.backend.checks.monitor import Overrides, PoolMonitor
from nginy.backend.listing import Listing
from nginy.backend.pool import BackendPool
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.log.ring import LogRing
from nginy.proxy.handler import ProtocolHandler
from nginy.text.times import utc_text

JITTER_MS: Final = 100
"""How much two readings of the clocks may differ without a change of the time of day."""


@dataclass(frozen=True, slots=True)
class Front:
    """A listener as it is now."""

    address: str
    handler: ProtocolHandler
    listener: Listener | None = None
    """None once it is closed, though sessions go on."""
    is_retiring: bool = False
    """Whether it takes no new clients, and waits for its last session."""


class Crew(Protocol):
    """The workers, for a supervisor, which serves nothing itself."""

    def ask(self, question: Poll, done: Callable[[Replies], None]) -> None:
        """Ask all, and call when they have answered or take too long."""


RowsOf: TypeAlias = Callable[[str], Sequence[Facts]]
"""Finds the backends of an upstream, as rows."""


class Configuration(Protocol):
    """The configuration that runs."""

    def to_yaml(self) -> Slices[str]:
        """Return it as YAML, without secrets."""

    def to_json(self) -> Slices[str]:
        """Return it as JSON, without secrets."""

    def file(self) -> Facts:
        """Return where its file is, and whether that has changed."""

    def explain(
        self,
        asked: Sequence[str],
        rows: RowsOf,
        listings: Mapping[str, Listing],
        *,
        is_reader: bool,
    ) -> Slices[Any]:
        """Return a client's way as `text`, and the `upstreams` that matter for it."""

    def rehearse(self) -> Slices[Any]:
        """Return what a reload would do."""


def _nothing(_: object) -> None:
    """Do nothing: nobody has said what to do."""


def _no_monitor(_: str) -> PoolMonitor | None:
    """Find none: the owner has not said where."""
    return None


def _no_newcomer(_upstream: str, _keys: Facts) -> Slices[Newcomer]:
    """Know no configuration."""
    yield from ()
    return Newcomer()


def _no_changes(_overrides: Mapping[str, Overrides], _listings: Mapping[str, Listing]) -> None:
    """Do nothing: nobody serves here."""


def _nothing_changed() -> None:
    """Do nothing: nobody has said what to do."""


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
    monitor: Callable[[str], PoolMonitor | None] = _no_monitor
    """Finds the monitor of an upstream's backends."""
    events: Events = field(default_factory=Events)
    """What has happened so far."""
    override: Callable[[Mapping[str, Overrides], Mapping[str, Listing]], None] = _no_changes
    """Applies what operators have set to backends and to their lists, by upstream."""
    set_level: Callable[[str | None], None] = _nothing
    """Sets the level of the error log; None is the configured one."""
    ring: LogRing = field(default_factory=LogRing)
    """The last lines of this process's error log."""
    newcomer: Callable[[str, Facts], Slices[Newcomer]] = _no_newcomer
    """Reads the keys of a backend to be added to an upstream."""
    samples: Samples = field(default_factory=Samples)
    """What the page works out its rates from, while it is open."""
    lags: Sequence[int] = ()
    """How late timers had been at the last sample."""
    book: Book = field(default_factory=Book)
    """What operators have set."""
    configuration: Configuration | None = None
    """What runs; None in a worker, which nobody asks."""
    obey: Callable[[signal.Signals], None] = _nothing
    """Does what a signal would do."""
    is_reloading: Callable[[], bool] = bool
    changed: Callable[[], None] = _nothing_changed
    """Called when the book has changed, as a lease may have begun."""
    file_values: Mapping[tuple[str, str], FileValues] = field(default_factory=dict)
    """What the configuration says about each backend, by upstream and name."""
    worker: str = "0"
    """The name of this worker."""
    worker_exits: Counter[str] = field(default_factory=Counter)
    """How many have exited, and how many were ended by a signal."""
    gone: Tally = field(default_factory=Tally)
    """What dead workers were last known to have counted."""
    zero: Tally = field(default_factory=Tally)
    """What the counts of JSON answers begin from."""
    zero_at_ms: int | None = None
    lost_lines: Callable[[], Mapping[str, int]] = dict
    """Lines of logs that were lost, by the kind of log."""
    admin_ns: int = 0
    """Time that answers have taken."""
    bytes_thrift: Thrift = field(default_factory=Thrift)
    """When the bytes of open sessions may be counted again."""
    bytes_counted_at_ms: int | None = None
    """When they were last counted, by the loop's clock; None before the first time."""
    fds_thrift: Thrift = field(default_factory=Thrift)
    """When open descriptors may be."""
    other_fds: int = 0
    """How many there were that belong to no connection."""
    metrics_backends: int = 1000
    """The most backends with series of their own."""
    balances: Mapping[str, str] = field(default_factory=dict)
    """How each upstream chooses, as configured."""
    on_down: Mapping[str, str] = field(default_factory=dict)
    """What happens to the sessions of a backend that goes down, by upstream."""
    defined_at: Mapping[str, object] = field(default_factory=dict)
    """The places of listeners in the configuration, by their names."""
    crew: Crew | None = None
    """Who serves, if this process does not."""
    status: str = "starting"
    """starting, serving or draining."""
    draining: str | None = None
    """What nginy waits for before it ends; None while it serves."""
    ends_at_ms: int | None = None
    """When nginy ends at the latest, by the loop's clock; None if it may take for ever."""
    started_at_ms: int = 0
    """When the process started, by the wall clock, like the following."""
    generation: int = 1
    """How many configurations have run so far, the present one included."""
    loaded_at_ms: int = 0
    last_reload: tuple[str, int] | None = None
    """applied or refused, and when; None before the first one."""
    outcome: Mapping[str, object] = field(default_factory=dict)
    """The outcome of the last reload."""
    reloads: Counter[str] = field(default_factory=Counter)
    """How many reloads were applied, and how many refused."""
    reopenings: int = 0
    """How often the logs were opened again, or could not be."""
    unopened: tuple[str, ...] = ()
    """Which of them could not be the last time, and why."""
    needs_restart: tuple[str, ...] = ()
    """Keys whose new values in the file wait for a restart."""
    recording: Recording = field(init=False)
    """What is recorded of the loop."""
    trace_order: TraceOrder | None = None
    """The last trace that was ordered."""
    _ahead_ms: int = 0
    """By how much the time of day is ahead of the loop's clock."""
    ready: Mapping[str, int] = field(default_factory=dict)
    """How many usable backends an upstream needs, by name; `min_up` is for all others."""

    def __post_init__(self) -> None:
        self.recording = Recording(self.loop)
        self.started_at_ms = self.loaded_at_ms = self.loop.clock.wall_ms()

    def reopening_ended(self, problems: Sequence[str]) -> None:
        """Note that the logs are open again, but for those that `problems` name."""
        self.reopenings += 1
        self.unopened = tuple(problems)

    def wall_text(self, at_ms: int) -> str:
        """Return an instant of the loop's clock as text, the same at each call.

        The two clocks are read one after the other, so what lies between them is never quite the
        same. The loop's stands still while the machine does.
        """
        clock = self.loop.clock
        ahead_ms = clock.wall_ms() - clock.now_ms
        if abs(ahead_ms - self._ahead_ms) > JITTER_MS:
            self._ahead_ms = ahead_ms
        return utc_text(at_ms + self._ahead_ms - clock.pauses.since(at_ms))

    def adjust(self, kind: str, rows: Sequence[Facts]) -> Slices[None]:
        """Adjust counters that workers report: add those of dead workers, subtract those before a
        reset.
        """
        yield from self.gone.add_to(kind, rows)
        yield from self.zero.add_to(kind, rows, -1)

    def stamp(self) -> dict[str, object]:
        """Return the members that every answer has."""
        at = utc_text(self.loop.clock.wall_ms())
        return {"at": at, "generation": self.generation, "pid": self.pid}
