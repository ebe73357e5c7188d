"""Headers of the PROXY protocol: golden bytes written from the specification, splits, lies."""

import random
from collections import Counter

import pytest
from nginy.wire.errors import WireError
from nginy.wire.proxy_protocol import (
    MAX_V1_BYTES,
    MAX_V2_BYTES,
    Header,
    build_v1,
    build_v2,
    parse,
)
from nginy.wire.proxy_tlv import Type

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
TCP4 = bytes.fromhex("21 11 000C") + bytes([192, 0, 2, 1, 198, 51, 100, 2]) + b"\x30\x39\x01\xbb"
ADDRESSES_V6 = bytes.fromhex("20010db8" + "00" * 11 + "01" + "20010db8" + "00" * 11 + "02")
TCP6 = bytes.fromhex("21 21 0024") + ADDRESSES_V6 + b"\x30\x39\x01\xbb"
UNIX = bytes.fromhex("21 31 00D8") + b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
LONGEST_V1 = (
    b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
    b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
)

CLIENT = ("192.0.2.1", 12345)
SERVER = ("198.51.100.2", 443)
CLIENT_V6 = ("2001:db8::1", 12345)
SERVER_V6 = ("2001:db8::2", 443)

GOLDEN = {
    "v1 tcp4": (
        b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n",
        Header(1, 45, "TCP", CLIENT, SERVER),
    ),
    "v1 tcp6": (
        b"PROXY TCP6 2001:db8::1 2001:DB8:0::2 12345 443\r\n",
        Header(1, 48, "TCP", CLIENT_V6, SERVER_V6),
    ),
    "v1 ports at their limits": (
        b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
        Header(1, 44, "TCP", ("255.255.255.255", 65535), ("0.0.0.0", 0)),
    ),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", Header(1, 15)),
    "v1 unknown, the longest": (LONGEST_V1, Header(1, 107)),
    "v2 tcp4": (SIGNATURE + TCP4, Header(2, 28, "TCP", CLIENT, SERVER)),
    "v2 udp4": (SIGNATURE + b"\x21\x12" + TCP4[2:], Header(2, 28, "UDP", CLIENT, SERVER)),
    "v2 tcp6": (SIGNATURE + TCP6, Header(2, 52, "TCP", CLIENT_V6, SERVER_V6)),
    "v2 udp6": (SIGNATURE + b"\x21\x22" + TCP6[2:], Header(2, 52, "UDP", CLIENT_V6, SERVER_V6)),
    "v2 unix": (SIGNATURE + UNIX, Header(2, 232, "TCP", "/run/a", "/run/b")),
    "v2 local": (SIGNATURE + bytes.fromhex("20 00 0000"), Header(2, 16)),
    "v2 local with what is to be passed over": (
        SIGNATURE + bytes.fromhex("20 F7 0003 FFFFFF"),
        Header(2, 19),
    ),
    "v2 unspecified": (SIGNATURE + bytes.fromhex("21 00 0002 FFFF"), Header(2, 18)),
    "v2 with an authority and a filler": (
        SIGNATURE + b"\x21\x11\x00\x1e" + TCP4[4:] + b"\x04\x00\x02..\x02\x00\x0aexample.fr",
        Header(2, 46, "TCP", CLIENT, SERVER, ((2, b"example.fr"),)),
    ),
}

golden = pytest.mark.parametrize("name", GOLDEN)


@golden
@pytest.mark.parametrize("rest", [b"", b"GET /\r\n", b"\0" * 5000])
def test_a_header_is_read_and_not_a_byte_more(name: str, rest: bytes) -> None:
    data, header = GOLDEN[name]
    assert header.size_bytes == len(data)
    assert parse(data + rest) == header


@golden
def test_each_head_of_a_header_asks_for_more(name: str) -> None:
    data, _ = GOLDEN[name]
    assert [size for size in range(len(data)) if parse(data[:size]) is not None] == []


WRONG = {
    "another protocol": (b"GET / HTTP/1.1\r\n", "neither PROXY nor the signature"),
    "lower case": (b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "neither PROXY nor the signature"),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "neither PROXY nor"),
    "an unknown protocol": (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "none of TCP4, TCP6 and"),
    "no protocol": (b"PROXY \r\n", "none of TCP4, TCP6 and UNKNOWN"),
    "two spaces": (b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "none of TCP4"),
    "a space at the end": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "7 words instead of 6"),
    "no ports": (b"PROXY TCP4 1.2.3.4 1.2.3.4\r\n", "4 words instead of 6"),
    "an address of the other family": (b"PROXY TCP4 ::1 ::1 1 2\r\n", "an address is not of"),
    "an address with a leading zero": (b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "an address is"),
    "a name": (b"PROXY TCP4 localhost 1.2.3.4 1 2\r\n", "an address is not of the family"),
    "an address with a zone": (b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "an address is not of"),
    "an address beyond ASCII": (b"PROXY TCP4 \xff.2.3.4 1.2.3.4 1 2\r\n", "an address is not of"),
    "a port too high": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "a port is not a number"),
    "a port with a leading zero": (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "a port is not"),
    "a negative port": (b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "a port is not a number"),
    "LF alone": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "does not end in CRLF"),
    "CR within": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX\r\n", "a port is not a number"),
    "a line without an end": (b"PROXY UNKNOWN " + b"x" * 93, "no line end within 107 bytes"),
    "a line too long by one": (LONGEST_V1[:-2] + b"x\r\n", "no line end within 107 bytes"),
    "version 1 in the form of 2": (SIGNATURE + b"\x11\x11\0\0", "version 1 follows"),
    "version 3": (SIGNATURE + b"\x31\x11\0\0", "version 3 follows"),
    "an unknown command": (SIGNATURE + b"\x22\x11\0\0", "command 2 is neither"),
    "an unknown family": (SIGNATURE + b"\x21\x41\x00\x0c", "0x41 mean nothing"),
    "an unknown transport": (SIGNATURE + b"\x21\x13\x00\x0c", "0x13 mean nothing"),
    "too short for IPv4": (SIGNATURE + b"\x21\x11\x00\x0b", "11 bytes for addresses that take 12"),
    "too short for IPv6": (SIGNATURE + b"\x21\x21\x00\x23", "35 bytes for addresses that take 36"),
    "too short for unix": (SIGNATURE + b"\x21\x31\x00\xd7", "215 bytes for addresses that take"),
    "longer than allowed": (SIGNATURE + b"\x21\x11\xff\xff", "65551 bytes, 4096 are allowed"),
    "longer than allowed, LOCAL": (SIGNATURE + b"\x20\x00\x0f\xf1", "4097 bytes, 4096 are"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_become_a_header_is_refused_with_a_reason(name: str) -> None:
    data, reason = WRONG[name]
    with pytest.raises(WireError, match=reason):
        parse(data)


def with_tlvs(block: bytes) -> bytes:
    return SIGNATURE + b"\x21\x11" + (12 + len(block)).to_bytes(2, "big") + TCP4[4:] + block


@pytest.mark.parametrize("length", range(12))
def test_every_length_too_short_for_the_addresses_is_refused(length: int) -> None:
    with pytest.raises(WireError, match="bytes for addresses"):
        parse(SIGNATURE + b"\x21\x11" + length.to_bytes(2, "big") + b"\0" * 100)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\x02", "cut off in its head"),
        (b"\x02\x00", "cut off in its head"),
        (b"\x02\x00\x01", "says 1 bytes, 0 are left"),
        (b"\x02\xff\xffabc", "says 65535 bytes, 3 are left"),
        (b"\x04\x00\x00\x02\x00\x05abcd", "says 5 bytes, 4 are left"),
        (b"\x05\x00\x81" + b"u" * 129, "unique id is longer than 128"),
        (b"\x03\x00\x03abc", "a checksum has 3 bytes"),
        (b"\x20\x00\x04\x01\x00\x00\x00", "an SSL block has 4 bytes"),
        (b"\x20\x00\x09\x01\x00\x00\x00\x00\x21\x00\x09\x54", "says 9 bytes, 1 are left"),
    ],
)
def test_a_tlv_whose_length_lies_is_refused(block: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse(with_tlvs(block))


def test_a_checksum_is_held_against_the_header() -> None:
    header = build_v2(CLIENT, SERVER, tlvs=((Type.AUTHORITY, b"example.com"),))
    assert parse(header) is not None
    type_of_the_checksum = 28
    for place in {*range(16, len(header))} - {type_of_the_checksum}:
        damaged = bytearray(header)
        damaged[place] ^= 0x40
        with pytest.raises(WireError):
            parse(bytes(damaged))


def test_a_checksum_made_elsewhere_is_right() -> None:
    """The four bytes are those of a bit by bit CRC32C, written here from RFC 3720 appendix B.4."""
    block = b"\x02\x00\x01x\x03\x00\x04\0\0\0\0"
    crc = 0xFFFFFFFF
    for byte in with_tlvs(block):
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    right = block[:-4] + (crc ^ 0xFFFFFFFF).to_bytes(4, "big")
    assert parse(with_tlvs(right)) is not None
    with pytest.raises(WireError, match="the checksum is wrong"):
        parse(with_tlvs(block))


# -- writing --


@pytest.mark.parametrize(
    ("source", "destination", "line"),
    [
        (CLIENT, SERVER, b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n"),
        (CLIENT_V6, SERVER_V6, b"PROXY TCP6 2001:db8::1 2001:db8::2 12345 443\r\n"),
        (CLIENT, SERVER_V6, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 12345 443\r\n"),
        (("fe80::1%eth0", 1), SERVER_V6, b"PROXY TCP6 fe80::1 2001:db8::2 1 443\r\n"),
        ("/run/a", "/run/b", b"PROXY UNKNOWN\r\n"),
        (None, None, b"PROXY UNKNOWN\r\n"),
        (CLIENT, "/run/b", b"PROXY UNKNOWN\r\n"),
    ],
)
def test_a_line_of_version_1(source: object, destination: object, line: bytes) -> None:
    assert build_v1(source, destination) == line  # type: ignore[arg-type]
    assert len(line) <= MAX_V1_BYTES


def test_what_is_written_without_a_checksum_is_what_the_specification_says() -> None:
    def built(*places: object, is_udp: bool = False) -> bytes:
        return build_v2(*places, is_udp=is_udp, with_checksum=False)  # type: ignore[arg-type]

    assert built(CLIENT, SERVER) == GOLDEN["v2 tcp4"][0]
    assert built(CLIENT, SERVER, is_udp=True) == GOLDEN["v2 udp4"][0]
    assert built(CLIENT_V6, SERVER_V6) == GOLDEN["v2 tcp6"][0]
    assert built(CLIENT_V6, SERVER_V6, is_udp=True) == GOLDEN["v2 udp6"][0]
    assert built("/run/a", "/run/b") == GOLDEN["v2 unix"][0]
    assert built(None, None) == GOLDEN["v2 local"][0]


def test_what_is_written_is_read_again() -> None:
    rng = random.Random(6)
    for _ in range(200):
        hosts = [
            (rng.choice(["192.0.2.1", "10.0.0.9", "::1", "2001:db8::9"]), rng.randrange(65536))
            for _ in range(2)
        ]
        tlvs = tuple(
            (rng.choice([1, 2, 0x30, 0xE0, 0xEF]), rng.randbytes(rng.randrange(40)))
            for _ in range(rng.randrange(4))
        )
        is_udp = rng.random() < 0.5
        header = parse(build_v2(*hosts, is_udp=is_udp, tlvs=tlvs) + rng.randbytes(9))
        assert header is not None
        assert header.protocol == ("UDP" if is_udp else "TCP")
        assert header.tlvs[1:] == tlvs
        is_mixed = len({":" in host for host, _ in hosts}) > 1
        places = [header.source, header.destination]
        if is_mixed:
            hosts = [(h if ":" in h else f"::ffff:{h}", port) for h, port in hosts]
        assert places == hosts


def test_a_header_that_nobody_would_take_is_not_written() -> None:
    with pytest.raises(WireError, match="bytes is too long"):
        build_v2(CLIENT, SERVER, tlvs=((0xE0, b"x" * MAX_V2_BYTES),))


# -- an enemy --


def test_mutated_headers_are_read_or_refused_and_nothing_else() -> None:
    """Ten thousand of them; each is a header within its bytes, or "more", or a WireError."""
    seed = 20260427
    print("seed", seed)
    rng = random.Random(seed)
    originals = [data for data, _ in GOLDEN.values()] + [build_v2(CLIENT, SERVER)]
    outcomes: Counter[str] = Counter()
    for _ in range(10_000):
        data = bytearray(rng.choice(originals) + rng.randbytes(rng.randrange(20)))
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(data))
            how = rng.random()
            if how < 0.6:
                data[place] = rng.randrange(256)
            elif how < 0.8:
                del data[place : place + rng.randrange(1, 5)]
            else:
                data[place:place] = rng.randbytes(rng.randrange(1, 5))
            data = data or bytearray(b"P")
        try:
            header = parse(bytes(data))
        except WireError:
            outcomes["refused"] += 1
        else:
            outcomes["more" if header is None else "read"] += 1
            assert header is None or header.size_bytes <= len(data)
    assert min(outcomes[each] for each in ("refused", "more", "read")) > 300
