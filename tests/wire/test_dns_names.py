"""Domain names: canonical form, compression, and pointers that are not allowed."""

import random

import pytest
from nginy.wire.dns_names import NameReader, encode_name, name_text
from nginy.wire.errors import WireError

HEADER = bytes(12)


@pytest.mark.parametrize("name", ["www.example.com", "WWW.Example.COM", "www.example.com."])
def test_a_name_has_one_wire_form_however_it_is_written(name):
    assert encode_name(name) == b"\x03www\x07example\x03com\x00"


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", ".a", "a b", "a/b", "x" * 64, "bücher.example", "a\\046b", "a\nb"]
)
def test_what_is_no_host_name_is_refused(name):
    with pytest.raises(WireError):
        encode_name(name)


def test_a_name_may_have_255_bytes_and_not_one_more():
    longest = ".".join(["x" * 63] * 3 + ["y" * 61])
    assert len(encode_name(longest)) == 255
    with pytest.raises(WireError, match="at most 253 characters"):
        encode_name(longest + "y")


def test_labels_and_underscores_of_services_are_read_back_as_text():
    assert name_text(encode_name("_http._tcp.a-1.example")) == "_http._tcp.a-1.example"


def test_the_root_is_a_dot():
    assert name_text(b"\x00") == "."


def test_a_dot_inside_a_label_cannot_pass_for_a_border():
    wire = b"\x0bwww.example\x03com\x00"
    assert name_text(wire) == "www\\046example.com"
    assert wire != encode_name("www.example.com")
    with pytest.raises(WireError):
        encode_name(name_text(wire))


def test_a_pointer_continues_at_an_earlier_name_and_the_reader_returns_behind_the_pointer():
    message = HEADER + b"\x07EXAMPLE\x03com\x00" + b"\x03www\xc0\x0c" + b"rest"
    reader = NameReader(message)
    assert reader.read(12) == (b"\x07example\x03com\x00", 25)
    assert reader.read(25) == (b"\x03www\x07example\x03com\x00", 31)
    assert reader.read(25) == (b"\x03www\x07example\x03com\x00", 31)


def test_a_pointer_may_lead_to_a_pointer_and_into_the_middle_of_a_name():
    message = HEADER + b"\x01a\x01b\x00" + b"\x01c\xc0\x0e" + b"\xc0\x11"
    assert NameReader(message).read(21) == (b"\x01c\x01b\x00", 23)


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"\xc0\x0c", id="at itself"),
        pytest.param(b"\x01a\xc0\x0c", id="at its own beginning"),
        pytest.param(b"\xc0\x0e\x00", id="forward"),
        pytest.param(b"\xff\xff", id="out of the message"),
        pytest.param(b"\xc0\x00", id="into the header"),
        pytest.param(b"\xc0", id="cut in two"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x05abc", id="label longer than the message"),
        pytest.param(b"\x01a", id="no end"),
        pytest.param(b"\x41a\x00", id="reserved label type 01"),
        pytest.param(b"\x81a\x00", id="reserved label type 10"),
    ],
)
def test_a_malformed_name_is_refused(tail):
    with pytest.raises(WireError):
        NameReader(HEADER + tail).read(12)


def test_two_pointers_that_point_at_each_other_are_refused():
    with pytest.raises(WireError, match="backward"):
        NameReader(HEADER + b"\xc0\x0e\xc0\x0c").read(14)


def test_a_name_that_pointers_make_longer_than_255_bytes_is_refused():
    part = b"\x3f" + b"x" * 63
    start = len(HEADER + part * 3) + 1
    longest = HEADER + part * 3 + b"\x00" + b"\x3d" + b"y" * 61 + b"\xc0\x0c"
    assert len(NameReader(longest).read(start)[0]) == 255
    too_long = HEADER + part * 3 + b"\x00" + b"\x3e" + b"y" * 62 + b"\xc0\x0c"
    with pytest.raises(WireError, match="too long"):
        NameReader(too_long).read(start)


def test_a_chain_of_thousands_of_pointers_does_not_recurse():
    message = bytearray(HEADER + b"\x01a\x00")
    previous = 12
    while previous + 4 < 0x3FFF - 2:
        start = len(message)
        message += (0xC000 | previous).to_bytes(2, "big")
        previous = start
    name, end = NameReader(bytes(message)).read(previous)
    assert (name, end) == (b"\x01a\x00", previous + 2)


def test_random_bytes_are_a_name_or_an_error_and_every_read_ends():
    seed = 20261
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(800):
        alphabet = [0, 1, 2, 0xC0, 0xC0, 12, 13, 14, 20, 0x40, ord("a")]
        message = HEADER + bytes(rng.choices(alphabet, k=rng.randrange(40)))
        reader = NameReader(message)
        for start in range(12, len(message)):
            try:
                name, end = reader.read(start)
            except WireError:
                continue
            assert len(name) <= 255
            assert start < end <= len(message)
            assert (name, end) == NameReader(message).read(start)
