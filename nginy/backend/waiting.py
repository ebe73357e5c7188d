"""WaitingQueue: clients that wait for a backend because all are at `max_conns`.

A pool may have one (key `queue`). A client that finds every usable backend full joins the queue,
unless it is too long already. Each time a session gives its backend back, the queue calls the
client that has waited longest, which chooses again. A newcomer does not pass those who wait. If a
reload takes the key away, the queue closes: those who wait go on waiting as before, and nobody
joins them.

Several workers have a queue each for one upstream, and share its backends. Each knows how long the
first client of the others has waited (`Peers`), so a worker leaves a free backend to another whose
first client has waited longer; that one finds it when it looks (`look`), a moment later.

The queue only keeps the order. How long a client waits, and what happens then, is up to the session
(`proxy/upstream.py`); which backend is free, to the pool.

nginx: `queue` of `ngx_http_upstream_module` in nginx Plus; HAProxy: `maxqueue`, `timeout queue`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final, Protocol

LOOKS_LEFT: Final = 10
"""How often a worker leaves a free backend to another that does not take it: it may hang."""

SPARE_ENTRIES: Final = 64
"""Entries of waiters that have left, beyond as many as wait, above which they are cleared away."""

Ticket = tuple[int, int]
"""A place in the order: since when its holder has waited, and a number for those of one time."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How many may wait for a backend of a pool, and how long."""

    size: int
    timeout_ms: int


class Waiter(Protocol):
    """A session in the queue."""

    def call(self) -> None:
        """A backend may be free: choose again, soon, but not before this call has returned."""


class Peers(Protocol):
    """The queues of other workers for the same upstream."""

    def tell(self, since_ms: int | None) -> None:
        """Tell them since when the first client of this queue has waited; None: it is empty."""

    def first_since_ms(self) -> int | None:
        """Return since when the first of all their clients has waited; None: all are empty."""


class WaitingQueue:
    """The sessions that wait for a backend of one pool, first come, first served."""

    __slots__ = (
        "_heap",
        "_looks",
        "_numbers",
        "_peers",
        "_tickets",
        "is_open",
        "joined",
        "settings",
    )

    def __init__(self, settings: QueueSettings, peers: Peers | None = None) -> None:
        self.settings = settings
        self.is_open = True
        """Whether newcomers may join."""
        self._peers = peers
        self._numbers = 0
        self._looks = 0
        self._tickets: dict[Waiter, Ticket] = {}
        self._heap: list[tuple[Ticket, int, Waiter]] = []
        """By ticket, then by coming; those that have left are still in it, and passed over."""
        self.joined: Callable[[], None] | None = None
        """Called when the queue is no longer empty: `look` from now on."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._tickets)

    def __bool__(self) -> bool:
        """Return whether a newcomer has to wait, too, here or in the queue of another worker."""
        return bool(self._tickets) or (
            self._peers is not None and self._peers.first_since_ms() is not None
        )

    def join(self, waiter: Waiter, now_ms: int, ticket: Ticket | None = None) -> Ticket | None:
        """Join the queue and return the ticket; None if the queue is full or closed.

        A waiter that was called in vain brings its ticket and gets its place back, however long the
        queue is.
        """
        if ticket is None:
            if not self.is_open or len(self._tickets) >= self.settings.size:
                return None
            ticket = now_ms, self._numbers
        self._tickets[waiter] = ticket
        self._numbers += 1
        if len(self._heap) > 2 * len(self._tickets) + SPARE_ENTRIES:
            self._heap = sorted(e for e in self._heap if self._tickets.get(e[2]) == e[0])
        heappush(self._heap, (ticket, self._numbers, waiter))
        self._tell()
        if self.joined is not None:
            self.joined()
        return ticket

    def leave(self, waiter: Waiter) -> None:
        """Leave the queue; does nothing for one that is not in it."""
        if self._tickets.pop(waiter, None) is not None:
            self._tell()

    def call_next(self) -> None:
        """Call the one that has waited longest, unless another worker's client has waited longer.

        It is no longer in the queue then.
        """
        if self._first() is not None and self._is_before_peers():
            self._call()

    def call_all(self) -> None:
        """Call all waiters: several backends may be free, or none may ever be again."""
        self._heap.clear()
        tickets, self._tickets = self._tickets, {}
        self._tell()
        for waiter in sorted(tickets, key=tickets.__getitem__):
            waiter.call()

    def look(self, free: int) -> None:
        """Call as many as there are free backends, which other workers may have given back.

        If another worker comes first but does not take them, this one does after a while.
        """
        if not free:
            self._looks = 0
        elif self._is_before_peers() or self._looks >= LOOKS_LEFT:
            for _ in range(min(free, len(self._tickets))):
                self._call()
            self._looks = 0
        else:
            self._looks += 1

    def _call(self) -> None:
        waiter = self._first()
        if waiter is not None:
            heappop(self._heap)
            del self._tickets[waiter]
            self._tell()
            waiter.call()

    def _first(self) -> Waiter | None:
        """Return the one that has waited longest, and forget those before it that have left."""
        heap, tickets = self._heap, self._tickets
        while heap and tickets.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return heap[0][2] if heap else None

    def _is_before_peers(self) -> bool:
        if self._peers is None or self._first() is None:
            return True
        theirs_ms = self._peers.first_since_ms()
        return theirs_ms is None or self._heap[0][0][0] <= theirs_ms

    def _tell(self) -> None:
        if self._peers is not None:
            self._peers.tell(None if self._first() is None else self._heap[0][0][0])
