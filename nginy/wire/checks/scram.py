"""SCRAM-SHA-256, the client's side: a login that shows the password to nobody.

The server learns that we know the password, and we learn that it knows it, too. This module has the
texts of the exchange; `postgres` carries them.

Two texts are ours: `first` opens, and `answer` replies to the server's. What the server says last
must be the signature that `answer` returns.

Source: RFC 5802 §3, §5 and §7; RFC 7677 for SHA-256.
"""

import base64
import binascii
import hmac
import re
from hashlib import pbkdf2_hmac, sha256
from typing import Final

from nginy.wire.errors import WireError

NO_BINDING: Final = b"n,,"
MAX_ITERATIONS: Final = 20_000
"""PostgreSQL takes 4,096 (1.5 ms). The server says the number, and the loop waits meanwhile."""
SERVER_FIRST: Final = re.compile(rb"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,8})(?:,.*)?")


def first(nonce: bytes) -> bytes:
    """Return our first text without its head; the user's name is in the protocol around it."""
    return b"n=,r=" + nonce


def answer(first_text: bytes, server_first: bytes, password: bytes) -> tuple[bytes, bytes]:
    """Return our last text, and what the server has to say to it.

    Raises WireError if the server's text is malformed, is not an answer to ours, or asks for too
    much work.
    """
    match = SERVER_FIRST.fullmatch(server_first)
    if match is None:
        raise WireError("the server's part of the login is malformed")
    nonce, iterations = match[1], int(match[3])
    ours = first_text.partition(b"r=")[2]
    if not nonce.startswith(ours) or nonce == ours:
        raise WireError("the server's part of the login is not for ours")
    if iterations > MAX_ITERATIONS:
        raise WireError(f"the server wants {iterations} iterations, more than {MAX_ITERATIONS}")
    try:
        salt = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        raise WireError("the server's part of the login is malformed") from None
    salted = pbkdf2_hmac("sha256", password, salt, iterations)
    last = b"c=" + base64.b64encode(NO_BINDING) + b",r=" + nonce
    both = b",".join((first_text, server_first, last))
    key = _hmac(salted, b"Client Key")
    signature = _hmac(sha256(key).digest(), both)
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    theirs = b"v=" + base64.b64encode(_hmac(_hmac(salted, b"Server Key"), both))
    return last + b",p=" + base64.b64encode(proof), theirs


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
