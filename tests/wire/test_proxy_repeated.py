"""Headers made from what stays the same: byte for byte those that are built from nothing."""

import random
from socket import AF_INET, AF_INET6, AddressFamily, inet_ntop

import pytest
from nginy.wire.proxy_protocol import build_v2, parse
from nginy.wire.proxy_repeated import RepeatedHeader, byte_table
from nginy.wire.proxy_tlv import Type, crc32c

HOSTS = {AF_INET: 4, AF_INET6: 16}


@pytest.mark.parametrize("is_udp", [False, True])
@pytest.mark.parametrize("family", list(HOSTS))
def test_every_header_is_what_it_would_be_if_built_from_nothing(
    family: AddressFamily, is_udp: bool
) -> None:
    rng = random.Random(15)

    def host() -> tuple[str, int]:
        return inet_ntop(family, rng.randbytes(HOSTS[family])), rng.randrange(65536)

    for _ in range(20):
        destination, identity = host(), rng.randbytes(rng.randrange(60))
        made = RepeatedHeader(destination, identity, is_udp=is_udp)
        for _ in range(20):
            source, number = host(), rng.randrange(10 ** rng.randrange(1, 12))
            unique_id = ((int(Type.UNIQUE_ID), identity + b"%d" % number),)
            expected = build_v2(source, destination, is_udp=is_udp, tlvs=unique_id)
            assert made.header(source, number) == expected


def test_it_can_be_read() -> None:
    made = RepeatedHeader(("198.51.100.2", 443), b"host-1-2-")
    header = parse(made.header(("192.0.2.7", 4711), 99))
    assert header is not None
    assert (header.source, header.destination) == (("192.0.2.7", 4711), ("198.51.100.2", 443))
    assert dict(header.tlvs)[Type.UNIQUE_ID] == b"host-1-2-99"


def test_an_address_of_the_other_family_is_refused() -> None:
    with pytest.raises(OSError, match="illegal"):
        RepeatedHeader(("192.0.2.1", 1), b"").header(("::1", 1), 1)


@pytest.mark.parametrize("distance", [0, 1, 7, 100])
def test_a_byte_adds_what_its_distance_says(distance: int) -> None:
    table = byte_table(distance)
    for byte in range(256):
        text = bytes((byte,)) + b"x" * distance
        assert crc32c(text) == crc32c(b"\0" + b"x" * distance) ^ table[byte]
