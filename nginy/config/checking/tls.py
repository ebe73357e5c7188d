"""Finds certificates and keys that do not belong together, or have expired.

A start, `nginy -t` and a reload all load the configuration, and so all run these checks; a reload
with a bad file changes nothing. OpenSSL itself says whether a key fits: the context that is made
for it here is the one that would serve.

pem.py has read the files already. A certificate that expires soon is a warning, see surprises.py.

Tested in tests/config/test_tls.py.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Final

from nginy.config.building.tls import (
    ContextError,
    client_tls,
    is_passed_through,
    load_pair,
    server_context,
    terminations,
)
from nginy.config.checking.targets import upstreams_of
from nginy.config.node import Findings, Mark, quote, quote_path
from nginy.config.pem import Pem
from nginy.config.routes import Route
from nginy.config.schema import Config, Listener
from nginy.config.tls import CertificatePair, ProxyTls, Tls
from nginy.event.tls_client import client_context
from nginy.text.times import utc_text
from nginy.wire.certificate import Certificate, first_of_pem
from nginy.wire.errors import WireError
from nginy.wire.tls_failure import matches

DAY_S: Final = 86_400
SOON_DAYS: Final = 14
"""nginy warns about a certificate this many days before its end."""

NAMES_SHOWN: Final = 3

Now = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Validity:
    """A certificate of the configuration, and how long it is valid."""

    pem: Pem
    mark: Mark
    certificate: Certificate
    left_s: float

    @property
    def days(self) -> int:
        """Whole days that are left."""
        return int(self.left_s // DAY_S)

    def __str__(self) -> str:
        """Return the sentence that `nginy -t` prints."""
        names = self.certificate.names
        shown = ", ".join(names[:NAMES_SHOWN]) + ", ..." * (len(names) > NAMES_SHOWN)
        what = f"certificate {quote_path(self.pem.path)} ({shown or 'no name'})"
        return f"{what} is valid for {self.days} day{'s' * (self.days != 1)} more"


def validities(config: Config, now: Now = time.time) -> list[Validity]:
    """Return all certificates that a configuration shows to a peer, each once."""
    found: dict[Pem, Validity] = {}
    for pem, mark in _shown(config):
        if pem not in found:
            certificate = first_of_pem(pem.content)
            found[pem] = Validity(pem, mark, certificate, certificate.not_after_s - now())
    return list(found.values())


def _shown(config: Config) -> Iterator[tuple[Pem, Mark]]:
    for listener in config.listeners:
        for tls in terminations(listener):
            for pair in tls.pairs:
                yield pair.certificate, pair.origin.of("certificate")
        own = listener.proxy_tls
        if own is not None and own.certificate is not None:
            yield own.certificate, own.origin.of("certificate")


def check_tls(config: Config, findings: Findings, now: Now = time.time) -> None:
    """Report keys that do not go together, and files that cannot be used."""
    for listener in config.listeners:
        if listener.tls is not None and listener.origin.has("tls"):
            _check_server(listener.tls, findings, now)
        for route in listener.routes:
            _check_route(route, listener, findings, now)
        if listener.proxy_tls is not None and listener.origin.has("proxy_tls"):
            upstreams = [config.upstreams.get(name) for name in upstreams_of(listener)]
            backends = [each for upstream in upstreams if upstream for each in upstream.backends]
            is_unix = any(backend.address.is_unix for backend in backends)
            _check_client(listener.proxy_tls, findings, now, is_unix=is_unix)


def _check_route(route: Route, listener: Listener, findings: Findings, now: Now) -> None:
    origin = route.origin
    if not origin.has("tls", "passthrough"):
        return
    if route.tls is not None and is_passed_through(route):
        beside = next(key for key in ("passthrough", "is_tls", "starts") if key in origin.keys)
        text = f"tls: {beside} at {origin.of(beside)} passes clients through, expected one"
        findings.report(origin.of("tls"), text)
    elif route.tls is not None:
        _check_server(route.tls, findings, now)
    elif route.passthrough and listener.tls is None:
        text = "passthrough: the listener has no tls, so all its clients are passed through"
        findings.report(origin.of("passthrough"), text)
    if listener.protocol == "udp":
        for key in ("tls", "passthrough"):
            if key in origin.keys:
                findings.report(origin.of(key), f"{key}: is for tcp listeners, this one is udp")


def uncovered(config: Config) -> Iterator[tuple[Mark, str]]:
    """Find names that routes ask for and no certificate of theirs has."""
    for listener in config.listeners:
        for route in listener.routes:
            tls = route.tls or listener.tls
            if tls is None or is_passed_through(route):
                continue
            names = [n for pair in tls.pairs for n in first_of_pem(pair.certificate.content).names]
            for name in route.sni:
                if not name.startswith("~") and not any(matches(each, name) for each in names):
                    text = f"no certificate is for {quote(name)}, so its clients get another one"
                    yield route.origin.of("sni"), f"{text} one"


def _check_server(tls: Tls, findings: Findings, now: Now) -> None:
    if not tls.origin.has("certificates", "certificate", "key"):
        return
    if not (_check_given(tls, findings) and _check_clients(tls, findings)):
        return
    # A test must leave no file behind.
    quiet = replace(tls, key_log=None)
    for pair in tls.pairs:
        is_fine = _check_times(pair.certificate, pair.origin.of("certificate"), findings, now)
        try:
            if is_fine:
                server_context(quiet, pair)
        except ContextError as error:
            own = error.key in ("certificate", "key", "password_file")
            mark = (pair if own else tls).origin.of(error.key)
            findings.report(mark, f"{error.key}: {error}")
            if not own:  # it would be the same for all of them
                break


def _check_client(tls: ProxyTls, findings: Findings, now: Now, *, is_unix: bool) -> None:
    origin = tls.origin
    if not origin.has("certificate", "key", "ca", "verify", "name"):
        return
    if tls.verify and tls.name is None and is_unix:
        text = "proxy_tls: a backend is a unix socket, expected name, or verify: off"
        findings.report(origin.mark, text)
    if not tls.verify and tls.ca is not None:
        findings.report(origin.of("ca"), "ca: nothing is verified, expected verify: on")
    if _check_own(tls, findings, now):
        _check_contexts(tls, findings)


def _check_own(tls: ProxyTls, findings: Findings, now: Now) -> bool:
    """Report a certificate of nginy's own that cannot be shown; return whether all is well."""
    origin, certificate = tls.origin, tls.certificate
    if certificate is None and tls.key_ is None:
        return True
    if certificate is None:
        findings.report(origin.of("key"), '"certificate" is missing beside key')
        return False
    if not _check_times(certificate, origin.of("certificate"), findings, now):
        return False
    pair = CertificatePair(
        certificate=certificate,
        key_=tls.key_ or certificate,
        password_file=tls.password_file,
        origin=origin,
    )
    try:
        load_pair(SSLContext(PROTOCOL_TLS_CLIENT), pair)
    except ContextError as error:
        findings.report(origin.of(error.key), f"{error.key}: {error}")
        return False
    return True


def _check_contexts(tls: ProxyTls, findings: Findings) -> None:
    """Report authorities and ciphers that OpenSSL does not take."""
    origin = tls.origin
    settings = replace(client_tls(tls), certificate=b"", key=b"")
    for key, part in (
        ("ca", replace(settings, verify=tls.ca is not None, ciphers="")),
        ("ciphers", replace(settings, verify=False, authorities=None)),
    ):
        try:
            client_context(part)
        except ValueError as error:
            path = quote_path(tls.ca.path) if key == "ca" and tls.ca is not None else tls.ciphers
            findings.report(origin.of(key), f"{key}: {path} {error}")


def _check_given(tls: Tls, findings: Findings) -> bool:
    """Report a listener without a certificate, or with two ways of naming it."""
    origin = tls.origin
    if (tls.certificate is None) != (tls.key_ is None):
        missing, given = ("key", "certificate") if tls.key_ is None else ("certificate", "key")
        findings.report(origin.of(given), f'"{missing}" is missing beside {given}')
    elif tls.certificate is not None and tls.certificates:
        text = "certificates: a certificate stands beside it, expected one of the two"
        findings.report(origin.of("certificates"), text)
    elif not tls.pairs:
        findings.report(origin.mark, 'tls: expected "certificates", or "certificate" and "key"')
    else:
        return True
    return False


def _check_clients(tls: Tls, findings: Findings) -> bool:
    """Report client_ca without verify_client, and verify_client without client_ca."""
    origin = tls.origin
    if tls.verify_client != "off" and tls.client_ca is None and origin.has("client_ca"):
        findings.report(origin.of("verify_client"), "verify_client: expected client_ca beside it")
    elif tls.client_ca is not None and tls.verify_client == "off" and origin.has("verify_client"):
        text = "client_ca: nginy asks no client for a certificate, expected verify_client: optional"
        findings.report(origin.of("client_ca"), f"{text} or required")
    else:
        return True
    return False


def _check_times(pem: Pem, mark: Mark, findings: Findings, now: Now) -> bool:
    """Report a certificate that is not valid now; return whether it can be used."""
    path = quote_path(pem.path)
    try:
        certificate = first_of_pem(pem.content)
    except WireError as error:
        findings.report(mark, f"certificate: {path} cannot be used: {error}")
        return False
    now_s = now()
    if certificate.not_after_s <= now_s:
        when = utc_text(int(certificate.not_after_s * 1000))
        findings.report(mark, f"certificate: {path} expired at {when}")
        return False
    if certificate.not_before_s > now_s:
        when = utc_text(int(certificate.not_before_s * 1000))
        findings.report(mark, f"certificate: {path} is not valid before {when}")
        return False
    return True
