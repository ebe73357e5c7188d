"""Routes: what is read, what is wrong, which ones no client can take, and what is built."""

import pathlib
import subprocess
import sys

import pytest
from nginy.config.building.routes import RouteTables, default_of
from nginy.config.checking.surprises import surprises
from nginy.config.checking.targets import by_upstream, upstreams_of
from nginy.config.dump import dump
from nginy.config.load import load
from nginy.config.schema import Config
from nginy.config.shares import Part, parts_of
from nginy.config.variables import definitions
from nginy.proxy.lookups import murmur_hash2
from nginy.proxy.routing.conditions import MORE, NO, ClientFacts, knows
from nginy.proxy.routing.routes import Route, RouteTarget
from nginy.wire.client_hello import NOT_TLS, Hello

from kit.configs import loaded, refusals, write

UPSTREAMS = "upstreams: {a: {backends: 127.0.0.1:1}, b: {backends: 127.0.0.1:2}}\n"


def routing(*routes: str, more: str = "proxy_pass: a", head: str = "") -> str:
    lines = "".join(f"  - {{{route}}}\n" for route in routes)
    listener = f"listeners:\n- listen: [127.0.0.1:80, 127.0.0.1:10000-10004]\n  {more}\n"
    return f"{head}{UPSTREAMS}{listener}  routes:\n{lines}"


ALL = (
    "from: [10.0.0.0/8, 'unix:'], port: [80, 10000-10004], proxy_pass: a",
    "sni: [A.example, '*.b.example', '~^c'], alpn: [h2, '~^http'], is_tls: on, proxy_pass: b",
    'starts: "SSH-\\x00", return: "no\\n"',
    "share: 0.5%, key: $remote_port, when: {$remote_addr: ['~^10', x], protocol: TCP}, deny: on",
    "is_tls: off, proxy_pass: 127.0.0.1:7",
)


def test_what_is_dumped_loads_to_the_same_and_shows_only_what_is_asked(
    tmp_path: pathlib.Path,
) -> None:
    config = loaded(tmp_path, routing(*ALL, more="preread: {size: 8k, timeout: 1s}"))
    text = dump(config)
    assert load(write(tmp_path, text, "dumped.yml"), {}) == config
    start = text.index("  routes:\n")
    assert text[start : text.index("  preread:")].splitlines() == [
        "  routes:",
        "  - from:",
        "    - 10.0.0.0/8",
        "    - 'unix:'",
        "    port:",
        "    - 80",
        "    - 10000-10004",
        "    proxy_pass: a",
        "  - sni:",
        "    - a.example",
        "    - '*.b.example'",
        "    - '~^c'",
        "    alpn:",
        "    - h2",
        "    - '~^http'",
        "    is_tls: on",
        "    proxy_pass: b",
        '  - starts: "SSH-\\0"',
        '    return: "no\\n"',
        "  - share: 0.5%",
        "    key: $remote_port",
        "    when:",
        "      $remote_addr:",
        "      - '~^10'",
        "      - x",
        "      $protocol:",
        "      - TCP",
        "    deny: on",
        "  - is_tls: off",
        "    proxy_pass: 127.0.0.1:7",
    ]


def test_five_hundred_ports_are_one_line(tmp_path: pathlib.Path) -> None:
    text = f"{UPSTREAMS}listeners: {{listen: 127.0.0.1:10000-10499, proxy_pass: a}}\n"
    shown = dump(loaded(tmp_path, text))
    assert "  - 127.0.0.1:10000-10499\n" in shown
    assert len(shown.splitlines()) < 120


def test_routes_lead_to_upstreams_that_are_used(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, routing("is_tls: on, proxy_pass: b", "deny: on", more="backlog: 1"))
    (listener,) = config.listeners
    assert upstreams_of(listener) == ["b"]
    assert default_of(listener) is None
    (warning,) = surprises(config)
    assert warning.endswith('no listener leads to upstream "a"')
    config = loaded(tmp_path, routing("is_tls: on, proxy_pass: b", "is_tls: off, proxy_pass: b"))
    assert upstreams_of(config.listeners[0]) == ["a", "b"]
    assert list(by_upstream(config.listeners)) == ["a", "b"]
    assert surprises(config) == []


def test_an_address_in_a_route_has_an_upstream(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, routing("is_tls: on, proxy_pass: 127.0.0.1:9"))
    assert [each.address.name for each in config.upstreams["127.0.0.1:9"].backends] == [
        "127.0.0.1:9"
    ]


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("is_tls: on", 'a route leads nowhere, expected "proxy_pass", "return" or "deny: on"'),
        ("is_tls: on, deny: off", "a route leads nowhere"),
        ("proxy_pass: a, deny: on", "deny: proxy_pass is set at nginy.yml:6:18, expected one of"),
        ("proxy_pass: a, return: x", "return: proxy_pass is set at"),
        ("proxy_pass: bb", 'proxy_pass: there is no upstream "bb"'),
        ("proxy_pass: 127.0.0.1:80", "leads back to the listener at nginy.yml:3:11"),
        ("snl: a, deny: on", 'unknown key "snl" in a route (did you mean "sni"?)'),
        ("sni: '*a.b', deny: on", 'sni: "*a.b" has a "*" elsewhere than before the first dot'),
        ("sni: .a.b, deny: on", '(did you mean "*.a.b"?)'),
        ("sni: https://a.b/, deny: on", '"https://a.b/" is a URL, expected the name of a server'),
        ("sni: a:443, deny: on", "has a port, expected the name of a server, *.suffix or ~regular"),
        ("sni: bücher.de, deny: on", '(did you mean "xn--bcher-kva.de"?)'),
        ("sni: '~(', deny: on", '"~(" is not a regular expression'),
        ("sni: '~(a+)+', deny: on", "a repetition within a repetition"),
        ("sni: [], deny: on", "sni: an empty list, expected off, the name of a server"),
        ("alpn: h 2, deny: on", 'alpn: "h 2" is not the name of a protocol, expected a protocol'),
        ("is_tls: maybe, deny: on", 'is_tls: "maybe" is not valid, expected on or off, or any'),
        ("starts: '', deny: on", 'starts: "" cannot be used: an expected text has 1 to 4096 bytes'),
        ("starts: '\\q', deny: on", "cannot be used: an escape is one of"),
        ("starts: '~[', deny: on", "cannot be used: not a regular expression"),
        ("port: 0, deny: on", 'port: "0" is not a port, expected a port from 1 to 65535, or a'),
        ("port: 9-5, deny: on", '"9-5" is a range that runs backwards'),
        ("port: 99999, deny: on", '"99999" is not a port'),
        ("from: 10.0.0.1/8, deny: on", 'from: "10.0.0.1/8" has bits set beyond its prefix'),
        ("from: 10.0, deny: on", 'from: "10.0" is neither an IP address nor a network'),
        ("share: 5, deny: on", 'share: "5" has no unit, expected a share from 0.01% to 100%'),
        ("share: 101%, deny: on", 'share: "101%" is above 100%'),
        ("share: 0%, deny: on", 'share: "0%" is too small'),
        ("share: 1.234%, deny: on", 'share: "1.234%" is not a share'),
        ("key: $remote_addr, deny: on", "key: needs share"),
        ("share: 5%, key: $status, deny: on", "is known only when a session ends"),
        ("when: {$nosuch: x}, deny: on", "names unknown variables ($nosuch)"),
        ("when: {$status: 200}, deny: on", "is known only when a session ends"),
        ("when: {}, deny: on", "when: an empty mapping, expected a mapping of variables to values"),
        ("when: $remote_addr, deny: on", "expected a mapping of variables to values"),
        ("when: {$remote_addr: []}, deny: on", "when: an empty list, expected a value"),
        ("when: {$remote_addr: '~('}, deny: on", '"~(" is not a regular expression'),
    ],
)
def test_a_mistake_has_its_place_and_what_was_expected(
    tmp_path: pathlib.Path, route: str, message: str
) -> None:
    (found,) = refusals(tmp_path, routing(route))
    assert found.startswith(("nginy.yml:6:", "nginy.yml:1:"))
    assert message in found


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("routes: []", "routes: an empty list, expected off, the keys of a route, or a list of"),
        ("routes: on", 'routes: "on", expected the keys of a route'),
        ("preread: 100", 'preread: "100" is too small, expected a size from 1k to 64k'),
        ("preread: {timeout: 0}", 'timeout: "0"'),
        ("preread: {size: 1m}", 'size: "1m" is too large'),
        ("protocol: udp, preread: 16k", "preread: is for tcp listeners, this one is udp"),
        ("protocol: udp, routes: {sni: a, deny: on}", "sni: is for tcp listeners, this one is udp"),
        ("protocol: udp, routes: {is_tls: on, deny: on}", "is_tls: is for tcp listeners, this"),
        (
            "protocol: udp, accept_proxy_protocol: {from: all}, routes: {starts: x, return: y}",
            "accept_proxy_protocol: cannot be combined with return on udp listeners",
        ),
        ("ssl_preread: on", "nginy looks at first bytes where a route needs them"),
        ("sni: a", "expected routes: [{sni: www.example.com, proxy_pass: web}]"),
    ],
)
def test_a_mistake_of_the_listener_is_told(tmp_path: pathlib.Path, keys: str, message: str) -> None:
    text = f"{UPSTREAMS}listeners: [{{listen: 127.0.0.1:80, proxy_pass: a, {keys}}}]\n"
    (found,) = refusals(tmp_path, text)
    assert message in found


def test_a_listener_without_any_target_is_refused_unless_it_has_routes(
    tmp_path: pathlib.Path,
) -> None:
    (found,) = refusals(tmp_path, "listeners: [{listen: 127.0.0.1:80}]\n")
    assert '"proxy_pass" is missing' in found
    loaded(tmp_path, routing("deny: on", more="backlog: 1"))


def test_shares_above_the_whole_are_refused_where_they_add_up(tmp_path: pathlib.Path) -> None:
    (found,) = refusals(tmp_path, routing("share: 60%, deny: on", "share: 50%, proxy_pass: b"))
    assert found == (
        "nginy.yml:7:13: share: with those before it, it makes 110%, expected 100% or less"
    )
    loaded(tmp_path, routing("share: 60%, sni: a, deny: on", "share: 50%, sni: b, proxy_pass: b"))
    loaded(
        tmp_path, routing("share: 60%, deny: on", "share: 50%, key: $remote_port, proxy_pass: b")
    )
    refusals(tmp_path, routing("share: 60%, deny: on", "share: 50%, sni: b, proxy_pass: b"))


@pytest.mark.parametrize(
    ("routes", "idle"),
    [
        (("proxy_pass: a", "sni: a, proxy_pass: b"), {2, 0}),
        (("is_tls: on, proxy_pass: a", "sni: a, proxy_pass: b"), {2}),
        (("is_tls: off, proxy_pass: a", "sni: a, proxy_pass: b"), set()),
        (("sni: '*.a', proxy_pass: a", "sni: x.a, proxy_pass: b"), {2}),
        (("sni: '*.a', proxy_pass: a", "sni: [x.a, y.b], proxy_pass: b"), set()),
        (("sni: [x.a, y.b], proxy_pass: a", "sni: y.b, alpn: h2, proxy_pass: b"), {2}),
        (("sni: y.b, alpn: h2, proxy_pass: a", "sni: y.b, proxy_pass: b"), set()),
        (("sni: '*.b.c', proxy_pass: a", "sni: '*.a.b.c', proxy_pass: b"), {2}),
        (("sni: '~x', proxy_pass: a", "sni: '~x', proxy_pass: b"), {2}),
        (("sni: '~x', proxy_pass: a", "sni: x, proxy_pass: b"), set()),
        (("from: 10.0.0.0/8, proxy_pass: a", "from: 10.1.0.0/16, deny: on"), {2}),
        (("from: 10.1.0.0/16, proxy_pass: a", "from: 10.0.0.0/8, deny: on"), set()),
        (("from: all, proxy_pass: a", "from: ['::1', 'unix:'], deny: on"), {2, 0}),
        (("from: 10.0.0.0/8, proxy_pass: a", "deny: on"), {0}),
        (("from: all, deny: on", "sni: x.a, proxy_pass: b"), {2, 0}),
        (("from: [10.0.0.0/8, all], deny: on", "starts: SSH-, proxy_pass: b"), {2, 0}),
        (("from: 0.0.0.0/0, deny: on", "sni: x.a, proxy_pass: b"), set()),
        (("port: 10000-10004, proxy_pass: a", "port: 10001, deny: on"), {2}),
        (("port: 99, proxy_pass: a",), {1}),
        (("sni: a, is_tls: off, proxy_pass: a",), {1}),
        (("alpn: h2, starts: SSH-, proxy_pass: a",), {1}),
        (("is_tls: on, starts: 'GET ', proxy_pass: a",), {1}),
        (("is_tls: on, starts: '\\x16', proxy_pass: a",), set()),
        (("starts: S, proxy_pass: a", "starts: SSH-, proxy_pass: b"), {2}),
        (("starts: '~S', proxy_pass: a", "starts: SSH-, proxy_pass: b"), set()),
        (("when: {$pid: [1, 2]}, deny: on", "when: {$pid: 1}, deny: on"), {2}),
        (("when: {$pid: 1}, deny: on", "when: {$pid: [1, 2]}, deny: on"), set()),
        (("share: 50%, deny: on", "share: 50%, proxy_pass: b"), {0}),
        (("share: 50%, deny: on", "share: 50%, proxy_pass: b", "deny: on"), {3, 0}),
        (("share: 50%, sni: a, deny: on", "share: 50%, sni: a, deny: on", "sni: a, deny: on"), {3}),
        (("share: 40%, deny: on", "share: 50%, proxy_pass: b"), set()),
    ],
)
def test_a_route_that_nobody_can_take_is_warned_of(
    tmp_path: pathlib.Path, routes: tuple[str, ...], idle: set[int]
) -> None:
    """0 stands for the listener's proxy_pass."""
    config = loaded(tmp_path, routing(*routes))
    warnings = [each for each in surprises(config) if "no client" in each]
    lines = {int(each.rpartition("nginy.yml:")[0] and each.split(":")[1]) for each in warnings}
    assert {line - 5 if line > 4 else 0 for line in lines} == idle


def test_the_warning_names_the_route_that_takes_all(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, routing("is_tls: on, proxy_pass: b", "sni: a, proxy_pass: b"))
    (warning,) = surprises(config)
    place = f"{tmp_path}/nginy.yml"
    assert warning == (
        f"{place}:7:5: no client can take this route:"
        f" the route at {place}:6:5 takes all its clients"
    )


def test_a_thousand_routes_are_checked_in_no_time(tmp_path: pathlib.Path) -> None:
    routes = [f"sni: n{number}.example, proxy_pass: b" for number in range(1000)]
    networks = [f"from: 10.{n >> 8}.{n & 255}.0/24, proxy_pass: b" for n in range(300)]
    config = loaded(tmp_path, routing(*routes, *networks))
    assert surprises(config) == []


# What is built.


def facts(
    tables: RouteTables, port: int, hello: Hello | None, host: str = "192.0.2.7", head: bytes = b""
) -> tuple[ClientFacts, object]:
    values = {"$remote_addr": host, "$protocol": "TCP", "$remote_port": "9"}
    known = ClientFacts(host, port, lambda text: values[text])
    knows(known, head, hello, is_complete=False)
    found = tables.of(port).choose(known)
    return known, found.number if isinstance(found, Route) else found


def tables_of(config: Config) -> RouteTables:
    return RouteTables(config.listeners[0], definitions(config.variables))


def test_the_table_is_built_of_all_keys(tmp_path: pathlib.Path) -> None:
    tables = tables_of(loaded(tmp_path, routing(*ALL)))
    tls = Hello(True, "x.b.example", ("http/1.1",))
    assert facts(tables, 80, None, "10.0.0.1")[1] == 1
    assert facts(tables, 80, None)[1] is MORE
    assert facts(tables, 80, tls)[1] == 2
    assert facts(tables, 80, NOT_TLS, head=b"SSH-\0")[1] == 3
    assert facts(tables, 80, NOT_TLS, head=b"G")[1] == 5
    assert facts(tables, 80, Hello(True, "x.b.example", ("h3",)))[1] is NO
    assert tables.whole.routes[4].target == RouteTarget("127.0.0.1:7")


def test_ports_that_ask_the_same_share_a_table(tmp_path: pathlib.Path) -> None:
    routes = ("port: 80, proxy_pass: b", "port: 10000-10002, deny: on", "is_tls: on, proxy_pass: b")
    tables = tables_of(loaded(tmp_path, routing(*routes)))
    assert tables.of(10000) is tables.of(10002)
    assert tables.of(10003) is tables.of(10004)
    assert [len(tables.of(port).routes) for port in (80, 10000, 10003)] == [2, 2, 1]


def test_a_variable_that_comes_from_the_hello_needs_bytes(tmp_path: pathlib.Path) -> None:
    head = (
        "variables: {site: {map: $ssl_preread_server_name, values: {x: one}, default: two},"
        " here: {map: $remote_addr, values: {x: one}, default: $site}}\n"
    )
    for route, needs in (
        ("when: {$remote_addr: x}, deny: on", False),
        ("when: {$ssl_preread_protocol: TLSv1.3}, deny: on", True),
        ("when: {$site: one}, deny: on", True),
        ("when: {$here: one}, deny: on", True),
        ("share: 5%, key: $site, deny: on", True),
        ("share: 5%, deny: on", False),
    ):
        config = loaded(tmp_path, routing(route, head=head))
        assert tables_of(config).whole.needs_bytes is needs, route


def test_shares_lie_side_by_side(tmp_path: pathlib.Path) -> None:
    routes = (
        "share: 0.5%, deny: on", "share: 20%, deny: on", "share: 5%, key: $remote_port, deny: on",
        "share: 1%, sni: a, deny: on", "share: 79.5%, deny: on", "is_tls: on, deny: on",
    )  # fmt: skip
    (listener,) = loaded(tmp_path, routing(*routes)).listeners
    half, fifth = 50 * 0xFFFFFFFF // 10_000, 2000 * 0xFFFFFFFF // 10_000
    one, five = 100 * 0xFFFFFFFF // 10_000, 500 * 0xFFFFFFFF // 10_000
    assert parts_of(listener.routes) == [
        Part(0, half, 50),
        Part(half, half + fifth, 2050),
        Part(0, five, 500),
        Part(half + fifth, half + fifth + one, 2150),
        Part(half + fifth, 1 << 32, 10_000),
        None,
    ]


def test_a_client_is_in_the_share_that_its_hash_says(tmp_path: pathlib.Path) -> None:
    tables = tables_of(
        loaded(tmp_path, routing("share: 30%, proxy_pass: b", "share: 30%, deny: on"))
    )
    counts = {1: 0, 2: 0, NO: 0}
    for number in range(3000):
        host = f"10.0.{number >> 8}.{number & 255}"
        place = murmur_hash2(host.encode()) / (1 << 32)
        found = facts(tables, 80, NOT_TLS, host)[1]
        assert found == (1 if place < 0.3 else 2 if place < 0.6 else NO)
        counts[found] += 1
    assert all(count > 800 for count in counts.values())


def test_reading_many_routes_needs_no_time(tmp_path: pathlib.Path) -> None:
    routes = [f"sni: n{number}.example, proxy_pass: b" for number in range(1000)]
    path = write(tmp_path, routing(*routes))
    command = [sys.executable, "-m", "nginy", "explain", path, "127.0.0.1:80", "10.0.0.1"]
    done = subprocess.run(
        [*command, "sni=n999.example"], capture_output=True, check=True, text=True
    )
    assert "route 1000 taken: sni n999.example" in done.stdout


# Backends that have the listener's port.


def relative(listen: str, backend: str = "10.0.0.5:+0", more: str = "") -> str:
    upstream = f"{{backends: '{backend}'{more}}}"
    return f"upstreams: {{a: {upstream}}}\nlisteners: {{listen: {listen}, proxy_pass: a}}\n"


def test_a_backend_may_have_the_port_of_the_listener(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, relative("127.0.0.1:10000-10499", "10.0.0.5:+1000"))
    assert config.upstreams["a"].backends[0].address.offset == 1000
    assert load(write(tmp_path, dump(config), "dumped.yml"), {}) == config
    text = "listeners: {listen: 127.0.0.1:80, proxy_pass: '10.0.0.5:+0'}\n"
    assert list(loaded(tmp_path, text).upstreams) == ["10.0.0.5:+0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (relative("127.0.0.1:65000", "10.0.0.5:+1000"), "and leads to 66000, expected 65535 or"),
        (relative("unix:/run/x"), "takes the port of the listener at nginy.yml:2:21, which is a"),
        (relative("127.0.0.1:80", "127.0.0.1:+0"), "backend 127.0.0.1:+0 leads back to the"),
        (relative("127.0.0.1:80-90", "127.0.0.1:+5"), "leads back to the listener"),
        (
            relative("127.0.0.1:80", more=", health_check: on"),
            'port: "10.0.0.5:+0" has the listener\'s port, expected the port to check',
        ),
    ],
)
def test_a_port_of_the_listener_that_leads_nowhere_is_refused(
    tmp_path: pathlib.Path, text: str, message: str
) -> None:
    (found,) = refusals(tmp_path, text)
    assert message in found


def test_a_check_with_a_port_suits_such_a_backend(tmp_path: pathlib.Path) -> None:
    loaded(tmp_path, relative("127.0.0.1:80", more=", health_check: {port: 9}"))
    loaded(tmp_path, relative("127.0.0.1:80", "127.0.0.1:+1"))
