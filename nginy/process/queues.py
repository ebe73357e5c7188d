"""SharedQueues: clients that wait for backends which several workers share.

A worker that gives a backend back calls the clients in its own queues. Those in the queues of other
workers would wait for ever, so each worker with waiting clients looks at the shared counts itself.

Tested in tests/process/test_queue_of_workers_live.py.
"""

from collections.abc import Callable, Iterable
from typing import Final

from nginy.backend.pool import BackendPool
from nginy.backend.shared import WorkerCounts
from nginy.backend.waiting import QueueSettings
from nginy.event.loop import Loop
from nginy.event.timer import Timer

QUEUE_LOOK_MS: Final = 10
"""How often a worker with waiting clients looks for backends that another worker has freed."""


class SharedQueues:
    """The queues of all pools of a process. Created and closed by the `PoolSet`."""

    __slots__ = ("_counts", "_loop", "_pools", "_timer")

    def __init__(
        self,
        loop: Loop,
        counts: WorkerCounts | None,
        pools: Callable[[], Iterable[BackendPool]],
    ) -> None:
        """Look at the queues of `pools`, if other workers share the `counts`."""
        self._loop = loop
        self._counts = counts
        self._pools = pools
        self._timer = Timer(self._look_handler, self)

    def set(self, pool: BackendPool, settings: QueueSettings | None) -> None:
        """Let clients wait for a pool as `settings` say, or not at all."""
        if self._counts is None:
            pool.set_queue(settings)
            return
        pool.set_queue(settings, self._counts.peers(pool.name, self._loop.clock))
        if pool.queue is not None:
            pool.queue.joined = self._look_soon

    def _look_soon(self) -> None:
        if not self._timer.is_running:
            self._loop.timers.start(self._timer, self._loop.clock.now_ms + QUEUE_LOOK_MS)

    def _look_handler(self, _timer: Timer) -> None:
        """Look at all queues, and again as long as clients wait."""
        pools = list(self._pools())
        for pool in pools:
            pool.look_at_queue()
        if any(pool.queue is not None and len(pool.queue) for pool in pools):
            self._look_soon()

    def close(self) -> None:
        """Look no more."""
        self._loop.timers.cancel(self._timer)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "clients that wait for backends which workers share"

    def abort(self) -> None:
        """Go on after a bug: the next client that joins a queue starts the looking again."""
