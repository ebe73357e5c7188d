"""/etc/hosts and resolv.conf as the C library reads them."""

import random

import pytest
from nginy.wire.hosts import ResolvConf, candidates, parse_hosts, parse_resolv_conf


def test_a_hosts_file_maps_each_name_to_its_addresses_in_order():
    content = (
        b"127.0.0.1\tlocalhost  Box.example. # both\n"
        b"::1 localhost\n"
        b"127.0.0.1 localhost\n"
        b"  \n"
        b"#10.0.0.1 gone\n"
        b"10.0.0.1 web#comment\r\n"
    )
    assert parse_hosts(content) == {
        "localhost": ("127.0.0.1", "::1"),
        "box.example": ("127.0.0.1",),
        "web": ("10.0.0.1",),
    }


def test_lines_without_an_address_or_a_name_are_skipped():
    assert parse_hosts(b"web 10.0.0.1\n10.0.0.256 web\n10.0.0.1\n\xff\xfe web\n") == {}


def test_addresses_are_brought_to_their_shortest_form():
    content = b"FD00:0::05 web\n0:0:0:0:0:ffff:10.0.0.1 web\n"
    assert parse_hosts(content) == {"web": ("fd00::5", "::ffff:10.0.0.1")}


def test_a_scoped_address_is_kept_with_its_scope():
    assert parse_hosts(b"fe80::1%eth0 router") == {"router": ("fe80::1%eth0",)}


def test_resolv_conf_names_servers_search_domains_and_options():
    content = (
        b"; generated\n"
        b"nameserver 10.0.0.2\n"
        b"nameserver fe80::1%eth0 # second\n"
        b"domain old.example\n"
        b"search Corp.Example. example .\n"
        b"options timeout:2 ndots:5 rotate attempts:x\n"
    )
    assert parse_resolv_conf(content) == ResolvConf(
        nameservers=("10.0.0.2", "fe80::1%eth0"),
        search=("corp.example", "example"),
        timeout_s=2,
        ndots=5,
    )


def test_an_empty_file_means_the_local_name_server_and_the_defaults():
    assert parse_resolv_conf(b"nameserver\nnameserver nonsense\nsortlist 10.0.0.0\n") == ResolvConf(
        nameservers=("127.0.0.1",), search=(), timeout_s=5, ndots=1
    )


def test_only_the_first_three_name_servers_count():
    content = b"".join(b"nameserver 10.0.0.%d\n" % i for i in range(5))
    assert parse_resolv_conf(content).nameservers == ("10.0.0.0", "10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (b"timeout:0", ResolvConf(timeout_s=1)),
        (b"timeout:99", ResolvConf(timeout_s=30)),
        (b"timeout:-1", ResolvConf()),
        (b"timeout:9999999999", ResolvConf()),
        (b"ndots:99", ResolvConf(ndots=15)),
        (b"ndots:0", ResolvConf(ndots=0)),
    ],
)
def test_options_are_kept_within_the_c_librarys_bounds(option, expected):
    assert parse_resolv_conf(b"options " + option) == expected


CONF = ResolvConf(search=("corp.example", "example"), ndots=2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", ("web.corp.example", "web.example", "web")),
        ("web.eu", ("web.eu.corp.example", "web.eu.example", "web.eu")),
        ("www.web.eu", ("www.web.eu", "www.web.eu.corp.example", "www.web.eu.example")),
        ("web.", ("web",)),
    ],
)
def test_search_domains_come_before_a_name_with_few_dots_and_after_one_with_many(name, expected):
    assert candidates(name, CONF) == expected


def test_search_domains_that_make_no_name_are_passed_over():
    conf = ResolvConf(search=("a..b", "ex ample", "x" * 64, "y." * 126 + "y", "example"))
    assert candidates("web", conf) == ("web.example", "web")


def test_random_files_never_raise():
    seed = 20264
    print("seed", seed)
    rng = random.Random(seed)
    words = [b"nameserver", b"options", b"search", b"timeout:", b"ndots:9", b"10.0.0.1", b"::1"]
    for _ in range(1000):
        pieces = [rng.choice([*words, rng.randbytes(3)]) for _ in range(rng.randrange(12))]
        content = rng.choice([b" ", b"\n", b"\t#"]).join(pieces)
        assert all(parse_hosts(content).values())
        assert parse_resolv_conf(content).nameservers
