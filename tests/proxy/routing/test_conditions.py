"""Conditions: three verdicts, each by what is known so far."""

import re

import pytest
from nginy.proxy.access import Access, Rule, parse_network
from nginy.proxy.lookups import murmur_hash2
from nginy.proxy.routing.conditions import (
    MORE,
    NO,
    YES,
    ClientFacts,
    Condition,
    From,
    IsTls,
    Ports,
    Protocols,
    ServerName,
    Share,
    StartsWith,
    When,
    knows,
)
from nginy.wire.client_hello import NOT_TLS, Hello
from nginy.wire.expect import Verdict
from nginy.wire.starts import parse_starts

TLS = Hello(True, "a.example", ("h2", "http/1.1"), "TLSv1.3")
NET = Access([(Rule(True, "10.0.0.0/8"), (parse_network("10.0.0.0/8"),))])
VALUES = {"$zone": "inside", "$remote_addr": "10.1.2.3", "$long": "a" * 1001}


def facts(
    hello: Hello | None = None, head: bytes = b"", *, host: str = "10.1.2.3", done: bool = False
) -> ClientFacts:
    found = ClientFacts(host, 443, VALUES.__getitem__)
    knows(found, head, hello, is_complete=done)
    return found


@pytest.mark.parametrize(
    ("condition", "known", "expected"),
    [
        (From(NET), facts(), YES),
        (From(NET), facts(host="11.0.0.1"), NO),
        (From(NET), facts(host="unix:"), NO),
        (Ports(((1, 9), (443, 443))), facts(), YES),
        (Ports(((1, 9), (444, 500))), facts(), NO),
        (ServerName(["a.example"]), facts(), MORE),
        (ServerName(["a.example"]), facts(TLS), YES),
        (ServerName(["b.example"]), facts(TLS), NO),
        (ServerName(["~."]), facts(Hello(True)), NO),
        (ServerName(["~."]), facts(NOT_TLS), NO),
        (ServerName(["~."]), facts(done=True), NO),
        (Protocols(["http/1.1"]), facts(), MORE),
        (Protocols(["http/1.1"]), facts(TLS), YES),
        (Protocols(["h3"]), facts(TLS), NO),
        (Protocols(["~^h"]), facts(NOT_TLS), NO),
        (Protocols(["~^"]), facts(Hello(True, alpn=("",))), NO),
        (IsTls(True), facts(), MORE),
        (IsTls(True), facts(TLS), YES),
        (IsTls(True), facts(NOT_TLS), NO),
        (IsTls(False), facts(), MORE),
        (IsTls(False), facts(NOT_TLS), YES),
        (IsTls(False), facts(done=True), YES),
        (StartsWith(parse_starts("SSH-")), facts(None, b"SS"), MORE),
        (StartsWith(parse_starts("SSH-")), facts(NOT_TLS, b"SSH-2"), YES),
        (StartsWith(parse_starts("SSH-")), facts(NOT_TLS, b"SS", done=True), NO),
        (StartsWith(parse_starts(r"\x16\x03long")), facts(TLS, b"\x16\x03"), NO),
        (When("zone", frozenset({"inside"})), facts(), YES),
        (When("zone", frozenset({"outside"})), facts(), NO),
        (When("zone", frozenset(), (re.compile("^in"),)), facts(), YES),
        (When("zone", frozenset({"inside"}), (), True), facts(), MORE),
        (When("zone", frozenset({"inside"}), (), True), facts(NOT_TLS), YES),
        (When("long", frozenset(), (re.compile("a"),)), facts(), NO),
        (When("long", frozenset({"a" * 1001})), facts(), YES),
        (Share("$remote_addr", 0, 1 << 32), facts(), YES),
        (Share("$remote_addr", 0, 0), facts(), NO),
        (Share("$remote_addr", 0, 1 << 32, True), facts(), MORE),
    ],
)
def test_a_condition_has_a_verdict(
    condition: Condition, known: ClientFacts, expected: Verdict
) -> None:
    assert condition.judge(known) is expected
    assert condition.needs_bytes or expected is not MORE


def test_a_share_is_from_one_hash_and_below_another() -> None:
    place = murmur_hash2(b"10.1.2.3")
    assert Share("$remote_addr", place, place + 1).judge(facts()) is YES
    assert Share("$remote_addr", place + 1, 1 << 32).judge(facts()) is NO
    assert Share("$remote_addr", 0, place).judge(facts()) is NO


def test_a_condition_says_what_it_looks_at() -> None:
    known = facts(TLS, b"\x16\x03")
    place = murmur_hash2(b"10.1.2.3") / (1 << 32)
    said = {
        From(NET): "10.1.2.3",
        Ports(()): "port 443",
        ServerName([]): 'name "a.example"',
        Protocols([]): "protocols h2, http/1.1",
        IsTls(True): "TLS",
        StartsWith(parse_starts("x")): r'first bytes "\x16\x03"',
        When("zone", frozenset()): '$zone "inside"',
        Share("$remote_addr", 0, 1): f'key "10.1.2.3" is at {place:.2%}',
    }
    assert {each: each.said(known) for each in said} == said
    nothing = facts(done=True)
    assert ServerName([]).said(nothing) == "no name"
    assert Protocols([]).said(nothing) == "no protocols"
    assert IsTls(True).said(nothing) == "not TLS"


def test_conditions_name_the_texts_that_they_have_filled_in() -> None:
    assert When("zone", frozenset()).texts == ("$zone",)
    assert Share("$a$b", 0, 1).texts == ("$a$b",)
    assert From(NET).texts == ()
