"""Counts that several workers share: how many sessions each backend has in all of them together.

`max_conns` and `least_conn` are about the backend, not about the worker that asks. So the workers
have one anonymous memory map between them, made by their supervisor before it forks: a table with a
row for each backend and a column for each worker. A worker writes its own column alone, and reads
the sum of a row: no locks, nothing to wait for, and what a died worker leaves is one column to
clear.

A row belongs to whoever has put its tag there, a hash of upstream and address. Two workers may put
different tags into one free row at the same moment; the one that finds the other's tag there moves
on, with its count, to the next row. All look for a tag in the same rows in the same order, so they
meet in the end.

With one worker none of this exists: a `Backend` counts in itself.
"""

from collections.abc import Callable
from hashlib import blake2b
from mmap import mmap
from typing import Final

from nginy.backend.backend import Backend, BackendSettings

ROWS: Final = 16384
"""Backends that can be told apart. Names that are resolved again and again need a row for every
address that they ever had."""
ROWS_TRIED: Final = 64
"""How far to look for a free row: with three quarters of the table used, one in 10^8 finds none."""
CELL_BYTES: Final = 8
"""What a machine writes at once, so nobody reads half a count."""

MakeSharedBackend = Callable[[str, BackendSettings], Backend]
"""Makes a backend from its upstream's name and its settings."""

Cells = memoryview
"""Signed 64-bit integers."""


class SharedCounts:
    """The table. Created by the supervisor; each worker has inherited it, in a memory map."""

    __slots__ = ("_columns", "_counts", "_rows", "_tags")

    def __init__(self, workers: int, rows: int = ROWS) -> None:
        memory = memoryview(mmap(-1, CELL_BYTES * rows * (1 + workers))).cast("q")
        self._rows = rows
        self._columns = workers
        self._tags: Cells = memory[:rows]
        self._counts: Cells = memory[rows:]

    def clear(self, worker: int) -> None:
        """Forget the counts of a worker that has died."""
        for row in range(self._rows):
            if self._tags[row]:
                self._counts[row * self._columns + worker] = 0

    def find(self, tag: int) -> tuple[Cells, Cells]:
        """Return the one cell of the tag and the cells of the counts of the row of `tag`.

        If the row is a new one, it is claimed. If the table is full, it is a row that no other
        worker sees.
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

    def backend_maker(self, worker: int) -> MakeSharedBackend:
        """Return what makes the backends of a worker."""

        def make(upstream: str, settings: BackendSettings) -> Backend:
            return SharedBackend(settings, upstream, self, worker)

        return make


class SharedBackend(Backend):
    """A backend whose `conns` are those of all workers; each writes what it has taken itself."""

    __slots__ = ("_column", "_counts", "_own", "_row", "_tag", "_tag_cell")

    is_shared = True

    def __init__(
        self, settings: BackendSettings, upstream: str, counts: SharedCounts, worker: int
    ) -> None:
        self._counts = counts
        self._column = worker
        self._tag = tag_of(f"{upstream}\0{settings.name}\0{settings.address}")
        super().__init__(settings)

    def _begin_to_count(self) -> None:
        self._own = 0
        """What this worker has taken and not given back."""
        self._tag_cell, self._row = self._counts.find(self._tag)

    @property
    def conns(self) -> int:  # type: ignore[override]
        """Sessions, and attempts to connect, at this moment, of all workers."""
        if self._tag_cell[0] != self._tag:
            self._move()
        return sum(self._row)

    def take(self) -> None:
        """Count one more session of this worker."""
        self._add(1)

    def give_back(self) -> None:
        """Count one session of this worker less."""
        self._add(-1)

    def _add(self, change: int) -> None:
        if self._tag_cell[0] != self._tag:
            self._move()
        self._own += change
        self._row[self._column] += change

    def _move(self) -> None:
        """Find another row: a worker that came a moment later has taken ours for its backend."""
        self._row[self._column] -= self._own
        self._tag_cell, self._row = self._counts.find(self._tag)
        self._row[self._column] += self._own


def tag_of(identity: str) -> int:
    """Return the positive number that stands for a backend in the table."""
    return int.from_bytes(blake2b(identity.encode(), digest_size=7).digest(), "big") + 1
