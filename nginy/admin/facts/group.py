"""Group: an upstream and its backends, counted by state and by why they are unusable.

It repeats what `backend/pool.py` and `backend/health/health.py` say of a backend, and works out
nothing itself. Every scrape and every look at the page counts all backends, so those that are
simply up take a short way.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from nginy.admin.answer import Slices
from nginy.admin.pace import LOOK_US, Pace
from nginy.backend.backend import Backend
from nginy.backend.health.states import TROUBLES, State
from nginy.backend.pool import BackendPool
from nginy.backend.unusable import OUT, in_counts

TROUBLED_MAX: Final = 200
PLAIN_US: Final = 0.2
"""The cost of counting a backend that is simply up."""
AT_ONCE: Final = 100
"""Backends looked at without a look at the pace: a quarter of a slice at their worst."""
WORDS: Final = {state: str(state) for state in State}


@dataclass(slots=True)
class Group:
    """An upstream and its backends, counted."""

    pool: BackendPool
    usable: int = 0
    sessions: int = 0
    states: dict[str, int] = field(default_factory=dict)
    troubled: list[Backend] = field(default_factory=list)
    """The first `TROUBLED_MAX` of the backends in one of `TROUBLES`."""
    since_at_ms: int | None = None
    """When the latest of the backends that are not up stopped being up; None if all are up."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How many backends are unusable, by the reason."""
    out_until_s: int = 0
    """When the first backend that failures have taken out comes back."""

    def add(self, backends: Sequence[Backend], now_s: int) -> float:
        """Count backends; return what that has cost, in microseconds."""
        plain = sessions = 0
        is_up = State.UP
        for backend in backends:
            conns = backend.conns
            if (
                backend.health.state is not is_up
                or backend.fails
                or backend.down
                or 0 < backend.max_conns <= conns
            ):
                self._add_special(backend, now_s)
            else:
                plain += 1
            sessions += conns
        self.sessions += sessions
        if plain:
            self.usable += plain
            word = WORDS[is_up]
            self.states[word] = self.states.get(word, 0) + plain
        return plain * PLAIN_US + (len(backends) - plain) * LOOK_US

    def _add_special(self, backend: Backend, now_s: int) -> None:
        """Count a backend that may be unusable, or not up."""
        health = backend.health
        state = health.state
        word = WORDS[state]
        self.states[word] = self.states.get(word, 0) + 1
        reason = self.pool.why_not(backend, now_s)
        if not reason:
            self.usable += 1
        else:
            self.reasons[reason] += 1
        if reason == OUT:
            until_s = backend.checked_s + backend.fail_timeout_s
            self.out_until_s = min(self.out_until_s or until_s, until_s)
        if state in TROUBLES and len(self.troubled) < TROUBLED_MAX:
            self.troubled.append(backend)
        if state is not State.UP:
            self.since_at_ms = max(self.since_at_ms or 0, health.since_at_ms)

    def why_none(self, now_s: int) -> str:
        """Return why no backend is usable, in the words of the log."""
        return in_counts(self.reasons, len(self.pool.backends), self.out_until_s - now_s)


def counted_group(pool: BackendPool, now_s: int, pace: Pace) -> Slices[Group]:
    """Return an upstream, counted in slices."""
    group, backends = Group(pool), iter(pool.backends)
    while some := tuple(islice(backends, AT_ONCE)):
        if pace.is_over(group.add(some, now_s)):
            yield None
    return group
