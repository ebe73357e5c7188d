"""Facts about TLS, as variables and in PROXY headers, compared with what OpenSSL prints."""

import hashlib
import pathlib
import re
import ssl
import subprocess

import pytest
from nginy.event.tls_client import ClientTls, client_context
from nginy.proxy.originating import UpstreamTls
from nginy.proxy.phases.terminating import ServerTls, TlsPhase
from nginy.proxy.tls_facts import name_text
from nginy.wire.proxy_protocol import parse
from nginy.wire.proxy_tlv import SslFlag, SslType, Type, parse_ssl, value_of

from kit import ends
from kit.harness import Front, Harness
from kit.program import needs
from kit.servers import EchoBackend, Server
from kit.tls import HalfClosingEnd, TlsEcho, make_certificate, serving, trusting


@pytest.fixture
def method() -> str:
    """Which selector there is makes no difference to what is logged."""
    return "epoll"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The server's key and certificate."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A client's key and certificate."""
    subject = ("-subj", "/C=DE/O=Some, Inc./CN=client #1 ")
    return make_certificate(tmp_path_factory.mktemp("tls"), "client.test", *subject, days=10)


def printed(certificate: pathlib.Path, *what: str) -> str:
    """Return what openssl(1) says about a certificate."""
    openssl = needs("openssl", "openssl")
    command = [openssl, "x509", "-noout", "-in", str(certificate), *what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.partition("=")[2].rstrip("\n")


def connect(front: Front, context: ssl.SSLContext) -> HalfClosingEnd:
    plain = ends.connect(front.listener.address.sockaddr)
    return front.harness.add(HalfClosingEnd(plain.socket, context, "example.test"))


def terminating(harness: Harness, server: Server, context: ssl.SSLContext, **changes: str) -> Front:
    front = harness.proxy(harness.pool(server.name), **changes)  # type: ignore[arg-type]
    context.set_alpn_protocols(["h2"])
    front.handler.phases = (TlsPhase(ServerTls(context, {}, alpn=frozenset({"h2"}))),)
    return front


def exchange(front: Front, context: ssl.SSLContext) -> list[str]:
    """Let a client say something, and return the line of the log."""
    context.set_alpn_protocols(["x", "h2"])
    client = connect(front, context)
    client.send(b"hello")
    client.finish()
    front.harness.turn_until(lambda: front.lines)
    return front.lines


def test_a_client_without_a_certificate_in_its_variables(
    harness: Harness, certificate: pathlib.Path
) -> None:
    front = terminating(harness, harness.add(EchoBackend()), serving(certificate))
    front.log(
        "$ssl_protocol $ssl_cipher $ssl_server_name $ssl_alpn_protocol $ssl_session_reused "
        "$ssl_client_verify [$ssl_client_s_dn$ssl_client_serial$ssl_client_fingerprint"
        "$ssl_client_v_remain]"
    )
    (line,) = exchange(front, trusting(certificate))
    assert line == "TLSv1.3 TLS_AES_256_GCM_SHA384 example.test h2 . NONE []"


def test_a_client_with_a_certificate_in_its_variables(
    harness: Harness, certificate: pathlib.Path, own: pathlib.Path
) -> None:
    context = serving(certificate)
    context.load_verify_locations(own)
    context.verify_mode = ssl.CERT_REQUIRED
    front = terminating(harness, harness.add(EchoBackend()), context)
    front.log(
        "$ssl_client_verify|$ssl_client_s_dn|$ssl_client_i_dn|$ssl_client_serial|"
        "$ssl_client_fingerprint|$ssl_client_v_start|$ssl_client_v_end"
    )
    client = trusting(certificate)
    client.load_cert_chain(own)
    (line,) = exchange(front, client)
    subject = printed(own, "-subject", "-nameopt", "RFC2253")
    fingerprint = printed(own, "-fingerprint", "-sha1").replace(":", "").lower()
    assert line.split("|") == [
        "SUCCESS",
        subject,
        printed(own, "-issuer", "-nameopt", "RFC2253"),
        printed(own, "-serial"),
        fingerprint,
        printed(own, "-startdate"),
        printed(own, "-enddate"),
    ]
    der = ssl.PEM_cert_to_DER_cert(re.sub(r"(?s).*(?=-----BEGIN CERT)", "", own.read_text()))
    assert fingerprint == hashlib.sha1(der).hexdigest()


def test_a_session_without_tls_has_empty_variables(harness: Harness) -> None:
    front = harness.proxy(harness.pool(harness.add(EchoBackend()).name))
    front.log("[$ssl_protocol$ssl_client_verify$ssl_session_reused$upstream_ssl_protocol]")
    front.connect().finish()
    front.only()
    assert front.lines == ["[]"]


def test_a_backend_in_its_variables(harness: Harness, certificate: pathlib.Path) -> None:
    server = harness.add(Server())
    context = serving(certificate)
    server.end_class = lambda sock: TlsEcho(sock, context)  # type: ignore[assignment]
    trusted = ClientTls(authorities=certificate.read_bytes())
    tls = UpstreamTls(client_context(trusted), "example.test")
    front = harness.proxy(harness.pool(server.name), tls=tls)
    front.log(
        "$upstream_ssl_protocol $upstream_ssl_server_name $upstream_ssl_session_reused "
        "$upstream_ssl_server_s_dn [$ssl_protocol$upstream_ssl_alpn_protocol]"
    )
    for _ in range(2):
        client = front.connect()
        client.send(b"hello")
        client.finish()
        harness.turn_until(lambda c=client: c.is_over)  # type: ignore[misc]
    harness.turn_until(lambda: len(front.lines) == 2)
    assert front.lines == [
        f"TLSv1.3 example.test {reused} CN=example.test []" for reused in (".", "r")
    ]


@pytest.mark.parametrize("has_certificate", [False, True])
def test_the_proxy_header_tells_of_tls(
    harness: Harness, certificate: pathlib.Path, own: pathlib.Path, has_certificate: bool
) -> None:
    context = serving(certificate)
    context.load_verify_locations(own)
    context.verify_mode = ssl.CERT_OPTIONAL
    server = harness.add(Server())
    front = terminating(harness, server, context, proxy_protocol="v2")
    trusted = trusting(certificate)
    trusted.set_alpn_protocols(["h2"])
    if has_certificate:
        trusted.load_cert_chain(own)
    connect(front, trusted).send(b"hello")
    harness.turn_until(lambda: server.ends and server.end.received.endswith(b"hello"))
    header = parse(bytes(server.end.received))
    assert header is not None
    assert value_of(header.tlvs, Type.ALPN) == b"h2"
    assert value_of(header.tlvs, Type.AUTHORITY) == b"example.test"
    assert value_of(header.tlvs, Type.UNIQUE_ID)
    info = parse_ssl(value_of(header.tlvs, Type.SSL) or b"")
    assert info.value(SslType.VERSION) == b"TLSv1.3"
    assert info.value(SslType.CIPHER) == b"TLS_AES_256_GCM_SHA384"
    if has_certificate:
        assert info.flags == SslFlag.SSL | SslFlag.CERT_CONN | SslFlag.CERT_SESS
        assert (info.is_verified, info.value(SslType.CN)) == (True, b"client #1 ")
    else:
        assert (info.flags, info.is_verified, info.value(SslType.CN)) == (SslFlag.SSL, False, None)


def test_names_are_escaped() -> None:
    name = ((("countryName", "DE"),), (("commonName", ' a+b,"c" '), ("other", "#x;")))
    assert name_text(name) == 'CN=\\ a\\+b\\,\\"c\\"\\ +other=\\#x\\;,C=DE'
