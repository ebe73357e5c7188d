"""Certificates, compared with openssl(1) and Python's ssl, and what is not a certificate."""

import pathlib
import random
import re
import ssl
import subprocess

import pytest
from nginy.wire.certificate import first_of_pem, parse
from nginy.wire.errors import WireError

from kit.program import needs
from kit.tls import make_certificate


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A certificate for a host, a wildcard and two addresses, behind its key."""
    directory = tmp_path_factory.mktemp("certificate")
    names = "subjectAltName=DNS:A.example.test,DNS:*.example.test,IP:192.0.2.1,IP:2001:db8::1"
    return make_certificate(directory, "common.test", names=names, days=30).read_text()


def test_names_are_those_of_the_alternative_name(text: str) -> None:
    names = first_of_pem(text.encode()).names
    assert names[-4:] == ("a.example.test", "*.example.test", "192.0.2.1", "2001:db8::1")


def test_times_are_those_that_openssl_prints(text: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "c.pem"
    path.write_text(text)
    said = subprocess.run(
        [needs("openssl", "openssl"), "x509", "-noout", "-dates", "-in", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    before, after = re.findall(r"=(.*)", said)
    certificate = first_of_pem(text.encode())
    assert certificate.not_before_s == ssl.cert_time_to_seconds(before)
    assert certificate.not_after_s == ssl.cert_time_to_seconds(after)


def test_without_alternative_names_the_common_name_counts(tmp_path: pathlib.Path) -> None:
    subprocess.run(
        [
            *(needs("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-nodes"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/O=x/CN=only.test"),
            *("-days", "20000", "-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "c")),
        ],
        check=True,
        capture_output=True,
    )
    certificate = first_of_pem((tmp_path / "c").read_bytes())
    assert (certificate.names, certificate.subject) == (("only.test",), "only.test")
    # Beyond 2049 a time has another form.
    assert certificate.not_after_s - certificate.not_before_s == 20000 * 86400


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAA", "it has no certificate"),
        ("-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----", "is damaged|is not base64"),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----", "is damaged"),
    ],
)
def test_what_is_no_certificate_is_said(text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        first_of_pem(text.encode())


def test_no_damage_does_more_than_be_refused(text: str) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    whole = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])
    refused = 0
    for _ in range(3000):
        der = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            der[rng.randrange(len(der))] = rng.randrange(256)
        try:
            parse(bytes(der[: rng.randrange(len(der) + 1)]))
        except WireError:
            refused += 1
    assert refused > 1000
