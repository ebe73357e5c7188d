"""What the two sides of a TLS connection have agreed on, for variables and PROXY headers.

Each `TlsFact` is a function from a connection to a text, "" if there is no such fact. nginy keeps
none of them: OpenSSL knows them as long as somebody refers to the connection, even after its close,
and most sessions are never asked.

Names and forms are nginx's (`ngx_stream_ssl_module.c`, `ngx_event_openssl.c`): `r` or `.` for a
session that was resumed or not, RFC 2253 for names, SHA-1 for fingerprints.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha1
from typing import Final

from nginy.event.connection import ConnectionBase
from nginy.event.tls import TlsConnection
from nginy.wire.proxy_tlv import SslFlag, SslInfo, SslType, Tlvs, Type, build_ssl

DAY_S: Final = 86400

SHORT_NAMES: Final = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "streetAddress": "street",
    "domainComponent": "DC",
    "userId": "UID",
}
"""OpenSSL's short names of attributes; the others keep their long ones."""

ESCAPED: Final = frozenset(',+"\\<>;')

NOT_SHOWN: Final = 1
"""`verify` of a PROXY header's SSL TLV where no certificate was shown: not 0 (§2.2.6)."""

PeerCertificate = Mapping[str, object]
TlsFact = Callable[[TlsConnection], str]


def certificate_of(c: TlsConnection) -> PeerCertificate:
    """Return the peer's certificate, as `ssl.SSLObject.getpeercert` has it; empty for none."""
    return c.tls.object.getpeercert() or {}


def _cipher(c: TlsConnection) -> str:
    cipher = c.tls.object.cipher()
    return cipher[0] if cipher else ""


def _verify(c: TlsConnection) -> str:
    # A wrong one ends the handshake.
    return "SUCCESS" if certificate_of(c) else "NONE"


def _fingerprint(c: TlsConnection) -> str:
    der = c.tls.object.getpeercert(binary_form=True)
    return sha1(der, usedforsecurity=False).hexdigest() if der else ""


def _text_of(field: str) -> TlsFact:
    return lambda c: str(certificate_of(c).get(field, ""))


def _name_of(field: str) -> TlsFact:
    return lambda c: name_text(certificate_of(c).get(field, ()))


def _days_left(c: TlsConnection) -> str:
    end = certificate_of(c).get("notAfter")
    if end is None:
        return ""
    left_s = ssl.cert_time_to_seconds(str(end)) - c.loop.clock.wall_ms() / 1000
    return str(max(0, int(left_s // DAY_S)))


AGREED: Final[Mapping[str, TlsFact]] = {
    "alpn_protocol": lambda c: c.tls.object.selected_alpn_protocol() or "",
    "cipher": _cipher,
    "protocol": lambda c: c.tls.object.version() or "",
    "server_name": lambda c: c.tls.server_name,
    "session_reused": lambda c: "r" if c.tls.object.session_reused else ".",
}
"""What both sides know, by the ends of nginx's names."""

OF_CLIENTS: Final[Mapping[str, TlsFact]] = {
    **AGREED,
    "client_verify": _verify,
    "client_s_dn": _name_of("subject"),
    "client_i_dn": _name_of("issuer"),
    "client_serial": _text_of("serialNumber"),
    "client_fingerprint": _fingerprint,
    "client_v_start": _text_of("notBefore"),
    "client_v_end": _text_of("notAfter"),
    "client_v_remain": _days_left,
}
"""Facts of a client's connection: `$ssl_…`."""

OF_BACKENDS: Final[Mapping[str, TlsFact]] = {
    **AGREED,
    "server_s_dn": _name_of("subject"),
    "server_i_dn": _name_of("issuer"),
    "server_serial": _text_of("serialNumber"),
    "server_fingerprint": _fingerprint,
}
"""Facts of a backend's connection: `$upstream_ssl_…`."""


def fact_of(c: ConnectionBase | None, fact: TlsFact) -> str:
    """Return a fact of a connection, "" if it has no TLS or never began it."""
    if not isinstance(c, TlsConnection) or not c.tls.is_established:
        return ""
    return fact(c)


def name_text(name: object) -> str:
    """Return a distinguished name as RFC 2253 writes it: the last part first."""
    assert isinstance(name, tuple)
    return ",".join("+".join(map(_part, relative)) for relative in reversed(name))


def _part(attribute: tuple[str, str]) -> str:
    kind, value = attribute
    text = "".join(f"\\{letter}" if letter in ESCAPED else letter for letter in value)
    if text[:1] in ("#", " "):
        text = f"\\{text}"
    if text.endswith(" ") and len(text) > 1:
        text = f"{text[:-1]}\\ "
    return f"{SHORT_NAMES.get(kind, kind)}={text}"


def tlvs_of(c: ConnectionBase) -> Tlvs:
    """Return what a PROXY header says about a client's TLS (PP §2.2): nothing if there is none."""
    if not isinstance(c, TlsConnection) or not c.tls.is_established:
        return ()
    certificate = certificate_of(c)
    flags = int(SslFlag.SSL)
    inner: list[tuple[int, bytes]] = []
    _add(inner, SslType.VERSION, AGREED["protocol"](c))
    if certificate:
        flags |= SslFlag.CERT_SESS
        if not c.tls.object.session_reused:
            flags |= SslFlag.CERT_CONN
        _add(inner, SslType.CN, common_name(certificate))
    _add(inner, SslType.CIPHER, AGREED["cipher"](c))
    found: list[tuple[int, bytes]] = []
    _add(found, Type.ALPN, AGREED["alpn_protocol"](c))
    _add(found, Type.AUTHORITY, c.tls.server_name)
    info = SslInfo(flags, 0 if certificate else NOT_SHOWN, tuple(inner))
    return (*found, (int(Type.SSL), build_ssl(info)))


def common_name(certificate: PeerCertificate) -> str:
    """Return the common name of a certificate's subject, "" without one."""
    subject = certificate.get("subject", ())
    assert isinstance(subject, Iterable)
    names = [value for relative in subject for kind, value in relative if kind == "commonName"]
    return str(names[-1]) if names else ""


def _add(tlvs: list[tuple[int, bytes]], kind: int, text: str) -> None:
    if text:
        tlvs.append((int(kind), text.encode("utf-8", "surrogateescape")))
