"""Why a backend takes no new session, and why none does, in the words of the log.

It is pure: backends and the time go in, text comes out. `balancer/peer.py` decides; this explains.

Tested in tests/backend/test_pool.py.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from nginy.backend.backend import Backend
from nginy.backend.health.states import State
from nginy.balancer.peer import has_failed

WORDS: Final = {
    State.UP: "down",
    State.DOWN: "down",
    State.MAINTENANCE: "in maintenance",
    State.UNRESOLVED: "unresolved",
    State.DRAINING: "draining",
    State.CHECKING: "not checked yet",
    State.EJECTED: "ejected",
}
"""What the log says about a backend that is `down`, by its state; UP stands for no check at all."""
OUT: Final = "out"
FULL: Final = "at max_conns"
TRIED: Final = "tried"
ORDER: Final = (*dict.fromkeys(WORDS.values()), OUT, FULL, TRIED)
"""Reasons why a backend does not serve a client, in the order of the log."""

REFUSALS: Final = ("full", "failed", "down", "unresolved")
"""What kept clients away, as it is counted."""


def why_not(backend: Backend, tried: Collection[Backend], now_s: int) -> str:
    """Say in a word of `ORDER` why a backend does not serve a client that has tried some."""
    if backend in tried:
        return TRIED
    if backend.down:
        return "down" if backend.settings.down else WORDS[backend.health.state]
    if has_failed(backend, now_s):
        return OUT
    return FULL


def why_none(backends: Collection[Backend], tried: Collection[Backend], now_s: int) -> str:
    """Say in counts why no backend is left: "2 of 5 down, 2 out for 7s, 1 at max_conns"."""
    counts = Counter(why_not(backend, tried, now_s) for backend in backends)
    ends_s = (b.checked_s + b.fail_timeout_s for b in backends if b.fails and not b.down)
    out_s = min(ends_s, default=0) - now_s if OUT in counts else 0
    return in_counts(counts, len(backends), out_s)


def in_counts(counts: Mapping[str, int], total: int, out_s: int) -> str:
    """Return counts of the words of `ORDER` as text; failures are forgotten in `out_s`."""
    parts: list[str] = []
    for word in sorted(counts, key=ORDER.index):
        count = f"{counts[word]}" if parts else f"{counts[word]} of {total}"
        parts.append(f"{count} {word}")
        if word == OUT:
            parts[-1] += f" for {max(out_s, 1)}s"
    return ", ".join(parts) or "it has none"


def kind_of(reasons: str) -> str:
    """Return which of `REFUSALS` the words of `why_none` mean: of several, the weightiest."""
    if FULL in reasons:
        return "full"
    if f" {OUT} for " in reasons:
        return "failed"
    is_unresolved = reasons.endswith(WORDS[State.UNRESOLVED]) and ", " not in reasons
    return "unresolved" if is_unresolved else "down"


def out_until_ms(backend: Backend, now_s: int) -> int | None:
    """Return when nginy tries a backend again that failures have taken out; None if they have
    not."""
    if not has_failed(backend, now_s):
        return None
    return (backend.checked_s + backend.fail_timeout_s + 1) * 1000
