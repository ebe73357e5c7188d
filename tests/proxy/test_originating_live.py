"""TLS with backends: what is verified, what a failure leads to, and that sessions are resumed."""

import pathlib
import random
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from nginy.event.tls_client import ClientTls, client_context
from nginy.proxy.originating import SESSIONS_MAX, UpstreamTls
from nginy.proxy.session import Session
from nginy.text.address import parse_address

from kit.ends import End
from kit.harness import Front, Harness
from kit.program import CHECKOUT
from kit.servers import RefusingPort, Server, SilentBackend
from kit.tls import HalfClosingEnd, TlsEcho, make_certificate, serving

ExpectLog = Callable[..., AbstractContextManager[object]]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A key and a certificate for example.test and 127.0.0.1, in one file."""
    names = "subjectAltName=DNS:example.test,IP:127.0.0.1"
    return make_certificate(tmp_path_factory.mktemp("tls"), names=names)


def tls_server(
    harness: Harness, context: ssl.SSLContext, end: type[HalfClosingEnd], host: str = "127.0.0.1"
) -> Server:
    server = harness.add(Server((host, 0)))

    def make(sock: object) -> End:
        made = end(sock, context)  # type: ignore[arg-type]
        made.is_finishing_last = True
        return made

    server.end_class = make  # type: ignore[assignment]
    return server


class GreetingServer(Server):
    """Speaks first, and no TLS."""

    def _accept(self) -> bool:
        has_accepted = super()._accept()
        if has_accepted:
            self.end.send(b"220 mail.test\r\n")
        return has_accepted


class Place:
    """A listener in front of an echo that speaks TLS."""

    def __init__(self, harness: Harness, certificate: pathlib.Path) -> None:
        self.harness = harness
        self.certificate = certificate
        self.context = serving(certificate)
        self.server = tls_server(harness, self.context, TlsEcho)

    def front(self, *backends: str, name: str = "", **settings: object) -> Front:
        """Listen, with these settings of `ClientTls`; by default the certificate is trusted."""
        changes: dict[str, Any] = {
            key: settings.pop(key) for key in ("proxy_protocol", "bind") if key in settings
        }
        settings.setdefault("authorities", self.certificate.read_bytes())
        client = ClientTls(**settings)  # type: ignore[arg-type]
        tls = UpstreamTls(
            client_context(client), name, verifies=client.verify, sends_name=client.sends_name
        )
        pool = self.harness.pool(*(backends or (self.server.name,)))
        return self.harness.proxy(pool, tls=tls, **changes)

    def refusal(self, front: Front) -> str:
        """Turn until the only session has ended with 502 SC; return why."""
        front.connect()
        ended = front.only()
        assert (ended.status, ended.termination) == (502, "SC")
        return ended.reason.removeprefix("TLS handshake with upstream failed: ")


@pytest.fixture
def place(harness: Harness, certificate: pathlib.Path) -> Place:
    return Place(harness, certificate)


def test_bytes_go_both_ways_and_end_cleanly(place: Place) -> None:
    front = place.front()
    client = front.connect()
    data = random.Random(1).randbytes(3_000_000)
    client.send(data)
    client.finish()
    place.harness.turn_until(lambda: client.is_over)
    assert (client.errno, client.received == data) == (0, True)
    assert front.only().termination == "--"
    assert place.server.end.errno == 0


@pytest.mark.parametrize("name", ["", "example.test"])
def test_the_name_is_the_one_configured_or_the_backends(place: Place, name: str) -> None:
    asked: list[str | None] = []
    place.context.sni_callback = lambda _object, asked_for, _context: asked.append(asked_for)
    client = place.front(name=name).connect()
    client.send(b"hello")
    place.harness.turn_until(lambda: client.received == b"hello")
    # An address is no server name (RFC 6066 §3).
    assert asked == [name or None]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"name": "other.test"}, "Hostname mismatch, certificate is not valid for 'other.test'"),
        (
            {"name": "other.test", "sends_name": False},
            "certificate is for example.test, 127.0.0.1, not for other.test",
        ),
        ({"authorities": None}, "self-signed certificate, which is not trusted"),
    ],
)
def test_a_certificate_that_is_not_right_is_a_failed_connect(
    place: Place, expect_log: ExpectLog, settings: dict[str, object], why: str
) -> None:
    front = place.front(**settings)  # type: ignore[arg-type]
    with expect_log("TLS handshake with upstream failed"):
        assert place.refusal(front) == why


def test_without_a_port_towards_one_backend_another_is_tried(
    place: Place, expect_log: ExpectLog
) -> None:
    """The local port is taken; the second backend is of a family that is not bound to it."""
    other = tls_server(place.harness, place.context, TlsEcho, "::1")
    taken = parse_address(place.harness.add(RefusingPort()).name)
    front = place.front(place.server.name, other.name, name="example.test", bind=taken)
    with expect_log(r"bind\(\) failed"):
        client = front.connect()
        client.send(b"hello")
        place.harness.turn_until(lambda: client.received == b"hello")
    assert [b.failures for b in place.harness.pools[-1].backends] == [0, 0]


def test_without_verification_any_certificate_will_do(place: Place) -> None:
    client = place.front(verify=False, authorities=None, name="other.test").connect()
    client.send(b"hello")
    place.harness.turn_until(lambda: client.received == b"hello")


def test_a_handshake_imports_nothing() -> None:
    """That takes a descriptor, and all may be in use."""
    program = (
        "import sys, ssl; from nginy.event.tls_client import ClientTls, client_context\n"
        "context = client_context(ClientTls(verify=False)); before = set(sys.modules)\n"
        "context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), False, 'example.test')\n"
        "print(*sys.modules.keys() - before)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], cwd=CHECKOUT) == b"\n"


def test_no_name_is_sent_where_that_is_unwanted_and_yet_it_is_verified(place: Place) -> None:
    asked: list[str | None] = []
    place.context.sni_callback = lambda _object, asked_for, _context: asked.append(asked_for)
    client = place.front(name="example.test", sends_name=False).connect()
    client.send(b"hello")
    place.harness.turn_until(lambda: client.received == b"hello")
    assert asked == [None]


def test_a_failed_handshake_leads_to_the_next_backend(place: Place, expect_log: ExpectLog) -> None:
    plain = place.harness.add(GreetingServer())
    front = place.front(plain.name, place.server.name)
    client = front.connect()
    client.send(b"hello")
    with expect_log("TLS handshake with upstream failed: what came is not TLS"):
        place.harness.turn_until(lambda: client.received == b"hello")
    (bad, good) = place.harness.pools[0].backends
    assert (bad.fails, good.fails) == (1, 0)


def test_a_backend_that_never_answers_is_late(place: Place, expect_log: ExpectLog) -> None:
    silent = place.harness.add(SilentBackend())
    front = place.front(silent.name)
    front.connect()
    place.harness.turn_until(lambda: silent.ends and silent.end.received)
    with expect_log("TLS handshake with upstream timed out"):
        place.harness.advance(60_010)
    ended = front.only()
    assert (ended.status, ended.termination) == (502, "sC")


def test_a_backend_that_wants_a_certificate_gets_it(place: Place) -> None:
    place.context.load_verify_locations(place.certificate)
    place.context.verify_mode = ssl.CERT_REQUIRED
    own = place.certificate.read_bytes()
    client = place.front(certificate=own, key=own).connect()
    client.send(b"hello")
    place.harness.turn_until(lambda: client.received == b"hello")


def test_a_client_that_leaves_in_the_handshake_is_noticed(place: Place) -> None:
    silent = place.harness.add(SilentBackend())
    front = place.front(silent.name)
    client = front.connect()
    place.harness.turn_until(lambda: silent.ends and silent.end.received)
    client.reset()
    ended = front.only()
    assert ended.termination == "CC"


def test_the_proxy_header_comes_before_tls(place: Place) -> None:
    headers = bytearray()

    class BehindHeader(TlsEcho):
        """Takes the line off, then speaks TLS."""

        def _fill(self) -> bool:
            while not headers.endswith(b"\r\n"):
                try:
                    headers.extend(self.socket.recv(1))
                except BlockingIOError:
                    return False
            return super()._fill()

    server = tls_server(place.harness, place.context, BehindHeader)
    client = place.front(server.name, proxy_protocol="v1").connect()
    client.send(b"hello")
    place.harness.turn_until(lambda: client.received == b"hello")
    assert headers.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
    assert server.end.received == b"hello"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_next_session_with_a_backend_is_resumed(place: Place, version: ssl.TLSVersion) -> None:
    place.context.maximum_version = version
    front = place.front()
    for count in range(1, 4):
        client = front.connect()
        client.send(b"hello")
        client.finish()
        place.harness.turn_until(lambda c=client: c.is_over)  # type: ignore[misc]
        place.harness.turn_until(lambda n=count: len(front.ended) == n)  # type: ignore[misc]
    reused = [end.tls.session_reused for end in place.server.ends]  # type: ignore[attr-defined]
    assert reused == [False, True, True]


def test_sessions_are_kept_for_so_many_backends(place: Place) -> None:
    tls = UpstreamTls(place.context)
    session = object()
    for number in range(SESSIONS_MAX + 5):
        tls.remember(f"192.0.2.1:{number}", session)  # type: ignore[arg-type]
    tls.remember("192.0.2.2:1", None)
    (backend,) = place.harness.pool("192.0.2.1:4").backends
    assert tls.session_for(backend) is None
    (backend,) = place.harness.pool("192.0.2.1:1004").backends
    assert tls.session_for(backend) is session


def test_a_stream_that_a_backend_cuts_is_a_reset_for_the_client(
    place: Place, expect_log: ExpectLog
) -> None:
    front = place.front()
    client = front.connect()
    client.send(b"hello")
    place.harness.turn_until(lambda: client.received == b"hello")
    with expect_log("backend broke TLS: cut off without a farewell"):
        place.server.end.close()
        while not client.is_over:
            place.harness.advance(20)
    assert client.was_reset
    assert front.only().termination == "SD"


def test_an_idle_pair_is_ended_as_without_tls(place: Place) -> None:
    front = place.front()
    client = front.connect()
    client.send(b"hello")
    place.harness.turn_until(lambda: client.received == b"hello")
    (session,) = place.harness.sessions()
    assert isinstance(session, Session)
    place.harness.advance(600_010)
    place.harness.advance(600_010)
    assert front.only().termination == "cD"
