"""Lookups against plain models: what stands first, longest or at random, as nginx finds it."""

import random
import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest
from nginy.errors import InvalidValueError
from nginy.proxy.access import parse_network
from nginy.proxy.lookups import Geo, Map, Split, murmur_hash2, parse_pattern, parse_share


def found(lookup: Map | Geo | Split, *texts: str) -> list[int]:
    return [lookup.find(text)[0] for text in texts]


# map


def test_a_text_is_found_in_any_case() -> None:
    table = Map(["Web", "api", ""], has_hostnames=False)
    assert found(table, "web", "WEB", "API", "", "other") == [0, 0, 1, 2, -1]


def test_patterns_come_after_texts_in_their_order_and_say_what_they_have_found() -> None:
    keys: list[str | re.Pattern[str]] = [re.compile("^a(.)"), "ab", re.compile("(?P<rest>c.*)")]
    table = Map(keys, has_hostnames=False)
    assert found(table, "ab", "ax", "xcx", "xyz") == [1, 0, 2, -1]
    match = table.find("ac")[1]
    assert match is not None
    assert match[1] == "c"
    match = table.find("xcx")[1]
    assert match is not None
    assert match["rest"] == "cx"


def test_no_pattern_is_tried_on_nothing() -> None:
    """As in nginx, where `~^$` never matches."""
    assert found(Map([re.compile("^$")], has_hostnames=False), "") == [-1]


def test_no_pattern_is_tried_on_a_text_that_a_client_makes_too_long() -> None:
    """Trying it from each of 16,000 letters takes a second."""
    table = Map([re.compile("a+$"), "b" * 2000], has_hostnames=False)
    assert found(table, "a" * 1000, "a" * 1001, "b" * 2000) == [0, -1, 1]


HOSTS = ["a.example.com", "*.example.com", "*.b.example.com", ".org", "www.*", "www.a.*"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("a.example.com", 0),
        ("A.Example.COM.", 0),
        ("x.example.com", 1),
        ("x.y.example.com", 1),
        ("x.b.example.com", 2),
        ("b.example.com", 1),
        ("example.com", -1),
        ("xexample.com", -1),
        ("org", 3),
        ("x.y.org", 3),
        ("www.net", 4),
        ("www.a.net", 5),
        ("www.a.b.net", 5),
        ("www.example.com", 1),
        ("www", -1),
        ("", -1),
        ("x" * 300 + ".example.com", -1),
    ],
)
def test_of_host_names_the_longest_suffix_counts_then_the_longest_prefix(
    name: str, number: int
) -> None:
    assert found(Map(HOSTS, has_hostnames=True), name) == [number]


def test_without_hostnames_a_mask_is_a_text_like_others() -> None:
    table = Map(["*.example.com", "x."], has_hostnames=False)
    assert found(table, "a.example.com", "*.example.com", "x.", "x") == [-1, 0, 1, -1]


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("~^web[0-9]+$", "web1", "Web1"),
        ("~*^web[0-9]+$", "WEB1", "web"),
        ("~^(?<name>web)", "webs", "we"),
        ("~^(?P<name>web)", "webs", "we"),
        ("~(?<!x)y", "y", "xy"),
    ],
)
def test_a_pattern_is_written_as_in_nginx(text: str, matching: str, other: str) -> None:
    pattern = parse_pattern(text)
    assert pattern.search(matching)
    assert not pattern.search(other)


@pytest.mark.parametrize("text", ["~", "~*", "~(", "~(a+)+", "~(?<1>x)", "~[", "~" + "(" * 500])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_pattern(text)


# geo


def test_the_narrowest_network_counts_whatever_the_order() -> None:
    texts = ["0.0.0.0/0", "10.1.2.3", "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "2001:db8::1"]
    hosts = ["192.0.2.1", "10.1.2.3", "10.2.0.1", "10.1.0.1", "2001:db8::2", "2001:db8::1", "::1"]
    hosts.append("::ffff:10.2.0.1")
    for seed in range(20):
        numbered = [(parse_network(text), number) for number, text in enumerate(texts)]
        random.Random(seed).shuffle(numbered)
        assert found(Geo(numbered), *hosts) == [0, 1, 2, 3, 4, 5, -1, 2]


@pytest.mark.parametrize("text", ["", "unix:", "web", "1.2.3", "1.2.3.4.5", "::g", "1.2.3.4\0"])
def test_what_is_no_address_has_the_default(text: str) -> None:
    assert found(Geo([(parse_network("0.0.0.0/0"), 0)]), text) == [-1]


def test_geo_does_as_a_model_that_asks_every_network() -> None:
    rng = random.Random(6)
    for _ in range(50):
        networks = {
            ip_network((rng.getrandbits(32), rng.randrange(33)), strict=False): rng.randrange(5)
            for _ in range(rng.randrange(40))
        }
        table = Geo((parse_network(str(net)), number) for net, number in networks.items())
        edges = [edge for net in networks for edge in (net[0], net[-1])]
        hosts = [*edges, *(ip_address(rng.getrandbits(32)) for _ in range(20))]
        for host in hosts:
            around = [net for net in networks if host in net]
            best = max(around, key=lambda net: net.prefixlen, default=None)
            assert found(table, str(host)) == [-1 if best is None else networks[best]]


# split


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0),
        (b"a", 0x92685F5E),
        (b"ab", 0x1AA14063),
        (b"abc", 0x13577C9B),
        (b"abcd", 0x26873021),
        (b"127.0.0.1", 0xB6131D91),
        (b"\xff" * 7, 0xECA30C90),
    ],
)
def test_the_hash_is_murmur_hash2(data: bytes, value: int) -> None:
    """The values are those of `ngx_murmur_hash2`, compiled from nginx's source."""
    assert murmur_hash2(data) == value


def nginx_split(shares: Sequence[int], has_rest: bool, value: int) -> int:
    """Word for word `ngx_conf_split_clients_block` and `ngx_stream_split_clients_variable`."""
    total = last = 0
    parts = []
    for percent in [*shares, *([0] if has_rest else [])]:
        total = total + percent if percent else 10_000
        bound = 0 if total == 10_000 else percent
        if bound:
            last = (last + bound * 0xFFFFFFFF // 10_000) & 0xFFFFFFFF
            bound = last
        parts.append(bound)
    for number, bound in enumerate(parts):
        if value < bound or bound == 0:
            return number if number < len(shares) else -1
    return -1


def test_shares_are_rounded_as_nginx_rounds_them() -> None:
    rng = random.Random(7)
    for _ in range(300):
        cuts = sorted(rng.sample(range(1, 10_000), rng.randrange(1, 6)))
        shares = [high - low for low, high in zip([0, *cuts], cuts, strict=False)]
        if rng.random() < 0.5:
            shares.append(10_000 - sum(shares))
        table = Split(shares)
        for _ in range(50):
            text = f"{rng.getrandbits(32):x}"
            has_rest = sum(shares) < 10_000
            assert found(table, text) == [
                nginx_split(shares, has_rest, murmur_hash2(text.encode()))
            ]


def test_the_same_text_has_the_same_value_and_shares_come_out_right() -> None:
    table = Split([parse_share("5%"), parse_share("0.5%")])
    counts = [0, 0, 0]
    for number in range(20_000):
        counts[found(table, f"10.0.{number >> 8}.{number & 255}")[0]] += 1
    assert 800 < counts[0] < 1200
    assert 60 < counts[1] < 140
    assert found(table, "10.0.0.7") == found(table, "10.0.0.7")


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", 500), ("0.25%", 25), ("100%", 10_000), ("33.3%", 3330), (".5%", 50), ("0.01%", 1)],
)
def test_a_share_has_two_decimals(text: str, share: int) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["0%", "0.00%", "100.01%", "5", "%", ".%", "1.234%", "x%", "-1%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_share(text)
