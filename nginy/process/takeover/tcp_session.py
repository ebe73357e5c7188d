"""Turns a TCP session into a record with descriptors, and a record into a session again.

`record_of` is for the old process, `made_of` for the new one, which finds the session's place in
its own configuration. There, the session keeps its number, its start and its counts, and gets the
settings and the access log of the new configuration.

Unsent bytes in memory follow the message, the client's first. Those in a pipe stay there, and the
pipe's two ends come along.

Tested in tests/process/takeover/test_giving_live.py.
"""

import os
from _socket import socket as c_socket
from collections.abc import Iterator, Sequence
from typing import Protocol

from nginy.backend.backend import Backend
from nginy.backend.pool import BackendPool
from nginy.event.buffer import Buffer
from nginy.event.clock import Clock
from nginy.event.connection import Connection, ConnectionBase
from nginy.event.loop import Loop
from nginy.event.pipe import Pipe
from nginy.process.takeover.messages import MessageError
from nginy.process.takeover.session_record import (
    ArrivalRecord,
    AttemptRecord,
    ConnectionRecord,
    EndRecord,
    Place,
    TcpRecord,
)
from nginy.proxy.attempt import Attempt
from nginy.proxy.ending import Delivery
from nginy.proxy.handler import ProxyHandler
from nginy.proxy.phases.arrival import Arrival
from nginy.proxy.phases.limiting import Zones
from nginy.proxy.session import Reason, Session
from nginy.proxy.tcp import TcpHandler, TcpSession


class Unmovable(Exception):  # noqa: N818 - no error: the session stays where it is
    """Why a session cannot go on here, in words that fit behind "sessions": "with backend …"."""


class Places(Protocol):
    """Where sessions find their place in a process: its listeners by name, and its zones."""

    @property
    def zones(self) -> Zones:
        """The counts of `limit_conn`."""

    def towards(self, listener: str, upstream: str) -> ProxyHandler | None:
        """Return the handler that leads from a listener to an upstream.

        None if it leads elsewhere; raises KeyError if there is no such listener.
        """


# From a session to a record.


def record_of(session: TcpSession, listener: str, zones: Zones) -> TcpRecord:
    """Return what another process needs to go on with a halted session of a listener."""
    clock = session.handler.loop.clock
    attempt, upstream = session.attempt, session.upstream
    backend = attempt.backend
    assert upstream is not None
    assert backend is not None
    place = Place(listener, attempt.pool.name, backend.name, backend.addr_text)
    ending = session.ending
    end = None
    if ending is not None:
        to_client = ending.dst is session.client
        end = EndRecord(ending.reason.name, ending.detail, ending.is_reset, to_client)
    return TcpRecord(
        session.number,
        place,
        connection_record(session.client, clock),
        connection_record(upstream, clock),
        attempt_records(session, clock),
        arrival_record(session, zones),
        end,
    )


def connection_record(c: ConnectionBase, clock: Clock) -> ConnectionRecord:
    """Return what another process needs to know of one side of a session."""
    skipped_ms = clock.skipped_ms
    return ConnectionRecord(
        c.sockaddr,
        c.received,
        c.sent,
        c.start_time_ms + skipped_ms,
        c.active_at_ms + skipped_ms,
        c.full_reads,
        c.read.eof,
        c.write.eof,
        c.errno,
        0 if c.buffer is None else len(c.buffer),
        isinstance(c.buffer, Pipe),
    )


def attempt_records(session: Session, clock: Clock) -> list[AttemptRecord]:
    """Return the attempts of a session of any protocol."""
    skipped_ms = clock.skipped_ms

    def instant(ms: int | None) -> int | None:
        return None if ms is None else ms + skipped_ms

    return [
        AttemptRecord(
            each.address,
            each.started_at_ms + skipped_ms,
            instant(each.connected_at_ms),
            instant(each.first_byte_at_ms),
            instant(each.ended_at_ms),
            each.errno,
            each.bytes_received,
            each.bytes_sent,
        )
        for each in session.attempts
    ]


def arrival_record(session: Session, zones: Zones) -> ArrivalRecord | None:
    """Return what the phases have found out about a session's client, None if nothing."""
    arrival = session.arrival
    if arrival is None:
        return None
    held = [(zones.zone_of(counts), key) for counts, key in arrival.held]
    return ArrivalRecord(
        arrival.real_sockaddr, arrival.header, arrival.hello, arrival.limit_status, held
    )


def parts_of(session: TcpSession) -> tuple[bytes, list[int]]:
    """Return the unsent bytes of a session that are in memory, and its descriptors."""
    upstream = session.upstream
    assert upstream is not None
    rests, fds = b"", [session.client.fd, upstream.fd]
    for c in (session.client, upstream):
        if isinstance(c.buffer, Pipe):
            fds += c.buffer.fds
        elif c.buffer is not None:
            rests += c.buffer.memory[c.buffer.pos :]
    return rests, fds


# From a record to a session.


def made_of(
    record: TcpRecord, rests: bytes, fds: Sequence[int], places: Places, loop: Loop
) -> TcpSession:
    """Return the halted session of a record; raises Unmovable or MessageError.

    It takes the descriptors, whatever happens.
    """
    left = list(fds)
    try:
        handler, backend = find_place(record.place, places, loop)
        if not isinstance(handler, TcpHandler):
            raise Unmovable("of a listener for another protocol")
        pipes = record.client.in_pipe + record.server.in_pipe
        if len(left) != 2 * (1 + pipes):
            raise Unmovable("as no descriptor is free")
        sides = (record.client, record.server)
        if sum(each.rest for each in sides if not each.in_pipe) != len(rests):
            raise MessageError("the rests are not whole")
        if loop.connections + 2 > loop.max_connections:
            raise Unmovable("as worker_connections are used up")
        return _made_of(record, rests, left, handler, backend, places.zones)
    finally:
        for fd in left:
            os.close(fd)


def find_place(place: Place, places: Places, loop: Loop) -> tuple[ProxyHandler, Backend]:
    """Return the handler and the backend of a session; raises Unmovable."""
    try:
        handler = places.towards(place.listener, place.upstream)
    except KeyError:
        raise Unmovable(f"of listener {place.listener}, which the new process lacks") from None
    if handler is None:
        text = f"of listener {place.listener}, which no longer leads to {place.upstream}"
        raise Unmovable(text)
    for backend in handler.pool.backends:
        if (backend.name, backend.addr_text) == (place.backend, place.address):
            return handler, backend
    where = f"{place.upstream}/{place.address}"
    raise Unmovable(f"with backend {where}, which the new process lacks")


def _made_of(
    record: TcpRecord,
    rests: bytes,
    left: list[int],
    handler: TcpHandler,
    backend: Backend,
    zones: Zones,
) -> TcpSession:
    """Make the session, and remove from `left` the descriptors that have an owner now."""
    loop = handler.loop
    size = 0 if record.client.in_pipe else record.client.rest
    client = None
    try:
        buffers = Buffer(rests[:size]), Buffer(rests[size:])
        client = _connection(loop, record.client, left)
        upstream = _connection(loop, record.server, left)
    except (OSError, MemoryError) as error:
        if client is not None:
            client.close()
        text = error.strerror if isinstance(error, OSError) else "out of memory"
        raise Unmovable(f"as the new process has no room ({text})") from error
    if record.client.in_pipe:
        _give_pipe(client, record.client.rest, left)
    if record.server.in_pipe:
        _give_pipe(upstream, record.server.rest, left)
    for c, rest in zip((client, upstream), buffers, strict=True):
        if rest:
            c.buffer = rest
            loop.budget.hold(len(rest), loop.clock.now_ms)
    client.number = upstream.number = record.number
    session = handler.session_of(client)
    upstream.data = session
    session.upstream = upstream
    handler.counters.open += 1
    if handler.local_sockaddr is None:
        client.note_local_sockaddr()
    session.attempts = attempts_of(record.attempts, handler.pool, backend, loop.clock)
    session.attempt = session.attempts[-1]
    session.arrival = arrival_of(record.arrival, zones)
    session.settle()
    most = len(session.read_sizes) - 1
    client.full_reads, upstream.full_reads = (
        min(client.full_reads, most),
        min(upstream.full_reads, most),
    )
    if record.end is not None:
        dst = client if record.end.to_client else upstream
        reason = _reason(record.end.reason)
        session.end_as(Delivery(session, dst, reason, record.end.detail, reset=record.end.is_reset))
    return session


def _reason(name: str) -> Reason:
    """Return a reason by its name; the usual one if only the other version knows it."""
    return Reason.__members__.get(name, Reason.COMPLETED)


def _connection(loop: Loop, record: ConnectionRecord, left: list[int]) -> Connection:
    """Return a connection of the first descriptor; raises OSError."""
    sock = c_socket(-1, -1, -1, left[0])
    try:
        c = Connection(loop, sock, record.peer)
    except (OSError, MemoryError):
        sock.detach()
        raise
    del left[0]
    restore(c, record)
    c.full_reads, c.errno = record.full_reads, record.errno
    c.read.eof, c.write.eof = record.is_ended, record.is_shut
    return c


def restore(c: ConnectionBase, record: ConnectionRecord) -> None:
    """Give a connection the times and counts of a record."""
    skipped_ms = c.loop.clock.skipped_ms
    c.start_time_ms = record.started_ms - skipped_ms
    c.active_at_ms = record.active_ms - skipped_ms
    c.received, c.sent = record.received, record.sent


def _give_pipe(c: Connection, held: int, left: list[int]) -> None:
    """Make the next two descriptors the pipe with what was received from `c`."""
    c.buffer = c.loop.pipes.adopt((left[0], left[1]), held)
    c.loop.budget.hold(held, c.loop.clock.now_ms)
    del left[:2]


def attempts_of(
    records: Sequence[AttemptRecord], pool: BackendPool, backend: Backend, clock: Clock
) -> tuple[Attempt, ...]:
    """Return attempts, whose last one holds `backend`, and count the session there."""
    attempts = tuple(_attempts(records, pool, clock))
    backend.take()
    pool.changed(backend)
    attempts[-1].backend = backend
    return attempts


def _attempts(
    records: Sequence[AttemptRecord], pool: BackendPool, clock: Clock
) -> Iterator[Attempt]:
    skipped_ms = clock.skipped_ms

    def instant(ms: int | None) -> int | None:
        return None if ms is None else ms - skipped_ms

    for record in records:
        attempt = Attempt(pool, None, record.started_ms - skipped_ms)
        attempt.address = record.address
        attempt.connected_at_ms = instant(record.connected_ms)
        attempt.first_byte_at_ms = instant(record.first_byte_ms)
        attempt.ended_at_ms = instant(record.ended_ms)
        attempt.errno = record.errno
        attempt.bytes_received, attempt.bytes_sent = record.received, record.sent
        yield attempt


def arrival_of(record: ArrivalRecord | None, zones: Zones) -> Arrival | None:
    """Return what was found out about a client, and count it where it was counted."""
    if record is None:
        return None
    arrival = Arrival(record.real)
    if record.header is not None:
        arrival.header = record.header
    arrival.hello = record.hello
    arrival.limit_status = record.limit_status
    for zone, key in record.held:
        counts = zones.known(zone)
        if counts is not None:
            counts.add(key)
            arrival.held += ((counts, key),)
    return arrival
