"""Times, numbers and addresses of HAProxy."""

import pytest
from nginy.commands.importing.haproxy.values import (
    HostOrPath,
    duration,
    in_seconds,
    network,
    number,
    parse_place,
)
from nginy.errors import InvalidValueError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("500", "500ms"),
        ("5s", "5s"),
        ("90s", "1m30s"),
        ("1d", "1d"),
        ("1500us", "2ms"),
        ("0", "off"),
    ],
)
def test_a_time(text: str, wanted: str) -> None:
    assert duration(text) == wanted


def test_a_time_in_whole_seconds_is_rounded_up() -> None:
    assert [in_seconds(text) for text in ("1", "1000", "1001")] == ["1s", "1s", "2s"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (":80", HostOrPath("", "80")),
        ("*:80", HostOrPath("", "80")),
        ("ipv6@:80", HostOrPath("::", "80")),
        (":::80", HostOrPath("::", "80")),
        ("[::1]:80", HostOrPath("::1", "80")),
        ("[::1]", HostOrPath("::1", "")),
        ("ipv4@10.0.0.1:8000-8010", HostOrPath("10.0.0.1", "8000-8010")),
        ("10.0.0.1", HostOrPath("10.0.0.1", "")),
        ("web.example:+100", HostOrPath("web.example", "+100")),
        ("/run/x.sock", HostOrPath(path="/run/x.sock")),
        ("unix@/run/x.sock", HostOrPath(path="/run/x.sock")),
        ("${HOST:-10.0.0.1}:${PORT}", HostOrPath("${HOST:-10.0.0.1}", "${PORT}")),
    ],
)
def test_an_address(text: str, place: HostOrPath) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("fd@3", "is a descriptor that HAProxy inherits"),
        ("abns@x", "is an abstract unix socket"),
        ("quic4@:443", "is QUIC"),
        ("x25@1", "has an unknown family of addresses"),
        ("unix@x", "is not an absolute path"),
        ("[::1", "has a bracket that is not closed"),
        ("1.2.3.4.5:80", "is not an IP address"),
        ("fe80::1%eth0:80", "has a scope, which nginy does not support"),
        ("a b:80", "is not an address"),
    ],
)
def test_an_address_that_nginy_cannot_have(text: str, clause: str) -> None:
    with pytest.raises(InvalidValueError) as raised:
        parse_place(text)
    assert raised.value.clause == clause


def test_networks_lose_the_bits_beyond_their_prefix() -> None:
    texts = ("10.1.2.3/8", "10.0.0.0/255.0.0.0", "10.0.0.1", "2001:db8::1/32", "::1")
    found = [network(text) for text in texts]
    assert found == ["10.0.0.0/8", "10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "::1"]


@pytest.mark.parametrize("text", ["", "-1", "x", "1e3", "²", "99999999999", "${N}"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(InvalidValueError):
        number(text)


@pytest.mark.parametrize("text", ["", "5x", "1.5s", "-1", "4000d", "${T}"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InvalidValueError):
        duration(text)
