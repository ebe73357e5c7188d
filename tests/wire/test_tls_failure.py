"""Failures of TLS in words."""

import pytest
from nginy.wire.tls_failure import (
    ADDRESS_MISMATCH,
    EXPIRED,
    NAME_MISMATCH,
    NOT_YET_VALID,
    VERIFICATIONS,
    certificate_failure,
    matches,
    tls_failure,
)

NOON_S = 1_779_192_000  # May 19 2026, 12:00 UTC
DAY_S = 86400
CERTIFICATE = {
    "notBefore": "May  1 12:00:00 2026 GMT",
    "notAfter": "Jun  1 12:00:00 2026 GMT",
    "subjectAltName": (("DNS", "a.test"), ("DNS", "*.b.test"), ("IP Address", "192.0.2.1")),
}


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("WRONG_VERSION_NUMBER", "what came is not TLS"),
        ("HTTP_REQUEST", "plain HTTP came"),
        ("NO_SHARED_CIPHER", "no shared cipher"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "the other side says: certificate required"),
        ("SOMETHING_NEW", "SOMETHING_NEW"),
    ],
)
def test_a_reason_is_put_into_words(reason: str, words: str) -> None:
    assert tls_failure(reason) == words


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        (EXPIRED, "certificate has expired", "certificate expired"),
        (NOT_YET_VALID, "", "certificate not valid yet"),
        (20, "unable to get local issuer certificate", VERIFICATIONS[20]),
        (NAME_MISMATCH, "Hostname mismatch, not for 'x'.", "Hostname mismatch, not for 'x'"),
        (ADDRESS_MISMATCH, "", "certificate not accepted (64)"),
    ],
)
def test_what_a_certificate_lacks_is_put_into_words(code: int, message: str, words: str) -> None:
    assert tls_failure("CERTIFICATE_VERIFY_FAILED", code, message) == words


@pytest.mark.parametrize(
    ("now_s", "name", "words"),
    [
        (NOON_S, "a.test", ""),
        (NOON_S, "A.TEST.", ""),
        (NOON_S, "192.0.2.1", ""),
        (NOON_S, "c.test", "certificate is for a.test, *.b.test, 192.0.2.1, not for c.test"),
        (NOON_S + 16 * DAY_S, "a.test", "certificate expired 3 days ago"),
        (NOON_S + 14 * DAY_S, "a.test", "certificate expired 1 day ago"),
        (NOON_S + 13 * DAY_S + 7300, "a.test", "certificate expired 2 hours ago"),
        (NOON_S + 13 * DAY_S + 61, "a.test", "certificate expired 1 minute ago"),
        (NOON_S + 13 * DAY_S + 0.5, "a.test", "certificate expired a moment ago"),
        (NOON_S - 20 * DAY_S, "a.test", "certificate not valid yet, but in 2 days"),
    ],
)
def test_a_certificate_tells_its_dates_and_names(now_s: float, name: str, words: str) -> None:
    assert certificate_failure(CERTIFICATE, name, now_s) == words


def test_a_certificate_without_names_or_dates_is_for_nobody() -> None:
    assert certificate_failure({}, "a.test", 0) == "certificate is for no name, not for a.test"
    assert certificate_failure({"notAfter": "today"}, "a", 0).endswith("no name, not for a")


def test_of_many_names_the_first_are_shown() -> None:
    names = tuple(("DNS", f"{each}.test") for each in "abcd")
    certificate = {**CERTIFICATE, "subjectAltName": names}
    assert certificate_failure(certificate, "x", NOON_S) == (
        "certificate is for a.test, b.test, c.test, ..., not for x"
    )


@pytest.mark.parametrize(
    ("pattern", "name", "is_covered"),
    [
        ("*.b.test", "x.b.test", True),
        ("*.b.test", "b.test", False),
        ("*.b.test", "y.x.b.test", False),
        ("*.b.test", ".b.test", False),
        ("*.test", "x.test", False),
        ("x*.b.test", "xy.b.test", False),
    ],
)
def test_a_wildcard_stands_for_one_label(pattern: str, name: str, is_covered: bool) -> None:
    assert matches(pattern, name) is is_covered
