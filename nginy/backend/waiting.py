"""WaitingQueue: clients that wait for a backend because all are at `max_conns`.

A pool may have one (key `queue`). A client that finds every usable backend full joins the queue,
unless it is too long already; each time that a session gives its backend back, the client that has
waited longest is called and chooses again. A newcomer does not pass those who wait.

The queue only keeps the order. How long a client waits, and what happens then, is decided by its
session (`proxy/upstream.py`); which backend is free, by the pool.

nginx: `queue` of `ngx_http_upstream_module` in nginx Plus; HAProxy: `maxqueue`, `timeout queue`.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How many may wait for a backend of a pool, and how long."""

    size: int
    timeout_ms: int


class Waiter(Protocol):
    """A session in the queue."""

    def call(self) -> None:
        """A backend may be free: choose again, soon, but not before this call has returned."""


class WaitingQueue:
    """The sessions that wait for a backend of one pool, first come, first served."""

    __slots__ = ("_waiters", "settings")

    def __init__(self, settings: QueueSettings) -> None:
        self.settings = settings
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiters)

    def join(self, waiter: Waiter, is_first: bool = False) -> bool:
        """Join the queue, at its head if `is_first`; return False if it is full."""
        if len(self._waiters) >= self.settings.size and not is_first:
            return False
        self._waiters[waiter] = None
        if is_first:
            self._waiters.move_to_end(waiter, last=False)
        return True

    def leave(self, waiter: Waiter) -> None:
        """Leave the queue; does nothing for one that is not in it."""
        self._waiters.pop(waiter, None)

    def call_next(self) -> None:
        """Call the one that has waited longest; it is no longer in the queue then."""
        if self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            waiter.call()

    def call_all(self) -> None:
        """Call everyone: more than one backend may be free, or may never be again."""
        for _ in range(len(self._waiters)):
            self.call_next()
