"""DNS messages as a stub resolver needs them: a query out, an answer in (RFC 1035, 2782, 6891).

Names and their compression are in `dns_names`, /etc/hosts and resolv.conf in `hosts`. Sockets and
retries are in `backend/names/exchange.py`, the meaning of answers in `backend/names/answers.py`.

The one idea: a datagram is an answer only if it answers *this* query: same id, same question, a
response, well formed to its last record. Anything else raises WireError, and the resolver drops it
and goes on waiting, as a forged or late datagram must not end a lookup. A malformed message with
the right id and question raises MalformedAnswerError, so that a log can say so. What a server did
answer, good or bad, is a value: an `Answer` with its `Outcome`.

The parser believes only records of the queried name, or of the name to which its aliases lead. It
reads the additional section for its extended RCODE and otherwise ignores it: addresses there are
hearsay (RFC 2181 §5.4.1), so the targets of SRV records have queries of their own, as in nginx.

Read first: `dns_names`.
"""

import socket
import struct
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from nginy.wire.dns_names import HEADER_BYTES, ROOT, NameReader, encode_name, name_text
from nginy.wire.errors import MalformedAnswerError, WireError

# DNS flag day 2020: the largest datagram that crosses the IPv6 minimum MTU of 1280 unfragmented.
EDNS_PAYLOAD_BYTES: Final = 1232
MIN_TTL_S: Final = 1  # with a TTL of 0, nginy would ask for a name without a pause
MAX_TTL_S: Final = 604_800  # RFC 8767 §4: a week caps what a typing error would keep for years
NEGATIVE_TTL_S: Final = 5  # for "no such name" without a SOA; nginx's ngx_resolver_t.resend_timeout
MAX_ALIASES: Final = 16  # links of a CNAME chain; as many as common recursive servers follow
ENDLESS_ALIASES: Final = "its aliases (CNAME) form a circle, or a chain too long to follow"

RESPONSE: Final = 0x8000
OPCODE: Final = 0x7800
TRUNCATED: Final = 0x0200
RECURSION_DESIRED: Final = 0x0100
RCODE: Final = 0x000F
NO_ERROR: Final = 0
NO_NAME: Final = 3
CLASS_IN: Final = 1

HEADER: Final = struct.Struct("!HHHHHH")  # id, flags, entries in each of the four sections
QUESTION: Final = struct.Struct("!HH")  # type, class
RECORD: Final = struct.Struct("!HHIH")  # type, class, TTL, length of the data
SRV_DATA: Final = struct.Struct("!HHH")  # priority, weight, port
LENGTH: Final = struct.Struct("!H")  # ahead of each message over TCP
UINT32: Final = struct.Struct("!I")
MIN_SOA_DATA_BYTES: Final = 22  # two names of one byte at least, five 32-bit numbers

RCODE_NAMES: Final = {
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    16: "BADVERS",
}


class RecordType(IntEnum):
    """The record types that nginy asks for or reads; the values are IANA's."""

    A = 1
    CNAME = 5
    SOA = 6
    AAAA = 28
    SRV = 33
    OPT = 41


class Outcome(Enum):
    """What a name server's answer amounts to."""

    FOUND = "found"
    EMPTY = "no such record"  # the name exists, the record does not (NODATA, RFC 2308 §2.2)
    NO_NAME = "no such name"  # NXDOMAIN
    TRUNCATED = "truncated"  # ask again over TCP
    FAILED = "failed"  # any other RCODE, or aliases in a circle; ask another server


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `id` is 16 bits from a random source the network cannot guess."""

    id: int
    name: str
    type: RecordType


@dataclass(frozen=True, slots=True)
class Srv:
    """Where a service is (RFC 2782). Clients use the lowest `priority` first."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer to a Query.

    `ttl_s` is the least TTL of the records used, aliases included, within MIN_TTL_S and MAX_TTL_S;
    for EMPTY and NO_NAME it is how long that holds (RFC 2308 §5). `canonical` is the name at the
    end of the aliases: a server that leaves the chain unfinished answers EMPTY, with another
    canonical name than the query's, which the next query can ask for.
    """

    outcome: Outcome
    rcode: int = NO_ERROR
    canonical: str = ""
    addresses: tuple[str, ...] = ()
    services: tuple[Srv, ...] = ()
    ttl_s: int = NEGATIVE_TTL_S
    problem: str = ""
    """What is wrong with an answer that FAILED without an RCODE that says so."""

    @property
    def reason(self) -> str:
        """Say in a few words what the answer was, for a log line."""
        if self.outcome is Outcome.FAILED:
            return self.problem or RCODE_NAMES.get(self.rcode, f"RCODE {self.rcode}")
        return str(self.outcome.value)


@dataclass(frozen=True, slots=True)
class _Record:
    """One record of the message: its data is message[start:end]."""

    owner: bytes
    type: int
    ttl_s: int
    start: int
    end: int


def service_name(service: str, host: str) -> str:
    """Return the name whose SRV records list a service, by nginx's rule for `service=`.

    "http" becomes `_http._tcp.HOST`; a service with a dot in it goes ahead of the host as it is.
    """
    return f"{service}.{host}" if "." in service else f"_{service}._tcp.{host}"


def encode_query(query: Query, *, edns: bool = True) -> bytes:
    """Return the message that asks for recursion, for one name and type.

    `edns` announces that answers up to EDNS_PAYLOAD_BYTES are welcome; a server that answers
    FORMERR does not know EDNS: ask it again without (RFC 6891 §7). Raises WireError if the name is
    not valid.
    """
    header = HEADER.pack(query.id, RECURSION_DESIRED, 1, 0, 0, int(edns))
    question = encode_name(query.name) + QUESTION.pack(query.type, CLASS_IN)
    option = ROOT + RECORD.pack(RecordType.OPT, EDNS_PAYLOAD_BYTES, 0, 0) if edns else b""
    return header + question + option


def frame(message: bytes) -> bytes:
    """Return the message as it goes over TCP, after its length (RFC 1035 §4.2.2)."""
    return LENGTH.pack(len(message)) + message


def unframe(received: bytes) -> bytes | None:
    """Return the first whole message received over TCP, or None while it is incomplete."""
    if len(received) < LENGTH.size:
        return None
    end = LENGTH.size + LENGTH.unpack_from(received)[0]
    return received[LENGTH.size : end] if len(received) >= end else None


def parse_response(message: bytes, query: Query) -> Answer:
    """Return what the message answers to the query.

    Raises WireError if it answers anything else, and MalformedAnswerError if it answers this query
    and is malformed; wait on, in either case. It reads a truncated message only up to its question
    (RFC 2181 §9). Cost: linear in the message, which holds some 5,000 records at most.
    """
    if len(message) < HEADER_BYTES:
        raise WireError("a message is shorter than its header")
    identifier, flags, questions, *counts = HEADER.unpack_from(message)
    if identifier != query.id or not flags & RESPONSE or flags & OPCODE:
        raise WireError("a message is not a response to this query")
    names = NameReader(message)
    rcode = flags & RCODE
    offset = HEADER_BYTES
    # A server that cannot read the query at all may send a header alone.
    if questions or rcode in (NO_ERROR, NO_NAME):
        offset = _check_question(message, names, questions, query)
    if flags & TRUNCATED:
        return Answer(Outcome.TRUNCATED, rcode)
    try:
        return _parse_sections(message, names, query, rcode, offset, counts)
    except WireError as error:
        if rcode not in (NO_ERROR, NO_NAME):
            # A server that refuses need not be able to say so in good form.
            return Answer(Outcome.FAILED, rcode)
        raise MalformedAnswerError(str(error)) from None


def _parse_sections(
    message: bytes, names: NameReader, query: Query, rcode: int, offset: int, counts: list[int]
) -> Answer:
    """Return what the sections after the question say."""
    sections: list[list[_Record]] = []
    for count in counts:
        records, offset = _read_records(message, names, offset, count)
        sections.append(records)
    answers, authorities, additionals = sections
    rcode |= _extended_rcode(additionals)
    if rcode not in (NO_ERROR, NO_NAME):
        return Answer(Outcome.FAILED, rcode)
    return _interpret(message, names, query, rcode, answers, authorities)


def _check_question(message: bytes, names: NameReader, questions: int, query: Query) -> int:
    """Return the offset after the question, which must be the query's own."""
    if questions != 1:
        raise WireError("a response must repeat its one question")
    name, offset = names.read(HEADER_BYTES)
    if offset + QUESTION.size > len(message):
        raise WireError("a question runs out of the message")
    if (name, *QUESTION.unpack_from(message, offset)) != (
        encode_name(query.name),
        query.type,
        CLASS_IN,
    ):
        raise WireError("a response repeats another question")
    return offset + QUESTION.size


def _read_records(
    message: bytes, names: NameReader, offset: int, count: int
) -> tuple[list[_Record], int]:
    """Return one section's records, and the offset after them."""
    records: list[_Record] = []
    for _ in range(count):
        owner, offset = names.read(offset)
        start = offset + RECORD.size
        if start > len(message):
            raise WireError("a record runs out of the message")
        record_type, record_class, ttl_s, length = RECORD.unpack_from(message, offset)
        offset = start + length
        if offset > len(message):
            raise WireError("a record's data runs out of the message")
        # The class of OPT is a payload size (RFC 6891 §6.1.2).
        if record_class == CLASS_IN or record_type == RecordType.OPT:
            records.append(_Record(owner, record_type, ttl_s, start, offset))
    return records, offset


def _extended_rcode(additionals: list[_Record]) -> int:
    """Return the high eight bits of the RCODE, which OPT has in its TTL (RFC 6891 §6.1.3)."""
    for record in additionals:
        if record.type == RecordType.OPT:
            return (record.ttl_s >> 24) << 4
    return 0


def _interpret(
    message: bytes,
    names: NameReader,
    query: Query,
    rcode: int,
    answers: list[_Record],
    authorities: list[_Record],
) -> Answer:
    """Return the answer in records that are known to be well formed on the outside."""
    aliases = {
        record.owner: (_read_data_name(names, record, record.start), record.ttl_s)
        for record in reversed(answers)  # so that the first of two aliases counts
        if record.type == RecordType.CNAME
    }
    owner, ttl_s = _follow(encode_name(query.name), aliases)
    if owner in aliases:
        return Answer(Outcome.FAILED, rcode, problem=ENDLESS_ALIASES)
    canonical = name_text(owner)
    wanted = [r for r in answers if r.type == query.type and r.owner == owner]
    if rcode == NO_NAME:
        return Answer(
            Outcome.NO_NAME, rcode, canonical, ttl_s=_negative_ttl_s(message, authorities)
        )
    addresses: tuple[str, ...] = ()
    services: tuple[Srv, ...] = ()
    if query.type == RecordType.SRV:
        services = tuple(dict.fromkeys(s for r in wanted for s in _read_srv(message, names, r)))
    else:
        addresses = tuple(dict.fromkeys(_read_address(message, r) for r in wanted))
    if not addresses and not services:
        return Answer(Outcome.EMPTY, rcode, canonical, ttl_s=_negative_ttl_s(message, authorities))
    ttl_s = min(ttl_s, *(_usable_ttl_s(r.ttl_s) for r in wanted))
    return Answer(Outcome.FOUND, rcode, canonical, addresses, services, ttl_s)


def _follow(name: bytes, aliases: dict[bytes, tuple[bytes, int]]) -> tuple[bytes, int]:
    """Return the end of a chain of aliases and the least TTL on the way.

    If the chain has no end within MAX_ALIASES links, this is an alias itself.
    """
    least_ttl_s = MAX_TTL_S
    for _ in range(MAX_ALIASES):
        if name not in aliases:
            break
        name, ttl_s = aliases[name]
        least_ttl_s = min(least_ttl_s, _usable_ttl_s(ttl_s))
    return name, least_ttl_s


def _usable_ttl_s(ttl_s: int) -> int:
    """Return a TTL within our bounds; one with the high bit set counts as 0 (RFC 2181 §8)."""
    return MIN_TTL_S if ttl_s >= 1 << 31 else min(max(ttl_s, MIN_TTL_S), MAX_TTL_S)


def _negative_ttl_s(message: bytes, authorities: list[_Record]) -> int:
    """Return how long "no" holds: the lesser of the SOA's TTL and its MINIMUM (RFC 2308 §5)."""
    for record in authorities:
        if record.type == RecordType.SOA:
            if record.end - record.start < MIN_SOA_DATA_BYTES:
                raise WireError("a SOA record is too short")
            minimum_s = UINT32.unpack_from(message, record.end - UINT32.size)[0]
            return min(_usable_ttl_s(record.ttl_s), _usable_ttl_s(minimum_s))
    return NEGATIVE_TTL_S


def _read_address(message: bytes, record: _Record) -> str:
    """Return the address of an A or AAAA record as text."""
    family, length = (socket.AF_INET, 4) if record.type == RecordType.A else (socket.AF_INET6, 16)
    if record.end - record.start != length:
        raise WireError("an address has the wrong length")
    return socket.inet_ntop(family, message[record.start : record.end])


def _read_srv(message: bytes, names: NameReader, record: _Record) -> tuple[Srv, ...]:
    """Return the service of a SRV record; none if its target is ".", not available (RFC 2782)."""
    if record.end - record.start <= SRV_DATA.size:
        raise WireError("a SRV record is too short")
    priority, weight, port = SRV_DATA.unpack_from(message, record.start)
    target = _read_data_name(names, record, record.start + SRV_DATA.size)
    return () if target == ROOT else (Srv(priority, weight, port, name_text(target)),)


def _read_data_name(names: NameReader, record: _Record, start: int) -> bytes:
    """Return the name that ends a record's data; it must fill it."""
    name, end = names.read(start)
    if end != record.end:
        raise WireError("a name does not fill its record")
    return name
