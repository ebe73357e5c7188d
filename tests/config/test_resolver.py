"""The value of `resolver`: a word, addresses alone, or all of its keys."""

import pathlib

import pytest
from nginy.config.resolver import Resolver

from kit.configs import LISTENER, loaded, refusals

DEFAULTS = ((), 5000, None, 30_000, True)


def values(resolver: Resolver) -> tuple[object, ...]:
    servers = tuple(map(str, resolver.nameservers))
    return (
        servers,
        resolver.timeout_ms,
        resolver.valid_ms,
        resolver.hold_ms,
        resolver.ipv6,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", DEFAULTS),
        ("resolver: auto", DEFAULTS),
        ("resolver: 127.0.0.53", (("127.0.0.53:53",), *DEFAULTS[1:])),
        (
            'resolver: [192.0.2.1:5353, "[2001:db8::1]"]',
            (("192.0.2.1:5353", "[2001:db8::1]:53"), *DEFAULTS[1:]),
        ),
        (
            "resolver: {nameservers: 192.0.2.1, timeout: 500ms, valid: 10s, hold: 1m, ipv6: off}",
            (("192.0.2.1:53",), 500, 10_000, 60_000, False),
        ),
    ],
)
def test_what_a_resolver_is_told(
    tmp_path: pathlib.Path, text: str, expected: tuple[object, ...]
) -> None:
    assert values(loaded(tmp_path, f"{text}\n{LISTENER}").resolver) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ns.example", 'resolver: "ns.example" is a host name, and names are not supported'),
        ("unix:/run/dns", 'resolver: "unix:/run/dns"'),
        ("{valid: 500ms}", 'valid: "500ms" has a fraction of a second'),
        ("{timeout: off}", 'timeout: "off" is not a duration'),
    ],
)
def test_what_a_resolver_cannot_be_told(tmp_path: pathlib.Path, text: str, message: str) -> None:
    (refusal,) = refusals(tmp_path, f"resolver: {text}\n{LISTENER}")
    assert message in refusal
