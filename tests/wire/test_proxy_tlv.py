"""TLVs of the PROXY protocol: what they hold, and the checksum's own examples."""

import pytest
from nginy.wire.errors import WireError
from nginy.wire.proxy_tlv import (
    SslFlag,
    SslInfo,
    SslType,
    build_ssl,
    build_tlvs,
    crc32c,
    parse_ssl,
    parse_tlvs,
    place_of_crc32c,
    value_of,
)


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720 appendix B.4, and the usual check value
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_the_checksum_is_castagnolis(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


def test_a_block_is_its_tlvs_in_order_less_the_fillers() -> None:
    block = b"\x02\x00\x03abc\x04\x00\x00\xe0\x00\x01z\x02\x00\x00"
    assert parse_tlvs(block) == ((2, b"abc"), (0xE0, b"z"), (2, b""))
    assert build_tlvs(parse_tlvs(block)) == b"\x02\x00\x03abc\xe0\x00\x01z\x02\x00\x00"


def test_the_first_of_a_type_counts() -> None:
    tlvs = ((2, b"one"), (2, b"two"))
    assert (value_of(tlvs, 2), value_of(tlvs, 3)) == (b"one", None)


def test_the_checksum_is_found_where_it_stands_and_not_inside_another_value() -> None:
    assert place_of_crc32c(b"\x02\x00\x07\x03\x00\x04\0\0\0\0\x03\x00\x04abcd") == 13
    assert place_of_crc32c(b"\x02\x00\x01x") is None


@pytest.mark.parametrize(
    ("flags", "verify", "is_verified"),
    [
        (SslFlag.SSL, 0, False),
        (SslFlag.SSL | SslFlag.CERT_CONN, 0, True),
        (SslFlag.SSL | SslFlag.CERT_SESS, 0, True),
        (SslFlag.SSL | SslFlag.CERT_CONN, 18, False),
    ],
)
def test_only_a_shown_certificate_can_be_verified(
    flags: int, verify: int, is_verified: bool
) -> None:
    assert SslInfo(flags, verify).is_verified is is_verified


def test_an_ssl_block_holds_tlvs_of_its_own() -> None:
    info = SslInfo(SslFlag.SSL, 1, ((SslType.VERSION, b"TLSv1.3"), (SslType.CN, b"anna")))
    value = build_ssl(info)
    assert value[:5] == b"\x01\x00\x00\x00\x01"
    assert parse_ssl(value) == info
    assert info.value(SslType.CN) == b"anna"
    assert info.value(SslType.CIPHER) is None


def test_a_value_too_long_for_its_length_is_refused() -> None:
    with pytest.raises(WireError, match="65536 bytes is too long"):
        build_tlvs(((2, bytes(65536)),))
