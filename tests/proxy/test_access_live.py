"""Denied clients, through real sockets: TCP sessions that end, datagrams that begin none."""

import logging
import pathlib

import pytest
from nginy.proxy.access import ALL, Access, Network, Rule, parse_network
from nginy.proxy.handler import ProtocolHandler
from nginy.proxy.phases.phase import AccessPhase
from nginy.text.address import parse_address

from kit.datagrams import UdpBackend, udp_proxy, udp_reply
from kit.harness import Ended, Harness
from kit.leaks import no_garbage
from kit.servers import EchoBackend

DENY_ALL = (Rule(False, "all", is_for_unix=True), ALL)
DENIED = 'denied by the access rule "deny all"'


def deny(text: str) -> tuple[Rule, tuple[Network, ...]]:
    return Rule(False, text), (parse_network(text),)


def guard(handler: ProtocolHandler, *rules: tuple[Rule, tuple[Network, ...]]) -> None:
    handler.phases = (AccessPhase(Access(rules)),)


def test_a_denied_client_ends_with_403_and_reaches_no_backend(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    front = harness.proxy(harness.pool(backend.name))
    front.log("$status $termination [$upstream_addr]")
    guard(front.handler, DENY_ALL)
    client = front.connect()
    client.send(b"hello")
    assert front.only() == Ended("PR", 403, DENIED, 0, 0, ())
    harness.turn_until(lambda: client.is_over)
    assert front.lines == ["403 PR []"]
    assert backend.ends == []


def test_a_client_that_no_rule_denies_is_served(harness: Harness) -> None:
    backend = harness.add(EchoBackend())
    front = harness.proxy(harness.pool(backend.name))
    guard(front.handler, deny("192.0.2.0/24"))
    client = front.connect()
    client.send(b"hello")
    harness.turn_until(lambda: client.received == b"hello")


def test_a_built_in_answer_obeys_rules(harness: Harness) -> None:
    front = harness.reply(b"hello")
    guard(front.handler, DENY_ALL)
    client = front.connect()
    harness.turn_until(lambda: client.is_over)
    assert client.received == b""
    assert front.only().termination == "PR"


def test_a_client_of_a_unix_socket_is_denied_by_unix(
    harness: Harness, tmp_path: pathlib.Path
) -> None:
    front = harness.reply(b"hello", parse_address(f"unix:{tmp_path}/front"))
    guard(front.handler, (Rule(False, "unix:", is_for_unix=True), ()))
    front.connect()
    assert front.only().reason == 'denied by the access rule "deny unix:"'


def test_a_denied_session_leaves_no_garbage(harness: Harness) -> None:
    front = harness.proxy(harness.pool("127.0.0.1:9"))
    guard(front.handler, DENY_ALL)
    with no_garbage():
        front.connect()
        front.only()


def test_a_denied_datagram_is_dropped_and_counted_and_makes_no_session(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backend = harness.add(UdpBackend())
    front = udp_proxy(harness, harness.pool(backend.name))
    guard(front.handler, DENY_ALL)
    client = front.client()
    for _ in range(3):
        client.send(b"?")
    harness.turn_until(lambda: front.handler.drops["access"] == 3)
    harness.settle()
    assert (front.handler.sessions, front.ended, backend.received) == (0, [], [])
    (line,) = [each for each in caplog.messages if "denied" in each]
    assert line.startswith(f"{DENIED}, client: 127.0.0.1:")


def test_a_datagram_that_no_rule_denies_is_answered(harness: Harness) -> None:
    backend = harness.add(UdpBackend())
    front = udp_proxy(harness, harness.pool(backend.name))
    guard(front.handler, deny("192.0.2.0/24"))
    client = front.client()
    client.send(b"?")
    harness.turn_until(lambda: client.received == [b"?"])


def test_a_built_in_answer_to_datagrams_obeys_rules(harness: Harness) -> None:
    front = udp_reply(harness, b"hello")
    guard(front.handler, DENY_ALL)
    client = front.client()
    client.send(b"?")
    harness.turn_until(lambda: front.handler.drops["access"] == 1)
    harness.settle()
    assert (client.received, front.ended) == ([], [])
