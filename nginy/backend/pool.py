"""BackendPool: a named group of backends, from which sessions pick one.

A pool joins what the algorithms keep apart. It asks the balancer of the primaries, and then that of
the backups (nginx: `peers->next`). It counts sessions, so that `pick` and `release` pair up in one
place. It keeps the books of passive failures, with nginx's arithmetic (`balancer/peer.py`).

Passive failures order the choice, and never make an outage. Where nginx would refuse a client
because all backends that could serve have just failed, the pool tries one of them: the one that it
has left alone longest.

`proxy/upstream.py` decides how often a session tries, and when it has failed. Nothing here touches
a socket or reads a clock.

nginx: `ngx_stream_upstream_srv_conf_t`, and `peer.get` and `peer.free` in
`ngx_stream_upstream_round_robin.c`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from math import gcd
from typing import Final, Protocol

from nginy.backend.backend import Backend
from nginy.backend.unusable import REFUSALS, kind_of, why_none, why_not
from nginy.backend.waiting import Peers, QueueSettings, WaitingQueue
from nginy.balancer.least import moving_average_ms
from nginy.balancer.peer import Balancer, failure, has_failed, is_usable, success
from nginy.balancer.round_robin import pick_smooth
from nginy.balancer.turns import MANY
from nginy.event.histogram import CONNECT_BOUNDS_MS, Histogram

MakeBalancer = Callable[[Sequence[Backend]], Balancer[Backend]]
"""Makes the balancer of a method for a list of backends."""


PHASE_MAX_TURNS: Final = 1000
"""At most this many turns of a first round are skipped; each takes 1 µs."""


class Watcher(Protocol):
    """Hears what failures of sessions do to the backends of a pool."""

    def failed_often(self, backend: Backend, is_news: bool) -> None:
        """`backend` has failed, and is at `max_fails`; with `is_news` it was not before."""

    def served_again(self, backend: Backend) -> None:
        """A backend that was at `max_fails`, or ejected, has served a client."""


class BackendPool:
    """One upstream of the configuration. Created by its `Members`; survives reloads."""

    __slots__ = (
        "_backups",
        "_counted_at_s",
        "_failing",
        "_phase",
        "_primaries",
        "_reasons",
        "_single",
        "_sorted",
        "_unbuilt",
        "backends",
        "connects",
        "is_fail_open",
        "key",
        "left",
        "max_session_time_ms",
        "measured",
        "name",
        "queue",
        "retries",
        "scale",
        "turned_away",
        "watcher",
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
        self._primaries = make_balancer(())
        self._backups: Balancer[Backend] | None = None
        self._sorted: tuple[Balancer[Backend], ...] = ()
        """The balancers that must hear of every change of a backend."""
        self.left: tuple[Backend, ...] = ()
        """Those that have left the list, as far as they are remembered."""
        self._single: Backend | None = None
        """The only backend, if there is just one: no method has a choice, and no account moves."""
        self._unbuilt: tuple[Backend, ...] = ()
        """The list whose tables are not built yet; empty if they are."""
        self.measured = ""
        """The time that the method chooses by: connect, first_byte or last_byte; "" for none."""
        self._failing: dict[Backend, bool] = {}
        """The backends of the list that have failed and not served since, and whether each has
        reached `max_fails`. The first one has been left alone longest."""
        self.watcher: Watcher | None = None
        self._counted_at_s = -1
        self._reasons = ""
        """Why no backend was usable in that second."""
        self.turned_away = dict.fromkeys(REFUSALS, 0)
        """Clients that no backend could serve."""
        self.retries = 0
        """Attempts that followed a failed one."""
        self.connects = Histogram(CONNECT_BOUNDS_MS)
        """How long connecting to its backends took."""
        self.scale = 1
        """How many steps of a backend's `weight` a unit of the configuration has."""
        self.is_fail_open = False
        """Whether so few backends are up that health is ignored (`fail_open`)."""
        self.queue: WaitingQueue | None = None
        """The clients that wait at `max_conns`; None if there never was a `queue`."""
        self.max_session_time_ms: int | None = None
        """How long a session may last; None: no limit."""
        self._phase = 0.0
        """Where the first round of its backends begins, from 0 to 1."""
        self.rebuild(backends, make_balancer)

    def begin_at(self, phase: float) -> None:
        """Begin the first round of the backends after a share of it, from 0 to 1.

        Each of several workers takes turns by itself, and is fair to within one session a backend.
        If all began with the first backend, it would get the first session of each.
        They do not follow each other's turns. Without a lock, which no worker may wait for, two are
        in step only as long as both know the same failures. Once out of step, the sums drift apart
        without bound, and those of workers that take turns by themselves do not.
        """
        self._phase = phase
        self._begin_round()

    def _begin_round(self) -> None:
        """Skip the picks that come before the phase, once there are backends."""
        primaries = [b for b in self.backends if not b.settings.backup]
        if not self._phase or len(primaries) < 2:
            return
        round_length = sum(b.weight for b in primaries) // gcd(*(b.weight for b in primaries))
        for _ in range(min(int(self._phase * round_length), PHASE_MAX_TURNS)):
            self._primaries.pick(b"", (), 0)
        self._phase = 0.0

    def changed(self, backend: Backend) -> None:
        """Take note of a change of `backend` that choices depend on; every such change comes here.

        Choices depend on `conns`, `fails`, `down`, weights and limits. Among many backends the
        balancers keep sorted lists (`balancer/turns.py`), which miss a change that nobody reports.
        """
        for balancer in self._sorted:
            balancer.look_at(backend)

    def write_back(self) -> None:
        """Write the accounts of the methods into the backends, from where they go on."""
        for balancer in self._sorted:
            balancer.write_back()

    def rebuild(self, backends: Sequence[Backend], make_balancer: MakeBalancer) -> None:
        """Take a changed list, or another method; the backends that stay keep their state."""
        self.replace(backends)
        for _ in self.build_steps(make_balancer):
            pass

    def replace(self, backends: Sequence[Backend]) -> None:
        """Take a changed list of backends; call `build_steps` next, which makes its tables.

        Until the tables are built, backends that have joined get sessions only if no other is
        usable. Backends that have left are down.
        """
        for backend in set(self.backends) - set(backends):
            backend.down = True
            self._failing.pop(backend, None)
        if self._sorted:  # those that stay may have got other settings
            for backend in self.backends:
                self.changed(backend)
        for backend in backends:
            if backend.fails and backend not in self._failing:
                self.remember_failures(backend)
        self.backends = self._unbuilt = tuple(backends)
        self._single = backends[0] if len(backends) == 1 else None

    def build_steps(self, make_balancer: MakeBalancer) -> Iterator[None]:
        """Build the tables of a method for the present list, in steps of about a millisecond.

        The old tables serve until the last step.
        """
        backends = self.backends
        primaries = [b for b in backends if not b.settings.backup]
        backups = [b for b in backends if b.settings.backup]
        # An empty balancer costs nothing; filling it takes time.
        for_primaries = make_balancer(())
        yield from for_primaries.rebuild_steps(primaries)
        for_backups = make_balancer(()) if backups else None
        if for_backups is not None:
            yield from for_backups.rebuild_steps(backups)
        self._replace_balancers(for_primaries, for_backups)
        if self._unbuilt is backends:
            self._unbuilt = ()

    def _replace_balancers(
        self, primaries: Balancer[Backend], backups: Balancer[Backend] | None
    ) -> None:
        self.write_back()
        self._primaries = primaries
        self._backups = backups
        self._note_sorted()
        if self._phase:
            self._begin_round()

    def _note_sorted(self) -> None:
        balancers = [self._primaries] if self._backups is None else [self._primaries, self._backups]
        self._sorted = tuple(balancer for balancer in balancers if balancer.is_sorted)

    def __repr__(self) -> str:
        """Show the name and the backends."""
        return f"<BackendPool {self.name} {list(self.backends)}>"

    def pick(self, key: bytes, tried: Collection[Backend], now_s: int) -> Backend | None:
        """Choose a backend for a session and count the session; None if there is none to try.

        `tried` have failed this session before. Give each picked backend back with one `release`.
        """
        single = self._single
        if single is not None and not (
            # One look finds no objection.
            key
            or tried
            or single.down
            or single.fails
            or single.max_conns
            or single.effective_weight != single.weight
        ):
            single.take()
            return single
        backend = self._primaries.pick(key, tried, now_s)
        if backend is None:
            if self._backups is not None:
                backend = self._backups.pick(key, tried, now_s)
            if backend is None and self._unbuilt:
                backend = self._pick_unbuilt(tried, now_s)
            if backend is None and self._failing:
                backend = self._pick_failing(tried, now_s)
            if backend is None:
                return None
        backend.take()
        if self._sorted:
            self.changed(backend)
        return backend

    def _pick_unbuilt(self, tried: Collection[Backend], now_s: int) -> Backend | None:
        """Choose in turn from a list without tables yet; all of the old list may be gone."""
        primaries = [b for b in self._unbuilt if not b.settings.backup]
        backups = [b for b in self._unbuilt if b.settings.backup]
        return pick_smooth(primaries, tried, now_s) or pick_smooth(backups, tried, now_s)

    def _pick_failing(self, tried: Collection[Backend], now_s: int) -> Backend | None:
        """Choose among backends that only failures keep out, because no other is left.

        This is the backend's probe: if it goes well, the pool forgets its failures. A client that
        can wait for a working backend does that instead.
        """
        if self.queue is not None and self.queue.is_open and self.is_full(tried, now_s):
            return None
        for backend in self._failing:
            is_full = 0 < backend.max_conns <= backend.conns
            if is_full or backend.is_held_back or backend in tried:
                continue
            # It goes to the end of the order, so clients that come meanwhile try the others.
            self._failing[backend] = self._failing.pop(backend)
            backend.checked_s = now_s
            return backend
        return None

    def release(self, backend: Backend) -> None:
        """Give back what `pick` returned: the session has ended, or its attempt has failed."""
        backend.give_back()
        if self._sorted:
            self.changed(backend)
        if self.queue is not None:
            self.queue.call_next()

    def set_queue(self, settings: QueueSettings | None, peers: Peers | None = None) -> None:
        """Make newcomers wait as `settings` say, or not at all; clients that wait go on waiting.

        `peers` are the queues of other workers for this upstream.
        """
        if self.queue is not None:
            self.queue.is_open = settings is not None
            if settings is not None:
                self.queue.settings = settings
            self.queue.call_all()
        elif settings is not None:
            self.queue = WaitingQueue(settings, peers)

    def look_at_queue(self) -> None:
        """Call clients that wait, for backends that other workers have given back meanwhile."""
        if self.queue is not None:
            room = (b.max_conns - b.conns for b in self.backends if b.max_conns and not b.down)
            self.queue.look(sum(max(free, 0) for free in room))

    def is_full(self, tried: Collection[Backend], now_s: int) -> bool:
        """Whether a backend would serve the session if it were not at `max_conns`."""
        return any(
            0 < backend.max_conns <= backend.conns and not has_failed(backend, now_s)
            for backend in self.backends
            if not backend.down and backend not in tried
        )

    def failed(self, backend: Backend, now_s: int) -> None:
        """Count a failed attempt.

        The pool holds nothing against the last backend that could serve. nginx spares a backend
        only if it is alone in its list.
        """
        backend.failures += 1
        if all(other.is_held_back for other in self.backends if other is not backend):
            return
        failure(backend, now_s)
        self.changed(backend)
        if backend not in self.backends:  # it has left; only its old sessions fail
            return
        was_out = self._failing.pop(backend, False)
        # Not its present `max_fails`, which is 0 while nginy ignores health.
        is_out = 0 < backend.settings.max_fails <= backend.fails
        self._failing[backend] = is_out or was_out
        if is_out and self.watcher is not None:
            self.watcher.failed_often(backend, not was_out)

    def succeeded(self, backend: Backend) -> None:
        """Forget the failures of a backend that has answered its probe."""
        if (backend.fails or backend.down) and success(backend):
            self.changed(backend)
            was_out = self._failing.pop(backend, False)
            if was_out and self.watcher is not None:
                self.watcher.served_again(backend)

    def remember_failures(self, backend: Backend) -> None:
        """Note that `backend` has failures."""
        self._failing[backend] = 0 < backend.settings.max_fails <= backend.fails

    def forget_failures(self, backend: Backend) -> bool:
        """Forget all failures of `backend`; return whether they had it out."""
        backend.fails = 0
        backend.effective_weight = backend.weight
        self.changed(backend)
        return self._failing.pop(backend, False)

    def has_lost(self, backend: Backend, now_s: int) -> bool:
        """Whether failures have taken `backend` out, and another one is usable in its place."""
        return has_failed(backend, now_s) and any(
            is_usable(other, now_s) for other in self.backends
        )

    def why_not(self, backend: Backend, now_s: int) -> str:
        """Say in a word why a backend of the list takes no new session; "" if it does."""
        return "" if is_usable(backend, now_s) else why_not(backend, (), now_s)

    def why_none(self, tried: Collection[Backend], now_s: int) -> str:
        """Say in counts why no backend is left.

        Of many backends, the counts may be a second old: refusing clients must stay cheap.
        """
        if tried or len(self.backends) < MANY:
            return why_none(self.backends, tried, now_s)
        if self._counted_at_s != now_s:
            self._counted_at_s = now_s
            self._reasons = why_none(self.backends, (), now_s)
        return self._reasons

    def turn_away(self, now_s: int) -> str:
        """Count a client that no backend can serve; return why, in the words of `why_none`."""
        reasons = self.why_none((), now_s)
        self.turned_away[kind_of(reasons)] += 1
        return reasons

    def reweigh(self) -> None:
        """Let changed weights count from the next pick. O(1): with slow start they change often."""
        self._primaries.reweigh()
        if self._backups is not None:
            self._backups.reweigh()

    def measure(self, backend: Backend, duration_ms: int) -> None:
        """Add the time of a session that went well to a backend's average."""
        backend.average_ms = moving_average_ms(backend.average_ms, duration_ms)

    def choose_by(self, measured: str) -> None:
        """Measure another time from now on, and forget the averages of the old one."""
        if measured != self.measured:
            self.measured = measured
            for backend in (*self.backends, *self.left):
                backend.average_ms = 0

    @property
    def tries(self) -> int:
        """How many backends a session may try unless configured: those that could serve."""
        return sum(not backend.is_held_back for backend in self.backends)
