"""The radius check: Status-Server, which asks a server for its state and does not count as a login.

It works on both ports: the one for logins answers Access-Accept, the one for accounting answers
Accounting-Response. Both sides prove that they know the shared secret; the check passes over a
datagram without the proof, as the RFC asks.

Source: RFC 5997 §3 and §4; RFC 2865 §3 and RFC 2866 §3 for the response authenticator; RFC 3579
§3.2 for Message-Authenticator.

Tested in tests/wire/checks/test_datagrams.py.
"""

import hmac
import struct
from dataclasses import dataclass, field
from hashlib import md5
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target

STATUS_SERVER: Final = 12
ACCESS_ACCEPT: Final = 2
ACCOUNTING_RESPONSE: Final = 5
NAS_IDENTIFIER: Final = bytes((32, 7)) + b"nginy"
MESSAGE_AUTHENTICATOR: Final = bytes((80, 18))
HEAD: Final = struct.Struct(">BBH16s")  # code, identifier, length, authenticator


@dataclass(frozen=True, slots=True)
class RadiusCheck:
    """Expects an answer made with `secret`."""

    secret: bytes = field(repr=False)
    name = "radius"

    def script(self, talk: Talk, target: Target) -> Script[None]:
        """Ask, and wait for an answer to this very request."""
        number, ours = target.token(1)[0], target.token(16)
        yield self._request(number, ours)
        talk.expected = "an answer with our secret"
        while True:
            packet = yield from talk.datagram()
            if self._is_answer(packet, number, ours):
                break
        if packet[0] not in (ACCESS_ACCEPT, ACCOUNTING_RESPONSE):
            raise CheckFailedError(f"code {packet[0]} came, Access-Accept (2) was expected")

    def _request(self, number: int, ours: bytes) -> bytes:
        attributes = NAS_IDENTIFIER + MESSAGE_AUTHENTICATOR
        head = HEAD.pack(STATUS_SERVER, number, HEAD.size + len(attributes) + 16, ours)
        proof = hmac.new(self.secret, head + attributes + bytes(16), "md5").digest()
        return head + attributes + proof

    def _is_answer(self, packet: bytes, number: int, ours: bytes) -> bool:
        """Say whether a datagram answers our request, and proves it."""
        if len(packet) < HEAD.size:
            return False
        _, identifier, length, proof = HEAD.unpack_from(packet)
        if identifier != number or not HEAD.size <= length <= len(packet):
            return False
        rest = packet[HEAD.size : length]
        made = md5(packet[:4] + ours + rest + self.secret, usedforsecurity=False).digest()
        return hmac.compare_digest(made, proof)
