import os
import pathlib
from typing import Any

import pytest
from nginy.proxy.variables import VARIABLES, Variables, seconds
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
    assert empty == {"reason", "termination", "limit_conn_status"} | of_header


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
