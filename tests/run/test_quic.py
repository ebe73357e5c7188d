"""QUIC through bin/nginy: connections of aioquic, which knows nothing of what is between.

aioquic is the protocol without any I/O; the datagrams are moved here, by `turn`, which serves the
sockets of all clients and servers.

QUIC repairs what is lost and refuses everything else: a datagram that was cut, changed or given to
the wrong end cannot be decrypted. Nor can an end go on with a server that has not seen its
beginning, so a complete transfer shows that nginy kept to its choice.
"""

import contextlib
import hashlib
import pathlib
import random
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kit.faults import Site
from kit.program import PATIENCE_S
from kit.tls import make_certificate

REASON = "aioquic is not installed; the extra `quic` has it"
buffer = pytest.importorskip("aioquic.buffer", reason=REASON)
configuration = pytest.importorskip("aioquic.quic.configuration", reason=REASON)
connection = pytest.importorskip("aioquic.quic.connection", reason=REASON)
events = pytest.importorskip("aioquic.quic.events", reason=REASON)
packet = pytest.importorskip("aioquic.quic.packet", reason=REASON)

SERVER_NAME = "example.test"
CONNECTION_ID_BYTES = 8
BULK_BYTES = 2 << 20
DATAGRAM_BYTES = 65535

SockAddr = tuple[str, int]


class End:
    """One end of a connection: it says one thing, on a stream, and keeps what it hears."""

    def __init__(self, quic: Any, peer: SockAddr, saying: bytes) -> None:
        self.quic = quic
        self.peer = peer
        self.saying = saying
        self.heard = bytearray()
        self.has_spoken = False
        self.has_heard_all = False

    def speak(self, stream: int) -> None:
        self.has_spoken = True
        self.quic.send_stream_data(stream, self.saying, end_stream=True)

    def take(self, datagram: bytes) -> None:
        self.quic.receive_datagram(datagram, self.peer, now=time.monotonic())
        while (event := self.quic.next_event()) is not None:
            assert not isinstance(event, events.ConnectionTerminated), event
            if isinstance(event, events.StreamDataReceived):
                self.heard += event.data
                self.has_heard_all = event.end_stream
                if not self.has_spoken:
                    self.speak(event.stream_id)

    def due(self) -> list[tuple[bytes, SockAddr]]:
        """Return what must be sent now: new data, acknowledgments, and what seems to be lost."""
        now_s = time.monotonic()
        timer_at_s = self.quic.get_timer()
        if timer_at_s is not None and timer_at_s <= now_s:
            self.quic.handle_timer(now_s)
        return self.quic.datagrams_to_send(now_s)


class Party:
    """A UDP socket with the ends that use it. A client has one end, a server one a client."""

    def __init__(self, host: str) -> None:
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((host, 0))
        self.sockaddr: SockAddr = self.socket.getsockname()
        self.ends: dict[SockAddr, End] = {}

    def receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                datagram, peer = self.socket.recvfrom(DATAGRAM_BYTES)
                end = self.end_for(datagram, peer)
                if end is not None:
                    end.take(datagram)

    def end_for(self, datagram: bytes, peer: SockAddr) -> End | None:
        return self.ends.get(peer)

    def send(self) -> None:
        for end in self.ends.values():
            for datagram, peer in end.due():
                # what a full buffer does not take is lost, as it may be
                with contextlib.suppress(BlockingIOError):
                    self.socket.sendto(datagram, peer)


class Client(Party):
    def connect(self, to: SockAddr, certificate: pathlib.Path, saying: bytes) -> End:
        """Begin a connection, in place of another one if there is one, and return its end."""
        settings = configuration.QuicConfiguration(server_name=SERVER_NAME)
        settings.load_verify_locations(f"{certificate}.crt")
        quic = connection.QuicConnection(configuration=settings)
        quic.connect(to, now=time.monotonic())
        self.ends[to] = end = End(quic, to, saying)
        end.speak(quic.get_next_available_stream_id())
        return end


class Server(Party):
    """Answers each client with `saying`, from the moment that it begins to speak."""

    def __init__(self, host: str, certificate: pathlib.Path, saying: bytes) -> None:
        super().__init__(host)
        self.name = "{}:{}".format(*self.sockaddr)
        self.saying = saying
        self.strays = 0
        self.settings = configuration.QuicConfiguration(
            is_client=False, connection_id_length=CONNECTION_ID_BYTES
        )
        self.settings.load_cert_chain(f"{certificate}.crt", str(certificate))

    @property
    def end(self) -> End:
        """The end of the only client so far."""
        (end,) = self.ends.values()
        return end

    def end_for(self, datagram: bytes, peer: SockAddr) -> End | None:
        """Return the end that belongs to a client, a new one for its first datagram.

        What is no beginning of a connection is a stray: it belongs to a server that is no more.
        """
        if peer not in self.ends:
            header = packet.pull_quic_header(buffer.Buffer(data=datagram), CONNECTION_ID_BYTES)
            if header.packet_type != packet.QuicPacketType.INITIAL:
                self.strays += 1
                return None
            quic = connection.QuicConnection(
                configuration=self.settings,
                original_destination_connection_id=header.destination_cid,
            )
            self.ends[peer] = End(quic, peer, self.saying)
        return self.ends[peer]


def turn(parties: list[Party], until: Callable[[], bool]) -> None:
    """Serve `parties` until `until()` is true; fail the test if that takes too long."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not until():
        now_s = time.monotonic()
        assert now_s < deadline_s, [end.quic for party in parties for end in party.ends.values()]
        for party in parties:
            party.send()
        timers = [end.quic.get_timer() for party in parties for end in party.ends.values()]
        wake_at_s = min([deadline_s, *(at_s for at_s in timers if at_s is not None)])
        readable, _, _ = select.select(
            [party.socket for party in parties], (), (), max(0, wake_at_s - now_s)
        )
        for party in parties:
            if party.socket in readable:
                party.receive()


def digest(data: bytes | bytearray) -> str:
    """Return a short form of `data` for messages about failures."""
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def seeded() -> random.Random:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def certificate(tmp_path: pathlib.Path) -> pathlib.Path:
    return make_certificate(tmp_path, SERVER_NAME)


@pytest.fixture
def servers(site: Site, certificate: pathlib.Path, seeded: random.Random) -> Iterator[list[Server]]:
    """Two servers. Each has something of its own to say."""
    made = [Server(site.host, certificate, seeded.randbytes(BULK_BYTES)) for _ in range(2)]
    yield made
    for server in made:
        server.socket.close()


@pytest.fixture
def clients(site: Site) -> Iterator[list[Client]]:
    made = [Client(site.host) for _ in range(2)]
    yield made
    for client in made:
        client.socket.close()


@pytest.mark.slow
def test_two_transfers_at_once_are_given_a_server_each_and_keep_it(
    site: Site,
    certificate: pathlib.Path,
    servers: list[Server],
    clients: list[Client],
    seeded: random.Random,
) -> None:
    nginy = site.start([server.name for server in servers], protocol="udp")
    near = [
        client.connect((site.host, site.port), certificate, seeded.randbytes(BULK_BYTES))
        for client in clients
    ]
    turn([*clients, *servers], lambda: all(end.has_heard_all for end in near))
    turn([*clients, *servers], lambda: all(server.end.has_heard_all for server in servers))
    said = [server.saying for server in servers]
    assert sorted(digest(end.heard) for end in near) == sorted(map(digest, said))
    for end in near:
        (server,) = [server for server in servers if server.saying == end.heard]
        assert digest(server.end.heard) == digest(end.saying)
    assert [server.strays for server in servers] == [0, 0]
    nginy.stop()
    sessions = nginy.sessions(2)
    assert {session["upstream_addr"] for session in sessions} == {each.name for each in servers}
    assert all(int(session["bytes_received"]) > BULK_BYTES for session in sessions)
    assert all(int(session["bytes_sent"]) > BULK_BYTES for session in sessions)


@pytest.mark.slow
def test_a_client_whose_server_has_died_reaches_the_other_from_the_same_port(
    site: Site, certificate: pathlib.Path, servers: list[Server], clients: list[Client]
) -> None:
    client, (victim, other) = clients[0], servers
    nginy = site.start([victim.name, other.name], protocol="udp")
    to = (site.host, site.port)
    end = client.connect(to, certificate, b"the first")
    turn([client, victim], lambda: end.has_heard_all and victim.end.has_heard_all)

    victim.socket.close()
    end.quic.send_ping(0)
    # Without an answer the client repeats, and that arrives where nobody knows its connection.
    turn([client, other], lambda: other.strays > 0)
    assert nginy.session()["upstream_addr"] == victim.name
    assert nginy.session()["termination"] == "SD"

    end = client.connect(to, certificate, b"the second")
    turn([client, other], lambda: end.has_heard_all and other.end.has_heard_all)
    assert digest(end.heard) == digest(other.saying)
    assert bytes(other.end.heard) == b"the second"
    nginy.stop()
    assert [each["upstream_addr"] for each in nginy.sessions(2)] == [victim.name, other.name]
