"""The protocols of health checks over UDP: what passes, what fails, and what is ignored."""

import hmac
import random
import struct
from collections.abc import Callable
from hashlib import md5

import pytest
from nginy.text.address import parse_address
from nginy.wire.checks.dns import DnsCheck
from nginy.wire.checks.ntp import NtpCheck
from nginy.wire.checks.radius import RadiusCheck
from nginy.wire.checks.sip import SipCheck
from nginy.wire.checks.talk import MAX_TALK_BYTES, Question, Talk, Target
from nginy.wire.dns import frame
from nginy.wire.dns_names import encode_name

Answer = Callable[[bytes], bytes]
"""Makes an answer of the request."""


def token(count: int) -> bytes:
    return bytes(range(1, count + 1))


TARGET = Target(parse_address("192.0.2.1:5060"), "here.test", token)
V6 = Target(parse_address("[2001:db8::1]:5060"), "odd name", token)
SECRET = b"s3cret"
MUTATIONS = 5000
"""Of all answers in one protocol."""


def ask(question: Question, *answers: Answer, target: Target = TARGET) -> tuple[str, bool]:
    """The failure after these answers, and whether the check is over."""
    talk = Talk(question, target, is_datagram=True)
    step = talk.begin()
    (request,) = step.sends
    for answer in answers:
        assert not step.is_over
        step = talk.receive(answer(request))
    return step.failure, step.is_over


def record(address: str, owner: bytes = b"\xc0\x0c") -> bytes:
    data = bytes(map(int, address.split(".")))
    return owner + struct.pack(">HHIH", 1, 1, 60, len(data)) + data


def dns(
    rcode: int = 0, *records: bytes, flags: int = 0x8180, question: bytes | None = None
) -> Answer:
    def answer(request: bytes) -> bytes:
        asked = request[12:] if question is None else question
        head = struct.pack(">HHHHHH", 0, flags | rcode, bool(asked), len(records), 0, 0)
        return request[:2] + head[2:] + asked + b"".join(records)

    return answer


def ntp(leap: int = 0, stratum: int = 2, mode: int = 4, reference: bytes = bytes(4)) -> Answer:
    def answer(request: bytes) -> bytes:
        head = bytes((leap << 6 | 4 << 3 | mode, stratum)) + bytes(10) + reference
        return head + bytes(8) + request[40:48] + bytes(16)

    return answer


def sip(status: int, *, name: bytes = b"Call-ID", call: bytes | None = None) -> Answer:
    def answer(request: bytes) -> bytes:
        lines = request.split(b"\r\n")
        value = next(line for line in lines if line.startswith(b"Call-ID: "))[9:]
        head = b"SIP/2.0 %d Whatever\r\n" % status
        return head + b"Via: x\r\n%s: %s\r\nContent-Length: 0\r\n\r\n" % (name, call or value)

    return answer


def radius(code: int = 2, secret: bytes = SECRET, attributes: bytes = b"") -> Answer:
    def answer(request: bytes) -> bytes:
        head = struct.pack(">BBH", code, request[1], 20 + len(attributes))
        return head + md5(head + request[4:20] + attributes + secret).digest() + attributes

    return answer


OTHER = encode_name("other.test") + b"\0\1\0\1"
LOUD = encode_name("a.test").upper() + b"\0\1\0\1"
A_TEST = DnsCheck("a.test")
AT = DnsCheck("a.test", address="192.0.2.9")

CASES: dict[str, tuple[Question, list[Answer], str]] = {
    "dns": (A_TEST, [dns()], ""),
    "dns in other letters": (A_TEST, [dns(question=LOUD)], ""),
    "dns fails": (A_TEST, [dns(2)], "dns: SERVFAIL came, NOERROR was expected"),
    "dns cannot read": (A_TEST, [dns(1, question=b"")], "dns: FORMERR came, NOERROR was expected"),
    "dns odd": (A_TEST, [dns(9)], "dns: response code 9 came, NOERROR was expected"),
    "dns no name": (DnsCheck("a.test", "AAAA", "NXDOMAIN"), [dns(3)], ""),
    "dns refuses": (DnsCheck("a.test", "SOA", "REFUSED"), [dns(5)], ""),
    "dns address": (AT, [dns(0, record("192.0.2.1"), record("192.0.2.9"))], ""),
    "dns another address": (
        AT,
        [dns(0, record("192.0.2.1"))],
        "dns: 192.0.2.1 came, 192.0.2.9 was expected",
    ),
    "dns no address": (AT, [dns()], "dns: no address came, 192.0.2.9 was expected"),
    "dns truncated": (
        AT,
        [dns(flags=0x8380)],
        "dns: the answer is truncated; transport: tcp gets all of it",
    ),
    "dns malformed": (
        AT,
        [dns(0, b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\xff\1")],
        "dns: a record's data runs out of the message",
    ),
    "ntp": (NtpCheck(), [ntp()], ""),
    "ntp not set": (
        NtpCheck(),
        [ntp(3, 16)],
        "ntp: the server's clock is not set (stratum 16)",
    ),
    "ntp leap": (NtpCheck(), [ntp(3, 2)], "ntp: the server's clock is not set (stratum 2)"),
    "ntp never set": (
        NtpCheck(),
        [ntp(3, 0)],
        "ntp: the server's clock is not set (stratum 0)",
    ),
    "ntp kiss": (
        NtpCheck(),
        [ntp(3, 0, reference=b"RATE")],
        'ntp: the server sends us away (kiss-o\'-death "RATE")',
    ),
    "sip": (SipCheck(), [sip(200)], ""),
    "sip provisional": (SipCheck(), [sip(100), sip(180), sip(200, name=b"i")], ""),
    "sip busy": (SipCheck(), [sip(503)], "sip: status 503 came, 200-399 was expected"),
    "sip 404": (SipCheck(frozenset({200, 404})), [sip(404)], ""),
    "radius": (RadiusCheck(SECRET), [radius()], ""),
    "radius accounting": (RadiusCheck(SECRET), [radius(5, attributes=b"\x12\4hi")], ""),
    "radius refuses": (
        RadiusCheck(SECRET),
        [radius(3)],
        "radius: code 3 came, Access-Accept (2) was expected",
    ),
}
IGNORED: dict[str, tuple[Question, Answer]] = {
    "dns of another question": (A_TEST, dns(question=OTHER)),
    "dns with another id": (A_TEST, lambda request: b"\xff\xff" + dns()(request)[2:]),
    "dns query": (A_TEST, lambda request: request),
    "dns without question or code": (A_TEST, dns(question=b"")),
    "dns short": (A_TEST, lambda request: dns()(request)[:11]),
    "dns opcode": (A_TEST, dns(flags=0x8980)),
    "ntp of another request": (NtpCheck(), lambda request: ntp()(request[:40] + bytes(8))),
    "ntp client": (NtpCheck(), ntp(mode=3)),
    "ntp short": (NtpCheck(), lambda request: ntp()(request)[:47]),
    "sip of another call": (SipCheck(), sip(200, call=b"x@y")),
    "sip request": (SipCheck(), lambda request: request),
    "sip no end": (SipCheck(), lambda _request: b"SIP/2.0 200 OK"),
    "radius by another secret": (RadiusCheck(SECRET), radius(secret=b"other")),
    "radius with another number": (
        RadiusCheck(SECRET),
        lambda request: radius()(request[:1] + b"\xff" + request[2:]),
    ),
    "radius longer than it is": (
        RadiusCheck(SECRET),
        lambda request: radius(attributes=b"\x12\4hi")(request)[:-1],
    ),
    "radius short": (RadiusCheck(SECRET), lambda request: radius()(request)[:19]),
    "nothing dns": (A_TEST, lambda _request: b""),
    "nothing ntp": (NtpCheck(), lambda _request: b""),
    "nothing sip": (SipCheck(), lambda _request: b""),
    "nothing radius": (RadiusCheck(SECRET), lambda _request: b""),
}


@pytest.mark.parametrize(("question", "answers", "failure"), CASES.values(), ids=CASES)
def test_an_answer(question: Question, answers: list[Answer], failure: str) -> None:
    assert ask(question, *answers) == (failure, True)


@pytest.mark.parametrize(("question", "answer"), IGNORED.values(), ids=IGNORED)
def test_what_is_no_answer_to_us_is_passed_over(question: Question, answer: Answer) -> None:
    assert ask(question, answer) == ("", False)


@pytest.mark.parametrize(("question", "answers", "failure"), CASES.values(), ids=CASES)
def test_no_datagram_is_a_bug(question: Question, answers: list[Answer], failure: str) -> None:
    rng = random.Random(failure)
    talk = Talk(question, TARGET, is_datagram=True)
    request = talk.begin().sends[0]
    whole = answers[-1](request)
    heads = [whole[:end] for end in range(len(whole))]
    of_protocol = sum(each.name == question.name for each, *_ in CASES.values())
    mutations = (mutated(whole, rng) for _ in range(MUTATIONS // of_protocol + 1))
    for data in (*heads, *mutations):
        fresh = Talk(question, TARGET, is_datagram=True)
        fresh.begin()
        assert fresh.receive(data) is not None


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(changed))
        changed[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(1, 2))
    return bytes(changed)


@pytest.mark.parametrize("question", [A_TEST, NtpCheck(), SipCheck(), RadiusCheck(SECRET)])
def test_a_flood_ends_the_check(question: Question) -> None:
    talk = Talk(question, TARGET, is_datagram=True)
    step, count = talk.begin(), 0
    while not step.is_over:
        step = talk.receive(bytes(1000))
        count += 1000
    assert count <= MAX_TALK_BYTES + 1000
    assert "sent more than" in step.failure


def test_dns_over_tcp_that_is_cut_short_fails() -> None:
    talk = Talk(AT, TARGET)
    (request,) = talk.begin().sends
    answer = frame(dns(0, record("192.0.2.9"))(request[2:]))
    for end in range(len(answer)):
        fresh = Talk(AT, TARGET)
        fresh.begin()
        assert not fresh.receive(answer[:end]).is_over
        assert fresh.late()
        assert fresh.receive(b"", is_eof=True).failure


def test_no_message_of_dns_over_tcp_is_a_bug() -> None:
    rng = random.Random(7)
    for _ in range(MUTATIONS):
        talk = Talk(AT, TARGET)
        (request,) = talk.begin().sends
        answer = frame(dns(0, record("192.0.2.9"))(request[2:]))
        step = talk.receive(mutated(answer, rng))
        assert step.is_over or talk.receive(b"", is_eof=True).is_over


@pytest.mark.parametrize("head", [b"\0\0", b"\0\1", b"\xff\xff"])
def test_a_length_of_dns_over_tcp_that_lies_ends_the_check(head: bytes) -> None:
    talk = Talk(AT, TARGET)
    talk.begin()
    step, count = talk.receive(head), 0
    while not step.is_over:
        step = talk.receive(bytes(1000))
        count += 1000
    assert step.failure
    assert count <= MAX_TALK_BYTES + 1000


@pytest.mark.parametrize("size", [*range(1, 60), 100])
def test_dns_over_tcp_may_come_in_any_pieces(size: int) -> None:
    talk = Talk(AT, TARGET)
    (request,) = talk.begin().sends
    assert int.from_bytes(request[:2], "big") == len(request) - 2
    answer = frame(dns(0, record("192.0.2.9"))(request[2:]))
    for start in range(0, len(answer), size):
        step = talk.receive(answer[start : start + size])
    assert (step.is_over, step.failure) == (True, "")


def test_dns_over_tcp_takes_no_other_answer() -> None:
    talk = Talk(A_TEST, TARGET)
    (request,) = talk.begin().sends
    step = talk.receive(frame(dns(question=OTHER)(request[2:])))
    assert step.failure == "dns: the answer is to another question"


def test_the_request_of_sip() -> None:
    talk = Talk(SipCheck(), V6, is_datagram=True)
    (request,) = talk.begin().sends
    lines = request.decode().split("\r\n")
    assert lines[0] == "OPTIONS sip:[2001:db8::1]:5060 SIP/2.0"
    assert lines[5] == "Call-ID: 0102030405060708090a0b0c@localhost"
    assert lines[-2:] == ["", ""]


def test_the_request_of_radius_proves_the_secret() -> None:
    talk = Talk(RadiusCheck(SECRET), TARGET, is_datagram=True)
    (request,) = talk.begin().sends
    assert request[:4] == b"\x0c\x01" + len(request).to_bytes(2, "big")
    unsigned = request[:-16] + bytes(16)
    assert request[-16:] == hmac.new(SECRET, unsigned, "md5").digest()
    assert SECRET not in request
