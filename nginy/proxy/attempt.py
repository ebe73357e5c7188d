"""Attempt: one try to reach a backend for a session.

An attempt holds the backend and the pool it was picked from, so it gives the backend back to that
pool, whatever a reload has changed meanwhile. It notes the instants and counts that logs show, and
`end` tells the pool, once, how the attempt went; TCP and UDP share it.

`proxy/upstream.py` and `proxy/udp/opening.py` decide when to try, and whether to try again;
`backend/pool.py` decides what follows from a failure.

nginx: `ngx_stream_upstream_state_t` in `ngx_stream_upstream.h`, and `peer.free` in
`ngx_stream_upstream_round_robin.c`.
"""

from enum import Enum
from typing import Final

from nginy.backend.backend import Backend
from nginy.backend.pool import BackendPool
from nginy.event.connection import Connection
from nginy.text.address import Address


class AttemptResult(Enum):
    """What an attempt has shown about its backend."""

    WORKED = "worked"
    """The backend did its part: its failures may be forgotten, and its time counts."""
    FAILED = "failed"
    """The backend did not: this counts as one of `max_fails`."""
    UNKNOWN = "unknown"
    """It ended for a reason that says nothing about the backend."""


# Global names: a member of an Enum costs four times as much to look up.
WORKED: Final = AttemptResult.WORKED
FAILED: Final = AttemptResult.FAILED
UNKNOWN: Final = AttemptResult.UNKNOWN


class Attempt:
    """One backend tried for a session: the element of nginx's comma-separated `$upstream_...`
    lists.

    Created with a backend that the pool has just picked, and ended by its session. Instants are
    milliseconds on the loop's clock; None stands for "never happened".
    """

    __slots__ = (
        "address",
        "backend",
        "bytes_received",
        "bytes_sent",
        "connected_at_ms",
        "ended_at_ms",
        "errno",
        "first_byte_at_ms",
        "pool",
        "started_at_ms",
    )

    def __init__(self, pool: BackendPool, backend: Backend | None, started_at_ms: int) -> None:
        """Without a backend, the attempt only stands in the logs, under the pool's name (nginx)."""
        self.pool = pool
        """The pool that picked the backend."""
        self.backend = backend
        """The backend; None once given back, or if the pool had none."""
        if backend is None:
            self.address = pool.name
        else:
            self.address = backend.addr_text
            backend.selected_at_ms = started_at_ms
        self.started_at_ms = started_at_ms
        self.connected_at_ms: int | None = None
        self.first_byte_at_ms: int | None = None
        self.ended_at_ms: int | None = None
        self.errno = 0
        """Why it failed, 0 if it has not."""
        self.bytes_received = 0
        self.bytes_sent = 0

    def connected(self, now_ms: int) -> None:
        """Note that the backend has accepted the connection, and how long it took."""
        self.connected_at_ms = now_ms
        took_ms = now_ms - self.started_at_ms
        self.pool.connects.count(took_ms)
        if self.backend is not None:
            self.backend.connect_ms = took_ms

    def give_up(self, result: AttemptResult, now_ms: int, upstream: Connection | None) -> None:
        """End an attempt that has led to no session."""
        if self.backend is not None:
            self.backend.missed += 1
        self.end(result, now_ms, upstream)

    def lead_to(self, address: Address) -> Address:
        """Note, for the logs, the address of a backend that has the listener's port."""
        self.address = str(address)
        return address

    def end(self, result: AttemptResult, now_ms: int, upstream: Connection | None) -> None:
        """Give the backend back to its pool and keep the numbers for the log; only the first call
        counts.

        `upstream` is the connection to the backend, None if there never was one.
        """
        backend, pool = self.backend, self.pool
        if backend is None:
            return
        self.backend = None
        self.ended_at_ms = now_ms
        if upstream is not None:
            self.bytes_received = upstream.received
            self.bytes_sent = upstream.sent
        pool.release(backend)
        if result is FAILED:
            pool.failed(backend, now_ms // 1000)
        elif result is WORKED:
            if backend.fails or backend.down:
                pool.succeeded(backend)
            if pool.measured:
                self._measure(backend)

    def _measure(self, backend: Backend) -> None:
        """Count the time that `least_time` chooses by, if the attempt got that far.

        A backend that fails fast is not a fast one (nginx
        ngx_stream_upstream_free_least_time_peer), so a failed attempt is not measured.
        """
        until_ms = self.connected_at_ms
        if until_ms is not None and self.pool.measured == "first_byte":
            until_ms = self.first_byte_at_ms
        elif until_ms is not None and self.pool.measured == "last_byte":
            until_ms = self.ended_at_ms
        if until_ms is not None:
            self.pool.measure(backend, until_ms - self.started_at_ms)
