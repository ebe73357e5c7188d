"""The keys of TLS: what a listener shows its clients, and what nginy asks of backends.

The records here are values of `tls` and `proxy_tls` (schema.py). pem.py reads the files they name,
checking/tls.py checks rules that span keys, building/tls.py makes contexts.

nginx: the directives of `ngx_stream_ssl_module` and the `proxy_ssl_…` ones of
`ngx_stream_proxy_module`.
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

from dataclasses import dataclass
from typing import Final

from nginy.config.paths import FilePath
from nginy.config.pem import CERTIFICATE, PRIVATE_KEY, Pem, PemFile
from nginy.config.record import Entry, ListOf, OrWords, Record, Switch, key
from nginy.config.secrets import Secret, SecretFile
from nginy.config.types import Choice, Duration, Flag, OrOff, Text

PROTOCOLS: Final = ("TLSv1.2", "TLSv1.3")
"""TLS 1.0 and 1.1 are deprecated (RFC 8996)."""

CIPHERS: Final = Text("default, or a list of ciphers as OpenSSL writes it", r"[\w.:!+@=-]+")


CERTIFICATES: Final = PemFile(CERTIFICATE)
KEY: Final = PemFile(PRIVATE_KEY)
ALPN: Final = OrWords(Text("the name of a protocol such as h2", r"[!-~]{1,255}"))
VERSIONS: Final = ListOf(Choice(*PROTOCOLS))


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatePair(Entry):
    """A certificate that nginy shows clients, and its key."""

    certificate: Pem = key(CERTIFICATES, None, "The certificate, and those of its issuers.")
    key_: Pem = key(KEY, None, "The certificate's private key.")
    password_file: Secret | None = key(
        OrOff(SecretFile()), "off", "Holds the password of an encrypted key."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls(Entry):
    """How a listener terminates TLS."""

    certificates: tuple[CertificatePair, ...] | None = key(
        OrWords(Record(CertificatePair, "a certificate")),
        "off",
        "nginy shows the one whose names match what the client asks for, else the first.",
    )
    certificate: Pem | None = key(
        OrOff(CERTIFICATES), "off", "The only certificate, in place of certificates."
    )
    key_: Pem | None = key(OrOff(KEY), "off", "The private key of the only certificate.")
    password_file: Secret | None = key(
        OrOff(SecretFile()), "off", "Holds the password of the only certificate's key."
    )
    unknown_sni: str = key(
        Choice("default", "reject"),
        "default",
        "Clients that ask for a name without a certificate get the first one, or are refused.",
    )
    client_ca: Pem | None = key(
        OrOff(CERTIFICATES), "off", "nginy accepts client certificates of these authorities."
    )
    verify_client: str = key(
        Choice("off", "optional", "required"),
        "off",
        "Whether a client may, or must, show a certificate; a bad one is refused.",
    )
    protocols: tuple[str, ...] = key(
        VERSIONS, "[TLSv1.2, TLSv1.3]", "The versions of TLS.", blank=lambda: PROTOCOLS
    )
    ciphers: str = key(CIPHERS, "default", "The ciphers of TLS 1.2, as OpenSSL names them.")
    alpn: tuple[str, ...] | None = key(
        ALPN, "off", "Application protocols; a client that offers none of these is refused."
    )
    session_tickets: bool = key(Flag(), "on", "Returning clients need no full handshake.")
    handshake_timeout_ms: int = key(
        Duration(), "60s", "A handshake must be complete within this time."
    )
    ragged_eof: bool = key(
        Flag(), "off", "A stream without close_notify counts as complete (for old clients)."
    )
    key_log: str | None = key(
        OrOff(FilePath()),
        "off",
        "For debugging: the keys of all sessions go to this file, which opens all traffic.",
    )

    @property
    def pairs(self) -> tuple[CertificatePair, ...]:
        """All certificates with their keys, the default one first."""
        if self.certificate is None or self.key_ is None:
            return self.certificates or ()
        only = CertificatePair(
            certificate=self.certificate,
            key_=self.key_,
            password_file=self.password_file,
            origin=self.origin,
        )
        return (only,)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTls(Entry):
    """How nginy speaks TLS to backends."""

    verify: bool = key(
        Flag(), "on", "nginy refuses backends without a valid certificate (nginx: off)."
    )
    ca: Pem | None = key(
        OrOff(CERTIFICATES, "system"), "system", "nginy accepts certificates of these authorities."
    )
    name: str | None = key(
        OrOff(Text("a host name or an address", r"[\w.:-]+"), "auto"),
        "auto",
        "The name that a backend's certificate must have; auto is the host of its address.",
    )
    sni: bool = key(Flag(), "on", "nginy sends the name to the backend (SNI).")
    certificate: Pem | None = key(
        OrOff(CERTIFICATES), "off", "The certificate that nginy shows to backends."
    )
    key_: Pem | None = key(OrOff(KEY), "off", "The certificate's private key.")
    password_file: Secret | None = key(
        OrOff(SecretFile()), "off", "Holds the password of an encrypted key."
    )
    alpn: tuple[str, ...] | None = key(ALPN, "off", "Application protocols that nginy offers.")
    protocols: tuple[str, ...] = key(
        VERSIONS, "[TLSv1.2, TLSv1.3]", "The versions of TLS.", blank=lambda: PROTOCOLS
    )
    ciphers: str = key(CIPHERS, "default", "The ciphers of TLS 1.2, as OpenSSL names them.")


# Rows of the table in schema.py.
TLS: Final = key(
    Switch(Record(Tls, "tls")),
    "off",
    "nginy terminates TLS with this certificate.",
    only="tcp",
)
PROXY_TLS: Final = key(
    Switch(Record(ProxyTls, "proxy_tls")),
    "off",
    "nginy speaks TLS to backends, and verifies their certificates.",
    only="tcp",
)
