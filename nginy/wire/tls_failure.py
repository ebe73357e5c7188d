"""Why TLS has failed, in words that an operator knows.

OpenSSL names a failure by a constant such as TLSV1_ALERT_UNKNOWN_CA, and a certificate that it does
not accept by a number. `tls_failure` puts both into words. `certificate_failure` says more if there
is a certificate to look at: when it expired, how long until it is valid, which names it is for.

`nginy/event/tls.py` has the connections, `backend/checks/dialog.py` and others ask.

The one idea: each text is a clause that follows a colon. A failure without words here keeps
OpenSSL's name, which search engines know.

Source: OpenSSL, `ssl/ssl_err.c` and `crypto/x509/x509_txt.c`; RFC 8446 §6 for the alerts.
"""

import ssl
from collections.abc import Mapping, Sequence
from typing import Final

NOT_YET_VALID, EXPIRED, NAME_MISMATCH, ADDRESS_MISMATCH = 9, 10, 62, 64
SHOWN_BY_CERTIFICATE: Final = frozenset({NOT_YET_VALID, EXPIRED, NAME_MISMATCH, ADDRESS_MISMATCH})
"""Verification failures of which the certificate itself tells more: see `certificate_failure`."""

UNKNOWN_ISSUER: Final = "certificate of an issuer that is not trusted"
VERIFICATIONS: Final = {
    2: UNKNOWN_ISSUER,
    7: "certificate with a signature that is not its issuer's",
    NOT_YET_VALID: "certificate not valid yet",
    EXPIRED: "certificate expired",
    18: "self-signed certificate, which is not trusted",
    19: "certificate of a self-signed issuer, which is not trusted",
    20: UNKNOWN_ISSUER,
    21: "certificate without its issuers, the first of which is not trusted",
    23: "certificate revoked",
    24: "certificate of an issuer that may issue none",
    25: "certificate with too many issuers",
    26: "certificate for another purpose",
    66: "certificate with a key that is too weak",
    67: "certificate of an issuer whose key is too weak",
    68: "certificate with a signature that is too weak",
    79: "certificate of an issuer that may issue none",
}
"""By OpenSSL's X509_V_ERR_…; the rest keeps OpenSSL's text."""

CUT: Final = "UNEXPECTED_EOF_WHILE_READING"
"""What OpenSSL calls the end of a connection without a farewell."""
NOT_TLS: Final = "what came is not TLS"
SAID: Final = "the other side says: "
REASONS: Final = {
    "WRONG_VERSION_NUMBER": NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": NOT_TLS,
    "RECORD_LAYER_FAILURE": NOT_TLS,  # OpenSSL 3.2 and later
    "HTTP_REQUEST": "plain HTTP came",
    "HTTPS_PROXY_REQUEST": "plain HTTP came",
    CUT: "cut off without a farewell (close_notify)",
    "NO_SHARED_CIPHER": "no shared cipher",
    "NO_SUITABLE_KEY_SHARE": "no shared key exchange",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "no shared signature algorithm",
    "NO_SHARED_SIGNATURE_ALGORITHMS": "no shared signature algorithm",
    "UNSUPPORTED_PROTOCOL": "no shared version of TLS",
    "VERSION_TOO_LOW": "no shared version of TLS",
    "NO_PROTOCOLS_AVAILABLE": "no shared version of TLS",
    "DH_KEY_TOO_SMALL": "key exchange with a key that is too weak",
    "EE_KEY_TOO_SMALL": VERIFICATIONS[66],
    "CA_MD_TOO_WEAK": VERIFICATIONS[68],
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "certificate required, none came",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": SAID + "handshake failure",
    "TLSV1_ALERT_PROTOCOL_VERSION": SAID + "no shared version of TLS",
    "TLSV1_ALERT_UNKNOWN_CA": SAID + UNKNOWN_ISSUER,
    "SSLV3_ALERT_BAD_CERTIFICATE": SAID + "bad certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": SAID + "unsupported certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": SAID + "certificate revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": SAID + "certificate expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": SAID + "certificate not accepted",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": SAID + "certificate required",
    "TLSV1_ALERT_ACCESS_DENIED": SAID + "access denied",
    "TLSV1_UNRECOGNIZED_NAME": SAID + "unknown server name",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": SAID + "no shared application protocol",
    "TLSV1_ALERT_INTERNAL_ERROR": SAID + "internal error",
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": SAID + "insufficient security",
}
"""By OpenSSL's name of a reason, as `ssl.SSLError.reason` has it."""

NAMES_SHOWN: Final = 3
UNITS: Final = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))

PeerCertificate = Mapping[str, object]
"""As `ssl.SSLObject.getpeercert` returns it."""


def tls_failure(reason: str, verify_code: int = 0, verify_message: str = "") -> str:
    """Return why a handshake has failed, or a connection has broken.

    `reason` is OpenSSL's name of it; `verify_code` and `verify_message` say what is wrong with the
    certificate of the other side, if that is the reason.
    """
    if not verify_code:
        return REASONS.get(reason, reason)
    found = VERIFICATIONS.get(verify_code)
    return found or verify_message.rstrip(".") or f"certificate not accepted ({verify_code})"


def handshake_failure(reason: str, verify_code: int = 0, verify_message: str = "") -> str:
    """Return why a handshake has failed with a server, which may have no TLS."""
    if reason == CUT:
        return "the server closed the connection in the middle of the handshake"
    return tls_failure(reason, verify_code, verify_message)


def certificate_failure(certificate: PeerCertificate, name: str, now_s: float) -> str:
    """Return why a certificate may not stand for `name` now, or "" if its own words allow it."""
    since_s = now_s - _seconds(certificate.get("notAfter"), now_s)
    if since_s > 0:
        return f"certificate expired {_time(since_s)} ago"
    until_s = _seconds(certificate.get("notBefore"), now_s) - now_s
    if until_s > 0:
        return f"certificate not valid yet, but in {_time(until_s)}"
    return name_failure(certificate, name)


def name_failure(certificate: PeerCertificate, name: str) -> str:
    """Return which names a certificate is for, if not for `name`, else ""."""
    names = names_of(certificate)
    if any(matches(each, name) for each in names):
        return ""
    shown = ", ".join(names[:NAMES_SHOWN]) + ", ..." * (len(names) > NAMES_SHOWN)
    return f"certificate is for {shown or 'no name'}, not for {name}"


def names_of(certificate: PeerCertificate) -> Sequence[str]:
    """Return the host names and addresses that a certificate is for."""
    names = certificate.get("subjectAltName", ())
    assert isinstance(names, tuple)
    return [str(value) for kind, value in names if kind in ("DNS", "IP Address")]


def matches(pattern: str, name: str) -> bool:
    """Say whether a name of a certificate covers a host name (RFC 6125 §6.4) or an address."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*."):
        label, _, rest = name.partition(".")
        return bool(label) and rest == pattern[2:] and "." in rest
    return pattern == name


def _seconds(text: object, otherwise: float) -> float:
    """Return a time of a certificate, such as "Jan  5 09:34:43 2018 GMT"."""
    try:
        return ssl.cert_time_to_seconds(str(text))
    except ValueError:
        return otherwise


def _time(seconds: float) -> str:
    """Return a time in its largest unit, as people say it: "3 days"."""
    for unit, length in UNITS:
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' * (count > 1)}"
    return "a moment"
