"""Bytes of a peer in a message."""

import pytest
from nginy.wire.shown import SHOWN_MAX_BYTES, shown


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "nothing"),
        (b"220 mail\r\n", r'"220 mail\r\n"'),
        (b'a "b" \\ \t', r'"a \"b\" \\ \t"'),
        (b"\x00\x1b[2J\x7f\x80\xff", r'"\x00\x1b[2J\x7f\x80\xff"'),
        (b"x" * SHOWN_MAX_BYTES, '"' + "x" * 64 + '"'),
        (b"x" * (SHOWN_MAX_BYTES + 1), '"' + "x" * 64 + '"...'),
        (b"\x15\x03\x03\x00\x02\x02(", r'"\x15\x03\x03\x00\x02\x02(" (looks like TLS)'),
        (b"\x16\x03", r'"\x16\x03"'),
    ],
)
def test_the_head_is_shown_in_quotes_and_escaped(data: bytes, text: str) -> None:
    assert shown(data) == text


def test_every_byte_becomes_printable_ascii() -> None:
    for byte in range(256):
        text = shown(bytes([byte]))
        assert text.isascii()
        assert text.isprintable()
