"""Counts that several workers share: how many sessions each backend has in all of them together.

`max_conns` and `least_conn` concern the backend, not the worker that asks. So the supervisor makes
one anonymous memory map before it forks: a table with a row for each backend and a column for each
worker. A worker writes only its own column, and reads the sum of a row. There are no locks and
nothing to wait for, and after the death of a worker one column needs clearing.

A row belongs to the backend whose tag it holds, a hash of upstream and address. Two workers may put
different tags into one free row at the same moment; the one that then finds the other's tag moves
on, with its count, to the next row. All workers look for a tag in the same rows in the same order,
so they meet in the end.

A single worker has none of this: its `Backend` counts by itself.
"""

from hashlib import blake2b
from mmap import mmap
from typing import Final

from nginy.backend.backend import Backend, BackendSettings
from nginy.event.clock import Clock

ROWS: Final = 16384
"""How many backends the table holds. A name needs a row for every address that it has ever had."""
ROWS_TRIED: Final = 64
"""How far to look for a free row: in a table three quarters full, one search in 10^8 fails."""
CELL_BYTES: Final = 8
"""What a machine writes at once, so that no worker reads half a count."""

Cells = memoryview
"""Signed 64-bit integers."""


class SharedCounts:
    """The table, in a memory map. The supervisor creates it, and each worker inherits it."""

    __slots__ = ("_columns", "_counts", "_rows", "_tags")

    def __init__(self, workers: int, rows: int = ROWS) -> None:
        memory = memoryview(mmap(-1, CELL_BYTES * rows * (1 + workers))).cast("q")
        self._rows = rows
        self._columns = workers
        self._tags: Cells = memory[:rows]
        self._counts: Cells = memory[rows:]

    @property
    def workers(self) -> int:
        """How many workers share the table."""
        return self._columns

    def clear(self, worker: int) -> None:
        """Forget the counts of a worker that has died."""
        for row in range(self._rows):
            if self._tags[row]:
                self._counts[row * self._columns + worker] = 0

    def find(self, tag: int) -> tuple[Cells, Cells]:
        """Return the cell of the tag and the cells of the counts in the row of `tag`.

        Claims a free row for a new tag. If the table is full, returns a row that no other worker
        sees.
        """
        for place in range(tag, tag + ROWS_TRIED):
            row = place % self._rows
            if not self._tags[row]:
                self._tags[row] = tag
            if self._tags[row] == tag:
                first = row * self._columns
                return self._tags[row : row + 1], self._counts[first : first + self._columns]
        alone = memoryview(bytearray(CELL_BYTES * (1 + self._columns))).cast("q")
        alone[0] = tag
        return alone[:1], alone[1:]

    def for_worker(self, worker: int) -> "WorkerCounts":
        """Return one worker's view of the table."""
        return WorkerCounts(self, worker)


class WorkerCounts:
    """One worker's access to the table."""

    __slots__ = ("_counts", "worker")

    def __init__(self, counts: SharedCounts, worker: int) -> None:
        self._counts = counts
        self.worker = worker

    @property
    def phase(self) -> float:
        """Where this worker begins its round of the backends, from 0 to 1; see
        `BackendPool.begin_at`."""
        return self.worker / self._counts.workers

    def backend(self, upstream: str, settings: BackendSettings) -> Backend:
        """Return a backend of an upstream, whose sessions all workers count together."""
        return SharedBackend(settings, upstream, self._counts, self.worker)

    def peers(self, upstream: str, clock: Clock) -> "PeerQueues":
        """Return what the waiting queues of all workers for an upstream know of each other."""
        return PeerQueues(self._counts, self.worker, upstream, clock)


class SharedBackend(Backend):
    """A backend whose `conns` are those of all workers; each writes only its own."""

    __slots__ = ("_column", "_counts", "_own", "_row", "_tag", "_tag_cell", "_upstream")

    is_shared = True

    def __init__(
        self, settings: BackendSettings, upstream: str, counts: SharedCounts, worker: int
    ) -> None:
        self._counts = counts
        self._column = worker
        self._upstream = upstream
        self._tag = self._tag_for(settings)
        super().__init__(settings)

    def _begin_to_count(self) -> None:
        self._own = 0
        """The sessions that this worker has taken and not given back."""
        self._tag_cell, self._row = self._counts.find(self._tag)

    def apply(self, settings: BackendSettings) -> None:
        """Take over new settings; under another name the backend counts in another row."""
        super().apply(settings)
        tag = self._tag_for(settings)
        if tag != self._tag:
            self._tag = tag
            self._move()

    def _tag_for(self, settings: BackendSettings) -> int:
        return tag_of(f"{self._upstream}\0{settings.name}\0{settings.address}")

    @property
    def conns(self) -> int:  # type: ignore[override]
        """Sessions, and attempts to connect, at this moment, of all workers."""
        if self._tag_cell[0] != self._tag:
            self._move()
        return sum(self._row)

    @property
    def own_conns(self) -> int:
        """Those of this worker."""
        return self._own

    def take(self) -> None:
        """Count one more session of this worker."""
        self._add(1)

    def give_back(self) -> None:
        """Count one session less of this worker."""
        self._add(-1)

    def _add(self, change: int) -> None:
        if self._tag_cell[0] != self._tag:
            self._move()
        self._own += change
        self._row[self._column] += change

    def _move(self) -> None:
        """Count in another row: the backend has another name, or a worker that came a moment later
        has taken ours."""
        self._row[self._column] -= self._own
        self._tag_cell, self._row = self._counts.find(self._tag)
        self._row[self._column] += self._own


class PeerQueues:
    """Since when the first client in each worker's queue for an upstream has waited; `Peers`.

    Each worker's loop has a time of its own, less the pauses in which it did not run; the workers
    share the machine's.
    """

    __slots__ = ("_clock", "_column", "_counts", "_own_ms", "_row", "_tag", "_tag_cell")

    def __init__(self, counts: SharedCounts, worker: int, upstream: str, clock: Clock) -> None:
        self._counts = counts
        self._column = worker
        self._clock = clock
        self._own_ms = 0
        self._tag = tag_of(f"queue\0{upstream}")
        self._tag_cell, self._row = counts.find(self._tag)

    def tell(self, since_ms: int | None) -> None:
        """Tell the others since when the first client here has waited; None: nobody waits."""
        self._own_ms = 0 if since_ms is None else since_ms + self._clock.skipped_ms
        self._cells[self._column] = self._own_ms

    def first_since_ms(self) -> int | None:
        """Return since when the first client of all other workers has waited, by our time."""
        theirs = [ms for i, ms in enumerate(self._cells) if ms and i != self._column]
        return min(theirs) - self._clock.skipped_ms if theirs else None

    @property
    def _cells(self) -> Cells:
        """The cells of all workers; another row if another worker has taken ours meanwhile."""
        if self._tag_cell[0] != self._tag:
            self._row[self._column] = 0
            self._tag_cell, self._row = self._counts.find(self._tag)
            self._row[self._column] = self._own_ms
        return self._row


def tag_of(identity: str) -> int:
    """Return the positive number that stands for a backend in the table."""
    return int.from_bytes(blake2b(identity.encode(), digest_size=7).digest(), "big") + 1
