"""The dns check: a question, and the response code or the address in its answer.

Over UDP it passes over a datagram that answers another question, as a resolver does: a late or
forged one must not end the check. A server that answers with a code but repeats no question could
not read ours, and has said so.

Source: RFC 1035 §4.1 and §4.2; `nginy/wire/dns.py` reads the addresses.

Tested in tests/wire/checks/test_datagrams.py.
"""

from dataclasses import dataclass
from typing import Final

from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.dns import (
    CLASS_IN,
    HEADER,
    LENGTH,
    NO_ERROR,
    OPCODE,
    QUESTION,
    RCODE,
    RCODE_NAMES,
    RECURSION_DESIRED,
    RESPONSE,
    TRUNCATED,
    Query,
    RecordType,
    frame,
    parse_response,
)
from nginy.wire.dns_names import encode_name
from nginy.wire.errors import WireError

TYPES: Final = {"A": 1, "NS": 2, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
RCODES: Final = {NO_ERROR: "NOERROR", **RCODE_NAMES}


@dataclass(frozen=True, slots=True)
class DnsCheck:
    """Asks for a record of `domain`, and expects `rcode`, and `address` unless it is empty."""

    domain: str
    record: str = "A"
    rcode: str = "NOERROR"
    address: str = ""
    name = "dns"

    def script(self, talk: Talk, target: Target) -> Script[None]:
        """Ask, and wait for the answer to this very question."""
        number = int.from_bytes(target.token(2), "big")
        question = encode_name(self.domain) + QUESTION.pack(TYPES[self.record], CLASS_IN)
        query = HEADER.pack(number, RECURSION_DESIRED, 1, 0, 0, 0) + question
        talk.expected = f"{self.rcode} for {self.domain} {self.record}"
        yield query if talk.is_datagram else frame(query)
        message = yield from _read(talk, number)
        while not _is_answer(message, number, question):
            if not talk.is_datagram:
                raise WireError("the answer is to another question")
            message = yield from _read(talk, number)
        self._judge(message, number)

    def _judge(self, message: bytes, number: int) -> None:
        """Raise CheckFailedError unless the answer is as expected."""
        _, flags, *_ = HEADER.unpack_from(message)
        rcode = RCODES.get(flags & RCODE, f"response code {flags & RCODE}")
        if rcode != self.rcode:
            raise CheckFailedError(f"{rcode} came, {self.rcode} was expected")
        if not self.address:
            return
        if flags & TRUNCATED:
            raise CheckFailedError("the answer is truncated; transport: tcp gets all of it")
        query = Query(number, self.domain, RecordType[self.record])
        addresses = parse_response(message, query).addresses
        if self.address not in addresses:
            came = ", ".join(addresses) or "no address"
            raise CheckFailedError(f"{came} came, {self.address} was expected")


def _read(talk: Talk, number: int) -> Script[bytes]:
    """Read one message; over TCP its number must be ours, as nothing else can come there."""
    if talk.is_datagram:
        return (yield from talk.datagram())
    if (yield from talk.peek(LENGTH.size + 2))[LENGTH.size :] != number.to_bytes(2, "big"):
        raise talk.unexpected()
    (length,) = LENGTH.unpack((yield from talk.take(LENGTH.size)))
    return (yield from talk.take(length))


def _is_answer(message: bytes, number: int, question: bytes) -> bool:
    """Say whether a message answers our question, or says that the server could not read it."""
    if len(message) < HEADER.size:
        return False
    identifier, flags, questions, *_ = HEADER.unpack_from(message)
    if identifier != number or not flags & RESPONSE or flags & OPCODE:
        return False
    if not questions:
        return bool(flags & RCODE)
    end = HEADER.size + len(question)
    # A server may repeat a name in another case than ours.
    return questions == 1 and message[HEADER.size : end].lower() == question.lower()
