"""Checks within TLS: which certificates pass, why the others fail, and which one we show."""

import dataclasses
import pathlib
import socket
import ssl
import subprocess
import time

import pytest
from nginy.backend.checks.checker import Checker, ProbeSettings
from nginy.backend.checks.dialog import FIN_WAIT_MS, PASSED, Result
from nginy.event.tls_client import ClientTls, client_context
from nginy.text.address import parse_address
from nginy.wire.checks.http import HttpCheck

from kit.ends import End
from kit.harness import Harness
from kit.servers import Server
from kit.tls import Authority, TlsEnd

HTTPS = HttpCheck(name="https")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class WebEnd(TlsEnd):
    """Answers a request with status 200, and keeps the name that was asked for."""

    def step(self) -> bool:
        """Answer as soon as the request is whole; leave if the handshake has failed."""
        try:
            has_moved = super().step()
        except ssl.SSLError:
            self.close()
            return True
        if self.received.endswith(b"\r\n\r\n"):
            self.received.clear()
            self.send(b"HTTP/1.1 200 OK\r\n\r\n")
            self.finish()
        return has_moved


class Web:
    """A server with a certificate, and checks of it."""

    def __init__(self, harness: Harness, pem: pathlib.Path, client_ca: pathlib.Path | None) -> None:
        self.harness = harness
        self.checker = Checker(harness.loop)
        self.names: list[str | None] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.context.sni_callback = lambda _sock, name, _context: self.names.append(name)
        if client_ca is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(client_ca)
        self.server = harness.add(Server())
        self.server.end_class = self.end  # type: ignore[assignment]

    def end(self, sock: socket.socket) -> TlsEnd:
        return WebEnd(sock, self.context)

    def ask(self, tls: ClientTls, name: str | None = None, backend: str = "") -> Result:
        results = self.begin(tls, name, backend)
        self.harness.turn_until(lambda: results)
        self.harness.turn_until(lambda: not self.checker.open)
        return results[0]

    def begin(self, tls: ClientTls, name: str | None = None, backend: str = "") -> list[Result]:
        results: list[Result] = []
        self.checker.start(
            ProbeSettings(HTTPS, tls=tls, name=name),
            parse_address(self.server.name),
            self.harness.clock.now_ms + 1000,
            results.append,
            name=backend or self.server.name,
        )
        return results


@pytest.fixture
def web(harness: Harness, authority: Authority) -> "Maker":
    return Maker(harness, authority)


class Maker:
    """Makes servers with certificates of one authority."""

    def __init__(self, harness: Harness, authority: Authority) -> None:
        self.harness = harness
        # OpenSSL goes by the system's clock.
        harness.clock.wall_ms = lambda: time.time_ns() // 1_000_000  # type: ignore[method-assign]
        self.authority = authority
        self.trusting = ClientTls(authorities=authority.certificate.read_bytes())

    def server(
        self,
        names: str = "DNS:a.test",
        first_day: int = -1,
        last_day: int = 30,
        client_ca: pathlib.Path | None = None,
    ) -> Web:
        return Web(self.harness, self.authority.issue(names, first_day, last_day), client_ca)


def test_a_valid_certificate_passes_and_is_asked_for_by_name(web: Maker) -> None:
    server = web.server()
    assert server.ask(web.trusting, "a.test") == PASSED
    assert server.names == ["a.test"]


def test_the_name_is_the_backends_unless_another_is_set(web: Maker) -> None:
    server = web.server("DNS:a.test,IP:127.0.0.1")
    assert server.ask(web.trusting, backend="a.test:443") == PASSED
    assert server.ask(web.trusting) == PASSED
    assert server.names == ["a.test", None]  # an address is no server name


@pytest.mark.parametrize(
    ("names", "first_day", "last_day", "failure"),
    [
        ("DNS:a.test", -9, -3, "https: certificate expired 3 days ago"),
        ("DNS:a.test", 2, 9, "https: certificate not valid yet, but in 1 day"),
        (
            "DNS:b.test,DNS:*.c.test",
            -1,
            9,
            "https: certificate is for b.test, *.c.test, not for a.test",
        ),
    ],
)
def test_a_certificate_is_looked_at_again_for_what_is_wrong_with_it(
    web: Maker, names: str, first_day: int, last_day: int, failure: str
) -> None:
    server = web.server(names, first_day, last_day)
    assert server.ask(web.trusting, "a.test") == Result(failure)
    assert len(server.server.ends) == 2


def test_without_verification_every_certificate_passes(web: Maker) -> None:
    server = web.server(last_day=-3, first_day=-9)
    assert server.ask(ClientTls(verify=False), "b.test") == PASSED


def test_without_sni_no_name_is_sent_and_the_certificate_has_to_be_for_it(web: Maker) -> None:
    nameless = dataclasses.replace(web.trusting, sends_name=False)
    server = web.server()
    assert server.ask(nameless, "a.test") == PASSED
    failure = "https: certificate is for a.test, not for b.test"
    assert server.ask(nameless, "b.test") == Result(failure)
    assert server.names == [None, None]
    expired = web.server(first_day=-9, last_day=-3)
    assert expired.ask(nameless, "a.test") == Result("https: certificate expired 3 days ago")
    assert expired.names == [None, None]
    careless = dataclasses.replace(nameless, verify=False)
    assert server.ask(careless, "b.test") == PASSED


def test_an_issuer_that_is_not_trusted_is_not_asked_twice(web: Maker) -> None:
    server = web.server()
    failure = "https: certificate of an issuer that is not trusted"
    assert server.ask(ClientTls(), "a.test") == Result(failure)
    assert len(server.server.ends) == 1


def test_a_server_that_ends_before_the_second_look_leaves_the_first_reason(web: Maker) -> None:
    server = web.server(last_day=-3, first_day=-9)
    ends = server.server.end_class

    def only_once(sock: socket.socket) -> TlsEnd:
        server.server.is_accepting = False
        server.server.socket.close()
        return ends(sock)  # type: ignore[return-value]

    server.server.end_class = only_once  # type: ignore[assignment]
    assert server.ask(web.trusting, "a.test") == Result("https: certificate expired")


def test_a_second_look_that_gets_no_answer_leaves_the_first_reason(web: Maker) -> None:
    server = web.server(last_day=-3, first_day=-9)
    ends = server.server.end_class

    def only_once(sock: socket.socket) -> TlsEnd:
        server.server.is_accepting = False
        return ends(sock)  # type: ignore[return-value]

    server.server.end_class = only_once  # type: ignore[assignment]
    results = server.begin(web.trusting, "a.test")
    web.harness.settle()
    assert results == []
    web.harness.advance(1010)
    web.harness.turn_until(lambda: results)
    assert results == [Result("https: certificate expired")]
    web.harness.advance(FIN_WAIT_MS + 10)


def test_a_client_certificate_lets_the_check_in(web: Maker, authority: Authority) -> None:
    server = web.server(client_ca=authority.certificate)
    pem = authority.issue("DNS:nginy.test").read_bytes()
    mine = ClientTls(False, None, pem, pem)
    assert server.ask(mine, "a.test") == PASSED
    refused = server.ask(ClientTls(verify=False), "a.test")
    assert refused == Result("https: the other side says: certificate required")


def test_a_server_may_be_trusted_by_its_own_certificate(web: Maker, authority: Authority) -> None:
    pem = authority.issue("DNS:own.test")
    server = Web(web.harness, pem, None)
    assert server.ask(ClientTls(authorities=pem.read_bytes()), "own.test") == PASSED


def test_a_server_without_tls_is_told_apart(web: Maker) -> None:
    server = web.server()

    def plain(sock: socket.socket) -> "Greeting":
        return Greeting(sock)

    server.server.end_class = plain  # type: ignore[assignment]
    assert server.ask(web.trusting, "a.test") == Result("https: what came is not TLS")


class Greeting(End):
    """Speaks first, and something else."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.send(b"220 mail.test ESMTP\r\n")
        self.is_finishing_last = True


@pytest.mark.parametrize(
    ("tls", "failure"),
    [
        (ClientTls(authorities=b"nothing"), "holds no certificate"),
        (
            ClientTls(
                authorities=b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
            ),
            "holds a damaged certificate",
        ),
    ],
)
def test_bytes_of_no_use_are_refused(tls: ClientTls, failure: str) -> None:
    with pytest.raises(ValueError, match=failure):
        client_context(tls)


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    one, other = (authority.issue(f"DNS:{name}.test") for name in ("one", "other"))
    certificate = one.read_bytes().partition(b"-----BEGIN CERT")
    key = other.read_bytes().partition(b"-----BEGIN CERT")[0]
    with pytest.raises(ValueError, match="does not belong to the certificate"):
        client_context(ClientTls(False, None, b"".join(certificate[1:]), key))


def test_an_encrypted_key_is_refused_and_nobody_is_asked(
    authority: Authority, tmp_path: pathlib.Path
) -> None:
    pem = authority.issue("DNS:locked.test")
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", str(pem)]
    subprocess.run([*command, "-out", str(locked)], check=True, capture_output=True)
    certificate = b"-----BEGIN CERT" + pem.read_bytes().partition(b"-----BEGIN CERT")[2]
    with pytest.raises(ValueError, match="is encrypted"):
        client_context(ClientTls(False, None, certificate, locked.read_bytes()))
