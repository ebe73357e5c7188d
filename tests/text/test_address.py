"""Addresses: which texts are valid, why others are not, and what the socket calls get."""

import dataclasses
import pickle
import socket

import pytest
from nginy.errors import InvalidValueError
from nginy.text.address import (
    Address,
    parse_address,
    parse_bind_address,
    parse_listen,
    parse_peer,
    sockaddr_text,
)


@pytest.mark.parametrize(
    ("text", "family", "sockaddr"),
    [
        ("127.0.0.1:80", socket.AF_INET, ("127.0.0.1", 80)),
        ("[::1]:65535", socket.AF_INET6, ("::1", 65535, 0, 0)),
        ("unix:/run/x", socket.AF_UNIX, "/run/x"),
    ],
)
def test_an_address_becomes_what_connect_takes(
    text: str, family: socket.AddressFamily, sockaddr: object
) -> None:
    address = parse_address(text)
    assert (address.family, address.sockaddr) == (family, sockaddr)
    assert str(address) == text


def test_an_address_made_of_another_has_its_own_form_for_connect() -> None:
    address = dataclasses.replace(parse_address("[::1]:80"), port=81)
    assert address.sockaddr == ("::1", 81, 0, 0)
    assert pickle.loads(pickle.dumps(address)).sockaddr == ("::1", 81, 0, 0)


def test_ipv6_texts_of_one_address_are_equal_and_keep_what_was_written() -> None:
    long, short = parse_address("[2001:DB8:0:0::1]:80"), parse_address("[2001:db8::1]:80")
    assert long == short
    assert hash(long) == hash(short)
    assert str(long) == "[2001:db8::1]:80"
    assert long.name == "[2001:DB8:0:0::1]:80"


def test_the_name_of_an_address_that_was_not_parsed_is_its_text() -> None:
    assert Address(socket.AF_INET, "127.0.0.1", 0).name == "127.0.0.1:0"


def test_an_address_knows_what_it_is() -> None:
    texts = ("0.0.0.0:1", "[::]:1", "127.0.0.1:1", "unix:/x")
    addresses = [parse_address(text) for text in texts]
    assert [address.is_wildcard for address in addresses] == [True, True, False, False]
    assert [address.is_unix for address in addresses] == [False, False, False, True]


def test_the_wildcard_of_an_address_keeps_its_family_and_its_port() -> None:
    texts = ("127.0.0.1:1", "[::1]:2", "0.0.0.0:3", "unix:/x")
    wildcards = [str(parse_address(text).wildcard) for text in texts]
    assert wildcards == ["0.0.0.0:1", "[::]:2", "0.0.0.0:3", "unix:/x"]


@pytest.mark.parametrize(
    ("text", "clause", "hint"),
    [
        ("127.0.0.1", "has no port", None),
        ("127.0.0.1:", "has no port", None),
        ("[::1]", "has no port", None),
        ("127.0.0.1:0", "has port 0, outside 1 to 65535", None),
        ("127.0.0.1:70000", "has port 70000, outside 1 to 65535", None),
        ("127.0.0.1:http", 'has "http" for a port', None),
        ("127.0.0.1:-1", 'has "-1" for a port', None),
        ("127.0.0.1:" + "9" * 12, f'has "{"9" * 12}" for a port', None),
        ("300.0.0.1:80", "is not an IPv4 address", None),
        ("127.1:80", "is not an IPv4 address", None),
        ("127.0.0.01:80", "is not an IPv4 address", None),
        (":80", "has no host", None),
        ("[::g]:80", "is not an IPv6 address", None),
        ("[127.0.0.1]:80", "is not an IPv6 address", None),
        ("[::1:80", "is not an IPv6 address", None),
        ("[::1]80", "is not an IPv6 address", None),
        ("::1:80", "has an IPv6 address without brackets", "[::1]:80"),
        ("a:b:c", "has an IPv6 address without brackets", None),
        ("localhost:80", "is a host name, and names are not supported", "127.0.0.1:80"),
        ("web.example.com:80", "is a host name, and names are not supported", None),
        ("http//x:80", "is not an address", None),
        ("a\0b:80", "is not an address", None),
        ("unix:run/x", "is not an absolute path", None),
        ("unix:", "is not an absolute path", None),
        ("unix:/" + "x" * 107, "is longer than the 107 bytes of a unix socket's path", None),
        ("unix:/a\0b", "has a zero byte in its path", None),
    ],
)
def test_what_is_no_address_is_refused(text: str, clause: str, hint: str | None) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_address(text)
    assert (caught.value.clause, caught.value.hint) == (clause, hint)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("127.0.0.1:80", ["127.0.0.1:80"]),
        ("8080", ["0.0.0.0:8080"]),
        ("*:8080", ["0.0.0.0:8080"]),
        ("[::]:8080", ["[::]:8080"]),
        ("127.0.0.1:10-12", ["127.0.0.1:10", "127.0.0.1:11", "127.0.0.1:12"]),
        ("[::1]:10-11", ["[::1]:10", "[::1]:11"]),
        ("10-11", ["0.0.0.0:10", "0.0.0.0:11"]),
        ("127.0.0.1:10-10", ["127.0.0.1:10"]),
        ("unix:/run/x-y", ["unix:/run/x-y"]),
    ],
)
def test_listen_takes_ports_alone_and_ranges(text: str, addresses: list[str]) -> None:
    assert [str(address) for address in parse_listen(text)] == addresses


@pytest.mark.parametrize(
    ("text", "clause", "hint"),
    [
        ("0", "has port 0, outside 1 to 65535", None),
        ("70000", "has port 70000, outside 1 to 65535", None),
        ("127.0.0.1", "has no port", None),
        ("127.0.0.1:10-", "has no port", None),
        ("127.0.0.1:12-10", "is a range that runs backwards", "127.0.0.1:10-12"),
        ("127.0.0.1:1-70000", "has port 70000, outside 1 to 65535", None),
        ("127.0.0.1:1-2-3", 'has "2-3" for a port', None),
        ("localhost:80", "is a host name, and names are not supported", "127.0.0.1:80"),
    ],
)
def test_what_cannot_be_listened_on_is_refused(text: str, clause: str, hint: str | None) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_listen(text)
    assert (caught.value.clause, caught.value.hint) == (clause, hint)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.2", "127.0.0.2", 0),
        ("127.0.0.2:1000", "127.0.0.2", 1000),
        ("::1", "::1", 0),
        ("[::1]", "::1", 0),
        ("[::1]:1000", "::1", 1000),
    ],
)
def test_an_address_to_connect_from_needs_no_port(text: str, host: str, port: int) -> None:
    address = parse_bind_address(text)
    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize(
    ("text", "clause"),
    [("unix:/x", "is not an IP address"), ("eth0", "is a host name, and names are not supported")],
)
def test_only_an_ip_address_can_be_connected_from(text: str, clause: str) -> None:
    with pytest.raises(InvalidValueError, match=clause):
        parse_bind_address(text)


@pytest.mark.parametrize(
    ("sockaddr", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        ("/run/x.sock", "unix:/run/x.sock"),
        ("", "unix:"),
        (b"\0name", "unix:"),
    ],
)
def test_addresses_are_written_as_in_the_configuration(sockaddr: object, text: str) -> None:
    assert sockaddr_text(sockaddr) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "port", "address"),
    [
        ("10.0.0.5:+0", 443, "10.0.0.5:443"),
        ("10.0.0.5:+1000", 443, "10.0.0.5:1443"),
        ("[::1]:+1", 1, "[::1]:2"),
    ],
)
def test_an_address_may_have_the_port_that_a_client_has_asked(
    text: str, port: int, address: str
) -> None:
    relative = parse_peer(text)
    assert (str(relative), relative.name, relative.is_name) == (text, text, False)
    assert relative.for_port(port) == parse_address(address)
    assert relative != parse_peer(text.replace("+", "+1"))
    checked = dataclasses.replace(relative, port=9)
    assert str(checked) == text.rpartition(":")[0] + ":9"


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("10.0.0.5:+", 'has "+" for a port'),
        ("10.0.0.5:+x", 'has "+x" for a port'),
        ("10.0.0.5:+-1", 'has "+-1" for a port'),
        ("10.0.0.5:+65535", 'has "+65535" for a port'),
        ("web.internal:+0", "is a host name, and only an IP address can have the listener's port"),
        ("10.0:+0", "is not an IPv4 address"),
        (":+0", "has no host"),
    ],
)
def test_a_port_that_cannot_be_added_to_is_refused(text: str, clause: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_peer(text)
    assert caught.value.clause == clause
