"""The backends that have left a pool's list, for a reload or an answer to bring back.

A backend that returns is the same object: the sessions it still has count for `max_conns`, and its
passive failures and its health still hold. The pool remembers it as long as it has sessions, and
for a while beyond. `proxy_drain_timeout` ends the sessions themselves (`proxy/closer.py`).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from nginy.backend.backend import Backend

REMEMBERED_MS: Final = 600_000
"""How long a backend without sessions is remembered."""
MAX_LEFT: Final = 1000
"""Backends remembered at most, beside those with sessions; the first to leave are forgotten."""


class LeftBackends:
    """Those that have left one pool. Created by its `Members`."""

    __slots__ = ("backends",)

    def __init__(self) -> None:
        self.backends: tuple[Backend, ...] = ()
        """In the order in which they left."""

    def update(self, before: Iterable[Backend], members: Sequence[Backend], now_ms: int) -> None:
        """Note that `members` have replaced `before`."""
        present = set(members)
        for backend in present:
            backend.left_at_ms = None
        kept = [b for b in self.backends if b not in present and not _is_over(b, now_ms)]
        for backend in before:
            # A stand-in for a name without an address has nothing to remember.
            if backend not in present and not backend.address.is_name:
                backend.left_at_ms = now_ms
                kept.append(backend)
        surplus = len(kept) - MAX_LEFT
        self.backends = tuple(
            backend for i, backend in enumerate(kept) if i >= surplus or backend.conns
        )


def _is_over(backend: Backend, now_ms: int) -> bool:
    left_at_ms = backend.left_at_ms
    return not backend.conns and left_at_ms is not None and now_ms >= left_at_ms + REMEMBERED_MS
