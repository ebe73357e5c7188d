"""Who may ask: the rules that a request passes before anybody looks at it.

Pure: a request and the time go in, a refusal comes out. The order is fixed. Host is first, so that
a page of another site whose name resolves to our address (DNS rebinding) learns nothing, not even
whether a token is right. The token is next; then what only changes need: the right to change, JSON,
and a sender that is no foreign page. There are no cookies and no CORS fields, so a page from
elsewhere has nothing to send along and cannot read an answer.

Source: RFC 9110 §7.4 (misdirected requests), RFC 6750 §2.1 (bearer tokens), the Fetch standard
(Origin), Fetch Metadata (Sec-Fetch-Site).
"""

import hmac
from dataclasses import dataclass
from typing import Final

from nginy.proxy.access import Table
from nginy.text.address import Address
from nginy.wire.request import Request, RequestError

FAILURES_PER_S: Final = 5
"""Wrong tokens that a listener looks at in a second; then it refuses all tokens for the rest of
it."""
CHANGING: Final = frozenset({"POST", "PATCH", "DELETE"})
OWN_SITES: Final = frozenset({"", "none", "same-origin"})
"""Values of Sec-Fetch-Site that are accepted; "" is a client that does not send it."""


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """What the clients of one admin listener need, and may do."""

    access: str = "read"
    """full, read or metrics."""
    hosts: frozenset[str] = frozenset()
    """Names, in lower case, that Host may have besides addresses and localhost."""
    allow: Table | None = None
    """The networks that may connect, each with the number 0; None: everyone."""
    token: bytes = b""
    """What clients have to show; empty: nothing."""


class TokenBrake:
    """Counts wrong tokens, so that guessing takes forever."""

    __slots__ = ("_began_ms", "_failures")

    def __init__(self) -> None:
        self._began_ms = 0
        self._failures = 0

    def is_on(self, now_ms: int) -> bool:
        """Whether nginy looks at no token now."""
        if now_ms - self._began_ms >= 1000:
            self._failures = 0
        return self._failures >= FAILURES_PER_S

    def count(self, now_ms: int) -> None:
        """Count a wrong token."""
        if not self._failures:
            self._began_ms = now_ms
        self._failures += 1


def may_connect(settings: DoorSettings, host: str) -> bool:
    """Whether a client with this IP address may connect."""
    return settings.allow is None or settings.allow.owner(host) == 0


def check(
    request: Request, settings: DoorSettings, address: Address, brake: TokenBrake, now_ms: int
) -> None:
    """Raise RequestError if nginy must not answer the request; `address` is where it has
    arrived.
    """
    # No browser reaches a unix socket, so any name will do there.
    if not address.is_unix:
        _check_host(request, settings, address)
    if settings.token:
        _check_token(request, settings.token, brake, now_ms)
    if request.method in CHANGING:
        _check_change(request, settings)


def _check_host(request: Request, settings: DoorSettings, address: Address) -> None:
    host = request.host
    is_ours = host == address.host or (address.is_wildcard and _is_literal(host))
    if not is_ours and host != "localhost" and host not in settings.hosts:
        text = f"the request is for another host, expected {address.host} or localhost"
        raise RequestError(421, "misdirected_request", f"{text}; hosts: adds names")


def _is_literal(host: str) -> bool:
    return ":" in host or not host.strip("0123456789.")


def _check_token(request: Request, token: bytes, brake: TokenBrake, now_ms: int) -> None:
    if brake.is_on(now_ms):
        raise RequestError(429, "too_many_failures", "too many wrong tokens, try again in 1s")
    scheme, _, shown = request.fields.get("authorization", "").partition(" ")
    if not shown:
        raise RequestError(401, "token_missing", "expected Authorization: Bearer TOKEN")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.encode("latin-1"), token):
        brake.count(now_ms)
        raise RequestError(401, "token_wrong", "the token is not that of token_file")


def _check_change(request: Request, settings: DoorSettings) -> None:
    if settings.access != "full":
        needed = "changes and traces need full, as unix sockets have"
        text = f"this listener has access {settings.access}, {needed}"
        raise RequestError(403, "read_only", text)
    origin = request.fields.get("origin")
    # With https there is a proxy in front, which speaks TLS.
    scheme, _, asker = (origin or "").lower().partition("://")
    is_own = scheme in ("http", "https") and asker == request.fields.get("host", "").lower()
    if origin is not None and not is_own:
        raise RequestError(403, "foreign_origin", "pages of other sites may not change anything")
    if request.fields.get("sec-fetch-site", "").lower() not in OWN_SITES:
        raise RequestError(403, "foreign_site", "pages of other sites may not change anything")
    kind = request.fields.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(415, "json_expected", "expected Content-Type: application/json")
