"""How nginy speaks TLS as a client: settings that are a value, and the contexts made of them.

`tls` has the connections. `nginy/wire/tls_failure.py` says what is wrong with a server's
certificate.

The one idea: certificates and keys are bytes here, as the configuration has read them. So settings
can be compared, sent to another process, and made into a context when nobody may read the files any
more.

Tested in tests/backend/checks/test_https_live.py.
"""

import codecs
import os
import re
from dataclasses import dataclass, field
from ssl import (
    CERT_NONE,
    OP_NO_RENEGOTIATION,
    PROTOCOL_TLS_CLIENT,
    VERIFY_X509_PARTIAL_CHAIN,
    SSLContext,
    SSLError,
    TLSVersion,
)
from typing import Final

CERTIFICATE: Final = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----.+?"
    rb"-----END (?:X509 |TRUSTED )?CERTIFICATE-----",
    re.DOTALL,
)
TLS_VERSIONS: Final = {"TLSv1.2": TLSVersion.TLSv1_2, "TLSv1.3": TLSVersion.TLSv1_3}
NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module has no name for


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What a client trusts, and who it is.

    Without `verify`, any certificate will do. `authorities` are in PEM; None stands for those of
    the system. `certificate` and `key`, in PEM as well, are this side's own, b"" for none.
    """

    verify: bool = True
    authorities: bytes | None = None
    certificate: bytes = field(default=b"", repr=False)
    """May contain the key, too."""
    key: bytes = field(default=b"", repr=False)
    alpn: tuple[str, ...] = ()
    password: bytes = field(default=b"", repr=False)
    """Of the key, b"" for none."""
    protocols: tuple[str, ...] = ()
    """Versions of TLS by their names in `TLS_VERSIONS`; () for those that OpenSSL chooses."""
    ciphers: str = ""
    """Of TLS 1.2, as OpenSSL writes them; "" for its own choice."""
    sends_name: bool = True
    """Whether to tell the server which name is asked for (SNI). If not, OpenSSL checks no name."""

    @property
    def leaves_name(self) -> bool:
        """Whether the caller has to check the certificate's name, as OpenSSL does not."""
        return self.verify and not self.sends_name


class ClientContexts:
    """The contexts of one `ClientTls`. Raises ValueError if its bytes are of no use."""

    __slots__ = ("_lenient", "settings", "strict")

    def __init__(self, settings: ClientTls) -> None:
        self.settings = settings
        self._lenient: SSLContext | None = None
        self.strict = client_context(settings)
        """Verifies all, if the settings say so."""

    @property
    def lenient(self) -> SSLContext:
        """As strict, but it ignores the certificate's name and dates: for asking which they are."""
        if self._lenient is None:
            self._lenient = client_context(self.settings)
            self._lenient.check_hostname = False
            self._lenient.verify_flags |= NO_CHECK_TIME
        return self._lenient


def client_context(settings: ClientTls) -> SSLContext:
    """Return a context. Raises ValueError, a clause, if certificates or key are of no use.

    With the authorities of the system it takes some 20 ms.
    """
    # The first handshake would import this module, which takes a descriptor; there may be none left
    # then, and no file in a chroot or after an upgrade.
    codecs.lookup("idna")
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    context.options |= OP_NO_RENEGOTIATION
    if settings.alpn:
        context.set_alpn_protocols(list(settings.alpn))
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = CERT_NONE
    elif settings.authorities is None:
        context.load_default_certs()
    else:
        trust(context, settings.authorities)
    if settings.certificate:
        _load_pair(context, settings)
    if not settings.sends_name:
        context.check_hostname = False
    if settings.protocols:
        set_protocols(context, settings.protocols)
    if settings.ciphers:
        set_ciphers(context, settings.ciphers)
    return context


def set_protocols(context: SSLContext, names: tuple[str, ...]) -> None:
    """Allow these versions of TLS, and those between them."""
    versions = sorted(TLS_VERSIONS[name] for name in names)
    context.minimum_version, context.maximum_version = versions[0], versions[-1]


def set_ciphers(context: SSLContext, ciphers: str) -> None:
    """Allow these ciphers. Raises ValueError, a clause, if OpenSSL has none of them."""
    try:
        context.set_ciphers(ciphers)
    except SSLError:
        raise ValueError("names no cipher that OpenSSL has") from None


def trust(context: SSLContext, authorities: bytes) -> None:
    """Trust the certificates in a PEM file, whether an authority's or a server's own."""
    found = CERTIFICATE.findall(authorities)
    if not found:
        raise ValueError("holds no certificate")
    try:
        context.load_verify_locations(cadata=b"\n".join(found).decode("ascii"))
    except (SSLError, ValueError):
        raise ValueError("holds a damaged certificate") from None
    context.verify_flags |= VERIFY_X509_PARTIAL_CHAIN


def _load_pair(context: SSLContext, settings: ClientTls) -> None:
    """Let a context show a certificate, which the ssl module reads only from a file."""
    certificate, key = settings.certificate, settings.key
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        try:
            context.load_cert_chain(
                f"/proc/self/fd/{descriptor}", password=settings.password or _no_password
            )
        except SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ValueError("does not belong to the certificate") from None
            if b"PRIVATE KEY-----" not in certificate + key:
                raise ValueError("needs a key") from None
            raise ValueError(f"cannot be used ({error.reason or 'malformed'})") from None


def _no_password() -> str:
    """Say that there is none, where OpenSSL would ask on the terminal."""
    raise ValueError("is encrypted, expected a key without a password")
