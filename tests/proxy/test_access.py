"""Access rules: what networks are, and which rule decides, against a plain list of rules."""

import ipaddress
import pickle
import random
import time
import timeit
from collections.abc import Sequence

import pytest
from nginy.errors import InvalidValueError
from nginy.proxy.access import (
    ALL,
    Access,
    Network,
    Ranges,
    Rule,
    Table,
    parse_network,
    parse_networks,
)


@pytest.mark.parametrize(
    "text",
    ["10.0.0.0/8", "192.0.2.1", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/32", "::1", "::/0"],
)
def test_a_network_is_what_the_standard_library_takes_it_for(text: str) -> None:
    network = parse_network(text)
    expected = ipaddress.ip_network(text)
    assert network.first == int(expected.network_address)
    assert network.last == int(expected.broadcast_address)


@pytest.mark.parametrize(
    ("text", "clause", "hint"),
    [
        ("10.0.0.1/8", "has bits set beyond its prefix", "10.0.0.0/8"),
        ("2001:db8::1/32", "has bits set beyond its prefix", "2001:db8::/32"),
        ("10.0.0.0/33", "has no prefix length from /0 to /32", None),
        ("::/129", "has no prefix length from /0 to /128", None),
        ("10.0.0.0/", "has no prefix length from /0 to /32", None),
        ("10.0.0.0/-1", "has no prefix length from /0 to /32", None),
        ("10.0.0.0/255.0.0.0", "has no prefix length from /0 to /32", None),
        ("10.0.0/24", "is neither an IP address nor a network", None),
        ("example.com", "is neither an IP address nor a network", None),
        ("", "is neither an IP address nor a network", None),
        ("1.2.3.4\0", "is neither an IP address nor a network", None),
    ],
)
def test_what_is_no_network_is_refused_with_a_reason(
    text: str, clause: str, hint: str | None
) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_network(text)
    assert (caught.value.clause, caught.value.hint) == (clause, hint)


def test_a_file_has_a_network_a_line_and_comments() -> None:
    lines = ["# spammers\n", "\n", "10.0.0.0/8  # all of it\n", "::1"]
    expected = [parse_network("10.0.0.0/8"), parse_network("::1")]
    assert parse_networks(lines) == (expected, [])


def test_all_bad_lines_of_a_file_are_found_with_their_numbers() -> None:
    networks, wrong = parse_networks(["10.0.0.1", "10.0.0.256", "", "x # y"])
    assert networks == [parse_network("10.0.0.1")]
    assert [(each.number, each.text) for each in wrong] == [(2, "10.0.0.256"), (4, "x")]


def rule(is_allowed: bool, *texts: str) -> tuple[Rule, Sequence[Network]]:
    if texts == ("all",):
        return Rule(is_allowed, "all", is_for_unix=True), ALL
    if texts == ("unix:",):
        return Rule(is_allowed, "unix:", is_for_unix=True), ()
    return Rule(is_allowed, " ".join(texts)), tuple(map(parse_network, texts))


def test_the_first_rule_that_fits_decides_and_no_rule_allows() -> None:
    access = Access(
        [
            rule(True, "10.1.0.0/16"),
            rule(False, "10.0.0.0/8", "2001:db8::/32"),
            rule(True, "10.2.0.0/16"),
        ]
    )
    verdicts = {
        host: access.denies(host)
        for host in ("10.1.2.3", "10.2.0.1", "10.0.0.0", "11.0.0.0", "2001:db8::9", "::1", "unix:")
    }
    denied = {host: each.text for host, each in verdicts.items() if each is not None}
    rest = "10.0.0.0/8 2001:db8::/32"
    assert denied == {"10.2.0.1": rest, "10.0.0.0": rest, "2001:db8::9": rest}


def test_all_means_unix_sockets_as_well_and_unix_nothing_else() -> None:
    only_unix = Access([rule(True, "unix:"), rule(False, "all")])
    assert only_unix.denies("unix:") is None
    assert only_unix.denies("127.0.0.1") is not None
    assert Access([rule(False, "all")]).denies("unix:") is not None
    assert Access([rule(False, "10.0.0.0/8")]).denies("unix:") is None


def test_an_ipv4_client_of_a_socket_for_both_families_is_an_ipv4_client() -> None:
    access = Access([rule(False, "192.0.2.0/24")])
    assert access.denies("::ffff:192.0.2.7") is not None
    assert access.denies("::ffff:192.0.3.7") is None


def test_the_zone_of_an_address_is_passed_over() -> None:
    assert Access([rule(False, "fe80::/10")]).denies("fe80::1%eth0") is not None


def test_the_answer_is_that_of_asking_one_rule_after_the_other() -> None:
    rng = random.Random(15)
    for _ in range(200):
        networks = []
        for number in range(rng.randrange(12)):
            bits = rng.randrange(0, 9)
            first = rng.randrange(1 << bits) << (8 - bits)
            networks.append((Network(2, first, first + (1 << (8 - bits)) - 1), number // 2))
        ranges = Ranges(networks)
        for address in range(256):
            fitting = [n for each, n in networks if each.first <= address <= each.last]
            assert ranges.owner(address) == min(fitting, default=-1)


@pytest.mark.slow
def test_a_hundred_thousand_networks_cost_two_microseconds_to_ask() -> None:
    rng = random.Random(16)
    networks = [
        (parse_network(f"{n >> 8}.{n & 255}.{rng.randrange(256)}.7"), 0) for n in range(50_000)
    ]
    networks += [(parse_network(f"2001:db8:{n:x}::/48"), 0) for n in range(50_000)]
    table = Table(networks)
    hosts = [f"{rng.randrange(256)}.{rng.randrange(256)}.1.7" for _ in range(500)]
    hosts += [f"2001:db8:{rng.randrange(70_000) % 65536:x}::7" for _ in range(500)]
    took_s = min(timeit.repeat(lambda: [table.owner(host) for host in hosts], number=1, repeat=30))
    assert took_s / len(hosts) < 2e-6


def test_rules_that_earlier_ones_leave_nobody_are_known() -> None:
    access = Access(
        [
            rule(False, "10.0.0.0/8"),
            rule(True, "10.1.0.0/16"),  # too late
            rule(True, "unix:"),
            rule(True, "10.0.0.0/7"),  # half of it is left
            rule(False, "all"),
            rule(True, "unix:"),
            rule(True, "2001:db8::/32"),
        ]
    )
    assert access.idle() == [1, 5, 6]
    assert Access([rule(False, "unix:"), rule(True, "all")]).idle() == []


@pytest.mark.slow
def test_a_table_of_a_hundred_thousand_goes_to_another_process_quickly() -> None:
    networks = [parse_network(f"{n >> 8 & 255}.{n & 255}.{n >> 16}.7") for n in range(100_000)]
    access = Access([(Rule(False, "blocked.txt"), networks)])
    text = pickle.dumps(access, pickle.HIGHEST_PROTOCOL)
    busy_s = time.process_time
    took_s = min(timeit.repeat(lambda: pickle.loads(text), timer=busy_s, number=1, repeat=5))
    assert took_s < 0.05
    assert pickle.loads(text).denies("0.0.9.7") is None
    assert pickle.loads(text).denies("0.1.0.7") is not None
