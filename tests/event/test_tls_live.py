"""TLS between two connections of one loop: the same outcomes as without."""

import contextlib
import hmac
import pathlib
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from nginy.event.connection import AGAIN, EOF, ERROR, Connection
from nginy.event.event import Event
from nginy.event.records import BATCH_BYTES, UNREAD, UNSENT_MAX_BYTES
from nginy.event.tls import DONE, TlsConnection, start_tls

from kit import ends
from kit.harness import Harness
from kit.tls import make_certificate


class Owner:
    """Owns a connection; nothing may go wrong."""

    def abort(self) -> None:
        raise AssertionError


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A key and a certificate for example.test, in one file."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


class Pair:
    """A client and a server in one loop."""

    def __init__(self, harness: Harness, certificate: pathlib.Path) -> None:
        self.harness = harness
        ours, theirs = ends.pair()
        self.client = Connection(harness.loop, ours, ("127.0.0.1", 1))
        self.server = Connection(harness.loop, theirs, ("127.0.0.1", 2))
        self.sides = (self.client, self.server)
        for c in self.sides:
            c.data = Owner()
        self.client_context = ssl.create_default_context(cafile=str(certificate))
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_context.load_cert_chain(certificate)
        self.outcomes: dict[Connection, int] = {}

    def shake_hands(self, name: str = "example.test") -> tuple[TlsConnection, TlsConnection]:
        """Start TLS on both sides and turn until both have agreed or failed."""
        client = start_tls(self.client, self.client_context, name)
        server = start_tls(self.server, self.server_context, is_server=True)
        for c in (client, server):
            c.read.handler = c.write.handler = self.go_on
            c.resume_read()
            c.resume_write()
        self.harness.turn_until(lambda: len(self.outcomes) == 2)
        return client, server

    def go_on(self, event: Event) -> None:
        """Go on with the handshake of a side."""
        c = event.data
        assert isinstance(c, TlsConnection)
        outcome = c.handshake()
        if outcome != AGAIN:
            self.outcomes[c] = outcome
            c.pause_read()
            c.pause_write()
            if outcome == ERROR:
                c.close()


@pytest.fixture
def pair(harness: Harness, certificate: pathlib.Path) -> Iterator[Pair]:
    made = Pair(harness, certificate)
    yield made
    for c in made.sides:
        c.close()


def receiver(into: bytearray, ended: list[int]) -> Callable[[Event], None]:
    def handler(event: Event) -> None:
        memory = memoryview(bytearray(10_000))
        while (count := event.data.recv(memory)) > 0:
            into.extend(memory[:count])
        if count != AGAIN:
            ended.append(count)
            event.data.pause_read()

    return handler


def sender(data: bytes) -> Callable[[Event], None]:
    rest = memoryview(data)

    def handler(event: Event) -> None:
        nonlocal rest
        sent = event.data.send(rest)
        if sent == AGAIN:
            return
        assert sent > 0
        rest = rest[sent:]
        if not rest:
            event.data.pause_write()
            event.data.shutdown()

    return handler


def test_megabytes_go_both_ways_and_end_cleanly(pair: Pair) -> None:
    client, server = pair.shake_hands()
    assert list(pair.outcomes.values()) == [DONE, DONE]
    data = bytes(range(256)) * 4096 * 3
    received: tuple[bytearray, bytearray] = (bytearray(), bytearray())
    ended: list[int] = []
    # Both at once: nothing is lost of what comes in after our own end.
    for c, other, into, sent in (
        (server, client, received[0], data),
        (client, server, received[1], data[::-1]),
    ):
        c.read.handler = receiver(into, ended)
        c.resume_read()
        other.write.handler = sender(sent)
        other.resume_write()
    pair.harness.turn_until(lambda: len(ended) == 2)
    assert ended == [EOF, EOF]
    assert received == (data, data[::-1])
    assert (client.sent, client.received) == (len(data), len(data))


def test_what_the_kernel_does_not_take_is_counted_when_it_has(pair: Pair) -> None:
    client, server = pair.shake_hands()
    data = bytes(range(256)) * 64 * 1024
    place = 0
    while (count := client.send(memoryview(data)[place:])) > 0:
        place += count
    assert count == AGAIN
    assert client.tls.unsent
    assert pair.harness.loop.budget.used_bytes == len(client.tls.unsent)
    received, ended = bytearray(), list[int]()
    server.read.handler = receiver(received, ended)
    server.resume_read()
    # The caller may offer less than what is encrypted already.
    while place < len(data):
        count = client.send(memoryview(data)[place : place + 1000])
        if count == AGAIN:
            pair.harness.turn()
        else:
            assert 0 < count <= 1000
            place += count
    client.shutdown()
    pair.harness.turn_until(lambda: ended)
    assert received == data
    assert client.sent == len(data)
    assert pair.harness.loop.budget.used_bytes == 0


def test_a_goodbye_without_room_waits_until_there_is(pair: Pair) -> None:
    client, server = pair.shake_hands()
    sent = 0
    while (count := client.send(bytes(100_000))) > 0:
        sent += count
    client.tls.credit = 0  # the owner gives up; what is encrypted goes out all the same
    client.shutdown()
    client.pause_write()
    assert client.unsent_bytes() > 0
    received, ended = bytearray(), list[int]()
    server.read.handler = receiver(received, ended)
    server.resume_read()
    pair.harness.turn_until(lambda: ended)
    assert ended == [EOF]
    assert len(received) >= sent


def test_bytes_read_before_the_handshake_belong_to_it(pair: Pair) -> None:
    client = start_tls(pair.client, pair.client_context, "example.test")
    assert client.handshake() == AGAIN
    pair.harness.turn()
    hello = pair.server.socket.recv(65536)
    server = start_tls(pair.server, pair.server_context, is_server=True, received=hello)
    assert server.handshake() == AGAIN
    pair.client, pair.server = client, server
    for c in (client, server):
        c.read.handler = pair.go_on
        c.resume_read()
    pair.harness.turn_until(lambda: len(pair.outcomes) == 2)
    assert list(pair.outcomes.values()) == [DONE, DONE]


def test_a_cut_stream_is_an_end_for_those_who_say_so(pair: Pair) -> None:
    client, server = pair.shake_hands()
    server.tls.is_ragged = True
    assert client.send(b"old") == 3
    assert client.recv(pair.harness.loop.memory) == AGAIN
    client.tls.failure = "hold close_notify back"
    client.close()
    received, ended = bytearray(), list[int]()
    server.read.handler = receiver(received, ended)
    server.resume_read()
    pair.harness.turn_until(lambda: ended)
    assert (received, ended) == (b"old", [EOF])


def test_bytes_before_a_reset_are_delivered_first(pair: Pair) -> None:
    client, server = pair.shake_hands()
    assert client.send(b"last words") == 10
    pair.harness.turn()
    client.socket.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # no record of this session
    received, ended = bytearray(), list[int]()
    server.read.handler = receiver(received, ended)
    server.resume_read()
    pair.harness.turn_until(lambda: ended)
    assert (received, ended) == (b"last words", [ERROR])
    # OpenSSL 3.5 tells the layer that failed, older ones why it did.
    assert server.tls.failure in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")


def test_bytes_that_openssl_holds_are_heard_of_after_a_pause(pair: Pair) -> None:
    client, server = pair.shake_hands()
    assert client.send(b"x" * 10_000) == 10_000
    seen: list[int] = []

    def read_one(event: Event) -> None:
        if event.data.recv(memoryview(bytearray(1))) == 1:
            seen.append(1)
        event.data.pause_read()

    server.read.handler = read_one
    for count in range(1, 4):
        server.resume_read()
        pair.harness.turn_until(partial(lambda wanted: len(seen) == wanted, count))


def test_a_certificate_of_another_name_is_refused_with_the_reason(pair: Pair) -> None:
    client, server = pair.shake_hands("other.test")
    assert list(pair.outcomes.values()) == [ERROR, ERROR]
    assert client.tls.failure == "CERTIFICATE_VERIFY_FAILED"
    assert client.tls.verify_code == 62  # X509_V_ERR_HOSTNAME_MISMATCH
    assert "other.test" in client.tls.verify_message
    assert server.tls.failure


def test_a_stream_without_close_notify_is_an_error(pair: Pair) -> None:
    client, server = pair.shake_hands()
    # A session ticket may have come (RFC 8446 §4.6.1), and unread it would make a reset of the end.
    assert client.recv(pair.harness.loop.memory) == AGAIN
    client.tls.failure = "hold close_notify back"
    client.close()
    ended: list[int] = []
    server.read.handler = receiver(bytearray(), ended)
    server.resume_read()
    pair.harness.turn_until(lambda: ended)
    assert ended == [ERROR]
    assert "EOF" in server.tls.failure


def test_closing_says_so_to_the_peer(pair: Pair) -> None:
    client, server = pair.shake_hands()
    client.send(b"bye")
    client.close()
    received, ended = bytearray(), list[int]()
    server.read.handler = receiver(received, ended)
    server.resume_read()
    pair.harness.turn_until(lambda: ended)
    assert (received, ended) == (b"bye", [EOF])


def test_a_peer_that_speaks_no_tls_is_named(harness: Harness) -> None:
    ours, theirs = ends.pair()
    peer = harness.add(ends.End(theirs))
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    harness.turn()
    c = start_tls(
        Connection(harness.loop, ours, ("127.0.0.1", 1)), ssl.create_default_context(), "x.test"
    )
    c.data = Owner()
    outcomes: list[int] = []
    c.read.handler = lambda event: outcomes.append(c.handshake()) if event.ready else None
    c.resume_read()
    assert c.handshake() in (AGAIN, ERROR)
    harness.turn_until(lambda: c.tls.failure)
    assert c.tls.failure in {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"}
    c.close()


class Renegotiator:
    """A client of TLS 1.2 that asks for new handshakes and nothing else. It uses no cipher, as it
    makes its records by hand (RFC 5246 §6)."""

    def __init__(self, pair: Pair, directory: pathlib.Path) -> None:
        for context in (pair.client_context, pair.server_context):
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0")
        pair.server_context.options |= ssl.OP_NO_RENEGOTIATION
        pair.client_context.keylog_filename = str(directory / "keys")
        self.socket = pair.client.socket
        self.server = start_tls(pair.server, pair.server_context, is_server=True)
        pair.outcomes[pair.client] = DONE
        self.server.read.handler = pair.go_on
        self.server.resume_read()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = pair.client_context.wrap_bio(incoming, outgoing, server_hostname="example.test")
        seen = b""
        while len(pair.outcomes) < 2 or client.version() is None:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            if data := outgoing.read():
                self.socket.send(data)
            pair.harness.turn()
            with contextlib.suppress(BlockingIOError):
                data = self.socket.recv(65536)
                seen += data
                incoming.write(data)
        _, client_random, secret = (directory / "keys").read_text().splitlines()[-1].split()
        seed = seen[11:43] + bytes.fromhex(client_random)
        self._key = prf(bytes.fromhex(secret), b"key expansion" + seed)[:20]
        self._number = 1

    def requests(self, count: int) -> bytes:
        """The heads of this many ClientHellos, which are enough for an answer."""
        made = []
        for _ in range(count):
            head = b"\x16\x03\x03"
            hello = b"\x01\0\0\0"
            counted = self._number.to_bytes(8, "big") + head + b"\0\x04" + hello
            made.append(head + b"\0\x18" + hello + hmac.digest(self._key, counted, "sha1"))
            self._number += 1
        return b"".join(made)


def prf(secret: bytes, seed: bytes) -> bytes:
    """As many bytes as one round of RFC 5246 §5 makes."""
    return hmac.digest(secret, hmac.digest(secret, seed, "sha256") + seed, "sha256")


def test_a_client_that_reads_no_answers_to_its_renegotiations_is_broken(
    pair: Pair, tmp_path: pathlib.Path
) -> None:
    """OpenSSL answers each, into memory: a stranger could fill all there is."""
    client = Renegotiator(pair, tmp_path)
    pair.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    pair.client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ended: list[int] = []
    most = 0
    client.server.read.handler = receiver(bytearray(), ended)
    client.server.resume_read()
    rest = client.requests(30_000)
    while rest and not ended:
        with contextlib.suppress(BlockingIOError):
            rest = rest[client.socket.send(rest[:16384]) :]
        pair.harness.turn()
        most = max(most, len(client.server.tls.unsent))
    assert ended == [ERROR]
    assert client.server.tls.failure == UNREAD
    assert most < 2 * UNSENT_MAX_BYTES


def test_a_client_that_only_renegotiates_does_not_hold_the_loop(
    pair: Pair, tmp_path: pathlib.Path
) -> None:
    client = Renegotiator(pair, tmp_path)
    server = client.server
    looks = 0

    class Endless:
        """A socket that always has more to read, and takes every answer."""

        family = server.socket.family

        def recv_into(self, memory: memoryview, _size: int) -> int:
            nonlocal looks
            looks += 1
            if looks > 100:
                raise AssertionError
            data = client.requests(len(memory[:8192]) // 29)
            memory[: len(data)] = data
            return len(data)

        def send(self, data: bytes) -> int:
            return len(data)

    kernel = server.socket
    server.socket = Endless()  # type: ignore[assignment]
    server.read.ready = True
    size = 8192 // 29 * 29
    assert server.recv(memoryview(bytearray(size))) == AGAIN
    server.socket = kernel
    assert looks == -(-BATCH_BYTES // size)
    # It goes on in the next turn.
    assert server.read.posted
