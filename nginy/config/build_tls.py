"""From the keys of TLS to OpenSSL's contexts: what `build.py` is for the rest of the configuration.

Everything comes from the configuration, certificates and keys included, so no file is opened here.
As OpenSSL takes keys from files only, each goes through a nameless one in memory for a moment.

A context is expensive (the system's list of authorities takes 10 ms), and it is what clients resume
their sessions with. So `TlsContexts` keeps the contexts of what a reload has not changed.

Tested in tests/config/test_tls.py.
"""

import contextlib
import os
import ssl
from collections.abc import Iterator
from ssl import SSLContext, SSLError, TLSVersion
from typing import Final

from nginy.config.schema import Config, Listener
from nginy.config.tls import CertificatePair, Tls
from nginy.errors import NginyError
from nginy.event.tls_client import trust
from nginy.proxy.terminating import ServerTls
from nginy.wire.certificate import first_of_pem

TLS_VERSIONS: Final = {"TLSv1.2": TLSVersion.TLSv1_2, "TLSv1.3": TLSVersion.TLSv1_3}


class ContextError(NginyError):
    """A key of TLS that OpenSSL does not accept."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key
        """The key whose value is wrong."""


class TlsContexts:
    """The contexts in use, by what they were made of. Created by the services."""

    __slots__ = ("_servers",)

    def __init__(self) -> None:
        self._servers: list[tuple[Tls, ServerTls]] = []

    def prepare(self, config: Config) -> "TlsContexts":
        """Return the contexts that `config` needs, those in use among them; raise NginyError."""
        prepared = TlsContexts()
        for listener in config.listeners:
            if listener.tls is not None and prepared.server(listener) is None:
                made = self.server(listener) or server_tls(listener.tls)
                prepared._servers.append((listener.tls, made))
        return prepared

    def server(self, listener: Listener) -> ServerTls | None:
        """Return how a listener terminates TLS, None if it does not."""
        return next((made for tls, made in self._servers if tls == listener.tls), None)


def server_tls(tls: Tls) -> ServerTls:
    """Return how a listener with these keys terminates TLS."""
    contexts = [server_context(tls, pair) for pair in tls.pairs]
    by_name: dict[str, SSLContext] = {}
    for pair, context in zip(tls.pairs, contexts, strict=True):
        for name in first_of_pem(pair.certificate.content).names:
            by_name.setdefault(name, context)
    return ServerTls(
        default=contexts[0],
        by_name=by_name,
        rejects_unknown=tls.unknown_sni == "reject",
        alpn=frozenset(tls.alpn or ()),
        timeout_ms=tls.handshake_timeout_ms,
        is_ragged=tls.ragged_eof,
    )


def server_context(tls: Tls, pair: CertificatePair) -> SSLContext:
    """Return the context that shows one certificate to clients; raise ContextError."""
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    set_protocols(context, tls.protocols, tls.ciphers)
    load_pair(context, pair)
    if tls.alpn:
        context.set_alpn_protocols(list(tls.alpn))
    if tls.client_ca is not None and tls.verify_client != "off":
        try:
            trust(context, tls.client_ca.content)
        except ValueError as error:
            raise ContextError("client_ca", f'"{tls.client_ca.path}" {error}') from None
        is_required = tls.verify_client == "required"
        context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    if not tls.session_tickets:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    if tls.key_log is not None:
        set_key_log(context, tls.key_log)
    return context


def set_protocols(context: SSLContext, protocols: tuple[str, ...], ciphers: str) -> None:
    """Set versions and ciphers, and what is the same for both sides."""
    versions = sorted(TLS_VERSIONS[name] for name in protocols)
    context.minimum_version, context.maximum_version = versions[0], versions[-1]
    context.options |= ssl.OP_NO_RENEGOTIATION
    if ciphers != "default":
        try:
            context.set_ciphers(ciphers)
        except SSLError:
            raise ContextError("ciphers", f'"{ciphers}" names no cipher that OpenSSL has') from None


def load_pair(context: SSLContext, pair: CertificatePair) -> None:
    """Have a context show a certificate; raise ContextError if its key does not open or fit."""
    is_asked = False

    def password() -> bytes:
        nonlocal is_asked
        is_asked = True
        return b"" if pair.password_file is None else pair.password_file.content

    try:
        # Two files, as the one of the certificate may have another key in it.
        with file_of(pair.certificate.content) as chain, file_of(pair.key_.content) as key:
            context.load_cert_chain(chain, key, password)
    except (SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        name = f'"{pair.key_.path}"'
        if reason == "KEY_VALUES_MISMATCH":
            text = f'{name} does not belong to the certificate "{pair.certificate.path}"'
            raise ContextError("key", text) from None
        if is_asked and pair.password_file is None:
            raise ContextError("key", f"{name} is encrypted, expected password_file") from None
        if pair.password_file is not None and is_asked:
            text = f'the password in "{pair.password_file.path}" does not open {name}'
            raise ContextError("password_file", text) from None
        text = f'OpenSSL does not accept "{pair.certificate.path}" with {name}: {reason}'
        raise ContextError("certificate", text) from None


def set_key_log(context: SSLContext, path: str) -> None:
    """Have a context write the keys of its sessions to a file (SSLKEYLOGFILE's format)."""
    try:
        context.keylog_filename = path
    except OSError as error:
        raise ContextError("key_log", f'"{path}" cannot be written: {error.strerror}') from None


@contextlib.contextmanager
def file_of(content: bytes) -> Iterator[str]:
    """Have `content` as a file that has no name on any disk."""
    try:
        fd = os.memfd_create("nginy-tls")
    except OSError as error:
        raise NginyError(f"no memory for a key: {error.strerror}") from None
    with open(fd, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{fd}"
