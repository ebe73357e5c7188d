"""ClientHellos: those of real clients, in any split and over several records, and wrong ones."""

import pathlib
import random
import ssl
from collections import Counter
from typing import Any

import pytest
from nginy.wire.client_hello import NOT_TLS, Hello, Records, parse
from nginy.wire.errors import WireError

HELLOS = pathlib.Path(__file__).parent / "hellos"


def hello_of_python(
    server_name: str | None = "www.Example.com",
    alpn: tuple[str, ...] = ("h2", "http/1.1"),
    highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bytes:
    """What this Python's OpenSSL says first; no network is needed for that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = highest
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, body)


def server_name(*names: bytes) -> bytes:
    return extension(0, vector(2, b"".join(b"\0" + vector(2, name) for name in names)))


def hello(
    *extensions: bytes, version: int = 0x0303, record_bytes: int = 16384, with_list: bool = True
) -> bytes:
    """A ClientHello put together by hand, in records of at most `record_bytes`."""
    body = version.to_bytes(2, "big") + bytes(32) + vector(1, b"s" * 32)
    body += vector(2, b"\x13\x01\x0a\x0a") + vector(1, b"\0")
    if with_list:
        body += vector(2, b"".join(extensions))
    return records(b"\x01" + vector(3, body), record_bytes)


def records(message: bytes, size: int) -> bytes:
    pieces = [message[i : i + size] for i in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


GREASE = extension(0x0A0A, b"\0")
POST_QUANTUM = extension(51, vector(2, b"\x11\xec" + vector(2, bytes(1216))))

CASES = {
    "a name": (hello(server_name(b"a.example")), Hello(True, "a.example", (), "TLSv1.2")),
    "a name in capitals": (
        hello(server_name(b"A.ExAmple")), Hello(True, "a.example", (), "TLSv1.2"),
    ),
    "no extension": (hello(), Hello(True, "", (), "TLSv1.2")),
    "no list of extensions": (hello(with_list=False), Hello(True, "", (), "TLSv1.2")),
    "an empty extension of the name": (hello(extension(0, b"")), Hello(True, "", (), "TLSv1.2")),
    "an empty list of names": (hello(server_name()), Hello(True, "", (), "TLSv1.2")),
    "an IP address for a name": (
        hello(server_name(b"192.0.2.1")), Hello(True, "192.0.2.1", (), "TLSv1.2"),
    ),
    "two names": (hello(server_name(b"a", b"b")), Hello(True, "a", (), "TLSv1.2")),
    "a name of another kind first": (
        hello(extension(0, vector(2, b"\x01" + vector(2, b"x") + b"\0" + vector(2, b"a")))),
        Hello(True, "a", (), "TLSv1.2"),
    ),
    "a name beyond ASCII": (
        hello(server_name(b"\xffa")), Hello(True, "\udcffa", (), "TLSv1.2"),
    ),
    "protocols": (
        hello(extension(16, vector(2, vector(1, b"h2") + vector(1, b"http/1.1")))),
        Hello(True, "", ("h2", "http/1.1"), "TLSv1.2"),
    ),
    "versions with GREASE among them": (
        hello(GREASE, extension(43, vector(1, b"\xda\xda\x03\x04\x03\x03")), GREASE),
        Hello(True, "", (), "TLSv1.3"),
    ),
    "only versions of the future": (
        hello(extension(43, vector(1, b"\x03\x05"))), Hello(True, "", (), ""),
    ),
    "an old version": (hello(version=0x0301), Hello(True, "", (), "TLSv1")),
    "a post-quantum key share before the name": (
        hello(GREASE, POST_QUANTUM, server_name(b"pq.example"), GREASE),
        Hello(True, "pq.example", (), "TLSv1.2"),
    ),
    "longer than one record": (
        hello(extension(21, bytes(20_000)), server_name(b"far.example")),
        Hello(True, "far.example", (), "TLSv1.2"),
    ),
    "records of one byte": (
        hello(server_name(b"a.example"), record_bytes=1), Hello(True, "a.example", (), "TLSv1.2"),
    ),
    "records of three bytes": (
        hello(server_name(b"a.example"), record_bytes=3), Hello(True, "a.example", (), "TLSv1.2"),
    ),
}  # fmt: skip

cases = pytest.mark.parametrize("name", CASES)


@cases
@pytest.mark.parametrize("rest", [b"", b"\x14\x03\x03\x00\x01\x01", b"\0" * 100])
def test_a_hello_is_read_whatever_follows(name: str, rest: bytes) -> None:
    data, expected = CASES[name]
    assert parse(data + rest) == expected


@cases
def test_each_head_of_a_hello_asks_for_more(name: str) -> None:
    data, _ = CASES[name]
    step = 1 if len(data) < 2000 else 97
    assert [size for size in range(0, len(data), step) if parse(data[:size]) is not None] == []


@cases
def test_a_hello_that_comes_a_byte_at_a_time_is_the_same(name: str) -> None:
    data, expected = CASES[name]
    kept = Records()
    step = 1 if len(data) < 2000 else 97
    for size in range(0, len(data), step):
        assert parse(data[:size], kept) is None
    assert parse(data, kept) == expected


def test_no_record_is_read_again_for_each_byte_that_comes() -> None:
    """A client could keep the loop busy for minutes with 64 KB in records of one byte."""

    class Counted(bytes):
        taken = 0

        def __getitem__(self, key: Any) -> Any:
            Counted.taken += 1
            return super().__getitem__(key)

    data = records(b"\x01" + vector(3, bytes(2000)), 1)
    kept = Records()
    for size in range(1000, 11_000, 10):
        assert parse(Counted(data[:size]), kept) is None
    # A head and a byte of 1,833 records, and a few looks each time: not 1,000 times 1,000.
    assert Counted.taken < 20_000


@pytest.mark.parametrize("highest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["www.example.com", None])
@pytest.mark.parametrize("alpn", [(), ("h2",), ("imap", "xmpp-client")])
def test_the_hello_of_a_real_client(
    name: str | None, alpn: tuple[str, ...], highest: ssl.TLSVersion
) -> None:
    data = hello_of_python(name, alpn, highest)
    version = "TLSv1.3" if highest is ssl.TLSVersion.TLSv1_3 else "TLSv1.2"
    expected = Hello(True, name or "", alpn, version)
    assert parse(data) == expected
    # The same message in small records, as some clients split it to get past a filter.
    assert parse(records(data[5:], 7)) == expected
    assert [size for size in range(len(data)) if parse(data[:size]) is not None] == []


RECORDED = {
    # Chromium 156, with a key share of X25519MLKEM768, GREASE, and extensions in an order of chance
    "chromium": Hello(True, "www.example.com", ("h2", "http/1.1"), "TLSv1.3"),
    "curl": Hello(True, "www.example.com", ("h2", "http/1.1"), "TLSv1.3"),  # 7.88.1
    "gnutls": Hello(True, "www.example.com", ("h2",), "TLSv1.3"),  # 3.7.9
    "go": Hello(True, "www.example.com", ("h2", "http/1.1"), "TLSv1.3"),  # 1.19
    "openssl-1.2": Hello(True, "www.example.com", (), "TLSv1.2"),  # s_client 3.0 with -tls1_2
    "openssl-1.3": Hello(True, "www.example.com", ("h2", "http/1.1"), "TLSv1.3"),
    "openssl-noname": Hello(True, "", (), "TLSv1.3"),
    "python": Hello(True, "www.example.com", ("h2",), "TLSv1.3"),  # 3.11, padded
}
"""What clients of Debian 12 have sent to https://www.example.com/, as files in `hellos`."""


@pytest.mark.parametrize("name", RECORDED)
def test_the_recorded_hello_of_a_real_client(name: str) -> None:
    data = (HELLOS / f"{name}.bin").read_bytes()
    assert parse(data) == RECORDED[name]
    assert parse(data + b"\x14\x03\x03\0\x01\x01") == RECORDED[name]
    for size in (1, 99, 1000):
        assert parse(records(data[5:], size)) == RECORDED[name]
    assert [size for size in range(len(data)) if parse(data[:size]) is not None] == []


def test_the_post_quantum_hello_has_its_key_share() -> None:
    data = (HELLOS / "chromium.bin").read_bytes()
    assert len(data) > 1800
    assert b"\x11\xec\x04\xc0" in data  # X25519MLKEM768, of 1,216 bytes


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-OpenSSH", b"GET / HTTP/1.1", b"\0", b"\x15\x03\x01\x00\x02", b"\x16\x05\x01"]
)
def test_what_is_no_tls_is_known_by_its_first_bytes(data: bytes) -> None:
    assert parse(data) is NOT_TLS


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x80\x2e\x01\x03\x01\x00\x15", Hello(True, version="TLSv1")),
        (b"\x80\x2e\x01\x03\x03\x00\x15", Hello(True, version="TLSv1.2")),
        (b"\x80\x2e\x01\x00\x02\x00\x15", Hello(True, version="SSLv2")),
        (b"\x80\x2e\x01\x09\x09\x00\x15", NOT_TLS),
        (b"\x80\x2e\x04\x03\x01", NOT_TLS),
        (b"\x80\x2e\x04", NOT_TLS),
        (b"\x80\x2e\x01\x03", None),
        (b"\xff", None),
    ],
)
def test_the_form_of_sslv2_has_no_name(data: bytes, expected: Hello | None) -> None:
    assert parse(data) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x16\x03\x01\x00\x00", "a record of 0 bytes"),
        (b"\x16\x03\x01\x40\x01", "a record of 16385 bytes"),
        (b"\x16\x03\x01\x00\x01\x02", "is not a ClientHello"),
        (b"\x16\x03\x01\x00\x02\x01\x00\x17\x03\x03\x00\x01\x00", "of another kind"),
        (records(b"\x01\0\0\0", 4), "points beyond its end"),
        (records(b"\x01" + vector(3, b"\x03\x03" + bytes(32) + b"\x21"), 99), "points beyond"),
        (hello(b"\0\0\0\x05abcd"), "points beyond its end"),
        (hello(b"\0\0\0"), "points beyond its end"),
        (hello(extension(0, b"\0\x05\0\0\x09a")), "points beyond its end"),
        (hello(extension(16, b"\0\x02\x05a")), "points beyond its end"),
        (hello(extension(43, b"\x03\x03\x04\x03")), "points beyond its end"),
    ],
)
def test_a_hello_whose_lengths_do_not_fit_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse(data)


def test_mutated_hellos_are_read_or_refused_and_nothing_else() -> None:
    seed = 8446
    print("seed", seed)
    rng = random.Random(seed)
    originals = [data for data, _ in CASES.values() if len(data) < 5000]
    originals += [path.read_bytes() for path in sorted(HELLOS.glob("*.bin"))]
    outcomes: Counter[str] = Counter()
    for _ in range(10_000):
        data = bytearray(rng.choice(originals))
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(min(len(data), 300))
            if rng.random() < 0.7:
                data[place] = rng.randrange(256)
            else:
                del data[place : place + rng.randrange(1, 5)]
        try:
            said = parse(bytes(data))
        except WireError:
            outcomes["refused"] += 1
        else:
            outcomes["more" if said is None else "read"] += 1
    assert min(outcomes[each] for each in ("refused", "more", "read")) > 300
