"""Turns a UDP session into a record with its socket, and back, as `tcp_session.py` does for TCP.

The client has no socket, so it comes as addresses: who it is, where its answers go, and which of
our addresses they come from. A first datagram that the backend may still refuse follows the
message.

Tested in tests/run/test_upgrade.py.
"""

import os
from _socket import socket as c_socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nginy.backend.backend import Backend
from nginy.event.datagram import DatagramConnection, DatagramReceiver, SharedConnection
from nginy.event.loop import Loop
from nginy.process.takeover.messages import MessageError, MessageMembers
from nginy.process.takeover.session_record import (
    ArrivalRecord,
    AttemptRecord,
    ConnectionRecord,
    Json,
    Place,
    parse_sockaddr,
    sockaddr_to_json,
)
from nginy.process.takeover.tcp_session import (
    Places,
    Unmovable,
    arrival_of,
    arrival_record,
    attempt_records,
    attempts_of,
    connection_record,
    find_place,
    restore,
)
from nginy.proxy.handler import ProtocolHandler
from nginy.proxy.phases.arrival import Arrival, announced
from nginy.proxy.phases.limiting import Zones
from nginy.proxy.udp.base import ClientKey
from nginy.proxy.udp.handler import UdpHandler
from nginy.proxy.udp.session import UdpSession
from nginy.text.address import SockAddr


class UdpPlaces(Places, Protocol):
    """Where UDP sessions, too, find their place in a process."""

    def handler(self, listener: str) -> ProtocolHandler:
        """Return the handler that serves a listener; raises KeyError if there is none."""

    def receiver(self, listener: str) -> DatagramReceiver:
        """Return the socket of a UDP listener; raises KeyError if there is none."""


@dataclass(frozen=True, slots=True)
class UdpRecord:
    """A UDP session."""

    number: int
    place: Place
    client: ConnectionRecord
    server: ConnectionRecord
    replies_to: SockAddr
    """Where its datagrams come from: the client itself, or the proxy that announced it."""
    local: bytes
    """Our address that they were sent to, packed; b"" if the listener has only one."""
    is_announced: bool
    has_key: bool
    """Whether its client's next datagram is its own."""
    requests: int
    responses: int
    attempts: Sequence[AttemptRecord]
    arrival: ArrivalRecord | None = None

    def to_json(self) -> Json:
        """Return plain values."""
        return {
            "protocol": "UDP",
            "number": self.number,
            "place": self.place.to_json(),
            "client": self.client.to_json(),
            "server": self.server.to_json(),
            "replies_to": sockaddr_to_json(self.replies_to),
            "local": self.local.hex(),
            "announced": self.is_announced,
            "has_key": self.has_key,
            "requests": self.requests,
            "responses": self.responses,
            "attempts": [each.to_json() for each in self.attempts],
            "arrival": None if self.arrival is None else self.arrival.to_json(),
        }

    @staticmethod
    def parse(members: MessageMembers) -> "UdpRecord":
        """Return what `to_json` has made; raises MessageError."""
        arrival = members.maybe_object("arrival")
        attempts = [AttemptRecord.parse(each) for each in members.objects("attempts")]
        if not attempts:
            raise MessageError("a session without attempts")
        return UdpRecord(
            members.count("number"),
            Place.parse(members.object("place")),
            ConnectionRecord.parse(members.object("client")),
            ConnectionRecord.parse(members.object("server")),
            parse_sockaddr(members.items("replies_to")),
            members.bytes("local"),
            members.flag("announced"),
            members.flag("has_key"),
            members.count("requests"),
            members.count("responses"),
            attempts,
            None if arrival is None else ArrivalRecord.parse(arrival),
        )


def record_of(session: UdpSession, listener: str, zones: Zones) -> UdpRecord:
    """Return what another process needs to go on with a halted session of a listener."""
    client, upstream, backend = session.client, session.upstream, session.backend
    assert upstream is not None
    clock = client.loop.clock
    arrival = session.arrival
    return UdpRecord(
        session.number,
        Place(listener, session.attempts[-1].pool.name, backend.name, backend.addr_text),
        connection_record(client, clock),
        connection_record(upstream, clock),
        client.replies_to,
        client.replies_local,
        arrival is not None and arrival.header.source == client.sockaddr,
        session.key is not None,
        session.requests,
        session.responses,
        attempt_records(session, clock),
        arrival_record(session, zones),
    )


def made_of(
    record: UdpRecord, first: bytes, fds: Sequence[int], places: UdpPlaces, loop: Loop
) -> UdpSession:
    """Return the halted session of a record; raises Unmovable. It takes the descriptors, whatever
    happens.

    `first` is its first datagram, in case its backend refuses it; b"" if that is over.
    """
    left = list(fds)
    try:
        handler, backend = find_place(record.place, places, loop)
        main = places.handler(record.place.listener)
        if not isinstance(handler, UdpHandler) or not isinstance(main, UdpHandler):
            raise Unmovable("of a listener for another protocol")
        if len(left) != 1:
            raise Unmovable("as no descriptor is free")
        if loop.connections + 1 > loop.max_connections:
            raise Unmovable("as worker_connections are used up")
        if handler is not main:
            handler.share(main)
        receiver = places.receiver(record.place.listener)
        upstream = _connection(loop, record.server, left)
        session = _made_of(record, handler, backend, receiver, upstream, places.zones)
    finally:
        for fd in left:
            os.close(fd)
    if first:
        handler.firsts[session] = first
    return session


def _connection(loop: Loop, record: ConnectionRecord, left: list[int]) -> DatagramConnection:
    sock = c_socket(-1, -1, -1, left[0])
    try:
        upstream = DatagramConnection(loop, sock, record.peer)
    except OSError as error:
        sock.detach()
        raise Unmovable(f"as the new process has no room ({error.strerror})") from error
    left.clear()
    restore(upstream, record)
    return upstream


def _made_of(
    record: UdpRecord,
    handler: UdpHandler,
    backend: Backend,
    receiver: DatagramReceiver,
    upstream: DatagramConnection,
    zones: Zones,
) -> UdpSession:
    client = SharedConnection(receiver, record.replies_to, record.local)
    client.sockaddr = record.client.peer
    restore(client, record.client)
    client.number = record.number
    arrival = arrival_of(record.arrival, zones)
    key = _key_of(record, arrival) if record.has_key else None
    session = handler.session_class(handler, client)
    session.arrival = arrival
    if handler.local_sockaddr is None:
        client.note_local_sockaddr()
    attempts = attempts_of(record.attempts, handler.pool, backend, client.loop.clock)
    counts = record.requests, record.responses
    session.settle(upstream, backend, attempts, key, counts)
    return session


def _key_of(record: UdpRecord, arrival: Arrival | None) -> ClientKey:
    """Return the key by which the client's datagrams are found."""
    peer = record.client.peer
    if record.is_announced and arrival is not None and isinstance(peer, tuple):
        sender = announced((peer[0], peer[1]), arrival.header)
        sender.proxy, sender.local = record.replies_to, record.local
        return sender
    return (peer, record.local) if record.local else peer
