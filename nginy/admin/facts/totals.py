"""Totals: what a worker has counted since it last told, so that its supervisor can keep it.

If a worker dies, its counters must not die with it. So it tells its supervisor every few seconds
whatever has grown, in messages of some rows each, and tells nothing if nothing has. A counter never
falls, so the sum of those of a row is enough to see whether any of them has grown.

Not here: when a worker tells, and how (`process/workers/totals.py`), and what its supervisor keeps
(`tally.py`).
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from nginy.admin.answer import dumps
from nginy.admin.facts.live import count_bytes
from nginy.admin.facts.shape import number, row, rows, table, text
from nginy.admin.facts.tally import FIELDS, SUMS, TIMES, Key, Row, Tally
from nginy.admin.facts.upstreams import DROP_TIMES, HISTOGRAM, dropped, histogram_row
from nginy.admin.pace import ROW_US, Pace
from nginy.admin.subject import Front, Subject
from nginy.backend.backend import Backend
from nginy.backend.pool import BackendPool

MESSAGE_MAX_CHARACTERS: Final = 4000
"""The longest message between processes; a row has some hundred characters."""
NEWS_US: Final = 1.5
"""The cost of seeing whether a backend has news."""

FRAME_CHARACTERS: Final = 100
"""The length of what is around the rows."""
KEYS: Final = {"process": (), **{kind: names for kind, (names, _) in FIELDS.items()}}
Counts: TypeAlias = tuple[int, int, int, int]
"""The counts of a backend, in the order of `FIELDS`."""

TOTALS: Final = row(
    listeners=rows(
        row(
            name=text,
            protocol=text,
            sessions_total=number,
            received=number,
            sent=number,
            accept_pauses=number,
            ended=table(number),
            drops=table(number),
            drop_times=DROP_TIMES,
        )
    ),
    fronts=rows(
        row(address=text, protocol=text, sessions_total=number, received=number, sent=number)
    ),
    upstreams=rows(
        row(
            name=text,
            sessions_total=number,
            retries=number,
            no_backend=table(number),
            connects=HISTOGRAM,
        )
    ),
    backends=rows(
        row(
            upstream=text,
            name=text,
            address=text,
            sessions_total=number,
            received=number,
            sent=number,
            failures=number,
        )
    ),
    process=rows(row(total=number, received=number, sent=number), 1),
)
"""What a supervisor takes of a message."""


class Batch:
    """Rows on their way into messages."""

    def __init__(self) -> None:
        self._rows_of: dict[str, list[str]] = {}
        self._length = 0

    def add(self, kind: str, key: Key, counts: Row) -> Iterator[str]:
        """Add a row; yield what was added before if there is no room for both."""
        text = dumps({**dict(zip(KEYS[kind], key, strict=True)), **counts})
        if self._length + len(text) > MESSAGE_MAX_CHARACTERS - FRAME_CHARACTERS:
            yield from self.end()
        self._rows_of.setdefault(kind, []).append(text)
        self._length += len(text) + 1

    def end(self) -> Iterator[str]:
        """Yield the last rows, if there are any."""
        if self._rows_of:
            members = (f'"{kind}":[{",".join(rows)}]' for kind, rows in self._rows_of.items())
            yield f"{{{','.join(members)}}}"
        self._rows_of, self._length = {}, 0


def tell_all(tally: Tally) -> Iterator[str]:
    """Yield messages with all that a tally knows; none if it knows nothing."""
    batch = Batch()
    for kind, known in tally.rows_of.items():
        for key, counts in known.items():
            yield from batch.add(kind, key, counts)
    if any(tally.sums.values()):
        yield from batch.add("process", (), {name: tally.sums[each, name] for each, name in SUMS})
    yield from batch.end()


class Totals:
    """Remembers what has been told. Belongs to a worker."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._told: dict[tuple[str, Key], int] = {}
        """The sum of the counters of each row, by kind and key."""
        self._before = self._told
        """The same of the time before, while it is compared with."""
        self._seen: list[int] = []
        """The sums of the listeners at the last call of `news`."""

    def news(self, fronts: Sequence[Front]) -> Iterator[str | None]:
        """Yield messages with the rows that have grown, and None after each slice of work.

        The caller sees to it that each message arrives. `fronts` are the listeners, with those that
        wait for their last sessions.
        """
        pace, seen = Pace(), []
        for front in fronts:
            seen.append(_look(front))
            if pace.is_over(NEWS_US):
                yield None
        if seen == self._seen and not any(front.handler.counters.open for front in fronts):
            return  # whatever is counted is counted for the sake of a client
        self._seen = seen
        for _ in count_bytes(self._subject):
            yield None
        self._before, self._told = self._told, {}
        batch = Batch()
        yield from self._of_listeners(fronts, batch, pace)
        for pool in self._subject.pools():
            yield from self._of_pool(pool, batch, pace)
        yield from batch.end()
        self._before = self._told

    def _has_grown(self, kind: str, key: Key, now: int) -> bool:
        self._told[kind, key] = now
        return now != self._before.get((kind, key), 0)

    def _of_listeners(
        self, fronts: Sequence[Front], batch: Batch, pace: Pace
    ) -> Iterator[str | None]:
        """Add the rows of listeners by name and by address, and that of the process."""
        tally, received, sent = Tally(), 0, 0
        for front in fronts:
            row = _listener(front)
            received += row["received"]
            sent += row["sent"]
            tally.add_row("listeners", row)
            tally.add_row("fronts", row)
            if pace.is_over(2 * ROW_US):
                yield None
        process = {"total": self._subject.loop.sessions_started, "received": received, "sent": sent}
        rows: list[tuple[str, Key, Row]] = [("process", (), process)]
        for kind in ("listeners", "fronts"):
            rows += [(kind, *row) for row in tally.rows_of[kind].items()]
        for kind, key, counts in rows:
            if self._has_grown(kind, key, _sum(counts)):
                yield from batch.add(kind, key, counts)
            if pace.is_over(ROW_US):
                yield None

    def _of_pool(self, pool: BackendPool, batch: Batch, pace: Pace) -> Iterator[str | None]:
        """Add the rows of an upstream and of its backends."""
        name, total = pool.name, 0
        for key, counts in _backends(pool):
            total += counts[0]
            if self._has_grown("backends", key, sum(counts)):
                yield from batch.add("backends", key, _backend(counts))
                if pace.is_over(ROW_US):
                    yield None
            elif pace.is_over(NEWS_US):
                yield None
        row = {
            "sessions_total": total,
            "retries": pool.retries,
            "no_backend": dict(pool.turned_away),
            "connects": histogram_row(pool.connects),
        }
        grown = total + pool.retries + sum(pool.turned_away.values()) + sum(pool.connects.counts)
        if self._has_grown("upstreams", (name,), grown):
            yield from batch.add("upstreams", (name,), row)
        if pace.is_over(ROW_US):
            yield None


def _look(front: Front) -> int:
    """Return a sum that has grown if anything has been counted for a client."""
    handler, counters = front.handler, front.handler.counters
    total = counters.bytes_received + counters.bytes_sent
    total += 2 * counters.sessions + counters.open  # grows by one with each begin and each end
    return total + sum(handler.drops.values())


def _listener(front: Front) -> Row:
    """Return the counters of a listener, for its name and for its address."""
    handler, listener = front.handler, front.listener
    return {
        "name": handler.name,
        "address": front.address,
        "protocol": handler.protocol.lower(),
        "sessions_total": handler.counters.sessions + handler.counters.open,
        "received": handler.counters.received,
        "sent": handler.counters.sent,
        "ended": dict(handler.counters.terminations),
        **dropped(handler),
        "accept_pauses": 0 if listener is None else listener.pauses,
    }


def _backends(pool: BackendPool) -> Iterator[tuple[Key, Counts]]:
    """Yield the counts of each address; one that has left may be back as another backend."""
    name = pool.name
    left: dict[Key, Counts] = {}
    for backend in pool.left:
        key: Key = (name, backend.name, backend.addr_text)
        left[key] = _together(left.get(key), _counts(backend))
    for backend in pool.backends:
        key = name, backend.name, backend.addr_text
        counts = _counts(backend)
        yield key, (_together(left.pop(key, None), counts) if left else counts)
    yield from left.items()


def _counts(backend: Backend) -> Counts:
    counters = backend.counters
    return backend.sessions_total, counters.received, counters.sent, backend.failures


def _together(before: Counts | None, counts: Counts) -> Counts:
    if before is None:
        return counts
    return (
        before[0] + counts[0],
        before[1] + counts[1],
        before[2] + counts[2],
        before[3] + counts[3],
    )


def _backend(counts: Counts) -> Row:
    return dict(zip(FIELDS["backends"][1], counts, strict=True))


def _sum(counts: Row) -> int:
    """Return the sum of counters, which has grown if one of them has."""
    total = 0
    for name, value in counts.items():
        if isinstance(value, dict):
            total += 0 if name == TIMES else _sum(value)
        elif isinstance(value, int):
            total += value
    return total
