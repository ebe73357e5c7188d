"""From the keys of TLS to OpenSSL's contexts: what `build.py` is for the rest of the configuration.

Everything comes from the configuration, certificates and keys included, so this module opens no
file. OpenSSL reads keys from files only, so each passes through a nameless one in memory.

A context is expensive (the system's list of authorities takes 10 ms), and clients resume their
sessions with it. So `TlsContexts` keeps the contexts of settings that a reload has not changed.

Tested in tests/config/test_tls.py.
"""

import contextlib
import os
import ssl
from collections.abc import Generator, Iterator
from ssl import SSLContext, SSLError

from nginy.config.pem import Pem
from nginy.config.routes import Route
from nginy.config.schema import Config, Listener
from nginy.config.tls import CertificatePair, ProxyTls, Tls
from nginy.errors import NginyError
from nginy.event.tls_client import ClientTls, client_context, set_ciphers, set_protocols, trust
from nginy.proxy.originating import UpstreamTls
from nginy.proxy.phases.terminating import ServerTls, TlsPhase
from nginy.wire.certificate import first_of_pem


class ContextError(NginyError):
    """A key of TLS that OpenSSL does not accept."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key
        """The key whose value is wrong."""


class TlsContexts:
    """The contexts in use, by their settings. Created by the services."""

    __slots__ = ("_clients", "_servers")

    def __init__(self) -> None:
        self._servers: dict[Tls, ServerTls] = {}
        self._clients: dict[tuple[ClientTls, str], UpstreamTls] = {}

    def prepare(self, config: Config) -> Generator[None, None, "TlsContexts"]:
        """Return the contexts that `config` needs, those in use among them; raise NginyError.

        Yields after each context that had to be made.
        """
        prepared = TlsContexts()
        for listener in config.listeners:
            for tls in terminations(listener):
                if tls not in prepared._servers:
                    made = self._servers.get(tls) or (yield from server_tls(tls))
                    prepared._servers[tls] = made
            if listener.proxy_tls is not None:
                key = client_key(listener.proxy_tls)
                if key not in prepared._clients:
                    found = self._clients.get(key)
                    prepared._clients[key] = found or upstream_tls(*key)
                    if found is None:
                        yield
        return prepared

    def server(self, tls: Tls | None) -> ServerTls | None:
        """Return the context of these keys, None if there is none."""
        return None if tls is None else self._servers.get(tls)

    def phase(self, listener: Listener) -> TlsPhase | None:
        """Return what terminates TLS on a listener, None if nothing does."""
        by_route: dict[int, ServerTls | None] = {}
        for number, route in enumerate(listener.routes, 1):
            if route.tls is not None:
                by_route[number] = self.server(route.tls)
            elif is_passed_through(route):
                by_route[number] = None
        default = self.server(listener.tls)
        return TlsPhase(default, by_route) if default or any(by_route.values()) else None

    def client(self, listener: Listener) -> UpstreamTls | None:
        """Return how a listener speaks TLS to backends, None if it does not."""
        return None if listener.proxy_tls is None else self._clients[client_key(listener.proxy_tls)]


def terminations(listener: Listener) -> Iterator[Tls]:
    """Yield all keys by which a listener terminates TLS."""
    for tls in (listener.tls, *(route.tls for route in listener.routes)):
        if tls is not None:
            yield tls


def files_of_tls(config: Config) -> Iterator[Pem]:
    """Yield all certificates and keys that a configuration names for TLS."""
    for listener in config.listeners:
        for tls in terminations(listener):
            for pair in tls.pairs:
                yield from (pair.certificate, pair.key_)
            if tls.client_ca is not None:
                yield tls.client_ca
        own = listener.proxy_tls
        if own is not None:
            yield from (each for each in (own.ca, own.certificate, own.key_) if each is not None)


def is_passed_through(route: Route) -> bool:
    """Return whether the clients of a route keep their TLS, or have none.

    No handshake is possible on a route that asks for the first bytes as they come, or for no TLS.
    """
    return route.passthrough or route.is_tls is False or route.starts is not None


def client_key(tls: ProxyTls) -> tuple[ClientTls, str]:
    """Return how a listener with these keys speaks to backends, and whose certificate it
    expects."""
    return client_tls(tls), tls.name or ""


def client_tls(tls: ProxyTls) -> ClientTls:
    """Return the settings that the contexts of these keys are made of."""
    return ClientTls(
        verify=tls.verify,
        authorities=None if tls.ca is None else tls.ca.content,
        certificate=b"" if tls.certificate is None else tls.certificate.content,
        key=b"" if tls.key_ is None else tls.key_.content,
        password=b"" if tls.password_file is None else tls.password_file.content,
        alpn=tls.alpn or (),
        protocols=tls.protocols,
        ciphers="" if tls.ciphers == "default" else tls.ciphers,
        sends_name=tls.sni,
    )


def upstream_tls(settings: ClientTls, name: str) -> UpstreamTls:
    """Return what sessions with these settings share; raise ContextError."""
    try:
        context = client_context(settings)
    except ValueError as error:
        raise ContextError("proxy_tls", f"a certificate or key {error}") from None
    return UpstreamTls(context, name, verifies=settings.verify, sends_name=settings.sends_name)


def server_tls(tls: Tls) -> Generator[None, None, ServerTls]:
    """Return how a listener with these keys terminates TLS; yield after each certificate."""
    contexts: list[SSLContext] = []
    by_name: dict[str, SSLContext] = {}
    for pair in tls.pairs:
        context = server_context(tls, pair)
        contexts.append(context)
        for name in first_of_pem(pair.certificate.content).names:
            by_name.setdefault(name, context)
        yield
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
    context.options |= ssl.OP_NO_RENEGOTIATION
    set_protocols(context, tls.protocols)
    if tls.ciphers != "default":
        try:
            set_ciphers(context, tls.ciphers)
        except ValueError as error:
            raise ContextError("ciphers", f'"{tls.ciphers}" {error}') from None
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


def load_pair(context: SSLContext, pair: CertificatePair) -> None:
    """Let a context show a certificate; raise ContextError if its key does not open or fit."""
    is_asked = False

    def password() -> bytes:
        nonlocal is_asked
        is_asked = True
        return b"" if pair.password_file is None else pair.password_file.content

    try:
        # Two files, because that of the certificate may contain another key.
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
    """Let a context write the keys of its sessions to a file (SSLKEYLOGFILE's format)."""
    try:
        context.keylog_filename = path
    except OSError as error:
        raise ContextError("key_log", f'"{path}" cannot be written: {error.strerror}') from None


@contextlib.contextmanager
def file_of(content: bytes) -> Iterator[str]:
    """Provide `content` as a file in memory, which has no name on any disk."""
    try:
        fd = os.memfd_create("nginy-tls")
    except OSError as error:
        raise NginyError(f"no memory for a key: {error.strerror}") from None
    with open(fd, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{fd}"
