"""A listener that terminates TLS: which clients get in, why others do not, what the log says."""

import pathlib
import random
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from nginy.event.tls import TlsConnection
from nginy.proxy.access import ALL, Access, Rule
from nginy.proxy.pacing import PacedSession
from nginy.proxy.phases.real_address import RealAddress
from nginy.proxy.phases.terminating import HTTP_ANSWER, HTTP_LINGER_MS, ServerTls, TlsPhase
from nginy.proxy.tcp import TcpHandler

from kit import ends
from kit.harness import Front, Harness, descriptor_count
from kit.leaks import no_descriptor_left, no_garbage
from kit.servers import EchoBackend
from kit.tls import HalfClosingEnd, make_certificate, serving, trusting

ExpectLog = Callable[..., AbstractContextManager[object]]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A key and a certificate for example.test, in one file."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def wildcard(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same for *.wild.test."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "*.wild.test")


class Place:
    """A listener with TLS in front of an echo."""

    def __init__(self, harness: Harness, certificate: pathlib.Path) -> None:
        self.harness = harness
        self.certificate = certificate
        self.backend = harness.add(EchoBackend())
        self.front: Front = harness.proxy(harness.pool(self.backend.name))
        self.context = serving(certificate)
        self.terminate(ServerTls(self.context, {"example.test": self.context}))

    def terminate(self, tls: ServerTls) -> None:
        """Apply these settings to clients that come from now on."""
        self.front.handler.phases = (TlsPhase(tls),)

    def connect(
        self, name: str = "example.test", context: ssl.SSLContext | None = None
    ) -> HalfClosingEnd:
        """Return a client that asks for a name."""
        plain = ends.connect(self.front.listener.address.sockaddr)
        context = context or trusting(self.certificate)
        return self.harness.add(HalfClosingEnd(plain.socket, context, name))

    def reason(self) -> str:
        """Turn until the only session has ended with 400 CR; return why."""
        ended = self.front.only()
        assert (ended.status, ended.termination, ended.upstreams) == (400, "CR", ())
        return ended.reason

    def is_shaking_hands(self) -> bool:
        """Whether the only session is past the client's first message."""
        return any(isinstance(s.client, TlsConnection) for s in self.harness.sessions())


@pytest.fixture
def place(harness: Harness, certificate: pathlib.Path) -> Place:
    return Place(harness, certificate)


def test_a_client_that_shakes_hands_keeps_its_backends_descriptor(
    place: Place, expect_log: ExpectLog
) -> None:
    harness, front = place.harness, place.front
    place.backend.is_accepting = False  # its descriptors would come out of the same limit
    before = descriptor_count()
    clients = [place.connect() for _ in range(3)]
    harness.turn_until(lambda: front.handler.sessions == 3)
    with no_descriptor_left():
        harness.turn_until(lambda: all(session.upstream for session in harness.sessions()))
    assert (front.handler.sessions, front.ended) == (3, [])
    for client in clients:
        client.close()
    harness.turn_until(lambda: len(front.ended) == 3)
    # Nobody has a claim any more, whichever way a handshake ends.
    gone, reset = place.connect(), place.connect()
    harness.turn_until(lambda: front.handler.sessions == 2)
    gone.close()
    harness.turn_until(lambda: len(front.ended) == 4)
    for session in harness.sessions():
        session.kill()
    reset.close()
    harness.turn_until(lambda: descriptor_count() == before)


def test_bytes_go_both_ways_and_end_cleanly(place: Place) -> None:
    client = place.connect()
    data = random.Random(1).randbytes(3_000_000)
    client.send(data)
    client.finish()
    place.harness.turn_until(lambda: client.is_over)
    assert (client.errno, client.received == data) == (0, True)
    ended = place.front.only()
    assert (ended.termination, ended.bytes_received, ended.bytes_sent) == (
        "--", len(data), len(data),
    )  # fmt: skip


def test_a_hello_in_single_bytes_is_as_good_as_a_whole_one(place: Place) -> None:
    client = place.connect()
    sock = client.socket

    class Slow:
        """Sends a byte each time."""

        def __getattr__(self, name: str) -> object:
            return getattr(sock, name)

        def send(self, data: bytes) -> int:
            return sock.send(data[:1])

    client.socket = Slow()  # type: ignore[assignment]
    client.send(b"hello")
    place.harness.turn_until(lambda: client.received == b"hello")


def test_the_certificate_is_the_one_for_the_name(place: Place, wildcard: pathlib.Path) -> None:
    other = serving(wildcard)
    by_name = {"example.test": place.context, "*.wild.test": other}
    place.terminate(ServerTls(place.context, by_name))
    for name, trusted in (
        ("example.test", place.certificate),
        ("a.wild.test", wildcard),
    ):
        client = place.connect(name, trusting(trusted))
        client.send(b"hello")
        place.harness.turn_until(lambda c=client: c.received == b"hello")  # type: ignore[misc]
    deep = place.connect("a.b.wild.test", trusting(wildcard))
    place.harness.turn_until(lambda: deep.is_over)
    assert deep.failure == "CERTIFICATE_VERIFY_FAILED"


def test_a_client_that_does_not_trust_us_is_named(place: Place, wildcard: pathlib.Path) -> None:
    place.connect(context=trusting(wildcard))
    said = "TLS handshake failed: the other side says: certificate of an issuer that is not trusted"
    assert place.reason() == said


def test_an_unknown_name_is_rejected_where_that_is_wanted(place: Place) -> None:
    place.terminate(ServerTls(place.context, {"example.test": place.context}, rejects_unknown=True))
    client = place.connect("other.test")
    assert '"other.test", no certificate has it (unknown_sni: reject)' in place.reason()
    place.harness.turn_until(lambda: client.is_over)
    assert client.failure == "TLSV1_UNRECOGNIZED_NAME"


def test_a_client_without_a_common_protocol_is_rejected(place: Place) -> None:
    place.terminate(ServerTls(place.context, {}, alpn=frozenset({"h2"})))
    context = trusting(place.certificate)
    context.set_alpn_protocols(["spdy/3", "http/1.1"])
    client = place.connect(context=context)
    assert place.reason() == "TLS handshake failed: client offers spdy/3, http/1.1 only (alpn)"
    place.harness.turn_until(lambda: client.is_over)
    # Python 3.11 has no name for the reason.
    assert "no application protocol" in client.failure.lower().replace("_", " ")


def test_plain_http_is_answered_as_http(place: Place) -> None:
    client = place.front.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    place.harness.turn_until(lambda: client.is_over)
    client.finish()
    assert place.reason() == "TLS handshake failed: client speaks plain HTTP"
    assert (client.received, client.errno) == (HTTP_ANSWER, 0)
    head, _, body = HTTP_ANSWER.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head


def test_a_long_plain_request_is_read_to_its_end_and_answered(place: Place) -> None:
    client = place.front.connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n" + bytes(8_000_000))
    client.finish()
    assert place.reason() == "TLS handshake failed: client speaks plain HTTP"
    assert (client.received, client.errno, place.front.ended[0].bytes_received) == (
        HTTP_ANSWER, 0, 0,
    )  # fmt: skip


def test_a_plain_request_without_end_is_waited_for_some_seconds(place: Place) -> None:
    client = place.front.connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n")
    place.harness.turn_until(lambda: client.received == HTTP_ANSWER)
    for _ in range(9):
        client.send(b"x")
        place.harness.advance(HTTP_LINGER_MS // 10)
    assert not place.front.ended
    place.harness.advance(HTTP_LINGER_MS // 5)
    assert place.reason() == "TLS handshake failed: client speaks plain HTTP"


def test_what_is_no_tls_is_shown(place: Place) -> None:
    place.front.connect().send(b"SSH-2.0-x\r\n")
    assert place.reason() == (
        'TLS handshake failed: client does not speak TLS, "SSH-2.0-x\\r\\n" came'
    )


def test_an_old_client_is_told_apart(place: Place) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1
    place.context.minimum_version = ssl.TLSVersion.TLSv1_2
    place.connect(context=context)
    assert place.reason() == "TLS handshake failed: client offers TLSv1 only"


def test_no_shared_cipher_is_said(place: Place) -> None:
    place.context.maximum_version = ssl.TLSVersion.TLSv1_2
    context = trusting(place.certificate)
    context.set_ciphers("AES128-SHA256")  # with RSA alone
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    place.connect(context=context)
    assert place.reason() == "TLS handshake failed: no shared cipher"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_without_its_certificate_is_refused(place: Place, version: ssl.TLSVersion) -> None:
    place.context.load_verify_locations(place.certificate)
    place.context.verify_mode = ssl.CERT_REQUIRED
    context = trusting(place.certificate)
    context.maximum_version = version
    client = place.connect(context=context)
    client.send(b"already")
    assert place.reason() == "TLS handshake failed: certificate required, none came"
    place.harness.turn_until(lambda: client.is_over)
    assert client.failure in (
        "SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    )  # fmt: skip


def test_a_client_with_its_certificate_comes_in(place: Place) -> None:
    place.context.load_verify_locations(place.certificate)
    place.context.verify_mode = ssl.CERT_REQUIRED
    context = trusting(place.certificate)
    context.load_cert_chain(place.certificate)
    client = place.connect(context=context)
    client.send(b"hello")
    place.harness.turn_until(lambda: client.received == b"hello")


def test_a_client_certificate_of_another_authority_is_refused(
    place: Place, wildcard: pathlib.Path
) -> None:
    place.context.load_verify_locations(place.certificate)
    place.context.verify_mode = ssl.CERT_OPTIONAL
    context = trusting(place.certificate)
    context.load_cert_chain(wildcard)
    place.connect(context=context)
    assert "self-signed certificate, which is not trusted" in place.reason()


def test_a_silent_client_is_late(place: Place) -> None:
    place.front.connect()
    place.harness.turn_until(place.harness.sessions)
    place.harness.advance(60_010)
    ended = place.front.only()
    assert (ended.status, ended.termination) == (400, "cR")
    assert ended.reason == "the TLS handshake did not end in time"


def test_a_client_that_stops_in_mid_handshake_is_late(place: Place) -> None:
    client = place.connect()
    place.harness.turn_until(place.is_shaking_hands)
    place.harness.forget(client)
    place.harness.settle()
    place.harness.advance(60_010)
    assert place.front.only().termination == "cR"
    client.close()


@pytest.mark.parametrize(
    ("leave", "why"),
    [
        (ends.End.close, "client closed the connection before its first message was complete"),
        (ends.End.reset, "client reset the connection"),
    ],
)
def test_a_client_that_leaves_is_no_mystery(
    place: Place, leave: Callable[[ends.End], None], why: str
) -> None:
    client = place.front.connect()
    client.send(b"\x16\x03\x01")
    place.harness.turn_until(place.harness.sessions)
    place.harness.settle()
    leave(client)
    assert place.reason() == f"TLS handshake failed: {why}"


def test_a_fin_right_behind_half_a_hello_is_seen(place: Place) -> None:
    plain = ends.connect(place.front.listener.address.sockaddr)
    plain.socket.send(b"\x16\x03\x01\x00\x80\x01")
    plain.socket.shutdown(socket.SHUT_WR)
    place.harness.add(plain)
    assert place.reason().endswith("before its first message was complete")


def test_a_client_that_leaves_in_mid_handshake_is_no_mystery(place: Place) -> None:
    client = place.connect()
    place.harness.turn_until(place.is_shaking_hands)
    client.socket.shutdown(socket.SHUT_WR)
    place.harness.forget(client)
    assert (
        place.reason() == "TLS handshake failed: client closed the connection in the middle of it"
    )
    client.close()


def test_a_stream_without_close_notify_is_a_reset_for_the_backend(place: Place) -> None:
    client = place.connect()
    client.send(b"half a mess")
    place.harness.turn_until(lambda: client.received)
    client.socket.shutdown(socket.SHUT_WR)
    ended = place.front.only()
    assert ended.termination == "CD"
    assert ended.reason == "client broke TLS: cut off without a farewell (close_notify)"
    place.harness.turn_until(lambda: place.backend.end.is_over)
    assert place.backend.end.was_reset


def test_an_old_client_may_go_without_close_notify(place: Place) -> None:
    place.terminate(ServerTls(place.context, {}, is_ragged=True))
    client = place.connect()
    client.send(b"old")
    place.harness.turn_until(lambda: client.received)
    client.socket.shutdown(socket.SHUT_WR)
    place.harness.turn_until(lambda: client.is_over)
    assert place.front.only().termination == "--"
    assert (place.backend.end.has_eof, place.backend.end.received) == (True, b"old")


def test_a_truncated_record_is_a_reset_after_what_was_whole(place: Place) -> None:
    client = place.connect()
    client.send(b"whole")
    place.harness.turn_until(lambda: client.received)
    client.socket.send(b"\x17\x03\x03\x01\x00half")
    client.socket.shutdown(socket.SHUT_WR)
    assert place.front.only().termination == "CD"
    assert place.backend.end.received == b"whole"


def test_a_backend_that_resets_cuts_the_clients_stream(place: Place, expect_log: ExpectLog) -> None:
    client = place.connect()
    client.send(b"hello")
    place.harness.turn_until(lambda: client.received)
    place.backend.end.reset()
    with expect_log("backend reset the connection"):
        while not client.is_over:
            # What was sent before may still be unacknowledged, and is looked at by a timer.
            place.harness.advance(20)
    assert client.errno != 0
    assert not client.has_eof
    assert place.front.only().termination == "SD"


def test_a_slow_reader_gets_everything_and_the_goodbye(place: Place) -> None:
    client = place.connect()
    place.harness.turn_until(lambda: client.is_established and place.backend.ends)
    client.is_reading = False
    data = random.Random(2).randbytes(6_000_000)
    place.backend.end.send(data)
    place.backend.end.finish()
    client.finish()
    place.harness.settle()
    assert place.harness.loop.budget.used_bytes < 1_500_000
    client.is_reading = True
    place.harness.turn_until(lambda: client.is_over)
    assert (client.errno, client.received == data) == (0, True)


def test_a_crowd_of_handshakes_is_spread_over_turns(place: Place) -> None:
    loop = place.harness.loop
    now_s = 0.0

    def each_step_takes_three_milliseconds() -> float:
        nonlocal now_s
        now_s += 0.003
        return now_s

    loop.handshakes = type(loop.handshakes)(loop.soon, each_step_takes_three_milliseconds)
    clients = [place.connect() for _ in range(20)]
    most = 0
    while not all(client.is_established for client in clients):
        before = sum(isinstance(c, TlsConnection) for c in place.harness.connections())
        place.harness.turn()
        after = sum(isinstance(c, TlsConnection) for c in place.harness.connections())
        most = max(most, after - before)
    assert 0 < most <= 2


def test_a_bug_in_a_step_ends_that_session_alone(place: Place, expect_log: ExpectLog) -> None:
    loop = place.harness.loop
    steps: list[str] = []

    class Owner:
        def abort(self) -> None:
            steps.append("aborted")

    def fail() -> None:
        raise LookupError

    loop.handshakes.add(fail, Owner())
    loop.handshakes.add(lambda: steps.append("next"), Owner())
    with expect_log(r"bug in nginy"):
        place.harness.turn_until(lambda: "next" in steps)
    assert steps == ["aborted", "next"]


def test_handshakes_leave_no_garbage_however_they_end(place: Place, wildcard: pathlib.Path) -> None:
    harness, front = place.harness, place.front

    def end_all(*clients: ends.End) -> None:
        count = len(front.ended) + len(clients)
        harness.turn_until(lambda: len(front.ended) == count)
        for client in clients:
            client.close()
            harness.forget(client)

    with no_garbage():
        well = place.connect()
        well.finish()
        distrusting = place.connect(context=trusting(wildcard))
        speaking_http, leaving = front.connect(), front.connect()
        speaking_http.send(b"GET / HTTP/1.0\r\n\r\n")
        speaking_http.finish()
        leaving.finish()
        end_all(well, distrusting, speaking_http, leaving)
        silent = front.connect()
        harness.turn_until(harness.sessions)
        harness.advance(60_010)
        assert len(front.ended) == 5
        silent.close()
        harness.forget(silent)
        for end in place.backend.ends:
            end.close()
        place.backend.ends.clear()
    assert sorted(front.terminations) == ["--", "CR", "CR", "CR", "cR"]


@pytest.mark.parametrize("rates", [{"download_rate": 1 << 20}, {"upload_rate": 1 << 20}])
def test_rates_hold_for_what_is_within_tls(place: Place, rates: dict[str, Any]) -> None:
    place.front = place.harness.proxy(place.harness.pool(place.backend.name), **rates)
    handler = place.front.handler
    assert isinstance(handler, TcpHandler)
    handler.session_class = PacedSession
    place.terminate(ServerTls(place.context, {}))
    client = place.connect()
    data = random.Random(3).randbytes(300_000)
    client.send(data)
    client.finish()
    place.harness.settle()
    began_ms = place.harness.clock.now_ms
    while not client.is_over:
        place.harness.advance(10)
    took_ms = place.harness.clock.now_ms - began_ms
    assert (client.errno, client.received == data) == (0, True)
    assert 150 < took_ms < 1500  # 290 ms at this rate, less what may come at once


def test_a_proxy_header_in_the_same_segment_as_the_hello_comes_first(place: Place) -> None:
    everybody = Access([(Rule(True, "all"), ALL)])
    place.front.handler.phases = (
        RealAddress(everybody, False, 3000),
        *place.front.handler.phases,
    )
    place.front.log("$remote_addr $ssl_protocol")

    class Announced(HalfClosingEnd):
        """Sends a header, and its first message with it."""

        def __init__(self, sock: socket.socket) -> None:
            super().__init__(sock, trusting(place.certificate), "example.test")
            self._encrypted = b"PROXY TCP4 192.0.2.7 198.51.100.2 4711 443\r\n"

    client = Announced(ends.connect(place.front.listener.address.sockaddr).socket)
    place.harness.add(client)
    client.send(b"hello")
    client.finish()
    place.harness.turn_until(lambda: client.is_over)
    assert client.received == b"hello"
    place.front.only()
    assert place.front.lines == ["192.0.2.7 TLSv1.3"]
