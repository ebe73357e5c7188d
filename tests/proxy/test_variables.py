import os
import pathlib
import socket
from typing import Any

import pytest
from nginy import __version__
from nginy.proxy.context import as_bytes, packed_of
from nginy.proxy.handler import ProxyHandler
from nginy.proxy.lookups import Definition, Found, Map, parse_pattern
from nginy.proxy.texts import Variables
from nginy.proxy.variables import VARIABLES, seconds
from nginy.text.address import parse_address, sockaddr_text
from nginy.text.escape import escape_default

from kit.clock import WALL_MS, FakeClock
from kit.harness import Harness
from kit.servers import EchoBackend, RefusingPort, Server


@pytest.fixture
def method() -> str:
    """Which selector there is makes no difference to what is logged."""
    return "epoll"


def test_a_session_in_its_variables(harness: Harness, clock: FakeClock) -> None:
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(backend.name))
    proxy.log(
        "$remote_addr:$remote_port $server_addr:${server_port} $protocol $listener $status "
        "$termination $bytes_received/$bytes_sent $session_time $connection $session_id "
        '$requests $responses $pid "$reason"'
    )
    client = proxy.connect()
    client.send(b"hello")
    harness.turn_until(lambda: client.received == b"hello")
    clock.advance(1234)
    client.finish()
    proxy.only()
    ours = sockaddr_text(client.address)
    asked = str(proxy.listener.address)
    pid = os.getpid()
    assert proxy.lines == [
        f'{ours} {asked} TCP front 200 -- 5/5 1.234 1 1 1 1 {pid} "completed"',
    ]


def test_a_client_of_a_unix_socket_has_no_port(harness: Harness, tmp_path: pathlib.Path) -> None:
    address = parse_address(f"unix:{tmp_path}/x")
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(backend.name), address)
    proxy.log("[$remote_addr] [$remote_port] [$server_addr] [$server_port]")
    proxy.connect().finish()
    proxy.only()
    assert proxy.lines == [f"[unix:] [] [unix:{tmp_path}/x] []"]


def test_what_was_tried_is_a_list(harness: Harness, clock: FakeClock, expect_log: Any) -> None:
    dead = harness.add(RefusingPort()).name
    backend = harness.add(EchoBackend())
    proxy = harness.proxy(harness.pool(dead, backend.name))
    proxy.log(
        "$upstream_addr; $upstream_bytes_sent; $upstream_bytes_received; $upstream_connect_time; "
        "$upstream_first_byte_time; $upstream_session_time"
    )
    client = proxy.connect()
    with expect_log("failed"):
        harness.turn_until(lambda: backend.ends)
    harness.turn_until(lambda: harness.sessions()[0].attempts[-1].connected_at_ms)
    clock.advance(250)
    client.send(b"hello")
    harness.turn_until(lambda: client.received == b"hello")
    clock.advance(1000)
    client.finish()
    proxy.only()
    assert proxy.lines == [f"{dead}, {backend.name}; 0, 5; 0, 5; -, 0.000; -, 0.250; 0.000, 1.250"]


def test_a_backend_that_says_nothing_has_no_time_of_its_first_byte(harness: Harness) -> None:
    server = harness.add(Server())
    proxy = harness.proxy(harness.pool(server.name))
    proxy.log("$upstream_first_byte_time")
    client = proxy.connect()
    harness.turn_until(lambda: server.ends)
    server.end.finish()
    client.finish()
    proxy.only()
    assert proxy.lines == ["-"]


def test_without_a_usable_backend_the_upstream_is_named(harness: Harness, expect_log: Any) -> None:
    proxy = harness.proxy(harness.pool("127.0.0.1:1", down=True))
    proxy.log("$upstream_addr $upstream_connect_time")
    proxy.connect()
    with expect_log("no usable backend"):
        proxy.only()
    assert proxy.lines == ["backends -"]


def test_the_time_of_day(harness: Harness, clock: FakeClock) -> None:
    proxy = harness.proxy(harness.pool(harness.add(EchoBackend()).name))
    proxy.log("$msec|$time_iso8601|$time_local")
    clock.advance(7)
    proxy.connect().finish()
    proxy.only()
    msec, iso8601, local = proxy.lines[0].split("|")
    assert msec == f"{WALL_MS // 1000}.007"
    assert "T" in iso8601
    assert "/2026:" in local


def test_values_are_escaped_and_an_empty_one_is_a_dash(
    harness: Harness, tmp_path: pathlib.Path, clock: FakeClock
) -> None:
    proxy = harness.proxy(
        harness.pool(harness.add(EchoBackend()).name), parse_address(f"unix:{tmp_path}/x")
    )
    proxy.handler.name = "FRONT"
    lines: list[str] = []
    render = Variables(clock).compile("$listener [$remote_port] tcp", str.lower)
    proxy.handler.log_session = lambda session: lines.append(render(session))
    proxy.connect().finish()
    harness.turn_until(lambda: lines)
    assert lines == ["front [-] tcp"]


def test_a_text_without_variables_is_itself(clock: FakeClock, harness: Harness) -> None:
    proxy = harness.proxy(harness.pool(harness.add(EchoBackend()).name))
    proxy.log("plain $ text, 5 $$")
    proxy.connect().finish()
    proxy.only()
    assert proxy.lines == ["plain $ text, 5 $$"]


def test_an_unknown_variable_is_an_error(clock: FakeClock) -> None:
    with pytest.raises(KeyError, match="nonsense"):
        Variables(clock).compile("$nonsense")


@pytest.mark.parametrize(("duration_ms", "text"), [(0, "0.000"), (5, "0.005"), (61_234, "61.234")])
def test_durations_are_seconds_with_three_digits(duration_ms: int, text: str) -> None:
    assert seconds(duration_ms) == text


def test_all_variables_have_a_value_while_a_session_goes_on(harness: Harness) -> None:
    server = harness.add(Server())
    proxy = harness.proxy(harness.pool(server.name))
    proxy.connect()
    harness.turn_until(lambda: server.ends)
    (session,) = harness.sessions()
    compiled = Variables(harness.loop.clock)
    values = {name: compiled.compile(f"${name}")(session) for name in VARIABLES}
    assert values["status"] == "000"
    empty = {name for name, value in values.items() if not value}
    of_header = {name for name in VARIABLES if name.startswith("proxy_protocol_")}
    of_tls = {name for name in VARIABLES if name.startswith(("ssl_", "upstream_ssl_"))}
    assert empty == {"reason", "termination", "limit_conn_status"} | of_header | of_tls


@pytest.mark.parametrize(
    "text", ['"$protocol"', "'{s}' $protocol", "{$protocol}", "\\n$protocol\n", "%s{}$protocol{{"]
)
def test_nothing_in_a_text_is_read_as_code(harness: Harness, text: str) -> None:
    proxy = harness.proxy(harness.pool(harness.add(EchoBackend()).name))
    proxy.log(text)
    proxy.connect().finish()
    proxy.only()
    assert proxy.lines == [text.replace("$protocol", "TCP")]


def test_what_a_stranger_chose_is_escaped(harness: Harness, clock: FakeClock) -> None:
    proxy = harness.proxy(harness.pool(harness.add(EchoBackend()).name))
    proxy.handler.name = 'a"b'
    lines: list[str] = []
    render = Variables(clock).compile("$listener $status", escape_default)
    proxy.handler.log_session = lambda session: lines.append(render(session))
    proxy.connect().finish()
    harness.turn_until(lambda: lines)
    assert lines == ["a\\x22b 200"]


# Variables that the configuration defines.


class Asked(Map):
    """A map that counts how often it is asked."""

    count = 0

    def find(self, text: str) -> Found:
        self.count += 1
        return super().find(text)


def test_a_variable_is_worked_out_once_and_only_if_it_is_asked_for(harness: Harness) -> None:
    used, unused = Asked(["tcp"], has_hostnames=False), Asked([], has_hostnames=False)
    defined = {
        "kind": Definition("$protocol", used, ("stream $listener", "?")),
        "word": Definition("$kind", unused, ("",)),
    }
    variables = Variables(harness.loop.clock, defined)
    proxy = harness.proxy(harness.pool(harness.add(EchoBackend()).name))
    assert isinstance(proxy.handler, ProxyHandler)
    proxy.handler.hash_key = variables.compile("$kind")
    render = variables.compile("[$kind] [$kind]", escape_default)
    lines: list[str] = []
    proxy.handler.log_session = lambda session: lines.append(render(session))
    for count in (1, 2):
        proxy.connect().finish()
        harness.turn_until(lambda count=count: len(lines) == count)  # type: ignore[misc]
    assert lines == ["[stream front] [stream front]"] * 2
    assert (used.count, unused.count) == (2, 0)


def test_a_session_without_such_variables_holds_nothing_for_them(harness: Harness) -> None:
    proxy = harness.proxy(harness.pool(harness.add(EchoBackend()).name))
    proxy.connect()
    harness.turn_until(harness.sessions)
    assert harness.sessions()[0].arrival is None


def test_a_value_may_name_what_its_pattern_has_found(harness: Harness) -> None:
    pattern = parse_pattern("~^(?<net>127)\\.(\\d+)(x)?")
    lookup = Map([pattern], has_hostnames=False)
    value = "$net/$2/$3/$remote_addr"
    variables = Variables(
        harness.loop.clock, {"v": Definition("$remote_addr", lookup, (value, ""))}
    )
    proxy = harness.proxy(harness.pool(harness.add(EchoBackend()).name))
    render = variables.compile("$v")
    lines: list[str] = []
    proxy.handler.log_session = lambda session: lines.append(render(session))
    proxy.connect().finish()
    harness.turn_until(lambda: lines)
    assert lines == ["127/0//127.0.0.1"]


def test_an_empty_value_of_the_configuration_stays_empty(harness: Harness) -> None:
    """As in nginx: "-" stands for what there is not, and a map has a value."""
    variables = Variables(
        harness.loop.clock,
        {
            "v": Definition("$remote_addr", Map([], has_hostnames=False), ('"',)),
            "w": Definition("$remote_addr", Map([], has_hostnames=False), ("",)),
        },
    )
    proxy = harness.proxy(harness.pool(harness.add(EchoBackend()).name))
    render = variables.compile("$v|$w|$upstream_connect_time", escape_default)
    lines: list[str] = []
    proxy.handler.log_session = lambda session: lines.append(render(session))
    proxy.connect().finish()
    harness.turn_until(lambda: lines)
    assert lines == ["\\x22||0.000"]


def test_the_address_as_bytes_and_the_names_of_machine_and_program(harness: Harness) -> None:
    proxy = harness.proxy(harness.pool(harness.add(EchoBackend()).name))
    proxy.log("$hostname $nginy_version $binary_remote_addr")
    proxy.connect().finish()
    proxy.only()
    assert proxy.lines == [
        f"{socket.gethostname().lower()} {__version__} \x7f\x00\x00\x01",
    ]


@pytest.mark.parametrize(
    ("host", "packed"),
    [
        ("192.0.2.255", b"\xc0\x00\x02\xff"),
        ("2001:db8::1", b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
        ("fe80::1%eth0", b"\xfe\x80" + bytes(13) + b"\x01"),
    ],
)
def test_a_key_of_the_packed_address_is_that_of_nginx(host: str, packed: bytes) -> None:
    assert as_bytes(packed_of((host, 1))) == packed
    assert packed_of("/tmp/x") == "unix:"
