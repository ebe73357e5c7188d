"""SCRAM-SHA-256 by the example of its RFC, and servers that say something else."""

import pytest
from nginy.wire.checks.scram import MAX_ITERATIONS, answer, first
from nginy.wire.errors import WireError

NONCE = b"rOprNGfwEbeRWgbNEkqO"
SALT = b"s=W22ZaJ0SNY7soEsUEjb6gQ=="
SERVER = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," + SALT + b",i=4096"


def test_the_example_of_the_rfc() -> None:
    """RFC 7677 §3, which has a user's name."""
    last, theirs = answer(b"n=user,r=" + NONCE, SERVER, b"pencil")
    assert last == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert theirs == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize(
    "server",
    [
        b"",
        b"e=other-error",
        SERVER.replace(b"i=4096", b"i=0"),
        SERVER.replace(b"i=4096", b"i=-1"),
        SERVER.replace(b"i=4096", b"i=%d" % (MAX_ITERATIONS + 1)),
        SERVER.replace(b"i=4096", b"i=999999999999"),
        SERVER.replace(SALT, b"s=W22"),
        SERVER.replace(SALT, b"s="),
        SERVER.replace(b"r=rO", b"r=xO"),
        b"r=" + NONCE + b"," + SALT + b",i=4096",
    ],
)
def test_what_a_server_must_not_say(server: bytes) -> None:
    with pytest.raises(WireError):
        answer(first(NONCE), server, b"pencil")
