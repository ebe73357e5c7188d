"""DNS messages: what is asked, what is believed, and what is dropped."""

import ipaddress
import random
import struct
import sys
from itertools import pairwise

import pytest
from nginy.wire.dns import (
    MAX_TTL_S,
    NEGATIVE_TTL_S,
    Answer,
    Outcome,
    Query,
    RecordType,
    Srv,
    encode_query,
    frame,
    parse_response,
    service_name,
    unframe,
)
from nginy.wire.dns_names import encode_name
from nginy.wire.errors import MalformedAnswerError, WireError

A = Query(0x1234, "www.example.com", RecordType.A)
AAAA = Query(0x1234, "www.example.com", RecordType.AAAA)
SRV = Query(0x1234, "_http._tcp.example.com", RecordType.SRV)


def record(owner, record_type, data, ttl_s=300, record_class=1):
    """One record, its owner given as text or as wire bytes."""
    wire = owner if isinstance(owner, bytes) else encode_name(owner)
    return wire + struct.pack("!HHIH", record_type, record_class, ttl_s, len(data)) + data


def address(owner, text, ttl_s=300):
    """An A or AAAA record."""
    packed = ipaddress.ip_address(text).packed
    return record(owner, 1 if len(packed) == 4 else 28, packed, ttl_s)


def alias(owner, target, ttl_s=300):
    """A CNAME record."""
    return record(owner, 5, encode_name(target), ttl_s)


def srv(priority, weight, port, target, ttl_s=300):
    """A SRV record for the query SRV; the target "." is the root."""
    name = b"\0" if target == "." else encode_name(target)
    return record(SRV.name, 33, struct.pack("!HHH", priority, weight, port) + name, ttl_s)


def soa(ttl_s, minimum_s):
    """A SOA record of example.com."""
    numbers = struct.pack("!IIIII", 1, 2, 3, 4, minimum_s)
    return record("example.com", 6, encode_name("ns.example.com") + b"\0" + numbers, ttl_s)


def response(query, answers=(), authorities=(), additionals=(), **header):
    """A well formed response, unless `header` says otherwise."""
    question = encode_name(query.name) + struct.pack("!HH", query.type, 1)
    counts = [header.get("questions", 1), len(answers), len(authorities), len(additionals)]
    flags = header.get("flags", 0x8180) | header.get("rcode", 0)
    return (
        struct.pack("!HH4H", header.get("id", query.id), flags, *counts)
        + header.get("question", question)
        + b"".join((*answers, *authorities, *additionals))
    )


def test_a_query_asks_for_recursion_and_announces_its_payload_size():
    assert encode_query(A) == (
        bytes.fromhex("1234 0100 0001 0000 0000 0001")
        + b"\x03www\x07example\x03com\x00\x00\x01\x00\x01"
        + bytes.fromhex("00 0029 04d0 00000000 0000")
    )


def test_a_query_without_edns_has_no_additional_record():
    assert encode_query(AAAA, edns=False) == (
        bytes.fromhex("1234 0100 0001 0000 0000 0000")
        + b"\x03www\x07example\x03com\x00\x00\x1c\x00\x01"
    )


def test_a_query_for_no_name_is_refused():
    with pytest.raises(WireError):
        encode_query(Query(1, "a b", RecordType.A))


@pytest.mark.parametrize(
    ("service", "name"),
    [("http", "_http._tcp.example.com"), ("_dns._udp", "_dns._udp.example.com")],
)
def test_a_service_is_named_by_nginx_rule(service, name):
    assert service_name(service, "example.com") == name


def test_messages_over_tcp_are_preceded_by_their_length():
    framed = frame(b"message")
    assert framed == b"\x00\x07message"
    assert unframe(framed + b"next") == b"message"
    assert [unframe(framed[:n]) for n in range(len(framed))] == [None] * len(framed)


def test_addresses_come_in_the_servers_order_each_once_with_the_least_ttl():
    message = response(
        A,
        [
            address(A.name, "10.0.0.2", 60),
            address("WWW.example.COM", "10.0.0.1", 30),
            address(A.name, "10.0.0.2", 90),
        ],
    )
    answer = parse_response(message, A)
    assert answer == Answer(
        Outcome.FOUND, canonical=A.name, addresses=("10.0.0.2", "10.0.0.1"), ttl_s=30
    )
    assert answer.reason == "found"


def test_ipv6_addresses_are_written_in_their_short_form():
    answer = parse_response(response(AAAA, [address(AAAA.name, "2001:db8:0:0::1")]), AAAA)
    assert answer.addresses == ("2001:db8::1",)


def test_owners_may_be_compressed():
    message = response(A, [record(b"\xc0\x0c", 1, bytes([10, 0, 0, 1]))])
    assert parse_response(message, A).addresses == ("10.0.0.1",)


def test_a_chain_of_aliases_is_followed_in_any_order_and_its_ttls_count():
    message = response(
        A,
        [
            address("c.example", "10.0.0.1", 60),
            alias("b.example", "c.example", 20),
            alias(A.name, "b.example", 40),
        ],
    )
    answer = parse_response(message, A)
    assert (answer.addresses, answer.ttl_s, answer.canonical) == (("10.0.0.1",), 20, "c.example")


def test_of_two_aliases_of_one_name_the_first_counts():
    message = response(
        A,
        [
            alias(A.name, "b.example"),
            alias(A.name, "c.example"),
            address("b.example", "10.0.0.1"),
            address("c.example", "10.0.0.2"),
        ],
    )
    assert parse_response(message, A).addresses == ("10.0.0.1",)


def test_an_unfinished_chain_is_empty_and_names_where_it_ends():
    answer = parse_response(response(A, [alias(A.name, "b.example")]), A)
    assert (answer.outcome, answer.canonical) == (Outcome.EMPTY, "b.example")


@pytest.mark.parametrize(("links", "is_followed"), [(16, True), (17, False)])
def test_a_chain_has_sixteen_links_at_most(links, is_followed):
    names = [A.name, *(f"n{i}.example" for i in range(links))]
    records = [alias(a, b) for a, b in pairwise(names)]
    message = response(A, [*records, address(names[-1], "10.0.0.1")])
    answer = parse_response(message, A)
    assert answer.outcome is (Outcome.FOUND if is_followed else Outcome.FAILED)
    assert ("chain too long" in answer.reason) is not is_followed


@pytest.mark.parametrize("circle", [[A.name], ["b.example", A.name], ["b.example", "b.example"]])
def test_a_circle_of_aliases_is_a_failure_that_says_so(circle):
    records = [alias(a, b) for a, b in pairwise([A.name, *circle])]
    answer = parse_response(response(A, records), A)
    assert answer.outcome is Outcome.FAILED
    assert answer.reason == "its aliases (CNAME) form a circle, or a chain too long to follow"


def test_records_of_other_names_types_and_classes_are_not_believed():
    message = response(
        A,
        [
            address("evil.example", "10.6.6.6"),
            address(A.name, "2001:db8::6"),
            record(A.name, 1, bytes([10, 6, 6, 6]), record_class=3),
            record(A.name, 99, b"whatever"),
        ],
        additionals=[address(A.name, "10.6.6.6")],
    )
    answer = parse_response(message, A)
    assert (answer.outcome, answer.addresses) == (Outcome.EMPTY, ())


def test_services_come_with_priority_weight_port_and_target():
    message = response(SRV, [srv(10, 5, 8080, "a.example", 60), srv(20, 0, 81, "b.example", 50)])
    answer = parse_response(message, SRV)
    assert answer.services == (Srv(10, 5, 8080, "a.example"), Srv(20, 0, 81, "b.example"))
    assert (answer.outcome, answer.ttl_s, answer.addresses) == (Outcome.FOUND, 50, ())


def test_a_service_with_the_root_as_target_is_not_available():
    assert parse_response(response(SRV, [srv(0, 0, 0, ".")]), SRV).outcome is Outcome.EMPTY


def test_a_target_with_odd_bytes_is_printable_and_cannot_be_asked_for():
    data = struct.pack("!HHH", 0, 0, 80) + b"\x03a\n.\x00"
    answer = parse_response(response(SRV, [record(SRV.name, 33, data)]), SRV)
    target = answer.services[0].target
    assert target == "a\\010\\046"
    with pytest.raises(WireError):
        encode_query(Query(1, target, RecordType.A))


@pytest.mark.parametrize(
    ("ttl_s", "used_s"),
    [(0, 1), (1, 1), (300, 300), (1 << 30, MAX_TTL_S), (1 << 31, 1), ((1 << 32) - 1, 1)],
)
def test_a_ttl_is_a_second_at_least_and_a_week_at_most(ttl_s, used_s):
    answer = parse_response(response(A, [address(A.name, "10.0.0.1", ttl_s)]), A)
    assert answer.ttl_s == used_s


def test_no_such_name_holds_for_the_lesser_of_the_soas_ttl_and_minimum():
    for ttl_s, minimum_s, used_s in [(60, 30, 30), (20, 30, 20), (0, 0, 1)]:
        answer = parse_response(response(A, authorities=[soa(ttl_s, minimum_s)], rcode=3), A)
        assert (answer.outcome, answer.ttl_s) == (Outcome.NO_NAME, used_s)
        assert answer.reason == "no such name"


def test_without_a_soa_no_such_name_holds_for_a_short_while():
    name_server = record("example.com", 2, encode_name("ns.example.com"))
    for authorities in [(), (name_server,)]:
        answer = parse_response(response(A, authorities=authorities, rcode=3), A)
        assert (answer.outcome, answer.ttl_s) == (Outcome.NO_NAME, NEGATIVE_TTL_S)


def test_no_such_record_is_not_no_such_name():
    answer = parse_response(response(A, authorities=[soa(60, 30)]), A)
    assert (answer.outcome, answer.ttl_s, answer.reason) == (Outcome.EMPTY, 30, "no such record")


@pytest.mark.parametrize(
    ("rcode", "reason"),
    [(1, "FORMERR"), (2, "SERVFAIL"), (4, "NOTIMP"), (5, "REFUSED"), (11, "RCODE 11")],
)
def test_any_other_code_is_a_failure_with_its_name(rcode, reason):
    answer = parse_response(response(A, [address(A.name, "10.0.0.1")], rcode=rcode), A)
    assert (answer.outcome, answer.reason, answer.addresses) == (Outcome.FAILED, reason, ())


def test_the_high_bits_of_the_code_are_in_the_option_record():
    option = record(b"\0", 41, b"", ttl_s=1 << 24, record_class=4096)
    other = record(b"\0", 250, b"")
    answer = parse_response(response(A, additionals=[other, option]), A)
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, "BADVERS")


def test_a_server_that_cannot_read_the_query_may_answer_with_a_header_alone():
    answer = parse_response(response(A, rcode=1, questions=0, question=b""), A)
    assert answer.reason == "FORMERR"


@pytest.mark.parametrize("rcode", [0, 3])
def test_a_header_alone_cannot_say_that_a_name_has_no_address(rcode):
    with pytest.raises(WireError, match="question"):
        parse_response(response(A, rcode=rcode, questions=0, question=b""), A)


def test_a_truncated_answer_is_not_read_beyond_its_question():
    message = response(A, [b"cut"], flags=0x8380)
    assert parse_response(message, A) == Answer(Outcome.TRUNCATED)


QUESTION = encode_name(A.name) + b"\x00\x01\x00\x01"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(response(A)[:11], id="shorter than a header"),
        pytest.param(response(A, id=0x4321), id="another id"),
        pytest.param(response(A, flags=0x0180), id="a query"),
        pytest.param(response(A, flags=0xA180), id="another opcode"),
        pytest.param(response(A, questions=2, question=QUESTION * 2), id="two questions"),
        pytest.param(response(A, question=QUESTION.replace(b"www", b"wwx")), id="another name"),
        pytest.param(response(AAAA), id="another type"),
        pytest.param(response(A, question=QUESTION[:-1] + b"\x03"), id="another class"),
        pytest.param(response(A)[:-1], id="question cut"),
    ],
)
def test_what_is_no_answer_to_the_query_is_refused(message):
    with pytest.raises(WireError) as caught:
        parse_response(message, A)
    assert not isinstance(caught.value, MalformedAnswerError)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(response(A, [b"\x00\x00\x01"]), id="record cut"),
        pytest.param(response(A, [address(A.name, "10.0.0.1")])[:-1], id="data cut"),
        pytest.param(response(A, [record(A.name, 1, b"123")]), id="short address"),
        pytest.param(response(A, [record(A.name, 1, b"12345")]), id="long address"),
        pytest.param(response(A, [record(A.name, 5, b"\x01a\x00x")]), id="alias too short"),
        pytest.param(response(A, [record(A.name, 5, b"\x01a")]), id="alias runs out"),
        pytest.param(response(A, [], [record("com", 6, b"x" * 21)], rcode=3), id="short SOA"),
    ],
)
def test_an_answer_that_is_malformed_is_told_from_what_is_none(message):
    with pytest.raises(MalformedAnswerError):
        parse_response(message, A)


def test_a_server_that_refuses_in_bad_form_has_refused():
    answer = parse_response(response(A, [b"cut"], rcode=2), A)
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, "SERVFAIL")


@pytest.mark.parametrize("data", [b"", b"123456", b"123456\x01a\x00x", b"123456\x05a"])
def test_a_malformed_service_is_refused(data):
    with pytest.raises(WireError):
        parse_response(response(SRV, [record(SRV.name, 33, data)]), SRV)


def test_thousands_of_addresses_are_read():
    addresses = [str(ipaddress.ip_address(0x0A000000 + i)) for i in range(4000)]
    packed = (ipaddress.ip_address(a).packed for a in addresses)
    message = response(A, [record(b"\xc0\x0c", 1, p) for p in packed])
    assert len(message) < 65_536
    assert parse_response(message, A).addresses == tuple(addresses)


def calls_of(function):
    """How many Python functions are called while `function` runs: its cost, without a clock."""
    calls = []
    sys.setprofile(lambda _frame, event, _arg: calls.append(event) if event == "call" else None)
    try:
        function()
    finally:
        sys.setprofile(None)
    return len(calls)


def test_names_made_of_long_chains_of_pointers_cost_no_more_than_short_ones():
    count = 800
    records, offset, target = [], len(response(A)), 12
    for i in range(count):
        piece = record(b"\x01a" + (0xC000 | target).to_bytes(2, "big"), 1, b"1234")
        target = 12 if i % 100 == 99 else offset
        records.append(piece)
        offset += len(piece)
    chained = response(A, records)
    plain = response(A, [record(b"\x01a\xc0\x0c", 1, b"1234")] * count)
    cost = calls_of(lambda: parse_response(chained, A))
    assert cost < 1.1 * calls_of(lambda: parse_response(plain, A))


def random_response(rng):
    """A query and a response to it, well formed, with odd records and compression."""
    query = rng.choice([A, AAAA, SRV])
    names = [query.name, "b.example", b"\xc0\x0c", b"\xc0\x10"]

    def one():
        return rng.choice(
            [
                lambda: address(rng.choice(names), "10.0.0.1", rng.randrange(1 << 32)),
                lambda: address(rng.choice(names), "2001:db8::1"),
                lambda: alias(rng.choice(names), rng.choice(["b.example", "c.example"])),
                lambda: srv(1, 2, 3, "t.example"),
                lambda: soa(rng.randrange(100), rng.randrange(100)),
                lambda: record(b"\0", 41, b"", ttl_s=0, record_class=1232),
            ]
        )()

    sections = [[one() for _ in range(rng.randrange(4))] for _ in range(3)]
    flags = rng.choice([0x8180] * 9 + [0x8380])
    return query, response(query, *sections, rcode=rng.choice([0, 0, 0, 3, 2]), flags=flags)


def mutated(rng, message):
    """A few bytes of the message changed, cut, doubled or moved."""
    octets = bytearray(message)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(octets) + 1)
        match rng.randrange(4):
            case 0 if at < len(octets):
                octets[at] = rng.choice([0, 1, 0x3F, 0x40, 0xC0, 0xFF, rng.randrange(256)])
            case 1:
                del octets[at : at + rng.randrange(8)]
            case 2:
                octets[at:at] = rng.randbytes(rng.randrange(8))
            case _:
                octets[at:at] = octets[: rng.randrange(32)]
    return bytes(octets)


def test_mutated_responses_raise_nothing_but_wire_errors():
    seed = 20262
    print("seed", seed)
    rng = random.Random(seed)
    outcomes: set[object] = set()
    for _ in range(1000):
        query, message = random_response(rng)
        try:
            answer = parse_response(mutated(rng, message), query)
        except WireError:
            outcomes.add(WireError)
        else:
            outcomes.add(answer.outcome)
            assert 1 <= answer.ttl_s <= MAX_TTL_S
            assert (answer.outcome is Outcome.FOUND) == bool(answer.addresses or answer.services)
    assert outcomes == {WireError, *Outcome}


def test_random_bytes_raise_nothing_but_wire_errors():
    seed = 20263
    print("seed", seed)
    rng = random.Random(seed)
    head = response(A)[:6]
    for _ in range(3000):
        message = (head if rng.random() < 0.8 else b"") + rng.randbytes(rng.randrange(60))
        try:
            answer = parse_response(message, A)
        except WireError:
            continue
        assert not answer.addresses
